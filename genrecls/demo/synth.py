"""Sound of the demo corpus: a small SoundFont 2 player, room, mix and MP3 writer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

RATE = 44_100  # Hz
SOUNDFONT = "TimGM6mb.sf2"  # General MIDI bank that pip installs with pretty_midi
DRUMS = 128  # program number that stands for the General MIDI drum kit

_HEADERS = {
    b"phdr": [("name", "S20"), ("preset", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("_", "V12")],
    b"inst": [("name", "S20"), ("bag", "<u2")],
    b"shdr": [
        ("name", "S20"),
        ("start", "<u4"),
        ("end", "<u4"),
        ("loop", "<u4"),
        ("loop_end", "<u4"),
        ("rate", "<u4"),
        ("root", "u1"),
        ("cents", "i1"),
        ("link", "<u2"),
        ("type", "<u2"),
    ],
}
_HEADERS[b"pbag"] = _HEADERS[b"ibag"] = [("gen", "<u2"), ("mod", "<u2")]
_HEADERS[b"pgen"] = _HEADERS[b"igen"] = [("op", "<u2"), ("amount", "<i2")]

# SoundFont 2.04 generator numbers (section 8.1.2) and the defaults that are not 0.
_FILTER, _MOD_FILTER, _PAN = 8, 11, 17
_ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 34, 35, 36, 37, 38
_INSTRUMENT, _KEYS, _VELOCITIES, _ATTENUATION, _COARSE, _FINE = 41, 43, 44, 48, 51, 52
_SAMPLE, _LOOPED, _SCALE, _ROOT = 53, 54, 56, 58
_DEFAULTS = {_FILTER: 13_500, _SCALE: 100, _ROOT: -1} | dict.fromkeys(
    [_ATTACK, _HOLD, _DECAY, _RELEASE], -12_000
)
_WHOLE = 127 << 8  # the key or velocity range 0-127
_TAIL = 1.2  # s, the longest release


class Note(NamedTuple):
    """A note: start and length in s, MIDI pitch 0-127, velocity 1-127."""

    start: float
    length: float
    pitch: int
    velocity: float


def soundfont_path():
    """Path of the General MIDI soundfont, found without importing its package."""
    return Path(importlib.util.find_spec("pretty_midi").origin).with_name(SOUNDFONT)


class SoundFont:
    """The part of SoundFont 2 that these instruments use, played with numpy.

    Loops, key zones, volume envelopes and a fixed low-pass filter are there;
    modulators and vibrato are not.
    """

    def __init__(self, path):
        chunks = _riff_leaves(Path(path).read_bytes())
        self._tables = {name: np.frombuffer(chunks[name], dt) for name, dt in _HEADERS.items()}
        self._wave = np.frombuffer(chunks[b"smpl"], "<i2").astype(np.float32) / 2**15

    def _voices(self, program, pitch, velocity=100):
        """Pairs of a sample header and its generators, for one key of one program."""
        presets, instruments = self._tables[b"phdr"], self._tables[b"inst"]
        bank, number = (DRUMS, 0) if program == DRUMS else (0, program)
        at = np.flatnonzero((presets["bank"] == bank) & (presets["preset"] == number))[0]
        voices = []
        for outer in self._zones(b"p", presets["bag"][at : at + 2], _INSTRUMENT):
            if not _covers(outer, pitch, velocity):
                continue
            bags = instruments["bag"][outer[_INSTRUMENT] :][:2]
            for zone in self._zones(b"i", bags, _SAMPLE):
                if _covers(zone, pitch, velocity):
                    # A preset's values are offsets to those of its instruments.
                    offsets = {
                        op: zone.get(op, _DEFAULTS.get(op, 0)) + more
                        for op, more in outer.items()
                        if op not in (_KEYS, _VELOCITIES)
                    }
                    voices.append(
                        (self._tables[b"shdr"][zone[_SAMPLE]], _DEFAULTS | zone | offsets)
                    )
        return voices

    def _zones(self, level, bags, target):
        """Generators of each zone of a preset or instrument, its global zone merged in."""
        gens, starts = self._tables[level + b"gen"], self._tables[level + b"bag"]["gen"]
        shared, zones = {}, []
        for bag in range(*bags):
            zone = {int(op): int(v) for op, v in gens[starts[bag] : starts[bag + 1]]}
            if target in zone:
                zones.append(shared | zone)
            else:
                shared = zone
        return zones

    def hold(self, program, pitch, length):
        """A key held for `length` s (or until it has died away), and its release in s.

        Returns (frames, 2) floats and the time for 100 dB of decay after the key is let go.
        """
        voices = [self._play(*voice, pitch, length) for voice in self._voices(program, pitch)]
        tone = np.zeros((max((len(sound) for sound, _ in voices), default=0), 2), np.float32)
        for sound, _ in voices:
            tone[: len(sound)] += sound
        return tone, max((release for _, release in voices), default=0.01)

    def _play(self, header, gen, pitch, length):
        """One sample at one pitch for `length` s, as (frames, 2), and its release in s."""
        root = gen[_ROOT] if gen[_ROOT] >= 0 else int(header["root"])
        cents = (
            (pitch - root) * gen[_SCALE]
            + int(header["cents"])
            + 100 * gen.get(_COARSE, 0)
            + gen.get(_FINE, 0)
        )
        step = 2 ** (cents / 1200) * float(header["rate"]) / RATE
        at = np.arange(int(length * RATE)) * step
        start, end = int(header["start"]), int(header["end"]) - 1
        if gen.get(_LOOPED, 0) & 1 and header["loop_end"] > header["loop"]:
            loop, size = int(header["loop"]) - start, int(header["loop_end"] - header["loop"])
            np.copyto(at, loop + (at - loop) % size, where=at >= loop + size)
        else:
            at = at[: int((end - start) / step)]
        index = at.astype(np.int64)
        low, high = self._wave[start + index], self._wave[start + 1 + index]
        wave = low + (high - low) * (at - index).astype(np.float32)
        wave = _low_pass(wave * _envelope(len(wave), gen), gen)
        right = np.clip(gen.get(_PAN, 0) / 1000 + 0.5, 0, 1)
        return wave[:, None] * np.float32(np.sqrt([1 - right, right])), _seconds(gen[_RELEASE])


def _riff_leaves(data):
    """Bytes of each chunk of a RIFF file that is not a list, by its name."""
    leaves, at = {}, 12
    while at < len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"LIST":
            at += 12
        else:
            leaves[name] = data[at + 8 : at + 8 + size]
            at += 8 + size + size % 2
    return leaves


def _covers(zone, pitch, velocity):
    keys, velocities = zone.get(_KEYS, _WHOLE), zone.get(_VELOCITIES, _WHOLE)
    return (
        keys & 255 <= pitch <= keys >> 8 & 255
        and velocities & 255 <= velocity <= velocities >> 8 & 255
    )


def _seconds(timecents):
    return 2 ** (timecents / 1200)


def _envelope(frames, gen):
    """Gain of a held key over time: linear attack, hold, decay in dB; attenuation too."""
    time = np.arange(frames, dtype=np.float32) / np.float32(RATE)
    attack = _seconds(gen[_ATTACK])
    decay = (time - np.float32(attack + _seconds(gen[_HOLD]))) * np.float32(
        100 / _seconds(gen[_DECAY])
    )
    loss = np.clip(decay, 0, gen.get(_SUSTAIN, 0) / 10)
    # Fonts of this make take 10 units of attenuation for 4 dB, like the EMU cards did.
    loss += np.float32(0.04 * gen.get(_ATTENUATION, 0))
    return _gain(-loss) * np.minimum(time / np.float32(attack), 1)


def _gain(decibels):
    return np.exp(np.float32(np.log(10) / 20) * np.float32(decibels))


def _low_pass(wave, gen):
    """The zone's filter; half its envelope depth stands for the envelope's course."""
    from scipy.signal import butter, sosfilt

    cutoff = 8.176 * _seconds(gen[_FILTER] + max(gen.get(_MOD_FILTER, 0), 0) / 2)
    if cutoff > 15_000:
        return wave
    return sosfilt(butter(2, cutoff, fs=RATE, output="sos").astype(np.float32), wave)


def perform(out, font, notes, program, *, side=0.0, gain=1.0):
    """Mix `notes` on a General MIDI `program` (or `DRUMS`) into `out`, (frames, 2) floats.

    `side` is where the player sits, from -1 (left) to 1 (right).
    """
    longest = {}
    for note in notes:
        longest[note.pitch] = max(note.length, longest.get(note.pitch, 0))
    held = {pitch: font.hold(program, pitch, length + _TAIL) for pitch, length in longest.items()}
    balance = gain * np.array([min(1, 1 - side), min(1, 1 + side)])
    for note in notes:
        tone, release = held[note.pitch]
        add(
            out,
            _let_go(tone, note.length, release),
            note.start,
            balance * (note.velocity / 127) ** 1.6,
        )


def _let_go(tone, length, release):
    """A held tone let go after `length` s: 60 dB softer, at most `_TAIL` s later, it ends."""
    tail = min(0.6 * release, _TAIL)
    end = int(length * RATE)
    tone = tone[: end + int(tail * RATE)].copy()
    time = np.linspace(0, tail, int(tail * RATE), dtype=np.float32)[: max(len(tone) - end, 0)]
    tone[end:] *= (_gain(-100 / release * time) * (1 - time / np.float32(tail)))[:, None]
    return tone


def add(out, sound, start, gain=1.0):
    """Mix `sound`, times `gain`, into `out` from `start` s on, cut where `out` ends."""
    at = round(start * RATE)
    part = sound[: max(len(out) - at, 0)]
    out[at : at + len(part)] += np.float32(gain) * part


def reverb(sound, rng, *, seconds, wet):
    """Add a room: noise that dies away by 60 dB in `seconds`, at the share `wet`."""
    from scipy.signal import oaconvolve

    time = np.arange(int(seconds * RATE)) / RATE
    room = rng.standard_normal((len(time), 2)) * 10 ** (-3 * time / seconds)[:, None]
    # Air and walls take the treble first.
    room = np.float32(room + np.roll(room, 1, 0) + np.roll(room, 2, 0))
    room *= np.float32(wet) / np.sqrt((room**2).sum(0))
    echo = oaconvolve(sound.mean(1, keepdims=True), room, axes=0)[: len(sound)]
    echo += sound
    return echo


def shelf(sound, decibels, *, corner=2500.0):
    """Raise or lower what lies above `corner` Hz by `decibels`."""
    from scipy.signal import butter, lfilter

    high = lfilter(*map(np.float32, butter(1, corner, "high", fs=RATE)), sound, axis=0)
    high *= np.float32(10 ** (decibels / 20) - 1)
    high += sound
    return high


def compress(voice, *, ratio, threshold=0.1):
    """Even out loudness: above `threshold` RMS, gain falls by `ratio` (dB in per dB out)."""
    hop = RATE // 100
    power = np.add.reduceat(voice**2, np.arange(0, len(voice), hop)) / hop
    power = np.convolve(power, np.ones(6) / 6, "same")  # 60 ms, about a syllable
    gain = np.maximum(np.sqrt(power) / threshold, 1) ** (1 / ratio - 1)
    return voice * np.interp(np.arange(len(voice)), np.arange(len(gain)) * hop, gain).astype(
        np.float32
    )


def master(sound, rng, *, drive, peak, hiss):
    """Saturate by `drive`, remove rumble and DC, set the largest sample to `peak`.

    `hiss` in dB of full scale is the noise floor of the recording.
    """
    from scipy.signal import butter, sosfilt

    sound = sound * np.float32(drive / np.abs(sound).max())
    np.tanh(sound, out=sound)
    sound = sosfilt(butter(2, 25, "high", fs=RATE, output="sos").astype(np.float32), sound, axis=0)
    sound *= np.float32(peak / np.abs(sound).max())
    noise = rng.standard_normal(sound.shape, np.float32)
    noise *= np.float32(10 ** (hiss / 20))
    noise += sound
    return noise


def write_mp3(path, sound, **tags):
    """Write (frames, 2) floats as a 44.1 kHz stereo MP3 of about 128 kbit/s, with tags.

    The file gets its name only when it is complete.
    """
    import av

    partial = path.with_name(f".{path.name}.part")
    # What makes LAME fastest: half of the time of the demo is spent here.
    fast = {"compression_level": "9", "abr": "1", "joint_stereo": "0"}
    with av.open(str(partial), "w", format="mp3") as container:
        container.metadata.update(tags)
        stream = container.add_stream("libmp3lame", rate=RATE, layout="stereo", options=fast)
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound.T, np.float32), format="fltp", layout="stereo"
        )
        frame.rate = RATE
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(stream.frame_size, partial=True):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    partial.replace(path)
