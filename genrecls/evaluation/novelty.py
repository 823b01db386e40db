"""Novelty: how far a sound is from the genres that a model was trained on.

The distance from a genre is that of Mahalanobis (Lee et al., NeurIPS 2018, arXiv 1807.03888), with
a covariance that all genres share, shrunk after Ledoit and Wolf (Journal of Multivariate Analysis
88(2), 2004). A sound is also novel if it is nearer to a sound without a genre than to any genre.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf

#: Labels of a sound whose probability is too low, and of one whose novelty is above 1.
NOT_SURE, NONE_OF_THESE = "not sure", "none of these"


def label(genre: Any, probability: Any, min_confidence: float, novelty: Any = None) -> np.ndarray:
    """Return the labels of predictions: genre, "not sure" or "none of these"."""
    labels = np.where(np.asarray(probability) >= min_confidence, genre, NOT_SURE)
    return labels if novelty is None else np.where(novelty > 1, NONE_OF_THESE, labels)


@dataclass(frozen=True)
class Novelty:
    """A measure of novelty: whitened means of genres, and whitened sounds of the background."""

    whitening: np.ndarray
    genres: np.ndarray
    background: np.ndarray
    threshold: np.ndarray  # the distance from the nearest genre that has a novelty of 1

    @classmethod
    def fit(
        cls, x: np.ndarray, segments: pd.DataFrame, background: np.ndarray, threshold: float
    ) -> Self:
        """Fit the means and the covariance to the embeddings of segments."""
        x = _normalize(x)
        genres = segments["genre"].to_numpy()[:, None] == np.unique(segments["genre"])
        weights = genres * segments[["sounding"]].to_numpy()
        means = weights.T @ x / weights.sum(axis=0)[:, None]
        covariance = ledoit_wolf(x - genres @ means, assume_centered=True)[0]
        # The floor is far below any variance. Without it, equal embeddings could not be whitened.
        whitening = np.linalg.cholesky(np.linalg.inv(covariance + 1e-9 * np.eye(x.shape[1])))
        sounds = _normalize(background) @ whitening
        return cls(whitening, means @ whitening, sounds, np.asarray(threshold))

    def score(self, x: np.ndarray) -> np.ndarray:
        """Return the novelty of each embedding; above 1, it is none of the genres."""
        z = _normalize(x) @ self.whitening
        near = cdist(z, self.background).min(axis=1, initial=np.inf)
        # The lower limit bounds the novelty of a sound that the background has.
        return cdist(z, self.genres).min(axis=1) / near.clip(self.threshold / 10, self.threshold)


def _normalize(x: np.ndarray) -> np.ndarray:
    # The function of scikit-learn refuses an empty background.
    return x / np.maximum(np.linalg.norm(x.astype(float), axis=1, keepdims=True), 1e-12)
