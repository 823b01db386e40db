"""Speak lines of text with espeak-ng, in a process for each track.

The program reads a request in JSON from stdin, ``{"voice": str, "pitch": 0-99, "range": 0-99,
"seconds": float, "lines": [str, ...]}``. It writes an answer for each line to stdout, also in
JSON: ``[{"words": [start in s, ...], "samples": 16-bit samples at 22.05 kHz in base64}, ...]``.

Each track needs a new process, because espeak-ng keeps the state of its random numbers: the sound
of a line depends on all lines before it. It also keeps the GPL library out of the package's own
process.
"""

import base64
import ctypes
import json
import sys

import espeakng_loader

RATE = 22_050  # Hz

# Constants and parameter numbers from espeak-ng's speak_lib.h.
_SYNCHRONOUS, _UTF8, _WORD = 2, 1, 1
_SPEED, _PITCH, _RANGE = 1, 3, 4

# Words per minute between which the speech stays clear.
_MIN_SPEED, _MAX_SPEED = 110, 330


class _Event(ctypes.Structure):
    _fields_ = [
        *[(n, ctypes.c_int) for n in ("type", "message", "text_position", "length")],
        *[(n, ctypes.c_int) for n in ("audio_position", "sample")],
        ("user", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Speaker:
    """A voice of espeak-ng."""

    def __init__(self, voice: str, pitch: int, pitch_range: int):
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        if self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0) != RATE:
            raise RuntimeError("espeak-ng did not start at 22.05 kHz")
        # espeak-ng has seeded its random numbers from the clock.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        # Python must keep a reference to the callback, or it is freed while in use.
        self._callback = _Callback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng does not have the voice {voice!r}")
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_RANGE, pitch_range, 0)

    def _collect(self, samples, count: int, events) -> int:
        """Collect the samples and word starts that espeak-ng passes on."""
        self._samples += ctypes.string_at(samples, 2 * count) if samples else b""
        position = 0
        while events[position].type:
            if events[position].type == _WORD:
                self._words.append(events[position].audio_position / 1000)
            position += 1
        return 0

    def speak(self, text: str, speed: float) -> tuple[bytes, list[float]]:
        """Speak a line at words/min; return its samples and the word starts in s."""
        self._samples, self._words = bytearray(), []
        self._library.espeak_SetParameter(_SPEED, int(speed), 0)
        data = text.encode()
        size = ctypes.c_size_t(len(data) + 1)
        self._library.espeak_Synth(data, size, 0, 0, 0, _UTF8, None, None)
        return bytes(self._samples), self._words


def main() -> None:
    """Read a request from stdin and write the answer to stdout."""
    request = json.load(sys.stdin)
    speaker = _Speaker(request["voice"], request["pitch"], request["range"])
    answers = []
    for line in request["lines"]:
        # A first reading measures the length of the line; a second one fits it.
        samples, _ = speaker.speak(line, 200)
        speed = 200 * (len(samples) / 2 / RATE / request["seconds"])
        samples, words = speaker.speak(line, min(max(speed, _MIN_SPEED), _MAX_SPEED))
        answers.append({"words": words, "samples": base64.b64encode(samples).decode()})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
