"""Notation of the demo's scores: melodies, chords and accompaniments.

Times and lengths in this module are in eighths.
"""

import re
from functools import partial
from typing import NamedTuple

#: A written note: start, length, MIDI pitch.
ScoreNote = tuple[float, float, int]

#: Semitones above C of the notes without accidentals.
SCALE = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))

_NOTE = re.compile(r"([_^=]?)([A-Ga-gz])([,']*)(\d*)(/?)(\d*)")
_CHORD = re.compile(r"([A-G])([#b]?)(maj7|m7|dim|m|7|)")
_INTERVALS = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "maj7": (0, 4, 7, 11),
    "dim": (0, 3, 6, 9),
}


class Chord(NamedTuple):
    """A chord: start and length in eighths, bass pitch, and pitches close to middle C."""

    start: float
    length: float
    bass: int
    pitches: list[int]


def read_melody(text: str, sharps: int) -> tuple[list[ScoreNote], float]:
    """Read a melody in ABC notation with an eighth as the unit; negative sharps are flats.

    Returns (start, length, MIDI pitch) of each note, and the length with rests, in eighths. Bar
    lines and white space are ignored.

    >>> read_melody("F2z_B/", sharps=1)
    ([(0.0, 2.0, 66), (3.0, 0.5, 70)], 3.5)
    """
    altered = "FCGDAEB"[:sharps] if sharps > 0 else "BEADGCF"[:-sharps]
    signature = dict.fromkeys(altered, 1 if sharps > 0 else -1)
    now, notes = 0.0, []
    for accidental, letter, octave, times, slash, divisor in _NOTE.findall(text):
        length = int(times or 1) / (int(divisor or 2) if slash else 1)
        if letter != "z":
            name = letter.upper()
            semitones = {"": signature.get(name, 0), "^": 1, "_": -1, "=": 0}[accidental]
            octaves = letter.islower() + octave.count("'") - octave.count(",")
            notes.append((now, length, 60 + SCALE[name] + semitones + 12 * octaves))
        now += length
    return notes, now


def read_chords(text: str, bar: int) -> list[Chord]:
    """Read chord names such as ``F#m7``, with ``|`` between bars of a number of eighths.

    The chords of a bar have equal lengths; ``-`` is a rest.

    >>> read_chords("C -|Am", bar=8)[1]
    Chord(start=8.0, length=8.0, bass=45, pitches=[57, 60, 64])
    """
    chords = []
    for number, names in enumerate(text.split("|")):
        names = names.split()
        for place, name in enumerate(names):
            if name == "-":
                continue
            match = _CHORD.fullmatch(name)
            if match is None:
                raise ValueError(f"{name!r} is not a chord name such as 'F#m7'; correct {text!r}")
            letter, sign, quality = match.groups()
            root = SCALE[letter] + {"": 0, "#": 1, "b": -1}[sign]
            pitches = sorted(55 + (root + i - 55) % 12 for i in _INTERVALS[quality])
            length = bar / len(names)
            start = number * bar + place * length
            chords.append(Chord(start, length, 36 + (root - 36) % 12, pitches))
    return chords


def play_in_turn(
    start: float,
    length: float,
    pitches: list[int],
    *,
    order: tuple[int, ...] | list[int],
    step: float,
    hold: float = 1.0,
) -> list[ScoreNote]:
    """Play the pitches of a chord one after the other, in eighths.

    The indices in ``order`` are repeated until the chord is full. ``step`` is the time from one
    note to the next, and ``hold`` the length of a note in steps; notes overlap above 1.
    """
    return [
        (start + i * step, step * hold, pitches[order[i % len(order)] % len(pitches)])
        for i in range(int(length / step))
    ]


def _repeat(
    start: float, length: float, pitches: list[int], *, step: float, first: int = 0
) -> list[ScoreNote]:
    return [
        (start + i * step, step * 0.6, pitch)
        for i in range(first, int(length / step))
        for pitch in pitches
    ]


def _hold(start: float, length: float, pitches: list[int]) -> list[ScoreNote]:
    return [(start, length * 0.97, pitch) for pitch in pitches]


def _stab(start: float, length: float, pitches: list[int]) -> list[ScoreNote]:
    """Play short chords on the beat and off it, like a sampled loop."""
    return [
        (start + offset, size, pitch)
        for offset, size in ((0, 1.4), (3, 0.8), (5, 1.2))
        if offset < length
        for pitch in pitches
    ]


#: Ways to play a chord, as functions of its start, length and pitches.
TEXTURES = {
    "block": _hold,
    "broken": partial(play_in_turn, order=(0, 2, 1, 2), step=1),
    "arpeggio": partial(play_in_turn, order=(0, 1, 2, 3, 2, 1), step=0.5, hold=2.0),
    "pulse": partial(_repeat, step=1),
    "waltz": partial(_repeat, step=2, first=1),
    "tremolo": partial(_repeat, step=0.5),
    "stabs": _stab,
}
