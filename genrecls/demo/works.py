"""Themes by dead composers, and who plays them, for the classical half of the demo corpus.

Melodies are in ABC notation with an eighth note as the unit (`C` is middle C, `c`
an octave above, `c2` a quarter, `^f` sharp, `_b` flat, `z` a rest), and the key
signature applies. Chords are one bar per `|`, of equal length within the bar, `-`
for none. Both were written down for this project, mostly from memory and often
simplified; the harmonisations are the project's own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A composition: `sections` of (melody or figure voicings, chords), `bar` in eighths.

    `sharps` of the key signature (flats negative), `tempo` in quarters/min. With a
    `figure`, every bar of a section is a voicing, and the figure's numbers pick from
    it, a sixteenth each. In a `canon`, each voice follows one section later. With
    `timpani`, they beat throughout.
    """

    composer: str
    name: str
    sharps: int
    bar: int
    tempo: float
    sections: tuple[tuple[str, str], ...]
    textures: tuple[str, ...]
    figure: tuple[int, ...] = ()
    canon: bool = False
    timpani: bool = False


@dataclass(frozen=True)
class Ensemble:
    """An artist: General MIDI programs with octave shifts (semitones), and its hall.

    `room` in s until -60 dB, `wet` its share, `tilt` in dB above 2.5 kHz, `hiss` in dB
    of full scale, `tempo` a factor, `loudness` the share of full scale at the peak.
    """

    name: str
    leads: tuple[tuple[int, int], ...]
    chords: tuple[int, ...]
    bass: int
    room: float
    wet: float
    tilt: float
    hiss: float
    tempo: float = 1.0
    loudness: float = 0.6
    timpani: bool = False


ENSEMBLES = {
    "chamber": Ensemble(
        "Demo Chamber Players",
        ((40, 0), (40, 0), (73, 0), (42, -12)),
        (6, 48, 6),
        42,
        1.4,
        0.25,
        2,
        -62,
        loudness=0.55,
    ),
    "piano": Ensemble("Synthetic Pianist", ((0, 0),), (0,), 0, 0.9, 0.15, 5, -58, loudness=0.5),
    "winds": Ensemble(
        "Demo Wind Quintet", ((73, 12), (71, 0), (68, 0)), (60, 71), 70, 1.1, 0.2, 4, -64, 1.06
    ),
    "quartet": Ensemble(
        "Demo String Quartet",
        ((40, 0), (41, -12), (42, -12), (40, 0)),
        (48, 41),
        42,
        0.7,
        0.12,
        3,
        -66,
        0.96,
    ),
    "symphony": Ensemble(
        "Artificial Symphony",
        ((68, 0), (48, 0), (60, -12), (56, 0)),
        (49, 61, 48),
        43,
        2.3,
        0.35,
        2,
        -60,
        0.94,
        0.8,
        True,
    ),
    "festival": Ensemble(
        "Demo Festival Strings",
        ((40, 0), (45, 0), (41, 0)),
        (6, 48, 45),
        43,
        1.8,
        0.22,
        4,
        -60,
        loudness=0.75,
    ),
    "guitars": Ensemble("Generated Guitar Duo", ((24, -12), (24, 0)), (24,), 24, 0.8, 0.14, 4, -62),
    "radio": Ensemble(
        "Demo Radio Orchestra",
        ((42, -12), (71, 0), (40, 0), (56, -12)),
        (48, 60, 49),
        43,
        1.6,
        0.28,
        3,
        -56,
        1.04,
        0.8,
        True,
    ),
}

_MINUET = Work(
    "Petzold",
    "Minuet in G",
    1,
    6,
    118,
    (
        (
            "d2GABc|d2G2G2|e2cdef|g2G2G2|c2dcBA|B2cBAG|F2GABG|A6|"
            "d2GABc|d2G2G2|e2cdef|g2G2G2|c2dcBA|B2cBAG|A2BAGF|G6",
            "G|Em|C|G|Am|G|D|D7|G|Em|C|G|Am|G|D7|G",
        ),
        (
            "b2gabg|a2defd|g2efgd|^c2B^cA2|AB^cdef|g2f2e2|f2A2^c2|d6|"
            "d2GFG2|e2GFG2|d2c2B2|AGFGA2|DEFGAB|c2B2A2|BdG2F2|G6",
            "G|D|Em|A7|A7|A7|D A7 D|D|G|C|G|D|D|Am|G D7|G",
        ),
    ),
    ("block", "waltz", "broken"),
)

_WINTER_PULSE = "|".join(16 * f"{pitch}/" for pitch in ("f", "a", "b", "=e", "f", "d", "=b", "c'"))

WORKS = {
    "canon": Work(
        "Pachelbel",
        "Canon in D",
        2,
        8,
        112,
        tuple(
            (melody, "D A|Bm F#m|G D|G A")
            for melody in (
                "f4e4|d4c4|B4A4|B4c4",
                "d4c4|B4A4|G4F4|G4E4",
                "D2F2A2G2|F2D2F2E2|D2B,2D2A2|G2B2A2G2",
                "F2D2E2c2|d2f2a2A2|B2G2A2F2|D2d2d3c",
                "DcdDCAEF|Ddcdcfab|gfegfedc|BAGFEGFE",
                "DEFGAEAG|FBAGAGFE|DB,BcdcBA|GFEBABAG",
                "F2f2e4|z2d2f4|b4a4|b4c'4",
                "af/g/af/g/a/A/B/c/d/e/f/g/|fd/e/fF/G/A/B/A/G/A/F/G/A/|"
                "GB/A/GF/E/F/E/D/E/F/G/A/B/|GB/A/Bc/d/A/B/c/d/e/f/g/a/",
                "f2z2e2z2|d2z2f2z2|g2z2f2z2|g2z2a2z2",
            )
        ),
        ("block", "broken"),
        canon=True,
    ),
    "folia": Work(
        "Corelli",
        "La Folia",
        -1,
        6,
        92,
        (
            (
                "d2d3e|^c4^c2|d2d3e|e4e2|f2f3g|e4e2|d2d3e|^c6|"
                "d2d3e|^c4^c2|d2d3e|e4e2|f2f3g|e4e2|d2e^c3|d6",
                "Dm|A7|Dm|C|F|C|Dm|A7|Dm|A7|Dm|C|F|C|Dm A7|Dm",
            ),
        ),
        ("block", "waltz", "broken", "arpeggio", "pulse"),
    ),
    "spring": Work(
        "Vivaldi",
        "Spring",
        4,
        8,
        104,
        (
            (
                "e2g2g2g2|fe b4 ba|g2g2g2fe|b6ba|gab2a2gf|e2g2g2g2|feb4ba|gab2a2g2|f8",
                "E|E|E|E|E A|E|E|E B7|B",
            ),
            (
                "b2e'd'e'b2a|g2f2e4|B2edeBA2|G2F2E4|bbbbbbag|aaaaaagf|gggggggf|e8",
                "E B7|E B7|E B7|E|E|B7|E B7|E",
            ),
            (
                "b/c'/b/c'/b/c'/b/c'/ b2z2|g/a/g/a/g/a/g/a/ e2z2|b/e'/b/e'/b/g/b/g/ e/g/e/g/ b2|f8",
                "E|E|E|B",
            ),
        ),
        ("pulse", "block", "broken"),
    ),
    "minuet": _MINUET,
    "prelude": Work(
        "Bach",
        "Prelude in C BWV 846",
        0,
        8,
        70,
        (
            (
                "CEGce|CDAdf|B,DGdf|CEGce|CEAea|CD^FAd|B,DGdg|B,CEGc|A,CEGc|D,A,D^Fc|G,B,DGB|"
                "G,_B,EG^c|F,A,DAd|F,_A,DFB|E,G,CGc|E,F,A,CF|D,F,A,CF|G,,D,G,B,F|C,E,G,CE|"
                "C,G,_B,CE|F,,F,A,CE|^F,,C,A,C_E|_A,,F,B,CD|G,,F,G,B,D|G,,E,G,CE|G,,D,G,CF|"
                "G,,D,G,B,F|G,,_E,A,C^F|G,,E,G,CG|G,,D,G,CF|G,,D,G,B,F|C,,C,G,_B,E|C,,C,E,G,C",
                "",
            ),
        ),
        (),
        figure=(0, 1, 2, 3, 4, 2, 3, 4),
    ),
    "elise": Work(
        "Beethoven",
        "Fur Elise",
        0,
        6,
        112,
        (
            (
                "z4e^d|e^deBdc|A2zCEA|B2zE^GB|c2zEe^d|e^deBdc|A2zCEA|B2zEcB|A6",
                "-|-|Am|E7|Am|-|Am|E7|Am",
            ),
            (
                "z2zBcd|e3Gfe|d3Fed|c3Edc|B2zEed|e3Gfe|d3Fed|c3Edc|B2E2e2|e'2z^de^d|"
                "e^deBdc|A2zCEA|B2zE^GB|c2zEe^d|e^deBdc|A2zCEA|B2zEcB|A6",
                "-|C|G7|Am|E|C|G7|Am|E|E|-|Am|E7|Am|-|Am|E7|Am",
            ),
            (
                "c2f2e2|e2d2_b2|a2g2f2|e2d2c2|_B2A2A2|A2GABc|d4^d2|e4e2|f2A2c2|d4B2|c6",
                "F|Bb|F|C7|F|C7|G7|C|F|G7|C",
            ),
        ),
        ("arpeggio", "broken"),
    ),
    "lisons": Work(
        "Mozart",
        "Ah vous dirai-je Variations",
        0,
        8,
        126,
        (
            ("C2C2G2G2|A2A2G4|F2F2E2E2|D2D2C4", "C|F C|Dm C|G7 C"),
            (
                "G2G2F2F2|E2E2D4|G2G2F2F2|E2E2D4|C2C2G2G2|A2A2G4|F2F2E2E2|D3EC4",
                "C F|C G7|C F|C G7|C|F C|Dm C|G7 C",
            ),
        ),
        ("broken", "block", "pulse", "arpeggio"),
    ),
    "emperor": Work(
        "Haydn",
        "Emperor Variations Op 76 No 3",
        1,
        8,
        84,
        (
            ("G3AB2A2|c2B2AFG2|e2d2c2B2|A2Bcd4", "G D|Am G D G|C G Am G|D G"),
            ("A2B2AFD2|c2B2AFD2|d2c2B3B|^c3^cd4", "D G D|Am G D|G Am G|A7 D"),
            ("g3ffed2|e3ddcB2|A3B/c/decA|G2BAG4", "G C G|C D G|D D7|G D7 G G"),
        ),
        ("block", "broken", "pulse"),
    ),
    "largo": Work(
        "Dvorak",
        "New World Largo",
        2,
        8,
        66,
        (
            ("F3AA4|F3ED4|E2F2A3F|E8|F3AA4|F3ED4|E2F2E3D|D8", "D|D|A F#m|A|D|D|A7|D"),
            (
                "B3dd4|c2A2B4|B2d2c2A2|B8|B3dd4|c2A2B4|B2d2c2A2|B4z4",
                "Bm|F#m Bm|G A|Bm|G|A Bm|Em F#m|Bm A7",
            ),
            (
                "F3AA4|F3ED4|d3ef4|e2d2e2B2|d6A2|F3AA4|F3ED4|E2F2E3D|D8",
                "D|Bm|Bm D|Em Gm|D|D|Bm|Em A7|D",
            ),
        ),
        ("block", "tremolo", "broken"),
    ),
    "winter": Work(
        "Vivaldi",
        "Winter Allegro",
        -4,
        8,
        132,
        (
            (_WINTER_PULSE, "Fm|Fm|Bbm|Edim|Fm|Bbm|G7|C7"),
            (
                "f'/c'/a/c'/" * 4
                + "|"
                + "f'/d'/b/d'/" * 4
                + "|"
                + "e'/b/g/b/" * 4
                + "|"
                + "e'/c'/a/c'/" * 4
                + "|"
                + "d'/a/f/a/" * 4
                + "|"
                + "d'/b/g/b/" * 4
                + "|"
                + "c'/g/=e/g/" * 4
                + "|f2z2f2z2",
                "Fm|Bbm|Eb|Ab|Db|Gdim|C7|Fm",
            ),
            (
                "c'/c'/c'/c'/c'/c'/c'/c'/b/b/b/b/b/b/b/b/|a/a/a/a/a/a/a/a/g/g/g/g/g/g/g/g/|"
                "f/f/f/f/g/g/g/g/a/a/a/a/b/b/b/b/|c'2z2=e2z2",
                "Fm C7|Fm C7|Fm Bbm|C7",
            ),
        ),
        ("tremolo", "pulse"),
        timpani=True,
    ),
    "night": Work(
        "Mozart",
        "Serenade in G K 525",
        1,
        8,
        128,
        (
            (
                "G2zDG2zD|GDGBd4|c2zAc2zA|cAFAD4|G2G3BAG|GFF3AcF|AGG3BAG|GFF3Acf|g2g2g2f2|g4z4",
                "G|G|D7|D7|G|D7|G|D7|G D7|G",
            ),
            ("d2B2e4|dcc2c4|c2A2d4|cBB2B4|edcBcdef|g2e2d4|e2c2B2A2|G4z4", "G C|D|D|G|C D|G|C D7|G"),
            ("d2zAd2zA|dAdfa4|g2zeg2ze|ge^ceA4|a2^g2a2b2|a4f4|g2e2^c2e2|d8", "D|D|A7|A7|A|D|A7|D"),
        ),
        ("pulse", "broken", "tremolo"),
    ),
    "romance": Work(
        "Traditional",
        "Spanish Romance",
        1,
        6,
        96,
        (
            (
                "b2b2b2|b2a2g2|g2f2e2|e2g2b2|e'2e'2e'2|e'2d'2c'2|c'2b2a2|a2b2c'2|"
                "b2c'2b2|^d'2c'2b2|b2a2g2|g2f2e2|f2f2f2|f2g2f2|e6|e2g2b2",
                "Em|Em|Em|Em|Em|Am|Am|Am|B7|B7|Em|Em|B7|B7|Em|Em",
            ),
            (
                "^g2^g2^g2|^g2f2e2|e2^d2^d2|^d2=d2^d2|^c2^c2^c2|^c2^d2e2|f2f2f2|f2^g2a2|"
                "b2b2b2|b2a2^g2|^g2f2e2|e2f2^g2|f2f2f2|f2e2^d2|e6|e6",
                "E|E|B7|B7|F#m|F#m|B7|B7|E|E|A|A|B7|B7|E|E",
            ),
        ),
        ("arpeggio", "broken", "waltz"),
    ),
    "joy": Work(
        "Beethoven",
        "Ode to Joy",
        2,
        8,
        126,
        (
            (
                "F2F2G2A2|A2G2F2E2|D2D2E2F2|F3EE4|F2F2G2A2|A2G2F2E2|D2D2E2F2|E3DD4",
                "D|D A|D|A|D|D A|D|A7 D",
            ),
            (
                "E2E2F2D2|E2FGF2D2|E2FGF2E2|D2E2A,4|F2F2G2A2|A2G2F2E2|D2D2E2F2|E3DD4",
                "A D|A D|A B|Em A|D|D A|D|A7 D",
            ),
        ),
        ("block", "pulse", "broken", "tremolo"),
    ),
}
