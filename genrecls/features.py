"""Tracks to log-mels on disk and the segments table: in parallel, resumable."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .audio import AudioError, AudioWarning, load_audio, resample
from .config import FrontEnd, project_root
from .corpus import Corpus, CorpusError, merged_groups
from .fingerprint import (
    find_near_duplicates,
    fingerprint,
    fingerprint_file,
    read_fingerprints,
)
from .spectrogram import is_silent, mel_spectrogram, split_segments

log = logging.getLogger(__name__)

# Half precision is exact to 0.03 dB at -80 dB and to 0.001 dB around 0 dB.
DTYPE = np.float16

# Raise it when the same file and front end give other log-mels than before.
_VERSION = 2


@dataclass(frozen=True)
class Features:
    """The pieces of a corpus under one front end.

    Attributes
    ----------
    front_end : FrontEnd
    segments : pd.DataFrame
        One row a piece: ``track_id, path, genre, artist, segment, start_s, end_s, split`` and the
        other columns of the tracks table, and ``recording``: equal for tracks that sound the same
        over 5 s or more, as copies in another format do. These share a ``group`` too.
    failures : pd.DataFrame
        One row a track that could not be used: ``path, reason``.
    notes : pd.DataFrame
        One row a track that was used with a warning: ``path, note``.
    folder : Path
        Where the log-mels lie, one ``.npy`` a track, named by the content of its file.
    """

    front_end: FrontEnd
    segments: pd.DataFrame
    failures: pd.DataFrame
    notes: pd.DataFrame
    folder: Path

    def log_mels(self, segments: pd.DataFrame) -> np.ndarray:
        """Log-mels of the pieces in a table.

        Returns
        -------
        np.ndarray [shape=(pieces, n_mels, frames, 1), dtype=float32] (in dB)
        """
        return gathered(self.track, segments)

    def track(self, sha256: str) -> np.ndarray:
        """Log-mels of all pieces of a track, silent ones included, from the disk.

        Returns
        -------
        np.ndarray [shape=(pieces, n_mels, frames, 1), dtype=float16] (in dB)
        """
        file = self.folder / f"{sha256}.npy"
        return np.load(file, mmap_mode="r", allow_pickle=False)[..., None]


def gathered(track: Callable[[str], np.ndarray], segments: pd.DataFrame) -> np.ndarray:
    """What is kept of each piece in a table, such as its log-mel.

    Parameters
    ----------
    track : callable
        The hash of a sound file to an array [shape=(pieces of the track, ...)].
    segments : pd.DataFrame
        With ``sha256`` and ``segment``.

    Returns
    -------
    np.ndarray [shape=(len(segments), ...), dtype=float32]
    """
    rows = segments.reset_index(drop=True)
    out = np.empty((len(rows), *track(rows["sha256"].iloc[0]).shape[1:]), np.float32)
    for sha256, of_track in rows.groupby("sha256", sort=False):
        out[of_track.index] = track(sha256)[of_track["segment"].to_numpy() - 1]
    return out


def track_log_mels(
    path: str | os.PathLike, front_end: FrontEnd, *, pad: bool = False
) -> tuple[np.ndarray, pd.DataFrame]:
    """Log-mels of the pieces of one file.

    Parameters
    ----------
    path : str or path-like
    front_end : FrontEnd
    pad : bool
        Complete the last piece with silence instead of dropping it.

    Returns
    -------
    log_mels : np.ndarray [shape=(pieces, n_mels, frames), dtype=float16] (in dB)
        In the precision in which they are stored, so that a model is always given what it was
        trained on.
    table : pd.DataFrame
        ``segment, start_s, end_s`` as of :func:`genrecls.split_segments`, and ``silent``.

    Raises
    ------
    AudioError
        If the file cannot be decoded or is shorter than one piece.
    """
    return _log_mels(path, *load_audio(path, mono=False), front_end, pad=pad)


def _log_mels(path, y: np.ndarray, rate: int, front_end: FrontEnd, *, pad: bool):
    """The same of samples [shape=(channels, n)] that have been decoded."""
    y = y.mean(axis=0) if front_end.channel == "mix" else y[0]
    if rate != front_end.sample_rate:
        y = np.clip(resample(y, rate, front_end.sample_rate), -1, 1)
        rate = front_end.sample_rate
    try:
        pieces, table = split_segments(y, sample_rate=rate, length_s=front_end.segment_s, pad=pad)
    except ValueError as error:
        short = f"{len(y) / rate:.7g} s of sound is shorter than one piece of"
        reasons = {"length": f"{short} {front_end.segment_s:g} s"}
        raise AudioError(path, reasons, "Use a longer recording.") from error
    # Piece by piece: a window of 10,000 samples at every hop of a whole album fills the memory.
    log_mels = np.stack([mel_spectrogram(piece, front_end).astype(DTYPE) for piece in pieces])
    return log_mels, table.assign(silent=is_silent(log_mels, front_end))


def prepare(
    corpus: Corpus,
    front_end: FrontEnd | None = None,
    *,
    jobs: int | None = None,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
) -> Features:
    """Turn every track of a corpus into log-mels, or find them already made.

    What is stored is named by the content of the audio file and the front end: renamed files are
    not done again, changed ones are, and an interrupted run goes on where it stopped.

    Parameters
    ----------
    corpus : Corpus
    front_end : FrontEnd, optional
        By default ``FrontEnd.preset("default")``.
    jobs : int > 0, optional
        Processes, of up to 1 GB each; by default one per core, 8 at most.
    folder : path-like, optional
        Where to store; by default ``data/features/<uid of the log-mels>-<version>`` in the project.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Features

    Raises
    ------
    CorpusError
        If no track of some genre can be used. Single bad files only end up in ``failures``.
    """
    front_end = front_end or FrontEnd.preset("default")
    name = f"{front_end.log_mel_uid}-{_VERSION}"
    folder = Path(folder or project_root() / "data" / "features" / name)
    folder.mkdir(parents=True, exist_ok=True)
    tracks = corpus.tracks
    todo = tracks.loc[[not _is_done(folder, s) for s in tracks["sha256"]]].drop_duplicates("sha256")
    results = _in_parallel(
        [(corpus.file(t.path), folder / t.sha256, fingerprint_file(t.sha256), front_end)
         for t in todo.itertuples()],
        jobs=jobs,
        progress=progress,
    )  # fmt: skip
    failed = {sha256: reason for sha256, reason in results if reason}
    usable = tracks.loc[~tracks["sha256"].isin(list(failed))]
    failures = pd.DataFrame(
        [(t.path, failed[t.sha256]) for t in tracks.itertuples() if t.sha256 in failed],
        columns=["path", "reason"],
    )
    for failure in failures.itertuples():
        log.warning("left out: %s", failure.reason)
    for genre in sorted(set(corpus.genres) - set(usable["genre"])):
        reason = failed[tracks.loc[tracks["genre"] == genre, "sha256"].iloc[0]]
        raise CorpusError(f"no track of genre {genre!r} can be used; the first one: {reason}")

    stored = {s: json.loads((folder / f"{s}.json").read_text()) for s in usable["sha256"]}
    notes = pd.DataFrame(
        [(t.path, note) for t in usable.itertuples() for note in stored[t.sha256]["notes"]],
        columns=["path", "note"],
    )
    usable, alike = _with_recordings(usable)
    notes = pd.concat([notes, alike], ignore_index=True)
    pieces = pd.concat(
        [pd.DataFrame(stored[t.sha256]["pieces"]).assign(track_id=t.track_id)
         for t in usable.itertuples()],
        ignore_index=True,
    )  # fmt: skip
    merged = pieces.merge(usable, on="track_id", validate="many_to_one")
    spine = "track_id path genre artist segment start_s end_s split".split()
    merged = merged[spine + [c for c in merged if c not in spine]]
    return Features(front_end, merged, failures, notes, folder)


def _with_recordings(tracks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tracks with ``recording``, groups that hold recordings together, and a note on each pair."""
    pairs = find_near_duplicates(read_fingerprints(tracks["sha256"]))
    paths, ids = tracks["path"].to_numpy(), tracks["track_id"].to_numpy()
    edges = pd.DataFrame({"recording": [*ids, *ids[pairs["a"]]], "with": [*ids, *ids[pairs["b"]]]})
    recording = merged_groups(edges["recording"], edges["with"])[: len(tracks)]
    tracks = tracks.assign(recording=recording)
    tracks["group"] = merged_groups(tracks["group"], tracks["recording"])
    notes = [
        (paths[p.b], f"{paths[p.b]!r} and {paths[p.a]!r} have {p.overlap_s:.0f} s in common")
        for p in pairs.itertuples()
    ]
    return tracks, pd.DataFrame(notes, columns=["path", "note"])


def _is_done(folder: Path, sha256: str) -> bool:
    stored = (folder / f"{sha256}.json", folder / f"{sha256}.npy", fingerprint_file(sha256))
    return all(file.exists() for file in stored)


def _in_parallel(calls: list[tuple], *, jobs: int | None, progress: bool) -> Iterable:
    from joblib import Parallel, cpu_count, delayed
    from tqdm.auto import tqdm

    if not calls:
        return []
    run = Parallel(n_jobs=jobs or min(cpu_count(), 8), return_as="generator_unordered")
    done = run(delayed(_store_track)(*call) for call in calls)
    return list(tqdm(done, total=len(calls), desc="log-mels", unit="track", disable=not progress))


def _store_track(path: Path, stored: Path, print_file: Path, front_end: FrontEnd):
    """Compute and store one track; returns its hash and, if it failed, the reason."""
    sha256 = stored.name
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        try:
            y, rate = load_audio(path, mono=False)
            log_mels, table = _log_mels(path, y, rate, front_end, pad=False)
        except AudioError as error:
            return sha256, str(error)
    notes = [str(w.message) for w in caught if issubclass(w.category, AudioWarning)]
    if not print_file.exists():
        print_file.parent.mkdir(parents=True, exist_ok=True)
        prints = fingerprint(y.mean(axis=0), rate)
        write_atomically(print_file, lambda f: np.save(f, prints))
    if front_end.skip_silence:
        if table["silent"].all():
            return sha256, f"{str(path)!r} cannot be used: all of it is silent"
        if silent := int(table["silent"].sum()):
            notes.append(f"{str(path)!r}: {silent} of {len(table)} pieces are silent and left out")
            table = table[~table["silent"]]
    meta = {"pieces": table.to_dict("list"), "notes": notes}
    write_atomically(stored.with_suffix(".npy"), lambda f: np.save(f, log_mels))
    write_atomically(stored.with_suffix(".json"), lambda f: f.write(json.dumps(meta).encode()))
    return sha256, None


def write_atomically(path: Path, write) -> None:
    """Call ``write(file)`` on a temporary file that takes the name ``path`` once it is whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
