"""Training pieces changed at random, so that a net does not learn them by heart."""

from __future__ import annotations

import math

import numpy as np

from .backend import keras
from .config import Recipe


class AugmentedBatches(keras.utils.PyDataset):
    """Batches of cropped and mixed log-mels, drawn anew in every epoch.

    Parameters
    ----------
    log_mels : np.ndarray [shape=(pieces, n_mels, frames, 1)] (in dB)
    targets : np.ndarray [shape=(pieces, genres)]
        One row a piece: 1 for its genre, 0 for the others.
    weights : np.ndarray [shape=(pieces,)]
        How much each piece counts.
    recipe : Recipe
        ``batch_size, crop, mixup, random_seed``.
    """

    def __init__(self, log_mels, targets, weights, recipe: Recipe):
        super().__init__()
        self._data = log_mels, targets.astype(np.float32), weights.astype(np.float32)
        self._recipe = recipe
        self._rng = np.random.default_rng(recipe.random_seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._data[0]) / self._recipe.batch_size)

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._data[0]))

    def __getitem__(self, index: int):
        size = self._recipe.batch_size
        rows = self._order[index * size : (index + 1) * size]
        x, y, weight = (part[rows] for part in self._data)
        if self._recipe.crop:
            x = crop(x, self._recipe.crop, self._rng)
        if self._recipe.mixup:
            x, y = mixup(x, y, self._recipe.mixup, self._rng)
        return x, y, weight


def crop(log_mels: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """The same stretch of all pieces of a batch, at a random time.

    Parameters
    ----------
    log_mels : np.ndarray [shape=(pieces, n_mels, frames, 1)]
    frames : int > 0
        Length of the stretch; shorter pieces stay whole.
    """
    frames = min(frames, log_mels.shape[2])
    start = rng.integers(log_mels.shape[2] - frames + 1)
    return log_mels[:, :, start : start + frames]


def mixup(
    log_mels: np.ndarray, targets: np.ndarray, most: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mix every piece with another one of the batch, sound and target in the same shares.

    What is mixed is power, as if two tracks were playing, and not decibels (Zhang et al. 2018,
    "mixup: Beyond empirical risk minimization", mix the inputs as they are).

    Parameters
    ----------
    log_mels : np.ndarray [shape=(pieces, n_mels, frames, 1)] (in dB)
    targets : np.ndarray [shape=(pieces, genres)], rows sum to 1
    most : float in [0, 1]
        Largest share of the other piece; drawn evenly from 0 to this.

    Returns
    -------
    log_mels, targets : np.ndarray
        Of the same shapes.
    """
    other = rng.permutation(len(log_mels))
    share = rng.uniform(0, most, len(log_mels)).astype(np.float32)
    level = share[:, None, None, None]
    power = 10 ** (log_mels / 10)
    mixed = 10 * np.log10((1 - level) * power + level * power[other])
    return mixed, (1 - share[:, None]) * targets + share[:, None] * targets[other]
