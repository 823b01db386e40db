"""Logistic regression on the embeddings of a frozen backbone, as the head of its model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.corpus.splits import assign_folds
from genrecls.errors import CorpusError
from genrecls.training.data import balanced_weights

# Candidates for C, and the value that is used if no group can be held out.
_C = (1.0, 3.0, 10.0, 30.0)
_DEFAULT_C = 10.0


def fit_head(
    head: keras.Model,
    embeddings: np.ndarray,
    segments: pd.DataFrame,
    recipe: Recipe,
    callbacks: Sequence = (),
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Fit the head in place; return its history of one row, and the training out of fold."""
    x = np.asarray(normalize(embeddings.astype(float)))
    parts = {s: (segments["split"] == s).to_numpy() for s in ("train", "validation")}
    train = parts["train"]
    c, out_of_fold = choose_c(x[train], segments[train], recipe)
    model = _fit(x[train], segments[train], recipe, c)
    kernel, bias = np.asarray(model.coef_).T, np.asarray(model.intercept_)
    if len(bias) == 1:  # scikit-learn stores one logit for two genres
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.append(-bias, bias) / 2
    head.layers[-1].set_weights([kernel, bias])
    row: dict[str, Any] = {"epoch": 0, "stage": 1, "C": c}
    for prefix, part in zip(("", "val_"), parts.values(), strict=True):
        if part.any():
            losses = _group_losses(segments[part], model.predict_proba(x[part]))
            row[f"{prefix}loss"] = losses.mean()
            row[f"{prefix}accuracy"] = model.score(x[part], segments["genre"][part])
    for callback in callbacks:
        callback.set_model(head)
        callback.on_train_begin()
        callback.on_epoch_end(0, row)
        callback.on_train_end()
    return pd.DataFrame([row]), out_of_fold


def choose_c(
    x: np.ndarray, segments: pd.DataFrame, recipe: Recipe
) -> tuple[float, np.ndarray | None]:
    """Choose the lowest C whose loss is within one standard error; add its predictions if any.

    The losses come from cross-validation over whole groups. Breiman et al. (Classification and
    Regression Trees, 1984) prefer the simplest model that a few observations, here groups, cannot
    tell from the best.
    """
    try:
        predicted = {c: predict_out_of_fold(x, segments, recipe, c) for c in _C}
    except CorpusError:  # a genre has a single group
        return _DEFAULT_C, None
    losses: dict[float, Any] = {c: _group_losses(segments, p) for c, p in predicted.items()}
    best = min(losses.values(), key=lambda loss: loss.mean())
    c = next(c for c, loss in losses.items() if loss.mean() <= best.mean() + best.sem())
    return c, predicted[c]


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


def _group_losses(segments: pd.DataFrame, probabilities: np.ndarray) -> pd.Series:
    """Return the mean negative log-likelihood of each group, weighted by sound."""
    right = probabilities[np.arange(len(segments)), pd.factorize(segments["genre"], sort=True)[0]]
    weight, group = segments["sounding"], segments["group"]
    loss = weight * -np.log(np.maximum(right, np.finfo(float).tiny))
    return loss.groupby(group).sum() / weight.groupby(group).sum()
