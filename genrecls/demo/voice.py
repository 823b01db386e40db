"""Speak lines with espeak-ng: a program of its own, run as `python voice.py`.

Input is JSON on stdin: `{"voice": str, "pitch": 0-99, "range": 0-99, "lines":
[[text, seconds], ...]}`. Output, for each line, is one line of JSON, `{"words":
[start in s, ...], "frames": int}`, and then so many 16-bit samples at 22.05 kHz.

A process for each track, because espeak-ng keeps the state of its noise and
flutter between calls: what a line sounds like depends on all lines before it.
Only a fresh process says the same thing twice. It also keeps the GPL library
out of the caller's process.
"""

from __future__ import annotations

import ctypes
import json
import sys

RATE = 22_050  # Hz
_SYNCHRONOUS, _UTF8, _WORD = 2, 1, 1
_SPEED, _PITCH, _RANGE = 1, 3, 4
_SPEEDS = 110, 330  # words per minute between which speech stays clear


class _Event(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int)
        for name in ("type", "message", "text_position", "length", "audio_position", "sample")
    ]
    _fields_ += [("user", ctypes.c_void_p), ("id", ctypes.c_char * 8)]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Speaker:
    """One espeak-ng voice that can fit a line into a given time."""

    def __init__(self, voice, pitch, pitch_range):
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._heard = _Callback(self._collect)  # kept, or it would be freed while in use
        data = espeakng_loader.get_data_path().encode()
        if self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data, 0) != RATE:
            raise RuntimeError("espeak-ng did not start at 22.05 kHz")
        # Initialize took the seed of its noise from the clock.
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._lib.espeak_SetSynthCallback(self._heard)
        if self._lib.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self._lib.espeak_SetParameter(_PITCH, pitch, 0)
        self._lib.espeak_SetParameter(_RANGE, pitch_range, 0)

    def _collect(self, samples, count, events):
        self._samples += ctypes.string_at(samples, 2 * count) if samples else b""
        at = 0
        while events[at].type:
            if events[at].type == _WORD:
                self._words.append(events[at].audio_position / 1000)
            at += 1
        return 0

    def say(self, text, speed):
        """Samples (16-bit, as bytes) and word starts (s) of `text` at `speed` words/min."""
        self._samples, self._words = bytearray(), []
        self._lib.espeak_SetParameter(_SPEED, int(speed), 0)
        data = text.encode()
        self._lib.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _UTF8, None, None)
        return bytes(self._samples), self._words

    def fit(self, text, seconds):
        """Like `say`, at the speed that makes the line last about `seconds`."""
        speed = 200
        samples, _ = self.say(text, speed)
        speed *= len(samples) / 2 / RATE / seconds
        return self.say(text, min(max(speed, _SPEEDS[0]), _SPEEDS[1]))


def main():
    """Answer one request from stdin on stdout."""
    request = json.load(sys.stdin)
    speaker = Speaker(request["voice"], request["pitch"], request["range"])
    for text, seconds in request["lines"]:
        samples, words = speaker.fit(text, seconds)
        head = json.dumps({"words": words, "frames": len(samples) // 2})
        sys.stdout.buffer.write(head.encode() + b"\n" + samples)


if __name__ == "__main__":
    main()
