"""Rap tracks of the demo corpus: beats, loops and a synthetic voice in time with them.

The beats, rappers, songs and lyrics are in ``rap.toml``.
"""

import base64
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from genrecls.demo import mix
from genrecls.demo.notation import TEXTURES, read_chords
from genrecls.demo.soundfont import DRUMS, Note, SoundFont

_BAR, _STEPS = 8, 16  # eighths and sixteenths in a bar
_INTRO = ("intro", 4)  # section and its bars
_FORM = (("verse", 8), ("hook", 4), ("verse", 8), ("hook", 4), ("break", 2))
_VELOCITIES = {"X": 118, "x": 96, "o": 60, "r": 84}  # accent, hit, soft hit, roll of three
_EDGE = np.linspace(0, 1, mix.RATE // 250, dtype=np.float32)  # fade of 4 ms

# General MIDI drums
_KICK, _SNARE, _CLAP, _RIM, _HAT, _OPEN_HAT = 36, 38, 39, 37, 42, 46


@dataclass(frozen=True)
class Beat:
    """Drums, bass and loop of a song.

    A rhythm is a string with one character per sixteenth of a bar: ``X`` an accent, ``x`` a hit,
    ``o`` a soft hit, ``r`` a roll of three hits, ``.`` a rest.
    """

    bass_line: str  # rhythm of the bass
    loop: list[tuple[int, str]]  # General MIDI programs that play the chords, and their textures
    kick: str = ""  # rhythms of the drums
    snare: str = ""
    hat: str = ""
    bass_program: int | None = None  # None: a long 808 kick, tuned to the chord
    clap: bool = False  # whether claps double the snare


@dataclass(frozen=True)
class Rapper:
    """An artist who raps."""

    name: str
    voice: str  # name of a voice of espeak-ng
    pitch: int  # mean pitch of the voice, 0-99
    pitch_range: int  # liveliness of the intonation, 0-99
    tempo: float  # quarters per minute
    swing: float  # delay of every second sixteenth, in sixteenths
    voice_gain_db: float  # level of the voice relative to the beat
    recording: mix.Recording


@dataclass(frozen=True)
class Song:
    """A song, with its artist."""

    title: str
    rapper: Rapper
    beat: Beat
    chords: str  # names for read_chords; the loop plays one chord per bar
    lyrics: list[str]  # lines of the verses; each two are a couplet
    hook: list[str]  # two lines


_DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_RAPPERS = {
    key: Rapper(**fields | {"recording": mix.Recording(**fields["recording"])})
    for key, fields in _DATA["rappers"].items()
}
SONGS = {
    key: Song(
        title=song["title"],
        rapper=_RAPPERS[song["rapper"]],
        beat=Beat(**_DATA["beats"][song["beat"]]),
        chords=song["chords"],
        lyrics=_DATA["lyrics"][song["topic"]],
        hook=song["hook"],
    )
    for key, song in _DATA["songs"].items()
}


class _Grid:
    """Times of the bars and sixteenths of a song."""

    def __init__(self, rapper: Rapper, seconds: float):
        self.step_s = 15 / rapper.tempo
        self.bar_s = _STEPS * self.step_s
        self._swing = rapper.swing
        form = chain([_INTRO], cycle(_FORM))
        bars = ((section, number) for section, count in form for number in range(count))
        #: Section of each bar, and the number of the bar in it.
        self.bars = list(islice(bars, int(np.ceil(seconds / self.bar_s))))

    def time(self, bar: int, step: int) -> float:
        delay = self._swing * (step % 2 == 1)
        return bar * self.bar_s + (step + delay) * self.step_s

    def hits(self, bar: int, pattern: str) -> Iterator[tuple[float, int]]:
        """Yield the time in s and the velocity of each hit of a pattern."""
        for step, hit in enumerate(pattern):
            if hit != ".":
                for i in range(3 if hit == "r" else 1):
                    yield self.time(bar, step) + i * self.step_s / 3, _VELOCITIES[hit]


def _write_drums(beat: Beat, grid: _Grid, rng: np.random.Generator) -> list[Note]:
    notes = []
    snares = (_SNARE, _CLAP) if beat.clap else (_SNARE,)
    for bar, (section, number) in enumerate(grid.bars):
        layers: list[tuple[str, tuple[int, ...]]] = [(beat.hat, (_HAT,))]
        if section == "break":
            layers += [(beat.snare, (_RIM,))]
        elif section != "intro" or number >= 2:
            layers += [(beat.kick, (_KICK,)), (beat.snare, snares)]
        if section == "hook" and beat.hat:
            layers += [("..............x.", (_OPEN_HAT,))]
        notes += [
            Note(time, 0.6, drum, velocity * rng.uniform(0.9, 1))
            for pattern, drums in layers
            for time, velocity in grid.hits(bar, pattern)
            for drum in drums
        ]
    return notes


def _render_808(pitch: int, seconds: float) -> np.ndarray:
    """Render an 808 kick: a sine that falls to its pitch within 50 ms and decays."""
    time = np.arange(int(seconds * mix.RATE)) / mix.RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    phase = 2 * np.pi * (frequency * time + 3 * frequency * 0.015 * (1 - np.exp(-time / 0.015)))
    sound = np.tanh(1.5 * np.sin(phase)) * np.exp(-2.5 * time / seconds)
    sound[-400:] *= np.linspace(1, 0, 400)
    return np.repeat(sound.astype(np.float32)[:, None], 2, 1)


def _render_beat(
    song: Song, grid: _Grid, out: np.ndarray, font: SoundFont, rng: np.random.Generator
) -> None:
    """Add drums, loop and bass to a mix."""
    beat, eighth_s = song.beat, 2 * grid.step_s
    font.perform(out, _write_drums(beat, grid, rng), DRUMS, gain=1.4)
    chords = read_chords(song.chords, _BAR)
    for pan, (program, texture) in zip((-0.3, 0.3), beat.loop, strict=False):
        notes = []
        for bar, (section, _) in enumerate(grid.bars):
            velocity = 72 if section == "verse" else 84
            pitches = chords[bar % len(chords)].pitches
            notes += [
                Note(grid.time(bar, 0) + start * eighth_s, length * eighth_s, pitch, velocity)
                for start, length, pitch in TEXTURES[texture](0, _BAR, pitches)
            ]
        font.perform(out, notes, program, pan=pan, gain=0.45)
    bass = []
    for bar, (section, _) in enumerate(grid.bars):
        if section not in ("intro", "break"):
            root = chords[bar % len(chords)].bass
            bass += [
                Note(time, 2.5 * grid.step_s, root - 12 * (root > 42), velocity)
                for time, velocity in grid.hits(bar, beat.bass_line)
            ]
    if beat.bass_program is not None:
        font.perform(out, bass, beat.bass_program, gain=0.75)
    else:
        for note in bass:
            mix.add(out, _render_808(note.pitch, 5 * grid.step_s), note.start, 0.3)


def _speak(
    rapper: Rapper, lines: list[str], seconds: float
) -> dict[str, tuple[list[float], np.ndarray]]:
    """Speak each line in about the given time; return its word starts in s and samples."""
    request = {
        "voice": rapper.voice,
        "pitch": rapper.pitch,
        "range": rapper.pitch_range,
        "seconds": seconds,
        "lines": lines,
    }
    program = [sys.executable, str(Path(__file__).with_name("voice.py"))]
    process = subprocess.run(
        program, input=json.dumps(request), capture_output=True, encoding="utf-8", check=False
    )
    if process.returncode:
        raise RuntimeError(f"espeak-ng failed: {process.stderr}")
    spoken = {}
    for line, answer in zip(lines, json.loads(process.stdout), strict=True):
        samples = np.frombuffer(base64.b64decode(answer["samples"]), "<i2")
        voice = resample_poly(samples.astype(np.float32) / 2**15, 2, 1)
        spoken[line] = answer["words"], voice.astype(np.float32)
    return spoken


def _align(words: list[float], voice: np.ndarray, step_s: float) -> np.ndarray:
    """Move words to multiples of a step; words that are too close stay together."""
    cuts, targets = [0.0], [0.0]
    for start in words[1:]:
        target = round(start / step_s) * step_s
        if target > targets[-1]:
            cuts.append(start)
            targets.append(target)
    out = np.zeros(len(voice) + mix.RATE // 4, np.float32)
    for cut, end, target in zip(cuts, [*cuts[1:], len(voice) / mix.RATE], targets, strict=True):
        phrase = voice[int(cut * mix.RATE) : int(end * mix.RATE)].copy()
        if len(phrase) > 2 * len(_EDGE):
            phrase[: len(_EDGE)] *= _EDGE
            phrase[-len(_EDGE) :] *= _EDGE[::-1]
        mix.add(out, phrase, target)
    return out


def _render_vocals(song: Song, grid: _Grid, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Rap one line per bar; copies to the left and right double the hooks."""
    couplets = rng.permutation(len(song.lyrics) // 2)
    verses = cycle([line for i in couplets for line in song.lyrics[2 * i : 2 * i + 2]])
    script = [
        (bar, song.hook[number % 2] if section == "hook" else next(verses), section)
        for bar, (section, number) in enumerate(grid.bars)
        if section in ("verse", "hook")
    ]
    voices = {}
    lines = sorted({line for _, line, _ in script})
    for line, (words, voice) in _speak(song.rapper, lines, 0.9 * grid.bar_s).items():
        # Without drums there is no rhythm to follow, so that the line stays as it is spoken.
        aligned = _align(words, voice, grid.step_s) if song.beat.kick else voice
        voices[line] = mix.compress(aligned)[:, None]
    out = np.zeros((frames, 2), np.float32)
    for bar, line, section in script:
        voice, start = voices[line], grid.time(bar, 0)
        mix.add(out, voice, start)
        if section == "hook":
            mix.add(out, voice, start + 0.017, np.array([0.5, 0]))
            mix.add(out, voice, start + 0.026, np.array([0, 0.5]))
    return out


def _measure_level(sound: np.ndarray) -> np.floating:
    """Measure the RMS of all that is not silent, in every eighth frame."""
    power = (sound[::8] ** 2).mean(1)
    return np.sqrt(power[power > 1e-6].mean())


def render_song(
    song: Song, seconds: float, font: SoundFont, rng: np.random.Generator
) -> np.ndarray:
    """Render a track of a song at 44.1 kHz [shape=(frames, 2)], of which the last second fades out.

    A RuntimeError is raised if espeak-ng fails.
    """
    frames, rapper = round(seconds * mix.RATE), song.rapper
    grid = _Grid(rapper, seconds)
    sound = np.zeros((frames, 2), np.float32)
    _render_beat(song, grid, sound, font, rng)
    voice = mix.change_treble(_render_vocals(song, grid, frames, rng), 3)
    gain = 10 ** (rapper.voice_gain_db / 20)
    voice *= gain * _measure_level(sound) / _measure_level(voice)
    sound = mix.add_reverb(sound + voice, rapper.recording, rng)
    sound[-mix.RATE :] *= np.linspace(1, 0, mix.RATE, dtype=np.float32)[:, None]
    sound = mix.change_treble(sound, rapper.recording.treble_db)
    return mix.master(sound, rapper.recording, rng, drive=2.5, peak=0.72)
