"""Rap half of the demo corpus: beats, loops and a synthetic voice that keeps the grid."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np

from genrecls.demo import scores, synth
from genrecls.demo.songs import BEATS, LYRICS

_BAR, _STEPS = 8, 16  # eighths and sixteenths in a bar
_INTRO = ("intro", 4)  # section and bars
_FORM = (("verse", 8), ("hook", 4), ("verse", 8), ("hook", 4), ("break", 2))
_KICK, _SNARE, _CLAP, _RIM, _HAT, _OPEN_HAT = 36, 38, 39, 37, 42, 46
_VELOCITY = {"X": 118, "x": 96, "o": 60, "r": 84}  # accent, hit, ghost, roll of three


def _speak(rapper, lines, seconds):
    """Each line's word starts (s) and mono sound, spoken in about `seconds` s."""
    from scipy.signal import resample_poly

    request = {
        "voice": rapper.voice,
        "pitch": rapper.pitch,
        "range": rapper.pitch_range,
        "lines": [[line, seconds] for line in lines],
    }
    program = [sys.executable, Path(__file__).with_name("voice.py")]
    answer = subprocess.run(
        program, input=json.dumps(request).encode(), capture_output=True, check=False
    )
    if answer.returncode:
        raise RuntimeError(f"espeak-ng failed: {answer.stderr.decode(errors='replace')}")
    spoken, rest = {}, answer.stdout
    for line in lines:
        head, rest = rest.split(b"\n", 1)
        head = json.loads(head)
        samples = np.frombuffer(rest, "<i2", head["frames"]).astype(np.float32) / 2**15
        rest = rest[2 * head["frames"] :]
        spoken[line] = head["words"], resample_poly(samples, 2, 1).astype(np.float32)
    return spoken


def _on_grid(words, sound, step):
    """The line with its words moved to the grid of `step` s, those too close kept together."""
    cuts, targets = [0.0], [0.0]
    for start in words[1:]:
        target = round(start / step) * step
        if target > targets[-1]:
            cuts.append(start)
            targets.append(target)
    out = np.zeros(len(sound) + synth.RATE // 4, np.float32)
    edge = np.linspace(0, 1, synth.RATE // 250, dtype=np.float32)  # 4 ms
    for cut, end, target in zip(cuts, [*cuts[1:], len(sound) / synth.RATE], targets, strict=True):
        segment = sound[int(cut * synth.RATE) : int(end * synth.RATE)].copy()
        if len(segment) > 2 * len(edge):
            segment[: len(edge)] *= edge
            segment[-len(edge) :] *= edge[::-1]
        synth.add(out, segment, target)
    return out


def _stabs(at, length, tones):
    """Chords on the one and just before the three: a sampled loop."""
    return [
        (at + beat, size, tone)
        for beat, size in ((0, 1.4), (3, 0.8), (5, 1.2))
        if beat < length
        for tone in tones
    ]


_TEXTURES = scores.TEXTURES | {"stabs": _stabs}


class _Grid:
    """Time of steps and bars of a song."""

    def __init__(self, rapper, seconds):
        self.step = 15 / rapper.tempo  # s
        self.swing = rapper.swing
        self.bar = _STEPS * self.step
        plan = (
            (section, n) for section, bars in chain([_INTRO], cycle(_FORM)) for n in range(bars)
        )
        self.bars = list(islice(plan, int(np.ceil(seconds / self.bar))))

    def at(self, bar, step):
        late = self.swing * (step % 2 == 1)
        return bar * self.bar + (step + late) * self.step

    def hits(self, bar, pattern):
        """Time (s) and velocity of each hit of a pattern in one bar."""
        for step, letter in enumerate(pattern):
            if letter != ".":
                for roll in range(3 if letter == "r" else 1):
                    yield self.at(bar, step) + roll * self.step / 3, _VELOCITY[letter]


def _drums(beat, grid, rng):
    notes = []
    snares = (_SNARE, _CLAP) if beat.clap else (_SNARE,)
    for bar, (section, n) in enumerate(grid.bars):
        layers = [(beat.hat, (_HAT,))]
        if section == "break":
            layers += [(beat.snare, (_RIM,))]
        elif section != "intro" or n >= 2:
            layers += [(beat.kick, (_KICK,)), (beat.snare, snares)]
        if section == "hook" and beat.hat:
            layers += [("..............x.", (_OPEN_HAT,))]
        notes += [
            synth.Note(time, 0.6, key, velocity * rng.uniform(0.9, 1))
            for pattern, keys in layers
            for time, velocity in grid.hits(bar, pattern)
            for key in keys
        ]
    return notes


def _boom(pitch, seconds):
    """An 808 kick: a sine that falls to `pitch` within 50 ms and dies away."""
    time = np.arange(int(seconds * synth.RATE)) / synth.RATE
    base = 440 * 2 ** ((pitch - 69) / 12)
    phase = 2 * np.pi * (base * time + 3 * base * 0.015 * (1 - np.exp(-time / 0.015)))
    sound = np.tanh(1.5 * np.sin(phase)) * np.exp(-2.5 * time / seconds)
    sound[-400:] *= np.linspace(1, 0, 400)
    return np.repeat(np.float32(sound)[:, None], 2, 1)


def _beat(song, grid, frames, font, rng):
    """Drums, bass and loop as (frames, 2)."""
    beat = BEATS[song.beat]
    chords = scores.read_chords(song.chords, _BAR)
    loops, bass = [[] for _ in beat.loop], []
    out = np.zeros((frames, 2), np.float32)
    synth.perform(out, font, _drums(beat, grid, rng), synth.DRUMS, gain=1.4)
    for bar, (section, _) in enumerate(grid.bars):
        _, _, root, tones = chords[bar % len(chords)]
        for notes, (_, texture) in zip(loops, beat.loop, strict=True):
            notes += [
                synth.Note(
                    grid.at(bar, 0) + at * 2 * grid.step,
                    length * 2 * grid.step,
                    pitch,
                    72 if section == "verse" else 84,
                )
                for at, length, pitch in _TEXTURES[texture](0, _BAR, tones)
            ]
        if section not in ("intro", "break"):
            bass += [
                synth.Note(time, 2.5 * grid.step, root - 12 * (root > 42), velocity)
                for time, velocity in grid.hits(bar, beat.line)
            ]
    for side, notes, (program, _) in zip((-0.3, 0.3), loops, beat.loop, strict=False):
        synth.perform(out, font, notes, program, side=side, gain=0.45)
    if beat.bass is None:
        for note in bass:
            synth.add(out, _boom(note.pitch, 5 * grid.step), note.start, 0.3)
    else:
        synth.perform(out, font, bass, beat.bass, gain=0.75)
    return out


def _vocals(song, grid, frames, rng):
    """The rapper's voice, one line a bar, doubled left and right in hooks."""
    couplets = np.array(LYRICS[song.topic]).reshape(-1, 2)
    verses = cycle(line for pair in rng.permutation(len(couplets)) for line in couplets[pair])
    script = [
        (bar, song.hook[n % 2] if section == "hook" else str(next(verses)), section)
        for bar, (section, n) in enumerate(grid.bars)
        if section in ("verse", "hook")
    ]
    lines = sorted({line for _, line, _ in script})
    spoken = _speak(song.rapper, lines, 0.9 * grid.bar)
    # Without drums nothing marks the grid, so a line is spoken rather than rapped.
    ready = {
        line: synth.compress(
            _on_grid(*spoken[line], grid.step) if BEATS[song.beat].kick else spoken[line][1],
            ratio=4,
        )
        for line in lines
    }
    out = np.zeros((frames, 2), np.float32)
    for bar, line, section in script:
        voice, start = ready[line][:, None], grid.at(bar, 0)
        synth.add(out, voice * np.float32([1, 1]), start)
        if section == "hook":
            synth.add(out, voice * np.float32([0.5, 0]), start + 0.017)
            synth.add(out, voice * np.float32([0, 0.5]), start + 0.026)
    return out


def _level(sound):
    """RMS of what is not silent, from every eighth frame."""
    power = (sound[::8] ** 2).mean(1)
    return np.sqrt(power[power > 1e-6].mean())


def render(song, seconds, font, rng):
    """Music of `seconds` s as (frames, 2) floats."""
    frames, rapper = round(seconds * synth.RATE), song.rapper
    grid = _Grid(rapper, seconds)
    beat = _beat(song, grid, frames, font, rng)
    voice = synth.shelf(_vocals(song, grid, frames, rng), 3)
    voice *= 10 ** (rapper.voice_gain / 20) * _level(beat) / _level(voice)
    beat += voice
    sound = synth.reverb(beat, rng, seconds=rapper.room, wet=rapper.wet)
    sound[-synth.RATE :] *= np.linspace(1, 0, synth.RATE, dtype=np.float32)[:, None]
    return synth.master(
        synth.shelf(sound, rapper.tilt), rng, drive=2.5, peak=0.72, hiss=rapper.hiss
    )
