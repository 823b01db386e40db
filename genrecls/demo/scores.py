"""Classical half of the demo corpus: themes of `works`, varied and orchestrated at length."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np

from genrecls.demo import synth

_STEPS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
_NOTE = re.compile(r"([_^=]?)([A-Ga-gz])([,']*)(\d*)(/?)(\d*)")
_CHORD = re.compile(r"([A-G])([#b]?)(maj7|m7|dim|m|7|)")
_QUALITIES = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "maj7": (0, 4, 7, 11),
    "dim": (0, 3, 6, 9),
}


def _signature(sharps):
    """Semitones that the key signature adds to each letter."""
    letters = "FCGDAEB"[:sharps] if sharps > 0 else "BEADGCF"[:-sharps]
    return dict.fromkeys(letters, 1 if sharps > 0 else -1)


def read_melody(text, sharps):
    """Notes of one stretch of ABC as (start, length, MIDI pitch), times in eighths."""
    signature, at, notes = _signature(sharps), 0.0, []
    for accidental, letter, octave, times, slash, over in _NOTE.findall(text):
        length = int(times or 1) / (int(over or 2) if slash else 1)
        if letter != "z":
            up = letter.upper()
            shift = {"": signature.get(up, 0), "^": 1, "_": -1, "=": 0}[accidental]
            pitch = (
                60
                + _STEPS[up]
                + shift
                + 12 * (letter.islower() + octave.count("'") - octave.count(","))
            )
            notes.append((at, length, pitch))
        at += length
    return notes, at


def read_chords(text, bar):
    """Chords as (start, length, bass pitch, pitches close to middle C), times in eighths."""
    chords = []
    for number, names in enumerate(text.split("|") if text else ()):
        names = names.split()
        for place, name in enumerate(names):
            if name == "-":
                continue
            letter, sign, quality = _CHORD.fullmatch(name).groups()
            root = _STEPS[letter] + {"": 0, "#": 1, "b": -1}[sign]
            tones = sorted(55 + (root + q - 55) % 12 for q in _QUALITIES[quality])
            length = bar / len(names)
            chords.append((number * bar + place * length, length, 36 + (root - 36) % 12, tones))
    return chords


def _spread(order, step, at, length, tones, hold=1.0):
    """Tones picked in turn by `order`, each `step` eighths, until `length` is full."""
    return [
        (at + i * step, step * hold, tones[order[i % len(order)] % len(tones)])
        for i in range(int(length / step))
    ]


def _chord_hits(step, first, at, length, tones):
    return [
        (at + i * step, step * 0.6, tone)
        for i in range(first, int(length / step))
        for tone in tones
    ]


TEXTURES = {
    "block": lambda at, length, tones: [(at, length * 0.97, tone) for tone in tones],
    "broken": lambda *chord: _spread((0, 2, 1, 2), 1, *chord),
    "arpeggio": lambda *chord: _spread((0, 1, 2, 3, 2, 1), 0.5, *chord, hold=2.0),
    "pulse": lambda *chord: _chord_hits(1, 0, *chord),
    "waltz": lambda *chord: _chord_hits(2, 1, *chord),
    "tremolo": lambda *chord: _chord_hits(0.5, 0, *chord),
}


def _neighbour(pitch, sharps, direction):
    """The next pitch of the key above (1) or below (-1)."""
    scale = {(7 * sharps + step) % 12 for step in _STEPS.values()}
    return next(
        p
        for p in range(pitch + direction, pitch + 3 * direction + direction, direction)
        if p % 12 in scale
    )


def _ornament(notes, sharps, pattern):
    """Break notes of a quarter or more into equal ones around the same pitch."""
    out = []
    for at, length, pitch in notes:
        around = {0: pitch, 1: _neighbour(pitch, sharps, 1), -1: _neighbour(pitch, sharps, -1)}
        steps = pattern if length >= 2 else (0,)
        size = length / len(steps)
        out += [(at + i * size, size, around[s]) for i, s in enumerate(steps)]
    return out


VARIATIONS = {
    "plain": lambda notes, sharps: notes,
    "turn": lambda notes, sharps: _ornament(notes, sharps, (0, 1, 0, -1)),
    "detached": lambda notes, sharps: [(at, length * 0.45, p) for at, length, p in notes],
    "octaves": lambda notes, sharps: notes + [(at, length, p - 12) for at, length, p in notes],
    "thirds": lambda notes, sharps: (
        notes
        + [
            (at, length, _neighbour(_neighbour(p, sharps, -1), sharps, -1))
            for at, length, p in notes
        ]
    ),
    "repeated": lambda notes, sharps: _ornament(notes, sharps, (0, 0)),
}


class _Stage:
    """Turns written notes into played ones: tempo, dynamics, small human errors."""

    def __init__(self, work, tempo, rng):
        self._work, self._tempo, self._rng = work, tempo, rng
        self.parts = defaultdict(list)
        self.now = 0.0  # s

    def begin(self, eighths, level):
        """Lay out one section of so many eighths at a velocity `level`; slow at its end."""
        bars = round(eighths / self._work.bar)
        pace = np.full(bars, self._work.bar * 30 / self._tempo)
        pace *= 1 + 0.02 * self._rng.standard_normal(bars).cumsum().clip(-2, 2)
        pace[-1] *= 1.2
        self._marks = self.now + np.concatenate([[0], pace.cumsum()])
        self._level = level

    def play(self, part, notes, weight):
        """Give a `part` some notes; `weight` is added to the velocity."""
        bar, rng = self._work.bar, self._rng
        for at, length, pitch in notes:
            start, stop = np.interp(
                [at, at + length], np.arange(len(self._marks)) * bar, self._marks
            )
            arch = 9 * np.sin(np.pi * (at / bar % 4) / 4) + (5 if at % bar == 0 else 0)
            velocity = self._level + weight + arch + rng.normal(0, 3)
            # Sixteenths are bowed or tongued apart, or repeated ones would become one tone.
            held = (stop - start) * (0.6 if length <= 0.5 else 1)
            self.parts[part].append(
                synth.Note(
                    max(start + rng.normal(0, 0.006), 0),
                    held,
                    pitch,
                    float(np.clip(velocity, 20, 120)),
                )
            )

    def end(self, rest):
        """Close the section with a breath of `rest` s."""
        self.now = self._marks[-1] + rest


def _figure(text, work):
    """Broken chords of a whole section: each bar's voicing played along the figure."""
    notes, bars = [], text.split("|")
    for number, bar in enumerate(bars):
        tones = [pitch for _, _, pitch in read_melody(bar, work.sharps)[0]]
        notes += _spread(work.figure, 0.5, number * work.bar, work.bar, tones, hold=1.6)
    return notes, len(bars) * work.bar


def compose(work, ensemble, seconds, rng):
    """Play `work` with ever new variations until `seconds` are full.

    Returns a dict of notes by (program, pan from -1 to 1).
    """
    stage = _Stage(work, work.tempo * ensemble.tempo, rng)
    seats = np.linspace(-0.5, 0.3, len(ensemble.leads)) if len(ensemble.leads) > 1 else (-0.1,)
    levels, shifts, names = (66, 84, 58, 96, 72), (0, 0, 5, 0, -2), list(VARIATIONS)
    trail, turn = [], 0
    while stage.now < seconds:
        text, chords = work.sections[turn % len(work.sections)]
        verse = turn // len(work.sections)
        melody, eighths = (_figure if work.figure else _read)(text, work)
        shift = 0 if work.canon else shifts[verse % len(shifts)]
        stage.begin(eighths, levels[(turn + verse) % len(levels)])
        if not work.canon and not work.figure:
            melody = VARIATIONS[names[0 if turn == 0 else rng.integers(len(names))]](
                melody, work.sharps
            )
        trail = [melody, *trail][: len(ensemble.leads) if work.canon else 1]
        for voice, heard in enumerate(trail):
            seat = voice if work.canon else turn % len(ensemble.leads)
            program, octave = ensemble.leads[seat]
            stage.play((program, seats[seat]), _shifted(heard, shift + octave), 12 - 3 * voice)
        _accompany(stage, work, ensemble, read_chords(chords, work.bar), shift, turn)
        stage.end(0.0 if work.canon else rng.uniform(0.15, 0.6))
        turn += 1
    return stage.parts


def _read(text, work):
    return read_melody(text, work.sharps)


def _shifted(notes, semitones):
    return [(at, length, pitch + semitones) for at, length, pitch in notes]


def _accompany(stage, work, ensemble, chords, shift, turn):
    """Chords in this turn's texture, the bass below, timpani where there are any."""
    if not chords:
        return
    texture = TEXTURES[work.textures[turn % len(work.textures)]]
    program = ensemble.chords[turn % len(ensemble.chords)]
    for at, length, bass, tones in chords:
        stage.play((program, 0.15), _shifted(texture(at, length, tones), shift), -14)
        stage.play((ensemble.bass, 0.5), [(at, length * 0.95, bass + shift)], -2)
    if (ensemble.timpani and turn % 3 == 2) or work.timpani:
        beats = {(at, bass) for at, _, bass, _ in chords} | {
            (at + length / 2, bass) for at, length, bass, _ in chords
        }
        stage.play((47, -0.2), [(at, 1, bass + shift) for at, bass in sorted(beats)], 0)


def render(work, ensemble, seconds, font, rng):
    """Music of `seconds` s as (frames, 2) floats, played by an ensemble in its hall."""
    frames = round(seconds * synth.RATE)
    sound = np.zeros((frames, 2), np.float32)
    for (program, seat), notes in compose(work, ensemble, seconds, rng).items():
        synth.perform(sound, font, notes, program, side=seat)
    sound = synth.reverb(sound, rng, seconds=ensemble.room, wet=ensemble.wet)
    sound = synth.shelf(sound, ensemble.tilt)
    fade = 3 * synth.RATE
    sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None] ** 0.5
    return synth.master(sound, rng, drive=0.5, peak=ensemble.loudness, hiss=ensemble.hiss)
