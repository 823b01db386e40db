"""Excerpts: what the report shows from the sound of a corpus, saved as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np

from genrecls._utils import cache
from genrecls.config import FrontEnd

#: Length of the excerpt that the original shows (in seconds), and its numbers of mel bands.
EXCERPT_S = 30.0
EXCERPT_MELS = 323
N_MELS = (10, 100, 500)

#: Name of the file in an entry of the cache.
EXCERPTS_FILE = "excerpts.npz"


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
    with np.load(path / EXCERPTS_FILE, allow_pickle=False) as saved:
        return dict(saved)
