"""Temperature scaling: probabilities that match how often a model is right.

See Guo et al., "On calibration of modern neural networks", ICML 2017, arXiv 1706.04599.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

# A softmax output in single precision cannot be closer to 0 or 1 than this.
_MIN_PROBABILITY = 1e-7

#: Number of equal intervals of confidence, from 0 to 1, in which accuracies are measured.
BINS = 10


def probability_columns(genres: Sequence[str]) -> list[str]:
    """Return the names of the columns with the probability of each genre."""
    return [f"prob_{genre}" for genre in genres]


def scale(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Soften (temperature > 1) or sharpen (< 1) the rows of probabilities."""
    # The logarithm of a softmax output is its logit plus a constant, which softmax removes.
    return softmax(_logits(probabilities) / np.asarray(temperature, float)[..., None], axis=-1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, float), _MIN_PROBABILITY))


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray, *, independent: int) -> float:
    """Fit the temperature that minimizes the negative log-likelihood."""
    # If every prediction is right, the likelihood is largest at a temperature of 0. Platt's targets
    # (MIT Press 1999) prevent this, as if every genre had been observed once more.
    n_genres = probabilities.shape[1]
    targets = np.full(probabilities.shape, 1 / (independent + n_genres))
    targets[np.arange(len(labels)), labels] = (independent + 1) / (independent + n_genres)
    logits = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float((targets * scaled).sum(axis=1).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(best.x))


def fit_group_temperature(predictions: pd.DataFrame, genres: Sequence[str]) -> float:
    """Fit the temperature of predictions; a group is one observation."""
    return fit_temperature(
        predictions[probability_columns(genres)].to_numpy(),
        predictions["genre"].map(list(genres).index).to_numpy(),
        independent=predictions["group"].nunique(),
    )


def add_predictions(segments: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the held-out segments with ``prob_<genre>`` and ``predicted``."""
    genres = sorted(segments["genre"].unique())
    table = segments[segments["split"] != "train"].reset_index(drop=True)
    table[probability_columns(genres)] = probabilities
    return table.assign(predicted=np.array(genres)[probabilities.argmax(axis=1)])


def calibrated(table: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Scale the probabilities of every segment or track by its ``temperature``."""
    # Those of a track have been averaged before, so that scaling changes no prediction.
    columns = probability_columns(genres)
    scaled = scale(table[columns].to_numpy(), table["temperature"].to_numpy())
    return table.assign(**dict(zip(columns, scaled.T, strict=True)))


def reliability(table: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Compute the ``accuracy``, the mean ``confidence`` and the size ``n`` of each bin."""
    confidence = table[probability_columns(genres)].max(axis=1)
    right = table["predicted"] == table["genre"]
    rows = pd.DataFrame({"confidence": confidence, "accuracy": right})
    by_bin = rows.groupby(confidence_bins(confidence))
    return by_bin.mean().assign(n=by_bin.size())


def confidence_bins(confidence: Sequence[float] | pd.Series | np.ndarray) -> np.ndarray:
    """Return which of the :data:`BINS` each confidence falls into."""
    return np.minimum((np.asarray(confidence) * BINS).astype(int), BINS - 1)
