"""Temperature scaling: probabilities that match how often a model is right.

See Guo et al., "On calibration of modern neural networks", ICML 2017, arXiv 1706.04599.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

# A softmax output in single precision cannot be closer to 0 or 1 than this.
_MIN_PROBABILITY = 1e-7

# Standard deviation of the logarithm of a temperature: nineteen in twenty are between 0.5 and 2.
_PRIOR = 0.35

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


def fit_temperature(predictions: pd.DataFrame, genres: Sequence[str]) -> float:
    """Fit the temperature to held-out predictions.

    It is 1 unless temperatures that are fitted to some of the groups also help the others.
    """
    logits = _logits(predictions[probability_columns(genres)].to_numpy())
    labels = predictions["genre"].map(list(genres).index).to_numpy(int)
    groups = pd.factorize(predictions["group"])[0]
    fold = groups % 10
    gain = 0.0
    for i in np.unique(fold):
        part, rest = fold == i, fold != i
        temperature = _fit(logits[rest], labels[rest], groups[rest])
        gain += _log_likelihood(logits[part] / temperature, labels[part])
        gain -= _log_likelihood(logits[part], labels[part])
    return _fit(logits, labels, groups) if gain > 0 else 1.0


def _fit(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Find the most probable temperature; its logarithm has a normal prior around 0."""
    # Rows of a group are not independent. With this weight, all rows together count like one
    # observation for each group.
    weight = len(np.unique(groups)) / max(len(groups), 1)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        prior = (log_temperature / _PRIOR) ** 2 / 2
        return prior - weight * _log_likelihood(scaled, labels)

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    return float(np.exp(best.x))


def _log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].sum())


def default_min_confidence(n_genres: int) -> float:
    """Return the probability that is a fifth of the way from chance to certainty."""
    return round(0.2 + 0.8 / n_genres, 3)


def choose_min_confidence(tracks: pd.DataFrame, genres: Sequence[str]) -> float:
    """Return the lowest probability from which four in five held-out tracks are right.

    It is not below :func:`default_min_confidence`, and it is that one for fewer than ten groups.
    """
    confidence = tracks[probability_columns(genres)].max(axis=1).sort_values(ascending=False)
    right = (tracks["predicted"] == tracks["genre"])[confidence.index].expanding().mean()
    right = right.groupby(confidence).transform("last")  # equal probabilities count together
    lowest, sure = default_min_confidence(len(genres)), confidence[right >= 0.8]
    if tracks["group"].nunique() < 10 or right.iloc[-1] >= 0.8:
        return lowest
    return max(lowest, float(sure.min()) if len(sure) else 1.0)


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
