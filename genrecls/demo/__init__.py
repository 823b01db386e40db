"""A demo corpus in the shape of the lab's own, made from what pip installs.

Ten classical and ten rap tracks to learn from, four and six to test on, as MP3
files in `classique/`, `rap/`, `classique_test/` and `rap_test/`, described by
`tracks.csv`. No network is needed, and every run makes the same samples.
"""

from __future__ import annotations

import csv
import importlib.util
import logging
import zlib
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from genrecls._utils.parallel import map_parallel

__all__ = ["ENGINES", "PLAN", "PlannedTrack", "make_demo"]

VERSION = 1  # raise it when the sound changes: files of older versions are then made again
SEGMENT = 15  # s

_log = logging.getLogger(__name__)
_NEEDED = ("av", "espeakng_loader", "joblib", "numpy", "pretty_midi", "scipy", "tqdm")

#: What makes the sound, for the licence table: (part, made by, licence).
ENGINES = (
    ("instruments", "TimGM6mb.sf2 by Tim Brechbill, in the pip package pretty_midi", "GPL-2.0"),
    ("voice", "espeak-ng, in the pip package espeakng-loader; only its sound is used", "GPL-3.0"),
    ("808 kick, room, mix", "genrecls.demo", "MIT (genrecls)"),
)


@dataclass(frozen=True)
class PlannedTrack:
    """One track of the corpus; the fields up to `licence` are the columns of `tracks.csv`.

    `segments` of 15 s fit into the track; `score` and `player` name what is played by
    whom in `genrecls.demo.works` or `genrecls.demo.songs`.
    """

    path: str
    genre: str
    artist: str
    title: str
    split: str
    segments: int
    source: str
    licence: str
    score: str
    player: str

    @property
    def seconds(self):
        """Length in s: the segments and a remainder of 3 to 12 s, which is to be dropped."""
        return self.segments * SEGMENT + 3 + zlib.crc32(self.path.encode()) % 9001 / 1000


_COLUMNS = [field.name for field in fields(PlannedTrack)][:8]

# Tracks of one folder take turns between artists, so that the first two are by different ones.
_CLASSICAL = {
    "train": (
        ("canon", "chamber", 13),
        ("prelude", "piano", 12),
        ("minuet", "winds", 9),
        ("folia", "chamber", 12),
        ("emperor", "quartet", 13),
        ("largo", "symphony", 12),
        ("spring", "chamber", 11),
        ("elise", "piano", 11),
        ("lisons", "winds", 12),
        ("minuet", "chamber", 10),
    ),
    "test": (
        ("winter", "festival", 14),
        ("romance", "guitars", 17),
        ("joy", "radio", 20),
        ("night", "festival", 19),
    ),
}
_RAP = {
    "train": (
        ("prelude", "City Prelude", 14),
        ("descent", "Gradient Descent", 14),
        ("segfault", "Segfault", 13),
        ("mirror", "Mirror Mirror", 14),
        ("crate", "Dig in the Crate", 14),
        ("rain", "Rain on the Rooftop", 13),
        ("plateau", "Plateau", 12),
        ("heap", "Heap of It", 13),
        ("sugar", "Sugar Salt", 12),
        ("bread", "Bread and Butter", 12),
    ),
    "test": (
        ("loops", "Lady Got a Loop", 18),
        ("theorem", "Mean Value", 14),
        ("call", "Wrong Number", 14),
        ("delta", "Let It Ring", 9),
        ("while", "While True", 8),
        ("spice", "Twice the Spice", 7),
    ),
}


def _plan():
    """All tracks of the corpus."""
    from genrecls.demo import songs, works

    tracks = []
    for split, rows in _CLASSICAL.items():
        for score, player, segments in rows:
            work, artist = works.WORKS[score], works.ENSEMBLES[player].name
            tracks.append(
                _planned(
                    "classique",
                    artist,
                    f"{work.composer} {work.name}",
                    split,
                    segments,
                    f"synthetic, after {work.composer}, {work.name}: simplified, varied, rendered",
                    "composition: public domain; note text: MIT (genrecls)",
                    score,
                    player,
                )
            )
    for split, rows in _RAP.items():
        for score, title, segments in rows:
            tracks.append(
                _planned(
                    "rap",
                    songs.SONGS[score].rapper.name,
                    title,
                    split,
                    segments,
                    "synthetic: music and lyrics written for genrecls",
                    "MIT (genrecls)",
                    score,
                    "",
                )
            )
    return tuple(tracks)


def _planned(genre, artist, title, split, *rest):
    folder = genre if split == "train" else f"{genre}_test"
    return PlannedTrack(f"{folder}/{artist} - {title}.mp3", genre, artist, title, split, *rest)


def __getattr__(name):
    # The plan needs the scores, which need numpy: importing this package stays instant.
    if name == "PLAN":
        return _plan()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def make_demo(out, *, n_tracks=None, n_segments=None, jobs=None, progress=True):
    """Make the demo corpus, or the part of it that is not there yet.

    Parameters
    ----------
    out : path-like
        Folder of the corpus; made if need be.
    n_tracks : int, optional
        At most so many tracks per folder (from 1; 2 give two artists per folder).
    n_segments : int, optional
        At most so many segments of 15 s per track (from 1).
    jobs : int, optional
        Processes at work, each of which takes up to 1 GB; by default one per
        core, 8 at most.
    progress : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    Path
        `out`, which now holds the MP3 files and `tracks.csv`.

    Raises
    ------
    ImportError
        If a package of the `demo` extra is missing.
    FileExistsError
        If `out` holds another corpus.

    Examples
    --------
    >>> import genrecls
    >>> folder = genrecls.make_demo("data/demo")  # doctest: +SKIP
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f'the demo needs {", ".join(missing)}: pip install "genrecls[demo]"')
    out = Path(out)
    table = out / "tracks.csv"
    if table.exists() and not table.read_text(encoding="utf-8").startswith(",".join(_COLUMNS)):
        raise FileExistsError(f"{table} is of another corpus; name another folder")
    tracks = _chosen(n_tracks, n_segments)
    for track in tracks:
        (out / track.path).parent.mkdir(parents=True, exist_ok=True)
    todo = [track for track in tracks if not _is_made(out / track.path, track)]
    _log.info("%d of %d tracks to make in %s", len(todo), len(tracks), out)
    # The longest first, so that no process is left alone with one at the end.
    todo.sort(key=lambda track: -track.seconds)
    calls = [(out / track.path, track) for track in todo]
    for _ in map_parallel(_make, calls, jobs=jobs, desc="demo tracks", progress=progress):
        pass
    _write_table(table, tracks)
    return out


def _chosen(n_tracks, n_segments):
    """The plan, cut to so many tracks per folder and segments per track."""
    folders = {}
    for track in _plan():
        folders.setdefault((track.genre, track.split), []).append(
            replace(track, segments=min(track.segments, n_segments or track.segments))
        )
    return [track for folder in folders.values() for track in folder[:n_tracks]]


def _stamp(track):
    """Comment in the MP3's tag by which a finished file is known again."""
    return f"genrecls demo {VERSION}, {track.seconds:.3f} s"


def _is_made(path, track):
    import av

    try:
        with av.open(str(path)) as file:
            return file.metadata.get("comment") == _stamp(track)
    except (FileNotFoundError, av.error.InvalidDataError):
        return False


def _make(path, track):
    """Render one track and write it."""
    import numpy as np

    from genrecls.demo import rap, scores, songs, synth, works

    rng = np.random.default_rng(zlib.crc32(track.path.encode()))
    font = synth.SoundFont(synth.soundfont_path())
    if track.genre == "rap":
        sound = rap.render(songs.SONGS[track.score], track.seconds, font, rng)
    else:
        sound = scores.render(
            works.WORKS[track.score], works.ENSEMBLES[track.player], track.seconds, font, rng
        )
    synth.write_mp3(path, sound, title=track.title, artist=track.artist, comment=_stamp(track))


def _write_table(path, tracks):
    """Write `tracks.csv`, at once."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(astuple(track)[: len(_COLUMNS)] for track in tracks)
    partial.replace(path)
