"""The outcome of a training as it is saved: predictions, card, and maps of the first layer."""

import contextlib
import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

import genrecls
from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.corpus.splits import split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.evaluation.calibration import (
    add_predictions,
    calibrated,
    choose_min_confidence,
    default_min_confidence,
    fit_temperature,
)
from genrecls.evaluation.novelty import Novelty
from genrecls.evaluation.runs import is_synthetic
from genrecls.evaluation.scores import aggregate_tracks
from genrecls.features.stored import Features
from genrecls.inspection.saliency import first_layer_activations
from genrecls.training.stages import Fitted

# At most this many channels of the first convolution are saved. musicnn has 204, which take 45 MB,
# and most of which are always 0.
_CHANNELS = 32

# Packages that a result depends on, if they are installed.
_PACKAGES = "keras tensorflow torch torchaudio jax numpy librosa".split()


def fit_calibration(segments: pd.DataFrame, fitted: Fitted, *, leaky: bool) -> dict[str, float]:
    """Fit the temperatures and the limit of "not sure" on groups that no model was trained on."""
    genres = sorted(segments["genre"].unique())
    if leaky:  # such a validation does not show how confident the model may be
        limit = default_min_confidence(len(genres))
        return {"temperature": 1.0, "track_temperature": 1.0, "min_confidence": limit}
    held_out = add_predictions(segments, fitted.probabilities).query("split == 'validation'")
    if fitted.out_of_fold is not None:
        train = segments[segments["split"] == "train"].assign(split="validation")
        held_out = pd.concat([held_out, add_predictions(train, fitted.out_of_fold)])
    tracks = aggregate_tracks(held_out, genres)
    temperature = fit_temperature(tracks, genres)
    scaled = calibrated(tracks.assign(temperature=temperature), genres)
    return {
        "temperature": fit_temperature(held_out, genres),
        "track_temperature": temperature,
        "min_confidence": float(choose_min_confidence(scaled, genres)),
    }


def make_predictions(
    segments: pd.DataFrame, fitted: Fitted, calibration: dict[str, float], novelty: Novelty | None
) -> pd.DataFrame:
    """Return the held-out predictions with their temperatures, and their novelty if known."""
    table = add_predictions(segments, fitted.probabilities)
    if novelty and fitted.embeddings is not None:
        held_out = (segments["split"] != "train").to_numpy()
        table["novelty"] = novelty.score(fitted.embeddings[held_out])
    return table.assign(**{key: calibration[key] for key in ("temperature", "track_temperature")})


def make_card(
    corpus: Corpus,
    features: Features,
    segments: pd.DataFrame,
    recipe: Recipe,
    fitted: Fitted,
) -> dict[str, Any]:
    """Return the card's entries on data, model and training."""
    model, history = fitted.model, fitted.history
    test = features.log_mels(segments[segments["split"] == "test"].head(1))
    return {
        "corpus": corpus.name,
        "genres": corpus.genres,
        "front_end": features.front_end.to_dict(),
        "recipe": recipe.to_dict(),
        **describe_corpus(corpus, features),
        "synthetic": is_synthetic(segments),
        "versions": _find_versions(),
        "architecture": model.name,
        "parameters": int(model.count_params()),
        "weights": str(recipe.weights or "random"),
        "training_time_s": float(history["time_s"].iloc[-1]),
        "best_epoch": fitted.best_epoch,
        "validation_accuracy": float(history["val_accuracy"].iloc[fitted.best_epoch]),
        "inference_ms_per_segment": _measure_inference_ms(model, test),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {keras.backend.backend()}",
    }


def describe_corpus(corpus: Corpus, features: Features) -> dict[str, Any]:
    """Return the card's entries that depend on tracks which cannot be used, too."""
    return {
        "corpus_hash": split_hash(corpus.tracks),
        "left_out": features.failures.to_dict("records"),
        "notes": features.notes.to_dict("records"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _find_versions() -> dict[str, str]:
    """Return the versions of genrecls, Python and the installed packages."""
    found = {"genrecls": genrecls.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _measure_inference_ms(model: keras.Model, segment: np.ndarray) -> float:
    """Measure the median time of predicting one segment from its log-mel, after a warm-up."""
    times = []
    for _ in range(5):
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
