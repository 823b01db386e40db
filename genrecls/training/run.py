"""Training of a model on a corpus, from files to a saved run."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils.backend import keras
from genrecls._utils.paths import models_dir
from genrecls.classifier import GenreClassifier, save_run
from genrecls.config import FrontEnd, Recipe, choose, hash_json, run_name
from genrecls.config.recipe import Model
from genrecls.corpus.splits import assign_splits, split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.evaluation.calibration import add_predictions, fit_group_temperature
from genrecls.evaluation.runs import FORMAT
from genrecls.evaluation.scores import accuracy, aggregate_tracks, f1_scores
from genrecls.features.prepare import prepare
from genrecls.features.stored import Features
from genrecls.inspection.saliency import first_layer_activations
from genrecls.models.building import builder_uid
from genrecls.models.weights import recipe_settings
from genrecls.report.model_card import CARD as MODEL_CARD_FILE
from genrecls.report.model_card import write_model_card
from genrecls.training.stages import Fitted, fit

log = logging.getLogger(__name__)

# Raise it when the same recipe and data give another run than before.
_VERSION = 6

_PACKAGES = ("genrecls", "keras", "tensorflow", "torch", "torchaudio", "numpy", "librosa")


def train(
    corpus: Corpus | str | os.PathLike,
    model: Model = "cnn",
    *,
    preset: str = "default",
    front_end: FrontEnd | None = None,
    name: str | None = None,
    folder: str | os.PathLike | None = None,
    jobs: int | None = None,
    progress: bool = True,
    callbacks: Sequence = (),
    **changes: Any,
) -> GenreClassifier:
    """Train a model on a corpus and save it, or load it if it is up to date.

    A run is up to date if nothing has changed that decides its outcome: recipe, front end, audio,
    genres, split, and the user's own builder.

    Parameters
    ----------
    corpus : Corpus or path-like
        A corpus, or the path of one; see :meth:`genrecls.Corpus.read`.
    model : str, Recipe or callable
        Name of a model (``'cnn'``, ``'compact_cnn'``, ``'inception_resnet_v2'``,
        ``'efficientnet_lite0'``), a complete recipe, or your own builder
        ``(input_shape, n_classes) -> keras.Model``.
    preset : {'original', 'default'}
        Source of the recipe and the front end: the original lab, or the corrected settings.
    front_end : FrontEnd, optional
        Replaces the front end of the preset.
    name : str, optional
        Name of the run in every table; by default the model, the preset and the changes.
    folder : path-like, optional
        Folder of the run; by default ``models/<corpus>/<name>``.
    jobs : int > 0, optional
        Number of processes that prepare the features.
    progress : bool
        Show progress bars.
    callbacks : sequence of keras.callbacks.Callback
        Further callbacks, such as ``[live_plot()]`` in a notebook.
    **changes
        Fields of :class:`genrecls.Recipe` that replace those of the recipe.

    Returns
    -------
    GenreClassifier
        The run, loaded from its folder.

    Raises
    ------
    ValueError
        If there is no such model, preset or field of the recipe.
    CorpusError
        If the corpus cannot be read, or a genre has too few tracks or artists to be split.
    WeightsError
        If the pretrained weights of the recipe are missing or wrong.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.train("music", "compact_cnn", epochs=20, progress=False)
    >>> run.genres
    ['classique', 'jazz', 'rap']
    """
    corpus = corpus if isinstance(corpus, Corpus) else Corpus.read(Path(corpus))
    recipe, front_end, builder = choose(model, preset, front_end, **changes)
    name = name or run_name(preset, recipe)
    folder = Path(folder or models_dir() / corpus.name / name)
    features = prepare(corpus, front_end, jobs=jobs, progress=progress)
    segments = assign_splits(
        features.segments, split_by=recipe.split_by, random_seed=recipe.random_seed
    )
    uid = _hash_run(name, recipe, front_end, segments, builder)
    if run := _find_run(folder, uid):
        return run
    fitted = fit(
        features, segments, recipe, builder=builder, progress=progress, callbacks=callbacks
    )
    predictions = _calibrate(segments, fitted, leaky=recipe.split_by != "artist")
    card = {"format": FORMAT, "name": name, "uid": uid}
    card |= _describe(corpus, features, segments, recipe, fitted, predictions)
    run = save_run(
        folder,
        card=card,
        model=fitted.model,
        history=fitted.history,
        segments=segments,
        predictions=predictions,
        first_layer=_compute_first_layer(fitted.model, features, segments),
    )
    write_model_card(run)
    return run


def _hash_run(
    name: str,
    recipe: Recipe,
    front_end: FrontEnd,
    segments: pd.DataFrame,
    builder: Callable | None,
) -> str:
    """Hash everything that decides the outcome of a run."""
    settings = [recipe_settings(recipe), front_end.to_dict(), split_hash(segments)]
    if builder:
        settings.append(builder_uid(builder, front_end, segments["genre"].nunique()))
    return hash_json([_VERSION, name, *settings])[:16]


def _find_run(folder: Path, uid: str) -> GenreClassifier | None:
    """Load the run in a folder if it is up to date."""
    if GenreClassifier.read_uid(folder) != uid:
        return None
    log.info("%s is up to date", folder)
    run = GenreClassifier.load(folder)
    if not (folder / MODEL_CARD_FILE).exists():
        write_model_card(run)
    return run


def _calibrate(segments: pd.DataFrame, fitted: Fitted, *, leaky: bool) -> pd.DataFrame:
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


def _describe(
    corpus: Corpus,
    features: Features,
    segments: pd.DataFrame,
    recipe: Recipe,
    fitted: Fitted,
    predictions: pd.DataFrame,
) -> dict[str, Any]:
    """Return the card's entries on data, model, training and predictions."""
    model, history = fitted.model, fitted.history
    synthetic = "source" in segments and segments["source"].str.contains("synthetic", case=False)
    test = features.log_mels(segments[segments["split"] == "test"].head(16))
    return {
        "corpus": corpus.name,
        "genres": corpus.genres,
        "front_end": features.front_end.to_dict(),
        "recipe": recipe.to_dict(),
        "temperature": float(predictions["temperature"].iloc[0]),
        "track_temperature": float(predictions["track_temperature"].iloc[0]),
        "split_hash": split_hash(segments),
        "corpus_hash": split_hash(corpus.tracks),
        "synthetic": bool(np.all(synthetic)),
        "left_out": features.failures.to_dict("records"),
        "notes": features.notes.to_dict("records"),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "architecture": model.name,
        "parameters": int(model.count_params()),
        "trained_parameters": int(sum(np.prod(w.shape) for w in model.trainable_weights)),
        "weights": str(recipe.weights or "random"),
        "training_time_s": float(history["time_s"].iloc[-1]),
        "epochs": len(history),
        "best_epoch": fitted.best_epoch,
        "validation_accuracy": float(history["val_accuracy"].iloc[fitted.best_epoch]),
        "metrics": {
            split: {
                "segments": len(part),
                "accuracy": accuracy(part),
                "f1": f1_scores(part, corpus.genres),
            }
            for split, part in predictions.groupby("split", sort=False)
        },
        "inference_ms_per_segment": _measure_inference_ms(model, test),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {keras.backend.backend()}",
    }


def _measure_inference_ms(model: keras.Model, log_mels: np.ndarray, repeats: int = 21) -> float:
    """Measure the median time of predicting one segment from its log-mel, after a warm-up."""
    times = []
    for i in range(repeats + 3):
        segment = log_mels[[i % len(log_mels)]]
        start = time.perf_counter()
        model.predict_on_batch(segment)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[3:]))


def _compute_first_layer(
    model: keras.Model, features: Features, segments: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Compute the maps of the first convolution; there are none if the model has no convolution."""
    segment = segments[segments["split"] == "test"].head(1)
    log_mel = features.log_mels(segment)[0]
    if any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers):
        maps = first_layer_activations(model, log_mel)
    else:
        maps = np.empty((0, *log_mel.shape[:2]), np.float32)
    return {
        "path": np.array(segment["path"].iloc[0]),
        "segment": np.array(segment["segment"].iloc[0]),
        "log_mel": log_mel[..., 0],
        "maps": maps,
    }
