"""Probabilities that mean what they say: temperature scaling (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

# Single precision cannot tell a softmax output from 0 or 1 beyond this.
_SMALLEST = 1e-7


def probability_columns(genres: list[str]) -> list[str]:
    """Names of the columns that hold the probability of each genre."""
    return [f"prob_{genre}" for genre in genres]


def scale(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Soften (temperature > 1) or sharpen (< 1) probabilities.

    The logarithm of a softmax output is its logit but for a constant, so this is the softmax of
    the logits divided by the temperature. The order of the genres stays as it is.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(..., genres)], rows sum to 1
    temperature : float > 0, or np.ndarray that broadcasts against the rows

    Returns
    -------
    np.ndarray [shape=(..., genres)], rows sum to 1
    """
    from scipy.special import softmax

    logits = np.log(np.maximum(np.asarray(probabilities, float), _SMALLEST))
    return softmax(logits / np.asarray(temperature, float)[..., None], axis=-1)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray, *, independent: int) -> float:
    """Temperature with the smallest negative log-likelihood.

    Where every segment is right, the likelihood wants a temperature of 0, that is, certainty.
    Platt's targets (1999) keep it from that: in place of 1 the true genre gets
    ``(n + 1) / (n + genres)``, as if every genre had been seen once more than it was.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(segments, genres)]
        Of segments that the model was not trained on.
    labels : np.ndarray [shape=(segments,), dtype=int]
        Number of the true genre.
    independent : int > 0
        ``n``: how many independent observations the segments are. Segments of one artist are one.

    Returns
    -------
    float in [0.05, 20]
    """
    from scipy.optimize import minimize_scalar

    n_genres = probabilities.shape[1]
    targets = np.full(probabilities.shape, 1 / (independent + n_genres))
    targets[np.arange(len(labels)), labels] = (independent + 1) / (independent + n_genres)
    logits = np.log(np.maximum(np.asarray(probabilities, float), _SMALLEST))

    def loss(log_temperature: float) -> float:
        from scipy.special import log_softmax

        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float((targets * scaled).sum(axis=1).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(best.x))


def add_predictions(segments: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """The segments whose split is not ``'train'``, with what a model says of them.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table, all sides of the split.
    probabilities : np.ndarray [shape=(held-out segments, genres)]

    Returns
    -------
    pd.DataFrame
        The held-out rows with ``prob_<genre>...`` and ``predicted``.
    """
    genres = sorted(segments["genre"].unique())
    out = segments[segments["split"] != "train"].reset_index(drop=True)
    out[probability_columns(genres)] = probabilities
    out["predicted"] = np.array(genres)[probabilities.argmax(axis=1)]
    return out


def fit_group_temperature(predictions: pd.DataFrame, genres: Sequence[str]) -> float:
    """The temperature that suits predictions of segments, or predictions on tracks.

    Their groups count as independent.
    """
    return fit_temperature(
        predictions[probability_columns(genres)].to_numpy(),
        predictions["genre"].map(list(genres).index).to_numpy(),
        independent=predictions["group"].nunique(),
    )


def calibrated(table: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """A table of predictions (segments or track predictions) with every row's ``temperature`` applied.

    For a track that means: first the mean over its segments, then the temperature, so that no
    prediction changes.
    """
    columns = probability_columns(genres)
    scaled = scale(table[columns].to_numpy(), table["temperature"].to_numpy())
    return table.assign(**dict(zip(columns, scaled.T, strict=True)))


def reliability(table: pd.DataFrame, genres: Sequence[str], *, bins: int = 10) -> pd.DataFrame:
    """How often the model is right where it says how sure it is.

    Parameters
    ----------
    table : pd.DataFrame
        Predictions, with probabilities as they are to be judged.
    genres : sequence of str
    bins : int > 0
        Equal stretches of confidence from 0 to 1.

    Returns
    -------
    pd.DataFrame
        One row a bin that is not empty: ``low, high, confidence`` (mean probability of the
        predicted genre), ``accuracy, n``.
    """
    confidence = table[probability_columns(genres)].max(axis=1)
    bin_of = confidence_bins(confidence, bins)
    right = table["predicted"] == table["genre"]
    by = pd.DataFrame({"confidence": confidence, "accuracy": right}).groupby(bin_of)
    summary = by.mean().assign(n=by.size())
    summary.insert(0, "low", summary.index / bins)
    summary.insert(1, "high", (summary.index + 1) / bins)
    return summary.reset_index(drop=True)


def confidence_bins(confidence, bins: int) -> np.ndarray:
    """Number of the bin, from 0, that each confidence falls in."""
    return np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
