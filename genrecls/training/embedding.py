"""Embeddings of tracks as a transformer of scikit-learn."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from genrecls._utils import cache
from genrecls._utils.backend import keras
from genrecls._utils.io import check_unchanged, hash_if_readable
from genrecls._utils.paths import expand_user
from genrecls.audio.decode import warn_problems
from genrecls.config import FrontEnd, choose
from genrecls.errors import AudioError
from genrecls.features.extraction import extract_log_mels
from genrecls.models.backbone import EMBEDDING, predict_log_mels, split_at
from genrecls.models.building import build_model
from genrecls.training.backbone_outputs import hash_backbone


class Embedding(TransformerMixin, BaseEstimator):
    """Embed tracks or segments with a pretrained model, for any estimator of scikit-learn.

    Nothing is fitted. The embedding of a file is kept in the cache.

    Parameters
    ----------
    model : {'musicnn', 'efficientnet_lite0_frozen'}
        Model that turns a segment into 200 numbers (trained on music) or 112 (on photographs).
    weights : str, optional
        Name of its weights, such as ``'mtt'``; by default those of the default recipe.

    Examples
    --------
    >>> import genrecls
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> corpus = genrecls.Corpus.read("music")
    >>> files = [corpus.file(path) for path in corpus.tracks["path"]]
    >>> model = make_pipeline(genrecls.Embedding("musicnn"), LogisticRegression())
    >>> model.fit(files, corpus.tracks["genre"]).predict(files).shape
    (15,)
    """

    def __init__(self, model: str = "musicnn", *, weights: str | None = None):
        self.model = model
        self.weights = weights

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803  scikit-learn's name
        """Return the transformer, which needs no fitting; ``X`` and ``y`` are not used."""
        return self

    def transform(self, X: Sequence[str | os.PathLike] | np.ndarray) -> np.ndarray:  # noqa: N803
        """Embed tracks or segments.

        Parameters
        ----------
        X : sequence of path-like, or np.ndarray [shape=(segments, n_mels, frames)] (in dB)
            Sound files, or log-mels from the front end of the model.

        Returns
        -------
        np.ndarray [shape=(tracks or segments, dimensions)]
            For each file the mean over its segments, weighted by their share of sound, or the
            embedding of each log-mel. An AudioError is raised if a file cannot be used.
        """
        model, front_end, uid = _load(self.model, self.weights)
        if isinstance(X, np.ndarray) and X.ndim > 1:
            return predict_log_mels(model, X)
        rows = []
        for found in embed_files(model, uid, [expand_user(path) for path in X], front_end):
            if isinstance(found, AudioError):
                raise found
            rows.append(found)
        return np.stack(rows)


@lru_cache(maxsize=2)
def _load(name: str, weights: str | None) -> tuple[keras.Model, FrontEnd, str]:
    """Build a model up to its embedding; return it, its front end and its identifier."""
    changes: dict[str, Any] = {"weights": weights} if weights else {}
    recipe, front_end, _ = choose(name, **changes)
    if recipe.head != "logistic":
        raise ValueError(f"{name!r} has no embedding; choose 'musicnn' or another frozen model")
    model, _ = split_at(build_model(recipe, front_end, 2), EMBEDDING)
    return model, front_end, hash_backbone(model, front_end, recipe)


def embed_files(
    model: keras.Model, uid: str, files: Sequence[Path], front_end: FrontEnd
) -> Iterator[np.ndarray | AudioError]:
    """Yield the mean embedding of each file, or the error of one that cannot be used."""
    hashes = cache.memoize("file_hashes", hash_if_readable, files)
    for file, sha256 in zip(files, hashes, strict=True):
        try:
            yield cached(f"{uid}-{sha256}", partial(_embed_track, model, file, sha256, front_end))
        except AudioError as error:
            yield error


def _embed_track(
    model: keras.Model, file: Path, sha256: str | None, front_end: FrontEnd
) -> np.ndarray:
    log_mels, segments, problems = extract_log_mels(file, front_end)
    check_unchanged(file, sha256)
    warn_problems(file, problems)
    if not segments["sounding"].any():
        raise AudioError(file, {"sound": "all of it is silent"}, "Remove the file.")
    return np.average(predict_log_mels(model, log_mels), axis=0, weights=segments["sounding"])


def cached(key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return embeddings from the cache, or compute and keep them."""
    entry = cache.entry("embeddings", key)
    if (meta := cache.load(entry)) is None:
        with cache.new(entry) as (_, meta):
            meta["embedding"] = compute().tolist()
    return np.array(meta["embedding"])
