"""Logistic regression on the embeddings of a frozen backbone, as the last layers of its model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.preprocessing import normalize

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.corpus.splits import assign_folds
from genrecls.errors import CorpusError
from genrecls.training.data import balanced_weights

# Inverse strengths of the regularization to choose from, and the one where nothing can be held out.
_C = (1.0, 3.0, 10.0, 30.0)
_USUAL_C = 10.0


def fit_head(
    head: keras.Model, embeddings: np.ndarray, segments: pd.DataFrame, recipe: Recipe
) -> dict[str, float]:
    """Fit the head on the training segments, in place, and return the row of its history."""
    x = np.asarray(normalize(embeddings.astype(float)))
    train = (segments["split"] == "train").to_numpy()
    training = segments[train]
    c = choose_c(x[train], training, recipe)
    model = _fit(x[train], training, recipe, c)
    kernel, bias = np.asarray(model.coef_).T, np.asarray(model.intercept_)
    if len(bias) == 1:  # of two genres, scikit-learn has the difference of the logits
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.array([-bias[0], bias[0]]) / 2
    head.layers[-1].set_weights([kernel, bias])
    row = {"epoch": 0, "stage": 1, "C": c, **_score(model, x[train], training)}
    held_out = (segments["split"] == "validation").to_numpy()
    if held_out.any():
        scores = _score(model, x[held_out], segments[held_out])
        row |= {f"val_{name}": value for name, value in scores.items()}
    return row


def choose_c(x: np.ndarray, segments: pd.DataFrame, recipe: Recipe) -> float:
    """Choose the inverse strength of the regularization by groups that are held out.

    It is the lowest one whose loss is within one standard error of the best: a few groups do not
    tell the others apart. See Breiman et al., Classification and Regression Trees, 1984.
    """
    losses: dict[float, pd.Series] = {}
    try:
        for c in _C:
            losses[c] = _group_losses(segments, predict_out_of_fold(x, segments, recipe, c))
    except CorpusError:  # a genre has a single group
        return _USUAL_C
    best = min(losses.values(), key=pd.Series.mean)
    limit = best.mean() + best.sem()
    return next(c for c, loss in losses.items() if loss.mean() <= limit)


def _group_losses(segments: pd.DataFrame, probabilities: np.ndarray) -> pd.Series:
    """Return the mean negative log-likelihood of each group, weighted by sound."""
    right = probabilities[np.arange(len(segments)), pd.factorize(segments["genre"], sort=True)[0]]
    weight = segments["sounding"]
    loss = weight * -np.log(np.maximum(right, np.finfo(float).tiny))
    return loss.groupby(segments["group"]).sum() / weight.groupby(segments["group"]).sum()


def predict_out_of_fold(
    x: np.ndarray, segments: pd.DataFrame, recipe: Recipe, c: float
) -> np.ndarray:
    """Predict each training segment by a head that was not fitted on its group."""
    folds = assign_folds(segments, random_seed=recipe.random_seed).to_numpy()
    probabilities = np.empty((len(x), segments["genre"].nunique()))
    for fold in range(folds.max() + 1):
        held_out = folds == fold
        model = _fit(x[~held_out], segments[~held_out], recipe, c)
        probabilities[held_out] = model.predict_proba(x[held_out])
    return probabilities


def _fit(x: np.ndarray, segments: pd.DataFrame, recipe: Recipe, c: float) -> LogisticRegression:
    weights = balanced_weights(segments) if recipe.class_weights else segments["sounding"]
    return LogisticRegression(C=c, max_iter=1000).fit(x, segments["genre"], weights)


def _score(model: LogisticRegression, x: np.ndarray, segments: pd.DataFrame) -> dict[str, float]:
    genre, weight = segments["genre"], segments["sounding"]
    probabilities = model.predict_proba(x)
    predicted = model.classes_[probabilities.argmax(axis=1)]
    return {
        "loss": log_loss(genre, probabilities, sample_weight=weight),
        "accuracy": float(accuracy_score(genre, predicted)),
    }
