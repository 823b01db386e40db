"""A small player for SoundFont 2 files.

It supports loops, key zones, volume envelopes and a fixed low-pass filter, as far as the
instruments of the demo need them; it ignores modulators and vibrato.

References
----------
SoundFont Technical Specification, version 2.04, E-mu Systems, 2006.
"""

from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import butter, sosfilt

from genrecls.demo.mix import RATE, add

#: Program number that selects the General MIDI drum kit.
DRUMS = 128

_BAG = dict(generator="<u2", modulator="<u2")
_GENERATOR = dict(number="<u2", amount="<i2")
_OFFSETS = ("start", "end", "loop", "loop_end")
_RECORDS = {
    b"phdr": dict(name="S20", preset="<u2", bank="<u2", bag="<u2", other="V12"),
    b"pbag": _BAG,
    b"pgen": _GENERATOR,
    b"inst": dict(name="S20", bag="<u2"),
    b"ibag": _BAG,
    b"igen": _GENERATOR,
    b"shdr": dict(name="S20")
    | dict.fromkeys(_OFFSETS, "<u4")
    | dict(rate="<u4", root="u1", cents="i1", link="<u2", type="<u2"),
}

# Numbers of the generators (section 8.1.2), and those defaults that are not 0. Times are in
# timecents, 1200 * log2(s), and the decay is the time for 100 dB.
_FILTER, _MOD_FILTER, _PAN = 8, 11, 17
_ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 34, 35, 36, 37, 38
_INSTRUMENT, _KEYS, _VELOCITIES, _ATTENUATION, _COARSE, _FINE = 41, 43, 44, 48, 51, 52
_SAMPLE, _LOOPED, _SCALE, _ROOT = 53, 54, 56, 58
_DEFAULTS = {_FILTER: 13_500, _SCALE: 100, _ROOT: -1} | dict.fromkeys(
    [_ATTACK, _HOLD, _DECAY, _RELEASE], -12_000
)
_FULL_RANGE = 127 << 8  # the range 0-127 of keys or velocities: low byte first
_VELOCITY = 100  # selects among zones; the velocity of a note changes only its gain
_MAX_RELEASE_S = 1.2


class Note(NamedTuple):
    """A played note: start and length in s, MIDI pitch 0-127, velocity 1-127."""

    start: float
    length: float
    pitch: int
    velocity: float


class SoundFont:
    """Instruments from a SoundFont 2 file.

    Parameters
    ----------
    path : Path, optional
        The file; by default the General MIDI bank TimGM6mb in the package ``pretty_midi``, which
        is located without importing the package.
    """

    def __init__(self, path: Path | None = None):
        if path is None:
            package = distribution("pretty_midi")
            path = Path(str(package.locate_file("pretty_midi/TimGM6mb.sf2")))
        chunks = _read_riff(path.read_bytes())
        self._tables = {
            name: np.frombuffer(chunks[name], np.dtype(list(fields.items())))
            for name, fields in _RECORDS.items()
        }
        self._samples = np.frombuffer(chunks[b"smpl"], "<i2").astype(np.float32) / 2**15

    def perform(
        self,
        out: np.ndarray,
        notes: list[Note],
        program: int,
        *,
        pan: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        """Play notes on an instrument and add them to a mix, in place.

        ``program`` is a General MIDI program from 0 to 127, or ``DRUMS``; ``pan`` goes from -1, the
        left, to 1.
        """
        longest: dict[int, float] = {}
        for note in notes:
            longest[note.pitch] = max(note.length, longest.get(note.pitch, 0))
        held = {
            pitch: self._hold_key(program, pitch, length + _MAX_RELEASE_S)
            for pitch, length in longest.items()
        }
        balance = gain * np.array([min(1, 1 - pan), min(1, 1 + pan)])
        for note in notes:
            sound = _release(*held[note.pitch], note.length)
            add(out, sound, note.start, balance * (note.velocity / 127) ** 1.6)

    def _hold_key(self, program: int, pitch: int, length: float) -> tuple[np.ndarray, float]:
        """Play a key that stays down; return its sound and the time in s of its release."""
        voices = [
            (self._play_sample(*zone, pitch, length), _seconds(zone[1][_RELEASE]))
            for zone in self._find_samples(program, pitch)
        ]
        sound = np.zeros((max((len(part) for part, _ in voices), default=0), 2), np.float32)
        for part, _ in voices:
            sound[: len(part)] += part
        return sound, max((release for _, release in voices), default=0.01)

    def _find_samples(self, program: int, pitch: int) -> list[tuple[np.void, dict[int, int]]]:
        """Return the header and the generators of each sample that a key plays."""
        presets, instruments = self._tables[b"phdr"], self._tables[b"inst"]
        bank, number = (DRUMS, 0) if program == DRUMS else (0, program)
        row = np.flatnonzero((presets["bank"] == bank) & (presets["preset"] == number))[0]
        found = []
        for preset in self._read_zones(b"p", presets["bag"][row : row + 2], _INSTRUMENT, pitch):
            bags = instruments["bag"][preset[_INSTRUMENT] :][:2]
            for zone in self._read_zones(b"i", bags, _SAMPLE, pitch):
                # The values of a preset are offsets to those of its instruments.
                offsets = {
                    generator: zone.get(generator, _DEFAULTS.get(generator, 0)) + offset
                    for generator, offset in preset.items()
                    if generator not in (_KEYS, _VELOCITIES)
                }
                found.append((self._tables[b"shdr"][zone[_SAMPLE]], _DEFAULTS | zone | offsets))
        return found

    def _read_zones(
        self, level: bytes, bags: np.ndarray, target: int, pitch: int
    ) -> list[dict[int, int]]:
        """Read the generators of the zones that cover a pitch, the global zone included."""
        generators = self._tables[level + b"gen"]
        starts = self._tables[level + b"bag"]["generator"]
        common, zones = {}, []
        for bag in range(*bags):
            zone = {int(n): int(amount) for n, amount in generators[starts[bag] : starts[bag + 1]]}
            if target in zone:
                zones.append(common | zone)
            else:
                common = zone
        return [zone for zone in zones if _covers(zone, pitch)]

    def _play_sample(self, header, zone: dict[int, int], pitch: int, length: float) -> np.ndarray:
        root = zone[_ROOT] if zone[_ROOT] >= 0 else int(header["root"])
        cents = (pitch - root) * zone[_SCALE] + int(header["cents"])
        cents += 100 * zone.get(_COARSE, 0) + zone.get(_FINE, 0)
        step = 2 ** (cents / 1200) * float(header["rate"]) / RATE
        position = np.arange(int(length * RATE)) * step
        start, end = int(header["start"]), int(header["end"]) - 1
        if zone.get(_LOOPED, 0) & 1 and header["loop_end"] > header["loop"]:
            loop, size = int(header["loop"]) - start, int(header["loop_end"] - header["loop"])
            np.copyto(position, loop + (position - loop) % size, where=position >= loop + size)
        else:
            position = position[: int((end - start) / step)]
        index = position.astype(np.int64)
        low, high = self._samples[start + index], self._samples[start + 1 + index]
        wave = low + (high - low) * (position - index).astype(np.float32)
        wave = _low_pass(wave * _envelope(len(wave), zone), zone)
        right = np.clip(zone.get(_PAN, 0) / 1000 + 0.5, 0, 1)
        return wave[:, None] * np.float32(np.sqrt([1 - right, right]))


def _read_riff(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a RIFF file by name, lists unpacked."""
    chunks, position = {}, 12
    while position < len(data):
        name = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if name == b"LIST":
            position += 12
        else:
            chunks[name] = data[position + 8 : position + 8 + size]
            position += 8 + size + size % 2
    return chunks


def _covers(zone: dict[int, int], pitch: int) -> bool:
    keys, velocities = zone.get(_KEYS, _FULL_RANGE), zone.get(_VELOCITIES, _FULL_RANGE)
    return (
        keys & 255 <= pitch <= keys >> 8 & 255
        and velocities & 255 <= _VELOCITY <= velocities >> 8 & 255
    )


def _seconds(timecents: float) -> float:
    return 2 ** (timecents / 1200)


def _envelope(frames: int, zone: dict[int, int]) -> np.ndarray:
    """Compute the gain of a held key: linear attack, hold, and decay in dB."""
    time = np.arange(frames, dtype=np.float32) / np.float32(RATE)
    attack = _seconds(zone[_ATTACK])
    decay = time - np.float32(attack + _seconds(zone[_HOLD]))
    decay *= np.float32(100 / _seconds(zone[_DECAY]))
    loss = np.clip(decay, 0, zone.get(_SUSTAIN, 0) / 10)
    # Such banks use 10 units of attenuation for 4 dB, as E-mu sound cards did.
    loss += np.float32(0.04 * zone.get(_ATTENUATION, 0))
    return _gain(-loss) * np.minimum(time / np.float32(attack), 1)


def _gain(decibels: np.ndarray) -> np.ndarray:
    return np.exp(np.float32(np.log(10) / 20) * np.float32(decibels))


def _low_pass(wave: np.ndarray, zone: dict[int, int]) -> np.ndarray:
    """Filter at a fixed frequency, half-way up the envelope of the filter."""
    cutoff = 8.176 * _seconds(zone[_FILTER] + max(zone.get(_MOD_FILTER, 0), 0) / 2)
    if cutoff > 15_000:
        return wave
    sections = np.asarray(butter(2, cutoff, fs=RATE, output="sos"), np.float32)
    return np.asarray(sosfilt(sections, wave))


def _release(sound: np.ndarray, release: float, length: float) -> np.ndarray:
    """Release a held key after ``length`` s; the sound ends 60 dB below or after 1.2 s."""
    tail = min(0.6 * release, _MAX_RELEASE_S)
    end, frames = int(length * RATE), int(tail * RATE)
    sound = sound[: end + frames].copy()
    time = np.linspace(0, tail, frames, dtype=np.float32)[: max(len(sound) - end, 0)]
    sound[end:] *= (_gain(-100 / release * time) * (1 - time / np.float32(tail)))[:, None]
    return sound
