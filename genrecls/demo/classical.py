"""Classical tracks of the demo corpus: themes, varied and played by an ensemble.

The works and the ensembles are in ``classical.toml``.
"""

import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genrecls.demo import mix
from genrecls.demo.notation import (
    SCALE,
    TEXTURES,
    ScoreNote,
    play_in_turn,
    read_chords,
    read_melody,
)
from genrecls.demo.soundfont import Note, SoundFont

_TIMPANI = 47  # General MIDI program

# Each section of a work has another velocity, and each repetition of the work another key
# (in semitones).
_VELOCITIES = (66, 84, 58, 96, 72)
_TRANSPOSITIONS = (0, 0, 5, 0, -2)


@dataclass(frozen=True)
class Work:
    """A composition."""

    composer: str
    name: str
    sharps: int  # in the key signature; negative for flats
    bar: int  # eighths in a bar
    tempo: float  # quarters per minute
    sections: list[tuple[str, str]]  # melody for read_melody, chords for read_chords
    textures: tuple[str, ...] = ()  # accompaniments of successive sections
    figure: tuple[int, ...] = ()  # order in which the pitches of a bar are played as sixteenths
    canon: bool = False  # whether each instrument follows the previous one by a section
    timpani: bool = False  # whether the timpani play in all sections


@dataclass(frozen=True)
class Ensemble:
    """An artist who plays classical works; the instruments are General MIDI programs."""

    name: str
    leads: list[tuple[int, int]]  # melody instruments, which take turns, and their transpositions
    chords: list[int]  # accompanying instruments, which take turns
    bass: int
    recording: mix.Recording
    tempo_factor: float = 1.0  # relative to the tempo of the work
    peak: float = 0.6  # largest absolute sample
    timpani: bool = False  # whether the timpani play in every third section


_DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
WORKS = {key: Work(**fields) for key, fields in _DATA["works"].items()}
ENSEMBLES = {
    key: Ensemble(**fields | {"recording": mix.Recording(**fields["recording"])})
    for key, fields in _DATA["ensembles"].items()
}


def _find_neighbour(pitch: int, sharps: int, direction: int) -> int:
    """Return the next pitch of the key above (1) or below (-1)."""
    key = {(7 * sharps + semitones) % 12 for semitones in SCALE.values()}
    while True:
        pitch += direction
        if pitch % 12 in key:
            return pitch


def _ornament(notes: list[ScoreNote], sharps: int, pattern: tuple[int, ...]) -> list[ScoreNote]:
    """Divide long notes into equal ones on the same pitch (0) or a neighbour (1, -1)."""
    ornamented = []
    for start, length, pitch in notes:
        steps = pattern if length >= 2 else (0,)
        size = length / len(steps)
        ornamented += [
            (start + i * size, size, _find_neighbour(pitch, sharps, step) if step else pitch)
            for i, step in enumerate(steps)
        ]
    return ornamented


def _add_thirds(notes: list[ScoreNote], sharps: int) -> list[ScoreNote]:
    """Add the third below each note."""

    def third(pitch: int) -> int:
        return _find_neighbour(_find_neighbour(pitch, sharps, -1), sharps, -1)

    return notes + [(start, length, third(pitch)) for start, length, pitch in notes]


def _transpose(notes: Iterable[ScoreNote], semitones: int) -> list[ScoreNote]:
    return [(start, length, pitch + semitones) for start, length, pitch in notes]


#: Functions of the notes and the number of sharps. The first section is played as written.
VARIATIONS = (
    lambda notes, sharps: notes,
    lambda notes, sharps: _ornament(notes, sharps, (0, 1, 0, -1)),
    lambda notes, sharps: [(start, length * 0.45, pitch) for start, length, pitch in notes],
    lambda notes, sharps: notes + _transpose(notes, -12),
    _add_thirds,
    lambda notes, sharps: _ornament(notes, sharps, (0, 0)),
)


class _Performance:
    """Played notes by part, which is a program and its pan, with a human touch."""

    def __init__(self, bar: int, tempo: float, rng: np.random.Generator):
        self._bar, self._tempo, self._rng = bar, tempo, rng
        self.parts: dict[tuple[int, float], list[Note]] = defaultdict(list)
        self.now = 0.0  # s

    def start_section(self, eighths: float, velocity: float) -> None:
        """Plan the time of each bar line: the tempo drifts, and the last bar is slower."""
        bars = round(eighths / self._bar)
        pace = np.full(bars, self._bar * 30 / self._tempo)
        pace *= 1 + 0.02 * self._rng.standard_normal(bars).cumsum().clip(-2, 2)
        pace[-1] *= 1.2
        self._bar_lines = self.now + np.concatenate([[0], pace.cumsum()])
        self._velocity = velocity

    def play(self, program: int, pan: float, notes: Iterable[ScoreNote], accent: float) -> None:
        """Add notes of the current section to a part, with an accent on their velocity."""
        bar, rng = self._bar, self._rng
        bar_lines = np.arange(len(self._bar_lines)) * bar
        for at, length, pitch in notes:
            start, stop = np.interp([at, at + length], bar_lines, self._bar_lines)
            # Phrases of four bars grow and fade; the first beat of a bar is stronger.
            phrase = 9 * np.sin(np.pi * (at / bar % 4) / 4) + (5 if at % bar == 0 else 0)
            velocity = self._velocity + accent + phrase + rng.normal(0, 3)
            # Sixteenths are separated, because repeated ones would merge into one tone.
            held = (stop - start) * (0.6 if length <= 0.5 else 1)
            start = max(start + rng.normal(0, 0.006), 0)
            note = Note(start, held, pitch, float(np.clip(velocity, 20, 120)))
            self.parts[program, pan].append(note)

    def end_section(self, pause_s: float) -> None:
        self.now = self._bar_lines[-1] + pause_s


def _read_section(work: Work, text: str) -> tuple[list[ScoreNote], float]:
    """Read a melody; if the work has a figure, play it on the pitches of each bar."""
    if not work.figure:
        return read_melody(text, work.sharps)
    notes, bars = [], text.split("|")
    for number, bar in enumerate(bars):
        pitches = [pitch for _, _, pitch in read_melody(bar, work.sharps)[0]]
        start = number * work.bar
        notes += play_in_turn(start, work.bar, pitches, order=work.figure, step=0.5, hold=1.6)
    return notes, len(bars) * work.bar


def _compose(
    work: Work, ensemble: Ensemble, seconds: float, rng: np.random.Generator
) -> dict[tuple[int, float], list[Note]]:
    """Repeat a work with variations until the time is full."""
    performance = _Performance(work.bar, work.tempo * ensemble.tempo_factor, rng)
    leads = ensemble.leads
    pans = np.linspace(-0.5, 0.3, len(leads)) if len(leads) > 1 else (-0.1,)
    melodies: list[list[ScoreNote]] = []  # those of one section; several in a canon
    turn = 0
    while performance.now < seconds:
        melody, chords = work.sections[turn % len(work.sections)]
        repetition = turn // len(work.sections)
        notes, eighths = _read_section(work, melody)
        shift = 0 if work.canon else _TRANSPOSITIONS[repetition % len(_TRANSPOSITIONS)]
        performance.start_section(eighths, _VELOCITIES[(turn + repetition) % len(_VELOCITIES)])
        if not work.canon and not work.figure:
            vary = VARIATIONS[rng.integers(len(VARIATIONS)) if turn else 0]
            notes = vary(notes, work.sharps)
        melodies = [notes, *melodies][: len(leads) if work.canon else 1]
        for voice, notes in enumerate(melodies):
            lead = voice if work.canon else turn % len(leads)
            program, octave = leads[lead]
            notes = _transpose(notes, shift + octave)
            performance.play(program, pans[lead], notes, accent=12 - 3 * voice)
        _accompany(performance, work, ensemble, chords, shift, turn)
        performance.end_section(0.0 if work.canon else rng.uniform(0.15, 0.6))
        turn += 1
    return performance.parts


def _accompany(
    performance: _Performance, work: Work, ensemble: Ensemble, text: str, shift: int, turn: int
) -> None:
    """Play the chords of a section, their bass, and the timpani if there are any."""
    chords = read_chords(text, work.bar)
    if not chords:
        return
    texture = TEXTURES[work.textures[turn % len(work.textures)]]
    program = ensemble.chords[turn % len(ensemble.chords)]
    for start, length, bass, pitches in chords:
        notes = _transpose(texture(start, length, pitches), shift)
        performance.play(program, 0.15, notes, accent=-14)
        notes = [(start, length * 0.95, bass + shift)]
        performance.play(ensemble.bass, 0.5, notes, accent=-2)
    if work.timpani or (ensemble.timpani and turn % 3 == 2):
        beats = {(c.start + half * c.length / 2, c.bass) for c in chords for half in (0, 1)}
        notes = [(start, 1, bass + shift) for start, bass in sorted(beats)]
        performance.play(_TIMPANI, -0.2, notes, accent=0)


def render_work(
    work: Work, ensemble: Ensemble, seconds: float, font: SoundFont, rng: np.random.Generator
) -> np.ndarray:
    """Render a track of a work at 44.1 kHz [shape=(frames, 2)], of which the last 3 s fade out."""
    sound = np.zeros((round(seconds * mix.RATE), 2), np.float32)
    for (program, pan), notes in _compose(work, ensemble, seconds, rng).items():
        font.perform(sound, notes, program, pan=pan)
    sound = mix.add_reverb(sound, ensemble.recording, rng)
    sound = mix.change_treble(sound, ensemble.recording.treble_db)
    fade = 3 * mix.RATE
    sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None] ** 0.5
    return mix.master(sound, ensemble.recording, rng, drive=0.5, peak=ensemble.peak)
