"""A synthetic demo corpus of classical music and rap.

It has the shape of the original lab's corpus: ten classical and ten rap tracks for training, four
and six for the test, as MP3 files in ``classique/``, ``rap/``, ``classique_test/`` and
``rap_test/``, described by ``tracks.csv``. It needs no network, and every run renders the same
samples.
"""

import importlib.util
import logging
import zlib
from dataclasses import astuple, dataclass, fields, replace
from os import PathLike
from pathlib import Path

import av
import numpy as np
import pandas as pd
from av.error import InvalidDataError

from genrecls._utils.io import write_atomically
from genrecls._utils.parallel import map_parallel
from genrecls._utils.paths import expand_user
from genrecls.demo.classical import ENSEMBLES, WORKS, render_work
from genrecls.demo.mix import write_mp3
from genrecls.demo.rap import SONGS, render_song
from genrecls.demo.soundfont import SoundFont

__all__ = ["PLAN", "PlannedTrack", "make_demo"]

#: Raise it when the sound changes, so that files of older versions are rendered again.
VERSION = 1

_SEGMENT_S = 15
_EXTRA_PACKAGES = ("espeakng_loader", "pretty_midi")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedTrack:
    """One track of the demo corpus.

    The attributes up to ``licence`` are the columns of ``tracks.csv``.

    Attributes
    ----------
    path : str
        Path of the MP3 file in the corpus.
    genre, artist, title : str
        Genre, artist and title.
    split : {'train', 'test'}
        Side of the split.
    segments : int > 0
        Number of complete segments of 15 s.
    source, licence : str
        Origin of the music, and the licence of the composition and its text.
    score : str
        Name of the work in ``classical.toml`` or of the song in ``rap.toml``.
    ensemble : str
        Name of the ensemble in ``classical.toml``; empty for rap.
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
    ensemble: str

    @property
    def seconds(self) -> float:
        """Length in s: the segments, and 3 to 12 s that are not a complete segment."""
        return self.segments * _SEGMENT_S + 3 + zlib.crc32(self.path.encode()) % 9001 / 1000


_COLUMNS = [field.name for field in fields(PlannedTrack)][:8]

# Score, number of segments, and the ensemble of classical works. The tracks of a folder alternate
# between artists, so that the first two tracks have different ones.
_TRACKS = {
    ("classique", "train"): (
        ("canon", 13, "chamber"),
        ("prelude", 12, "piano"),
        ("minuet", 9, "winds"),
        ("folia", 12, "chamber"),
        ("emperor", 13, "quartet"),
        ("largo", 12, "symphony"),
        ("spring", 11, "chamber"),
        ("elise", 11, "piano"),
        ("lisons", 12, "winds"),
        ("minuet", 10, "chamber"),
    ),
    ("classique", "test"): (
        ("winter", 14, "festival"),
        ("romance", 17, "guitars"),
        ("joy", 20, "radio"),
        ("night", 19, "festival"),
    ),
    ("rap", "train"): (
        ("prelude", 14),
        ("descent", 14),
        ("segfault", 13),
        ("mirror", 14),
        ("crate", 14),
        ("rain", 13),
        ("plateau", 12),
        ("heap", 13),
        ("sugar", 12),
        ("bread", 12),
    ),
    ("rap", "test"): (
        ("loops", 18),
        ("theorem", 14),
        ("call", 14),
        ("delta", 9),
        ("while", 8),
        ("spice", 7),
    ),
}


def _plan_track(
    genre: str, split: str, score: str, segments: int, ensemble: str = ""
) -> PlannedTrack:
    if genre == "rap":
        artist, title = SONGS[score].rapper.name, SONGS[score].title
        source = "synthetic: music and lyrics written for genrecls"
        licence = "MIT (genrecls)"
    else:
        composer, name = WORKS[score].composer, WORKS[score].name
        artist, title = ENSEMBLES[ensemble].name, f"{composer} {name}"
        source = f"synthetic, after {composer}, {name}: simplified, varied, rendered"
        licence = "composition: public domain; note text: MIT (genrecls)"
    folder = genre if split == "train" else f"{genre}_test"
    path = f"{folder}/{artist} - {title}.mp3"
    return PlannedTrack(
        path, genre, artist, title, split, segments, source, licence, score, ensemble
    )


#: All tracks of the corpus.
PLAN = tuple(_plan_track(*key, *row) for key, rows in _TRACKS.items() for row in rows)


def make_demo(
    out: str | PathLike,
    *,
    n_tracks: int | None = None,
    n_segments: int | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Make the demo corpus, or those of its files that are missing.

    Parameters
    ----------
    out : path-like
        Folder of the corpus, created if necessary.
    n_tracks : int > 0, optional
        Largest number of tracks per folder; 2 give two artists per folder.
    n_segments : int > 0, optional
        Largest number of segments of 15 s per track.
    jobs : int > 0, optional
        Number of processes, each of which takes up to 1 GB; by default one per core, at most 8.
    progress : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    Path
        ``out``, with the MP3 files and ``tracks.csv``.

    Raises
    ------
    ImportError
        If a package of the extra ``demo`` is missing.
    FileExistsError
        If ``out`` has a ``tracks.csv`` of another corpus.

    Examples
    --------
    >>> import genrecls
    >>> folder = genrecls.make_demo("data/demo")  # doctest: +SKIP
    """
    missing = [name for name in _EXTRA_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        advice = 'the demo is an extra of genrecls: pip install ".[demo]" in its folder'
        raise ImportError(f"{' and '.join(missing)} cannot be imported; {advice}")
    out = expand_user(out).absolute()  # worker processes may have another current folder
    table = out / "tracks.csv"
    if table.exists() and not table.read_bytes().startswith(",".join(_COLUMNS).encode()):
        raise FileExistsError(f"{table} describes another corpus; choose another folder")
    tracks = _select(n_tracks, n_segments)
    for track in tracks:
        (out / track.path).parent.mkdir(parents=True, exist_ok=True)
    todo = [track for track in tracks if not _is_made(out / track.path, track)]
    _log.info("%d of %d tracks to render in %s", len(todo), len(tracks), out)
    # The longest tracks come first, so that no process works alone on one at the end.
    todo.sort(key=lambda track: -track.seconds)
    calls = [(out / track.path, track) for track in todo]
    list(map_parallel(_make_track, calls, jobs=jobs, desc="demo tracks", progress=progress))
    rows = pd.DataFrame([astuple(track)[: len(_COLUMNS)] for track in tracks], columns=_COLUMNS)
    text = rows.to_csv(index=False, lineterminator="\n")
    write_atomically(table, lambda file: file.write(text.encode()))
    return out


def _select(n_tracks: int | None, n_segments: int | None) -> list[PlannedTrack]:
    """Limit the number of tracks per folder and of segments per track."""
    folders: dict[tuple[str, str], list[PlannedTrack]] = {}
    for track in PLAN:
        segments = min(track.segments, n_segments or track.segments)
        folder = folders.setdefault((track.genre, track.split), [])
        folder.append(replace(track, segments=segments))
    return [track for folder in folders.values() for track in folder[:n_tracks]]


def _comment(track: PlannedTrack) -> str:
    """Return the comment in the tag of the MP3 file, which identifies a complete file."""
    return f"genrecls demo {VERSION}, {track.seconds:.3f} s"


def _is_made(path: Path, track: PlannedTrack) -> bool:
    try:
        with av.open(str(path)) as file:
            return file.metadata.get("comment") == _comment(track)
    except (FileNotFoundError, InvalidDataError):
        return False


def _make_track(path: Path, track: PlannedTrack) -> None:
    """Render a track and write its MP3 file."""
    rng = np.random.default_rng(zlib.crc32(track.path.encode()))
    font = SoundFont()
    if track.genre == "rap":
        sound = render_song(SONGS[track.score], track.seconds, font, rng)
    else:
        work, ensemble = WORKS[track.score], ENSEMBLES[track.ensemble]
        sound = render_work(work, ensemble, track.seconds, font, rng)
    write_mp3(path, sound, title=track.title, artist=track.artist, comment=_comment(track))
