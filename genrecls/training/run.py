"""A corpus, a front end and a recipe to a saved run."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils.paths import project_root
from genrecls.classifier import GenreClassifier, save_run
from genrecls.config import FrontEnd, Recipe, hash_json
from genrecls.corpus.splits import assign_splits, split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.evaluation.calibration import add_predictions, fit_group_temperature
from genrecls.evaluation.runs import FORMAT
from genrecls.evaluation.scores import accuracy, aggregate_tracks, f1_scores
from genrecls.features.prepare import Features, prepare
from genrecls.inspection.saliency import first_layer_activations
from genrecls.models.weights import recipe_settings
from genrecls.report.model_card import CARD as MODEL_CARD
from genrecls.report.model_card import write_model_card
from genrecls.training.loop import Fitted, fit

log = logging.getLogger(__name__)

# Raise it when the same recipe and data give another run than before.
_VERSION = 5

VERSIONS_OF = ("genrecls", "keras", "tensorflow", "torch", "torchaudio", "numpy", "librosa")


def train(
    corpus: Corpus,
    recipe: Recipe,
    front_end: FrontEnd,
    *,
    name: str,
    folder: str | os.PathLike | None = None,
    jobs: int | None = None,
    progress: bool = True,
    callbacks: Sequence = (),
) -> GenreClassifier:
    """Train a model on a corpus and save the run, or load it if it has been made already.

    Parameters
    ----------
    corpus : Corpus
    recipe : Recipe
    front_end : FrontEnd
    name : str
        Name of the run, such as ``cnn-original``: its folder and its row in every table.
    folder : path-like, optional
        Where the run is saved; by default ``models/<corpus>/<name>`` in the project.
    jobs : int > 0, optional
        Processes that prepare the features.
    progress : bool
        Show progress bars.
    callbacks : sequence of keras.callbacks.Callback
        For example ``[live_plot()]`` in a notebook.

    Returns
    -------
    GenreClassifier
        The run as loaded from its folder. It is trained anew only if something that decides its
        outcome has changed: recipe, front end, audio, genres or split.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.train(
    ...     genrecls.Corpus.read("music"),
    ...     genrecls.Recipe.preset("default", "compact_cnn", epochs=20),
    ...     genrecls.FrontEnd.preset("default"),
    ...     name="compact_cnn-default",
    ...     progress=False,
    ... )
    >>> run.genres
    ['classique', 'jazz', 'rap']
    """
    folder = Path(folder or project_root() / "models" / corpus.name / name)
    features = prepare(corpus, front_end, jobs=jobs, progress=progress)
    segments = assign_splits(
        features.segments, split_by=recipe.split_by, random_seed=recipe.random_seed
    )
    split = split_hash(segments)
    decides = [_VERSION, name, recipe_settings(recipe), front_end.to_dict(), split]
    uid = hash_json(decides)[:16]
    if GenreClassifier.read_uid(folder) == uid:
        log.info("%s is up to date", folder)
        run = GenreClassifier.load(folder)
        if not (folder / MODEL_CARD).exists():
            write_model_card(run)
        return run

    fitted = fit(features, segments, recipe, progress=progress, callbacks=callbacks)
    predictions = _predictions(segments, fitted, leaky=recipe.split_by != "artist")
    card = {
        "format": FORMAT,
        "name": name,
        "uid": uid,
        "corpus": corpus.name,
        "genres": corpus.genres,
        "front_end": front_end.to_dict(),
        "recipe": recipe.to_dict(),
        "temperature": float(predictions["temperature"].iloc[0]),
        "track_temperature": float(predictions["track_temperature"].iloc[0]),
        "split_hash": split,
        "corpus_hash": split_hash(corpus.tracks),
        "left_out": features.failures.to_dict("records"),
        "notes": features.notes.to_dict("records"),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in VERSIONS_OF},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_measured(features, segments, fitted, predictions),
    }
    shown = segments[segments["split"] == "test"].iloc[[0]]
    log_mel = features.log_mels(shown)[0]
    first_layer = {
        "path": np.array(shown["path"].iloc[0]),
        "segment": np.array(shown["segment"].iloc[0]),
        "log_mel": log_mel[..., 0],
        "maps": first_layer_activations(fitted.model, log_mel),
    }
    run = save_run(
        folder,
        card=card,
        model=fitted.model,
        history=fitted.history,
        segments=segments,
        predictions=predictions,
        first_layer=first_layer,
    )
    write_model_card(run)
    return run


def _predictions(segments: pd.DataFrame, fitted: Fitted, *, leaky: bool) -> pd.DataFrame:
    """Validation and test segments with raw probabilities, and the temperatures that suit them.

    A leaky validation says nothing about how sure the model may be: there they are 1.
    """
    out = add_predictions(segments, fitted.probabilities)
    validation = out[out["split"] == "validation"]
    genres = sorted(segments["genre"].unique())
    tracks = aggregate_tracks(validation, genres)
    out["temperature"] = 1.0 if leaky else fit_group_temperature(validation, genres)
    out["track_temperature"] = 1.0 if leaky else fit_group_temperature(tracks, genres)
    return out


def _measured(
    features: Features, segments: pd.DataFrame, fitted: Fitted, predictions: pd.DataFrame
) -> dict:
    """What the card says of the training and its outcome."""
    from genrecls._utils.backend import keras

    genres = sorted(segments["genre"].unique())
    some = features.log_mels(segments[segments["split"] == "test"].head(16))
    by_split = predictions.groupby("split", sort=False)
    return {
        "architecture": fitted.model.name,
        "parameters": int(fitted.model.count_params()),
        "trained_parameters": int(sum(np.prod(w.shape) for w in fitted.model.trainable_weights)),
        "weights": fitted.weights,
        "training_time_s": fitted.training_time_s,
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "validation_accuracy": float(fitted.history["val_accuracy"].iloc[fitted.best_epoch]),
        "metrics": {
            split: {
                "segments": len(part),
                "accuracy": accuracy(part),
                "f1": f1_scores(part, genres),
            }
            for split, part in by_split
        },
        "inference_ms_per_segment": _measure_inference_ms(fitted.model, some),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {keras.backend.backend()}",
    }


def _measure_inference_ms(model, x: np.ndarray, repeats: int = 21) -> float:
    """Median time of a prediction of one segment from its log-mel, in ms, after warming up."""
    times = []
    for i in range(repeats + 3):
        segment = x[[i % len(x)]]
        start = time.perf_counter()
        model.predict_on_batch(segment)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[3:]))
