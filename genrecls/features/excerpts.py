"""Excerpts: what the report shows from the sound of a corpus, saved as arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.parallel import map_parallel
from genrecls._utils.paths import models_dir
from genrecls.audio.resample import resample
from genrecls.config import FrontEnd, hash_json
from genrecls.features.spectrogram import mel_spectrogram

if TYPE_CHECKING:
    from genrecls.corpus.tracks import Corpus

#: Length of what is shown (in seconds), as in the original, and its numbers of mel bands.
EXCERPT_S = 30.0
EXCERPT_MELS = 323
N_MELS = (10, 100, 500)

_FILE = "excerpts.npz"


def envelope(y: np.ndarray) -> np.ndarray:
    """Compute the envelope of samples: the extremes of equal stretches.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Samples.

    Returns
    -------
    np.ndarray [shape=(2, min(2000, n))]
        Lowest and highest sample of each stretch.
    """
    starts = np.linspace(0, len(y), min(2000, len(y)), endpoint=False).astype(int)
    return np.stack([np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)])


def excerpt_front_end(n_mels: int = EXCERPT_MELS) -> FrontEnd:
    """Return the original's front end with another number of mel bands.

    Parameters
    ----------
    n_mels : int > 0
        Number of mel bands.
    """
    return dataclasses.replace(FrontEnd.preset("original"), n_mels=n_mels)


def load_excerpts(corpus_name: str) -> dict[str, np.ndarray] | None:
    """Load the excerpts of a prepared corpus, or return None if there are none.

    The arrays are ``genres``; for the first training track of genre number i ``path_i``,
    ``envelope_i`` of its first 30 s, the ``duration_s_i`` of that, and ``segment_i``, the default
    log-mel of its second segment, or else of its first one; and for genre 0 also ``mels_<n>``, the
    log-mel of the same 30 s with n mel bands.
    """
    path = _entry(corpus_name)
    if cache.load(path) is None:
        return None
    with np.load(path / _FILE, allow_pickle=False) as saved:
        return dict(saved)


def save_excerpts(corpus: Corpus, segments: pd.DataFrame, **options: Any) -> None:
    """Save the excerpts unless they are up to date; options as for ``map_parallel``."""
    first = segments[segments["split"] != "test"].groupby("genre")[["path", "sha256"]].first()
    settings = FrontEnd.preset("default").to_dict()
    stamp = hash_json([settings, first.reset_index().to_numpy().tolist()])
    path = _entry(corpus.name)
    if (cache.load(path) or {}).get("stamp") == stamp:
        return
    cache.remove_leftovers("excerpts")
    calls = [(i, corpus.file(track)) for i, track in enumerate(first["path"])]
    arrays: dict[str, Any] = {"genres": np.array(first.index.tolist())}
    arrays |= {f"path_{i}": np.array(track) for i, track in enumerate(first["path"])}
    for part in map_parallel(_excerpt, calls, desc="excerpts", **options):
        arrays |= part
    with cache.new(path, replace=True) as (folder, meta):  # there may be those of former tracks
        np.savez(folder / _FILE, **arrays)
        meta["stamp"] = stamp


def _entry(corpus_name: str) -> Path:
    # Outside a project, all folders with results have one cache, and names repeat.
    return cache.entry("excerpts", f"{corpus_name}-{hash_json(str(models_dir().absolute()))[:8]}")


def _excerpt(i: int, file: Path) -> dict[str, np.ndarray]:
    """Compute the arrays of genre number i from the beginning of a file."""
    # The report imports this module and needs no audio decoder.
    from genrecls.audio.decode import load_audio
    from genrecls.features.extraction import extract_log_mels

    default = FrontEnd.preset("default")
    # One more second, because the resampler needs the samples behind the second segment.
    y, rate = load_audio(file, duration_s=EXCERPT_S + 1)
    pad = len(y) < default.segment_s * rate  # possible after prepare() with short segments
    log_mels, _, _ = extract_log_mels(y, default, sample_rate=rate, pad=pad)
    y = y[: round(EXCERPT_S * rate)]
    arrays = {
        f"envelope_{i}": envelope(y),
        f"duration_s_{i}": np.array(len(y) / rate),
        f"segment_{i}": log_mels[:2][-1],
    }
    if i == 0:
        target_rate = excerpt_front_end().sample_rate
        if rate != target_rate:
            y = np.clip(resample(y, rate, target_rate), -1, 1)
        for n_mels in (EXCERPT_MELS, *N_MELS):
            levels = mel_spectrogram(y, excerpt_front_end(n_mels))
            arrays[f"mels_{n_mels}"] = levels.astype(np.float16)
    return arrays
