"""Preparation: the log-mels of a corpus, computed in parallel and stored once per file."""

from __future__ import annotations

import hashlib
import logging
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.io import file_size
from genrecls._utils.parallel import map_parallel
from genrecls.audio.decode import load_audio, open_audio
from genrecls.audio.duplicates import find_near_duplicates
from genrecls.audio.fingerprint import (
    Fingerprinter,
    fingerprint_file,
    load_fingerprint,
    read_fingerprints,
    save_fingerprint,
)
from genrecls.audio.resample import resample
from genrecls.config import FrontEnd, hash_json
from genrecls.corpus.tracks import Corpus, merge_groups
from genrecls.errors import AudioError, AudioWarning, CorpusError
from genrecls.features.excerpts import (
    EXCERPT_MELS,
    EXCERPT_S,
    EXCERPTS_FILE,
    N_MELS,
    envelope,
    excerpt_front_end,
)
from genrecls.features.extraction import DTYPE, compute_log_mels, extract_log_mels
from genrecls.features.spectrogram import mel_spectrogram
from genrecls.features.stored import (
    Features,
    SegmentLoader,
    gather_segments,
    log_mels_entry,
    stored_log_mels,
)

__all__ = ["Features", "SegmentLoader", "gather_segments", "prepare", "stored_log_mels"]

log = logging.getLogger(__name__)

_SPINE = "track_id path genre artist segment start_s end_s split".split()
_TABLES = ("segments", "failures", "notes")


def prepare(
    corpus: Corpus,
    front_end: FrontEnd | None = None,
    *,
    jobs: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Features:
    """Compute and store the log-mels of a corpus, or find them stored.

    Log-mels are stored under the hash of the sound file and the front end. Renamed files are thus
    not decoded again, changed and damaged ones are, and an interrupted run continues where it
    stopped. Several processes may prepare the same corpus at the same time. The excerpts that the
    report shows are stored, too.

    Parameters
    ----------
    corpus : Corpus
        Tracks to prepare.
    front_end : FrontEnd, optional
        Settings of the log-mels; by default ``FrontEnd.preset("default")``.
    jobs : int > 0, optional
        Number of processes, of about 0.2 GB each; by default one per core, at most 8. Under
        ``joblib.parallel_config(backend="dask")`` it is all workers of the cluster, which must
        see the files and the data folder under the same paths.
    strict : bool
        Raise an error if a track cannot be used. By default such tracks are left out.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Features
        Segments and their log-mels.

    Raises
    ------
    CorpusError
        If no track of a genre can be used, or with ``strict`` if any track cannot.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> features.log_mels(features.segments.head(4)).shape
    (4, 128, 323, 1)
    """
    front_end = front_end or FrontEnd.preset("default")
    hashes = corpus.tracks["sha256"].unique()
    stored: dict[str, Any] = {s: cache.load(log_mels_entry(front_end, s)) for s in hashes}
    path = _tables_entry(corpus, front_end)
    # A track that failed is not stored. It is tried again, because it may be readable now.
    if all(stored.values()) and cache.load(path) is not None:
        segments, failures, notes = (pd.read_parquet(path / f"{t}.parquet") for t in _TABLES)
    else:
        for kind in ("log_mels", "corpora"):
            cache.remove_leftovers(kind)
        _store_missing(corpus, front_end, stored, jobs=jobs, progress=progress)
        segments, failures, notes = tables = _make_tables(corpus, stored, strict=strict)
        if failures.empty:
            with cache.new(path) as (new, _):
                for name, table in zip(_TABLES, tables, strict=True):
                    table.to_parquet(new / f"{name}.parquet")
    _save_excerpts(corpus, segments, jobs=jobs, progress=progress)
    return Features(front_end, segments, failures, notes, cache.entry("log_mels", ""))


def _tables_entry(corpus: Corpus, front_end: FrontEnd) -> Path:
    """Return the folder for the tables of a corpus, which depend on the versions of its data."""
    versions = [cache.VERSIONS[kind] for kind in ("fingerprints", "log_mels")]
    text = f"{versions}\n{corpus.tracks.to_csv(index=False)}"
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return cache.entry("corpora", f"{front_end.log_mel_uid}-{digest[:16]}")


def _store_missing(
    corpus: Corpus, front_end: FrontEnd, stored: dict[str, Any], **options: Any
) -> None:
    """Store the tracks whose log-mels or fingerprint are missing, and update ``stored``."""
    files = dict(zip(corpus.tracks["sha256"], map(corpus.file, corpus.tracks["path"]), strict=True))
    missing = [s for s in files if not stored[s] or load_fingerprint(fingerprint_file(s)) is None]
    # The largest file goes first, so that no process works on it when the others have ended.
    missing.sort(key=lambda s: file_size(files[s]), reverse=True)
    calls = [
        (files[s], log_mels_entry(front_end, s), fingerprint_file(s), front_end) for s in missing
    ]
    results = map_parallel(_store_track, calls, desc="log-mels", **options)
    stored.update(zip(missing, results, strict=True))


def _store_track(
    file: Path, path: Path, fingerprint: Path, front_end: FrontEnd
) -> dict[str, Any] | AudioError:
    """Store log-mels and fingerprint of a file; return the metadata, or why there are none."""
    try:
        with open_audio(file) as stream, cache.new(path) as (folder, meta):
            known = load_fingerprint(fingerprint) is not None
            fingerprinter = None if known else Fingerprinter(stream.sample_rate)
            computed = compute_log_mels(file, stream, front_end, fingerprinter=fingerprinter)
            table = pd.DataFrame(_write_rows(folder / "log_mels.npy", computed, front_end.shape))
            notes = [f"{str(file)!r}: {problem}" for problem in stream.problems]
            if front_end.skip_silence and (silent := int(table["silent"].sum())):
                if silent == len(table):
                    raise AudioError(file, {"sound": "all of it is silent"}, "Remove the file.")
                count = f"{silent} of {len(table)} segments are silent and left out"
                notes.append(f"{str(file)!r}: {count}")
                table = table[~table["silent"]]
            if fingerprinter:
                save_fingerprint(fingerprint, fingerprinter.finish())
            meta |= {"segments": table.to_dict("list"), "notes": notes}
    except AudioError as error:
        return error
    return meta


def _write_rows(
    path: Path, computed: Iterable[tuple[dict[str, Any], np.ndarray]], shape: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Write log-mels to an .npy file as they are computed; return their rows of the table."""
    header: dict[str, Any] = {"descr": np.dtype(DTYPE).str, "fortran_order": False}
    rows = []
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (0, *shape)})
        for row, log_mel in computed:
            file.write(log_mel.tobytes())
            rows.append(row)
        file.seek(0)  # NumPy has left room in the header for the number of rows
        np.lib.format.write_array_header_1_0(file, header | {"shape": (len(rows), *shape)})
    return rows


def _make_tables(
    corpus: Corpus, stored: dict[str, Any], *, strict: bool
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return segments, failures and notes from what is known about each file."""
    failed = {s: str(error) for s, error in stored.items() if isinstance(error, AudioError)}
    usable = corpus.tracks[~corpus.tracks["sha256"].isin(list(failed))]
    rows = corpus.tracks[["path", "sha256", "genre"]].to_numpy().tolist()
    failures = [(path, failed[sha256]) for path, sha256, _ in rows if sha256 in failed]
    if strict and failures:
        reasons = "\n".join(reason for _, reason in failures)
        raise CorpusError(f"{len(failures)} of {len(rows)} tracks cannot be used:\n{reasons}")
    for _, reason in failures:
        log.warning("left out: %s", reason)
    for genre in sorted(set(corpus.genres) - set(usable["genre"])):
        reason = next(failed[sha256] for _, sha256, of_track in rows if of_track == genre)
        raise CorpusError(f"no track of genre {genre!r} can be used; the first one: {reason}")
    usable, notes = _find_recordings(usable)
    tables = []
    for path, sha256, track_id in usable[["path", "sha256", "track_id"]].to_numpy().tolist():
        tables.append(pd.DataFrame(stored[sha256]["segments"]).assign(track_id=track_id))
        notes += [(path, note) for note in stored[sha256]["notes"]]
    segments = pd.concat(tables).merge(usable, on="track_id", validate="many_to_one")
    segments = segments[[*_SPINE, *(column for column in segments if column not in _SPINE)]]
    return (
        segments,
        pd.DataFrame(failures, columns=["path", "reason"]),
        pd.DataFrame(notes, columns=["path", "note"]),
    )


def _find_recordings(tracks: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Add ``recording``, merge the groups that share one, and return a note on each pair."""
    pairs = find_near_duplicates(read_fingerprints(tracks["sha256"].tolist()))
    paths, ids = tracks["path"].to_numpy(), tracks["track_id"].to_numpy()
    edges = pd.DataFrame({"recording": [*ids, *ids[pairs["a"]]], "with": [*ids, *ids[pairs["b"]]]})
    recording = merge_groups(edges["recording"], edges["with"])[: len(tracks)]
    tracks = tracks.assign(recording=recording)
    tracks["group"] = merge_groups(tracks["group"], tracks["recording"])
    notes = [
        (paths[p.b], f"{paths[p.b]!r} and {paths[p.a]!r} have {p.overlap_s:.0f} s in common")
        for p in pairs.itertuples()
    ]
    return tracks, notes


def _save_excerpts(corpus: Corpus, segments: pd.DataFrame, **options: Any) -> None:
    """Save the excerpts of a corpus for the report, unless they are up to date."""
    first = segments[segments["split"] != "test"].groupby("genre")[["path", "sha256"]].first()
    default = FrontEnd.preset("default")
    stamp = hash_json([default.to_dict(), first.reset_index().to_numpy().tolist()])
    path = cache.entry("excerpts", corpus.name)
    if (cache.load(path) or {}).get("stamp") == stamp:
        return
    cache.remove_leftovers("excerpts")
    shutil.rmtree(path, ignore_errors=True)  # excerpts of former tracks
    calls = [(i, corpus.file(track), default) for i, track in enumerate(first["path"])]
    parts = map_parallel(_excerpt, calls, desc="excerpts", **options)
    with cache.new(path) as (folder, meta):
        arrays: dict[str, Any] = {"genres": np.array(first.index.tolist())}
        for i, (track, part) in enumerate(zip(first["path"], parts, strict=True)):
            arrays |= {f"path_{i}": np.array(track), **part}
        np.savez_compressed(folder / EXCERPTS_FILE, **arrays)
        meta["stamp"] = stamp


def _excerpt(i: int, file: Path, front_end: FrontEnd) -> dict[str, np.ndarray]:
    """Compute the arrays of genre number i from a file."""
    with warnings.catch_warnings():  # prepare() has noted the problems of the file
        warnings.simplefilter("ignore", AudioWarning)
        y, sample_rate = load_audio(file)
    # One more second, because the resampler needs the samples behind the second segment.
    start = y[: round((2 * front_end.segment_s + 1) * sample_rate)]
    log_mels, _, _ = extract_log_mels(start, front_end, sample_rate=sample_rate)
    rate = excerpt_front_end().sample_rate
    if sample_rate != rate:
        y = np.clip(resample(y, sample_rate, rate), -1, 1)
    arrays = {
        f"envelope_{i}": envelope(y),
        f"duration_s_{i}": np.array(len(y) / rate),
        f"segment_{i}": log_mels[:2][-1],
    }
    if i == 0:
        for n_mels in (EXCERPT_MELS, *N_MELS):
            levels = mel_spectrogram(y[: round(EXCERPT_S * rate)], excerpt_front_end(n_mels))
            arrays[f"mels_{n_mels}"] = levels.astype(np.float16)
    return arrays
