"""Rap half of the demo corpus: beats, loops and a synthetic voice that keeps the grid."""

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np

from . import scores, synth

_BAR, _STEPS = 8, 16  # eighths and sixteenths in a bar
_INTRO = ("intro", 4)  # section and bars
_FORM = (("verse", 8), ("hook", 4), ("verse", 8), ("hook", 4), ("break", 2))
_KICK, _SNARE, _CLAP, _RIM, _HAT, _OPEN_HAT = 36, 38, 39, 37, 42, 46
_VELOCITY = {"X": 118, "x": 96, "o": 60, "r": 84}  # accent, hit, ghost, roll of three


@dataclass(frozen=True)
class Beat:
    """Patterns of a bar, a sixteenth per letter; `loop` is (program, texture) layers.

    `bass` is a General MIDI program, or None for a long 808 kick tuned to the chord.
    """

    kick: str
    snare: str
    hat: str
    line: str
    loop: tuple[tuple[int, str], ...]
    bass: int | None
    clap: bool = False


@dataclass(frozen=True)
class Rapper:
    """An artist: an espeak-ng voice with pitch and range (0-99), and its studio.

    `tempo` in beats/min, `swing` the share of a sixteenth by which offbeats come
    late, `voice_gain` in dB over the beat, `room` in s, `wet` its share, `tilt` in dB
    above 2.5 kHz, `hiss` in dB of full scale.
    """

    name: str
    voice: str
    pitch: int
    pitch_range: int
    tempo: float
    swing: float
    voice_gain: float
    room: float
    wet: float
    tilt: float
    hiss: float


@dataclass(frozen=True)
class Song:
    """What is rapped over which beat: chords of the loop, topic of the verses, hook."""

    rapper: Rapper
    beat: str
    chords: str
    topic: str
    hook: tuple[str, str]


BEATS = {
    "boombap": Beat(
        "X.....x..xX.....",
        "....X..o....X...",
        "x.x.x.x.x.x.x.x.",
        "X..x..x.X...x.x.",
        ((4, "stabs"),),
        33,
    ),
    "trap": Beat(
        "X.....x...X..x..",
        "........X.......",
        "x.x.x.xrx.x.xrx.",
        "X.........x.....",
        ((89, "block"), (11, "broken")),
        None,
        True,
    ),
    "funk": Beat(
        "X..x..x...X..x..",
        "....X.......X..o",
        "xoxoxoxoxoxoxoxo",
        "X.x..xx.X..x.xx.",
        ((27, "stabs"), (16, "block")),
        37,
    ),
    "electro": Beat(
        "X...X...X...X...",
        "....X.......X...",
        "..x...x...x...x.",
        "x.x.x.x.x.x.x.x.",
        ((81, "stabs"),),
        38,
        True,
    ),
    "dusty": Beat(
        "X.x.......X.....",
        "....X.......X..o",
        "x.xox.x.x.xox.xo",
        "X.....x...X.....",
        ((0, "stabs"), (48, "block")),
        32,
    ),
    "bounce": Beat(
        "X..X..X...X.X...",
        "....X.......X...",
        "x.x.r.x.x.x.x.r.",
        "X..X..X...X.....",
        ((46, "broken"),),
        None,
        True,
    ),
    "strings": Beat("", "", "", "o.......o.......", ((0, "arpeggio"), (48, "block")), 42),
}

LYRICS = {
    "city": (
        "The morning bus is humming and the rain is coming down",
        "I draw a map of echoes on the back streets of the town",
        "The traffic keeps the tempo and the bridges keep the time",
        "I carry paper pockets full of unfinished rhyme",
        "The corner store is glowing like a lantern in the grey",
        "I pay for bread with couplets and they give me change all day",
        "The tower clock is lazy but my sneakers never rest",
        "I walk the river backwards just to put it to the test",
        "The neon signs are stutters in the language of the street",
        "I learned to read the crosswalk by the rhythm of my feet",
        "The window washer whistles on the forty second floor",
        "He polishes the skyline and he leaves me wanting more",
    ),
    "code": (
        "I woke up in a loop and I forgot to count to ten",
        "I ran until the memory was full and ran again",
        "My pointers point at nothing but my arguments are strong",
        "I catch my own exceptions when the logic goes along",
        "I sort the broken records from the smallest to the great",
        "I cache the things I treasure and evaluate too late",
        "The compiler gave me warnings so I warned it in return",
        "I merged another midnight with a lesson left to learn",
        "I tested every corner till the corners turned to green",
        "I shipped a little daylight to the back of the machine",
        "The server room is singing in a cool and steady hum",
        "I push it to the main line on the beating of the drum",
    ),
    "kitchen": (
        "I got a pan of onions and a melody to fry",
        "I season every sentence till the salt is in the sky",
        "The kettle hits the high note and the spoon is on the snare",
        "I knead it in the evening and I leave it in the air",
        "My grandma had a recipe she never wrote it down",
        "She measured it in handfuls and the best in any town",
        "The oven is a stage and every loaf is in the light",
        "I rise up like the sourdough that waited through the night",
        "I slice it on the offbeat and I serve it on the one",
        "The plates are coming empty so I know the job is done",
        "The pepper makes you holler and the honey makes you stay",
        "I wash up in the chorus and I cook another day",
    ),
    "science": (
        "Between the start and finish of a smooth and steady climb",
        "The mean value theorem says you matched the mean one time",
        "The tangent runs in parallel to secant in between",
        "So somewhere on the interval the average slope is seen",
        "Then Fourier came along and said that every single wave",
        "Is sines and cosines added up is all the sound you save",
        "I sample at the Nyquist rate so nothing folds on me",
        "I window every frame I have and take the F F T",
        "The integral of e to x is e to x plus C",
        "The limit of the partial sums converges properly",
        "A group has got an inverse and identity inside",
        "The kernel of a mapping has got nowhere left to hide",
        "The gradient points uphill so I take the other way",
        "I shrink the step at every turn and reach the floor today",
    ),
    "prank": (
        "Good evening this is somebody who never wrote a song",
        "I only called to tell you that the number must be wrong",
        "The pizza that you ordered has been sent up to the moon",
        "The driver took a ladder and he says he will be soon",
        "Your neighbour lent his elephant to water all your plants",
        "It ate the garden furniture and someone's Sunday pants",
        "Please hold the line a little while I hand you to the king",
        "He has a minor question on the colour of a string",
        "I hear that you are listening so let me be polite",
        "There is a marching orchestra outside your door tonight",
        "They asked me for directions and I told them where you live",
        "They practise until morning so I hope that you forgive",
    ),
}

_PLACEHOLDER = Rapper("MC Placeholder", "en-us+m3", 30, 22, 92, 0.18, -2.0, 0.4, 0.06, -1, -60)
_GRADIENT = Rapper("Lil Gradient", "en-us+m7", 52, 30, 140, 0.0, -1.0, 0.9, 0.10, 1, -66)
_POINTER = Rapper("DJ Null Pointer", "en-gb-x-rp+m1", 40, 26, 104, 0.10, -2.5, 0.3, 0.05, 0, -64)
_SISTERS = Rapper("Synthetic Sisters", "en-us+f3", 55, 28, 112, 0.0, -1.5, 0.6, 0.08, 0, -66)
_BOT = Rapper("Boom Bap Bot", "en-gb-x-rp+m5", 22, 16, 86, 0.22, -2.0, 0.5, 0.06, -4, -56)
_FLOW = Rapper("Professor Flow", "en-gb-x-rp+m4", 36, 28, 96, 0.12, -1.0, 0.4, 0.06, -1, -62)
_EPSILON = Rapper(
    "Captain Epsilon", "en-gb-scotland+m2", 44, 40, 84, 0.05, -1.0, 1.2, 0.15, -3, -60
)
_LOOP = Rapper("Lady Loop", "en-us+f2", 48, 26, 98, 0.15, -2.0, 0.4, 0.06, 0, -64)

SONGS = {
    "prelude": Song(
        _PLACEHOLDER,
        "dusty",
        "Cm|Ab|Fm|G7",
        "city",
        ("Play the prelude one more time", "Let the city keep the rhyme"),
    ),
    "rain": Song(
        _PLACEHOLDER,
        "boombap",
        "Am|F|Dm|E7",
        "city",
        ("Rain on the rooftop, beat on the street", "Every little puddle got a pair of feet"),
    ),
    "bread": Song(
        _PLACEHOLDER,
        "dusty",
        "Dm|Bb|Gm|A7",
        "kitchen",
        ("Bread and butter, bass and drum", "Save a slice and pass me some"),
    ),
    "descent": Song(
        _GRADIENT,
        "trap",
        "F#m|D|Bm|C#m",
        "code",
        ("Going down, going down, small steps", "Way down, way down, no regrets"),
    ),
    "plateau": Song(
        _GRADIENT,
        "bounce",
        "Ebm|B|Abm|Bb",
        "city",
        ("Nothing going up, nothing going down", "Standing on the plateau looking at the town"),
    ),
    "segfault": Song(
        _POINTER,
        "funk",
        "Em7|A7|Em7|B7",
        "code",
        ("Core dumped, pick it up", "Stack overflowing in a coffee cup"),
    ),
    "heap": Song(
        _POINTER,
        "funk",
        "Gm7|C7|Gm7|D7",
        "kitchen",
        (
            "Pile it on the heap now, heap it on the plate",
            "If you never free it then it never is too late",
        ),
    ),
    "mirror": Song(
        _SISTERS,
        "electro",
        "Am|C|F|G",
        "city",
        ("Mirror mirror, on the beat", "Two of us and eight left feet"),
    ),
    "sugar": Song(
        _SISTERS,
        "electro",
        "Bm|G|D|A",
        "kitchen",
        (
            "Sugar on the left and salt on the right",
            "We are going to be dancing in the kitchen tonight",
        ),
    ),
    "crate": Song(
        _BOT,
        "boombap",
        "Ebm7|Abm7|Ebm7|Bb7",
        "code",
        ("Dig in the crate, dig in the crate", "Dust on the needle and the needle on plate"),
    ),
    "theorem": Song(
        _FLOW,
        "boombap",
        "Dm7|G7|Cmaj7|A7",
        "science",
        (
            "Mean value, mean value, somewhere in between",
            "There is a point where the slope is the mean",
        ),
    ),
    "call": Song(
        _EPSILON,
        "strings",
        "C|G|Am|Em|F|C|F|G",
        "prank",
        ("Hello, hello, are you still there", "I have a string quartet to spare"),
    ),
    "delta": Song(
        _EPSILON,
        "dusty",
        "Em|C|Am|B7",
        "science",
        ("For every epsilon you bring", "I have a delta, let it ring"),
    ),
    "loops": Song(
        _LOOP,
        "boombap",
        "Fm|Db|Bbm|C7",
        "city",
        ("Round and around and around we go", "Lady got a loop and the loop got flow"),
    ),
    "while": Song(
        _LOOP,
        "funk",
        "Am7|D7|Am7|E7",
        "code",
        ("While it is true, while it is true", "I never break the loop till I break it with you"),
    ),
    "spice": Song(
        _LOOP,
        "bounce",
        "Cm|Ab|Bb|G",
        "kitchen",
        ("Turn up the heat, turn it up twice", "A pinch of the bass and a handful of spice"),
    ),
}


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
        piece = sound[int(cut * synth.RATE) : int(end * synth.RATE)].copy()
        if len(piece) > 2 * len(edge):
            piece[: len(edge)] *= edge
            piece[-len(edge) :] *= edge[::-1]
        synth.add(out, piece, target)
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
