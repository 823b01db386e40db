"""Excerpts: what the report shows from the sound of a corpus, saved as arrays."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.parallel import map_parallel
from genrecls.audio.resample import resample
from genrecls.config import FrontEnd, hash_json
from genrecls.errors import AudioWarning
from genrecls.features.spectrogram import mel_spectrogram

if TYPE_CHECKING:
    from genrecls.corpus.tracks import Corpus

#: Length of the excerpt that the original shows (in seconds), and its numbers of mel bands.
EXCERPT_S = 30.0
EXCERPT_MELS = 323
N_MELS = (10, 100, 500)

_FILE = "excerpts.npz"


def envelope(y: np.ndarray, stretches: int = 2000) -> np.ndarray:
    """Compute the envelope of a track: the extremes of equal stretches.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Samples.
    stretches : int > 0
        Largest number of stretches.

    Returns
    -------
    np.ndarray [shape=(2, min(stretches, n))]
        Lowest and highest sample of each stretch.
    """
    starts = np.linspace(0, len(y), min(stretches, len(y)), endpoint=False).astype(int)
    return np.stack([np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)])


def excerpt_front_end(n_mels: int = EXCERPT_MELS) -> FrontEnd:
    """Return the original's front end with another number of mel bands."""
    return dataclasses.replace(FrontEnd.preset("original"), n_mels=n_mels)


def load_excerpts(corpus_name: str) -> dict[str, np.ndarray] | None:
    """Load the excerpts of a corpus.

    Parameters
    ----------
    corpus_name : str
        Name of a corpus that has been prepared.

    Returns
    -------
    dict of str to np.ndarray, or None
        ``genres``; for genre number i its first training track: ``path_i``, ``envelope_i``,
        ``duration_s_i`` and ``segment_i``, the default log-mel of its second segment (of the first
        one if there are no more); for genre 0 also ``mels_<n>``, the log-mel of the first 30 s
        with n mel bands. None if there are no excerpts.
    """
    path = cache.entry("excerpts", corpus_name)
    if cache.load(path) is None:
        return None
    with np.load(path / _FILE, allow_pickle=False) as saved:
        return dict(saved)


def save_excerpts(corpus: Corpus, segments: pd.DataFrame, **options: Any) -> None:
    """Save the excerpts of a corpus, unless they are up to date; see :func:`load_excerpts`.

    Parameters
    ----------
    corpus : Corpus
        Corpus with the files.
    segments : pd.DataFrame
        Segments of its usable tracks.
    **options
        Options of :func:`genrecls._utils.parallel.map_parallel`.
    """
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
        np.savez(folder / _FILE, **arrays)
        meta["stamp"] = stamp


def _excerpt(i: int, file: Path, front_end: FrontEnd) -> dict[str, np.ndarray]:
    """Compute the arrays of genre number i from a file."""
    # The report imports this module and needs no audio decoder.
    from genrecls.audio.decode import load_audio
    from genrecls.features.extraction import extract_log_mels

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
