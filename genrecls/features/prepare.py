"""Preparation: the log-mels of a corpus, computed in parallel and stored once per file."""

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.io import check_unchanged
from genrecls._utils.parallel import map_parallel
from genrecls.audio import fingerprint
from genrecls.audio.decode import open_audio
from genrecls.config import FrontEnd, hash_json
from genrecls.corpus.folders import UNREADABLE, summarize_left_out
from genrecls.corpus.groups import find_recordings
from genrecls.corpus.tracks import Corpus
from genrecls.errors import AudioError, CorpusError
from genrecls.features.extraction import DTYPE, compute_log_mels
from genrecls.features.stored import Features, log_mels_entry

log = logging.getLogger(__name__)

_SPINE = "track_id path genre artist segment start_s end_s split".split()
_TABLES = ("segments", "notes")


def prepare(
    corpus: Corpus | str | os.PathLike,
    front_end: FrontEnd | None = None,
    *,
    jobs: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Features:
    """Compute and store the log-mels of a corpus, or find them stored.

    Log-mels are stored under the hash of the sound file and the front end: renamed files are not
    decoded again, and an interrupted run continues where it stopped. Several processes may prepare
    a corpus at the same time.

    Parameters
    ----------
    corpus : Corpus or path-like
        Tracks to prepare, or the path of their corpus; see :meth:`genrecls.Corpus.read`.
    front_end : FrontEnd, optional
        Settings of the log-mels; by default ``FrontEnd.preset("default")``.
    jobs : int > 0, optional
        Number of processes, of about 0.2 GB each; by default one per core, at most 8. The workers
        of a Dask cluster must see the files and the data folder under the same paths.
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
    >>> features = genrecls.prepare("music", progress=False)
    >>> features.log_mels(features.segments.head(4)).shape
    (4, 128, 323, 1)
    """
    corpus, front_end = Corpus.read(corpus), front_end or FrontEnd.preset("default")
    unreadable = corpus.left_out[corpus.left_out["problem"] == UNREADABLE]
    if strict and len(unreadable):
        raise CorpusError("\n".join(summarize_left_out(unreadable)))
    hashes = corpus.tracks["sha256"].unique()
    stored: dict[str, Any] = {s: cache.load(log_mels_entry(front_end, s)) for s in hashes}
    # A track that failed is not stored. It is tried again, because it may be readable now.
    is_complete = all(stored.values())
    if not is_complete:
        cache.remove_leftovers("log_mels")
        _store_missing(corpus, front_end, stored, jobs=jobs, progress=progress)
    usable, failures = _find_failures(corpus, stored, strict=strict)
    versions = [cache.VERSIONS[kind] for kind in ("fingerprints", "log_mels")]
    digest = hash_json([versions, usable.to_csv(index=False)])[:16]
    path = cache.entry("corpora", f"{front_end.log_mel_uid}-{digest}")
    if cache.load(path) is None:
        cache.remove_leftovers("corpora")
        if is_complete:  # but a fingerprint may be missing
            _store_missing(corpus, front_end, stored, jobs=jobs, progress=progress)
        with cache.new(path) as (new, _):
            for name, table in zip(_TABLES, _make_tables(usable, stored), strict=True):
                table.to_parquet(new / f"{name}.parquet")
    segments, notes = (pd.read_parquet(path / f"{name}.parquet") for name in _TABLES)
    reasons = unreadable["path"].map(repr) + f" {UNREADABLE}: " + unreadable["detail"]
    lost = unreadable[["path"]].assign(reason=reasons)
    failures = pd.concat([lost, failures], ignore_index=True)
    return Features(front_end, segments, failures, notes, cache.entry("log_mels", ""))


def _store_missing(
    corpus: Corpus, front_end: FrontEnd, stored: dict[str, Any], **options: Any
) -> None:
    """Store the tracks whose log-mels or fingerprint are missing, and update ``stored``."""
    files = dict(zip(corpus.tracks["sha256"], map(corpus.file, corpus.tracks["path"]), strict=True))
    calls: dict[str, tuple] = {}
    # The largest file goes first, so that no process works on it when the others have ended.
    sizes = {s: file.stat().st_size if file.exists() else 0 for s, file in files.items()}
    for sha256 in sorted(files, key=sizes.__getitem__, reverse=True):
        bits: Path | None = fingerprint.fingerprint_file(sha256)
        if cache.load(bits) is not None:
            bits = None  # it need not be computed
        if bits or not stored[sha256]:
            entry = log_mels_entry(front_end, sha256)
            calls[sha256] = (files[sha256], sha256, entry, bits, front_end)
    results = map_parallel(_store_track, [*calls.values()], desc="log-mels", **options)
    stored.update(zip(calls, results, strict=True))


def _store_track(
    file: Path, sha256: str, entry: Path, bits: Path | None, front_end: FrontEnd
) -> dict[str, Any] | AudioError:
    """Store log-mels and, unless ``bits`` is None, a fingerprint; return metadata or an error."""
    # The caller names the entries, because the environment of a worker may name another folder.
    try:
        with open_audio(file) as stream, cache.new(entry) as (folder, meta):
            fingerprinter = fingerprint.Fingerprinter(stream.sample_rate) if bits else None
            computed = compute_log_mels(stream, front_end, fingerprinter=fingerprinter)
            table = _write_log_mels(folder / "log_mels.npy", computed, front_end.shape)
            problems = stream.problems.copy()
            silent = table["sounding"] == 0
            if silent.all():
                reason = "; ".join(["all of it is silent", *problems])
                raise AudioError(file, {"sound": reason}, "Remove the file.")
            if silent.any():
                problems.append(f"{silent.sum()} of {len(table)} segments are silent and left out")
                table = table[~silent]
            check_unchanged(file, sha256)
            meta["segments"] = table.to_dict("list")
            meta["problems"] = problems
            if bits and fingerprinter:
                fingerprint.save_fingerprint(bits, fingerprinter.finish())
    except AudioError as error:
        return error
    return meta


def _write_log_mels(
    path: Path, computed: Iterable[tuple[dict[str, Any], np.ndarray]], shape: tuple[int, ...]
) -> pd.DataFrame:
    """Write log-mels to an .npy file as they are computed; return their table."""
    header: dict[str, Any] = {"descr": np.dtype(DTYPE).str, "fortran_order": False}
    rows = []
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (0, *shape)})
        for row, log_mel in computed:
            file.write(log_mel.tobytes())
            rows.append(row)
        file.seek(0)  # NumPy has left room in the header for the number of rows
        np.lib.format.write_array_header_1_0(file, header | {"shape": (len(rows), *shape)})
    return pd.DataFrame(rows)


def _find_failures(
    corpus: Corpus, stored: dict[str, Any], *, strict: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tracks that can be used, and the others with the reason."""
    failed = {s: str(error) for s, error in stored.items() if isinstance(error, AudioError)}
    reasons = corpus.tracks["sha256"].map(failed).astype(object)  # also if nothing has failed
    failures = corpus.tracks[["path"]].assign(reason=reasons).dropna().reset_index(drop=True)
    if strict and len(failures):
        summary = f"{len(failures)} of {len(reasons)} tracks cannot be used:"
        raise CorpusError("\n".join([summary, *failures["reason"]]))
    for reason in failures["reason"]:
        log.warning("left out: %s", reason)
    usable = corpus.tracks[reasons.isna()]
    for genre in sorted(set(corpus.genres) - set(usable["genre"])):
        reason = reasons[corpus.tracks["genre"] == genre].iloc[0]
        raise CorpusError(f"no track of genre {genre!r} can be used; the first one: {reason}")
    return usable, failures


def _make_tables(usable: pd.DataFrame, stored: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return segments and notes from what is known about each file."""
    usable, pairs = find_recordings(usable)
    notes = list(_describe_pairs(usable["path"].tolist(), pairs))
    tables = []
    for sha256, track_id, path in usable[["sha256", "track_id", "path"]].to_numpy():
        tables.append(pd.DataFrame(stored[sha256]["segments"]).assign(track_id=track_id))
        notes += [(path, f"{path!r}: {problem}") for problem in stored[sha256]["problems"]]
    segments = pd.concat(tables).merge(usable, on="track_id", validate="many_to_one")
    segments = segments[[*_SPINE, *segments.columns.drop(_SPINE)]]
    return segments, pd.DataFrame(notes, columns=["path", "note"])


def _describe_pairs(paths: list[str], pairs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield a path and a note for each pair of copies, and for each track with a jingle."""
    pairs = pairs[(pairs["shared_by"] == 0) | ~pairs["b"].duplicated()]
    columns = (pairs[name] for name in ("a", "b", "overlap_s", "shared_by"))
    for a, b, overlap_s, shared_by in zip(*columns, strict=True):
        note = f"{paths[b]!r} and {paths[a]!r} have {overlap_s:.0f} s in common"
        if shared_by:
            note += f" with tracks from {shared_by} groups; a jingle joins no groups"
        yield paths[b], note
