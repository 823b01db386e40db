"""The outcome of a training as it is saved: predictions, card, and maps of the first layer."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.corpus.splits import split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.evaluation.calibration import add_predictions, fit_group_temperature
from genrecls.evaluation.runs import is_synthetic
from genrecls.evaluation.scores import aggregate_tracks
from genrecls.features.stored import Features
from genrecls.inspection.saliency import first_layer_activations
from genrecls.training.stages import Fitted

# Channels of the first convolution that are saved at most. musicnn has 204, which take 45 MB, and
# most of which are always 0.
_CHANNELS = 32

_PACKAGES = "genrecls keras tensorflow torch torchaudio jax numpy librosa".split()


def make_predictions(segments: pd.DataFrame, fitted: Fitted, *, leaky: bool) -> pd.DataFrame:
    """Return the predictions with the temperatures that fit the validation best."""
    table = add_predictions(segments, fitted.probabilities)
    if leaky:
        # A leaky validation does not show how confident the model may be.
        return table.assign(temperature=1.0, track_temperature=1.0)
    genres = sorted(segments["genre"].unique())
    validation = table[table["split"] == "validation"]
    tracks = aggregate_tracks(validation, genres)
    return table.assign(
        temperature=fit_group_temperature(validation, genres),
        track_temperature=fit_group_temperature(tracks, genres),
    )


def make_card(
    corpus: Corpus,
    features: Features,
    segments: pd.DataFrame,
    recipe: Recipe,
    fitted: Fitted,
    predictions: pd.DataFrame,
) -> dict[str, Any]:
    """Return the card's entries on data, model, training and predictions."""
    model, history = fitted.model, fitted.history
    test = features.log_mels(segments[segments["split"] == "test"].head(16))
    return {
        "corpus": corpus.name,
        "genres": corpus.genres,
        "front_end": features.front_end.to_dict(),
        "recipe": recipe.to_dict(),
        "temperature": float(predictions["temperature"].iloc[0]),
        "track_temperature": float(predictions["track_temperature"].iloc[0]),
        "corpus_hash": split_hash(corpus.tracks),
        "synthetic": is_synthetic(segments),
        "left_out": features.failures.to_dict("records"),
        "notes": features.notes.to_dict("records"),
        "versions": {"python": platform.python_version()} | _find_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "architecture": model.name,
        "parameters": int(model.count_params()),
        "weights": str(recipe.weights or "random"),
        "training_time_s": float(history["time_s"].iloc[-1]),
        "best_epoch": fitted.best_epoch,
        "validation_accuracy": float(history["val_accuracy"].iloc[fitted.best_epoch]),
        "inference_ms_per_segment": _measure_inference_ms(model, test),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {keras.backend.backend()}",
    }


def _find_versions() -> dict[str, str]:
    """Return the versions of the packages that are installed; some are optional."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _measure_inference_ms(model: keras.Model, log_mels: np.ndarray, repeats: int = 3) -> float:
    """Measure the median time of predicting one segment from its log-mel, after a warm-up."""
    times = []
    for i in range(repeats + 2):
        segment = log_mels[[i % len(log_mels)]]
        start = time.perf_counter()
        model.predict_on_batch(segment)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[2:]))


def compute_first_layer(
    model: keras.Model, features: Features, segments: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Compute the maps of the first convolution; there are none if the model has no convolution."""
    segment = segments[segments["split"] == "test"].head(1)
    log_mel = features.log_mels(segment)[0]
    if any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers):
        maps = first_layer_activations(model, log_mel)
        maps = maps[np.sort(np.argsort(-maps.std(axis=(1, 2)))[:_CHANNELS])]
    else:
        maps = np.empty((0, *log_mel.shape[:2]), np.float32)
    return {
        "path": np.array(segment["path"].iloc[0]),
        "segment": np.array(segment["segment"].iloc[0]),
        "log_mel": log_mel[..., 0],
        "maps": maps,
    }
