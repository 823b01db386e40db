"""Beats, lyrics and rappers of the rap half of the demo corpus, all written for it."""

from __future__ import annotations

from dataclasses import dataclass


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
