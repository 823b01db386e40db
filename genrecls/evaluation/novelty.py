"""Novelty: how far a sound is from the genres that a model was trained on.

The distance from a genre is that of Mahalanobis (Lee et al., NeurIPS 2018, arXiv 1807.03888), with
a covariance that all genres share and that is shrunk (Ledoit and Wolf, Journal of Multivariate
Analysis 88(2), 2004, DOI 10.1016/S0047-259X(03)00096-4). A sound that is nearer to the background,
which has no genre, than to any genre is as novel as one that is far from all genres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.preprocessing import normalize

#: Labels of a sound whose probability is too low, and of one whose novelty is above 1.
NOT_SURE, NONE_OF_THESE = "not sure", "none of these"

_MAX_NOVELTY = 10.0  # of a sound at the threshold; it bounds the quotient near the background


@dataclass(frozen=True)
class Novelty:
    """A measure of the novelty of embeddings, which are scaled to unit length.

    Attributes
    ----------
    whitening : np.ndarray [shape=(dimensions, dimensions)]
        Matrix that turns Mahalanobis distances into Euclidean ones.
    genres : np.ndarray [shape=(genres, dimensions)]
        Mean of the training segments of each genre, whitened.
    background : np.ndarray [shape=(sounds, dimensions)]
        Sounds of no genre, whitened.
    threshold : np.ndarray [shape=()]
        Distance from the nearest genre at which the novelty is 1.
    """

    whitening: np.ndarray
    genres: np.ndarray
    background: np.ndarray
    threshold: np.ndarray

    @classmethod
    def fit(
        cls,
        embeddings: np.ndarray,
        segments: pd.DataFrame,
        background: np.ndarray | None = None,
        threshold: float = 1.0,
    ) -> Self:
        """Fit the means of the genres and their covariance to embeddings of segments."""
        x: Any = normalize(np.asarray(embeddings, float))
        labels, names = pd.factorize(segments["genre"], sort=True)
        weights = np.eye(len(names))[labels] * segments["sounding"].to_numpy()[:, None]
        means = (weights / weights.sum(axis=0)).T @ x
        covariance = ledoit_wolf(x - means[labels], assume_centered=True)[0]
        # The floor is far below any variance; without it, equal embeddings could not be whitened.
        whitening = np.linalg.cholesky(np.linalg.inv(covariance + 1e-9 * np.eye(x.shape[1])))
        sounds: Any = x[:0] if background is None else normalize(np.asarray(background, float))
        return cls(whitening, means @ whitening, sounds @ whitening, np.asarray(threshold))

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the novelty of each embedding: above 1, it is none of the genres."""
        z = normalize(np.asarray(embeddings, float)) @ self.whitening
        from_genre = cdist(z, self.genres).min(axis=1)
        from_background = cdist(z, self.background).min(axis=1, initial=np.inf)
        limit = np.clip(from_background, self.threshold / _MAX_NOVELTY, self.threshold)
        return from_genre / limit
