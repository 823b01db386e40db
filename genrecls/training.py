"""A corpus, a front end and a recipe to a saved run."""

from __future__ import annotations

import logging
import math
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .bundle import FORMAT, GenreClassifier, write_card
from .calibration import temperature_of, with_predictions
from .config import TRANSFERRED, FrontEnd, Recipe, hash_json, project_root
from .corpus import Corpus, assign_splits, check_no_leak, split_hash
from .evaluation import accuracy, f1_scores, track_verdicts
from .explain import first_layer_activations
from .features import Features, Track, prepare
from .model_card import CARD as MODEL_CARD
from .model_card import write_model_card
from .weights import settings_of

log = logging.getLogger(__name__)

# Raise it when the same recipe and data give another run than before.
_VERSION = 5

# A step of a net with fewer parameters takes hardly longer than to call it: a whole epoch is one
# call where the pieces are in memory, so many steps otherwise.
_SMALL, _STEPS_AT_ONCE = 2_000_000, 20

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
        Name of the run, such as ``cnn-seed``: its folder and its row in every table.
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
    segments = assign_splits(features.segments, method=recipe.split, random_seed=recipe.random_seed)
    split = split_hash(segments)
    decides = [_VERSION, name, settings_of(recipe), front_end.to_dict(), split]
    uid = hash_json(decides)[:16]
    if GenreClassifier.uid_of(folder) == uid:
        log.info("%s is up to date", folder)
        run = GenreClassifier.load(folder)
        if not (folder / MODEL_CARD).exists():
            write_model_card(run)
        return run

    fitted = fit(features, segments, recipe, progress=progress, callbacks=callbacks)
    predictions = _predictions(segments, fitted, leaky=recipe.split != "artist")
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
    _save(folder, card, fitted, segments, predictions, first_layer)
    return GenreClassifier.load(folder)


@dataclass(frozen=True)
class Fitted:
    """A trained net and what it says of the pieces that it was not trained on.

    Attributes
    ----------
    model : keras.Model
        Log-mels [shape=(batch, n_mels, frames, 1)] in dB to probabilities.
    probabilities : np.ndarray [shape=(held-out pieces, genres)]
        Of the pieces whose split is not ``'train'``, in their order.
    history : pd.DataFrame
        One row an epoch: ``epoch, loss, accuracy, time_s`` (since the start of the training), and
        ``val_loss, val_accuracy`` if there is a validation; ``stage`` if there are two.
    best_epoch : int
        The epoch whose weights are kept: the last one, but with ``patience``.
    weights : str
        What the net started from: ``'random'``, ``'imagenet'``, or the path of a file.
    training_time_s : float
        Until the last epoch ended. Of a trunk whose outputs are on disk already, without them.
    """

    model: Any
    probabilities: np.ndarray
    history: pd.DataFrame
    best_epoch: int
    weights: str
    training_time_s: float


def fit(
    features: Features,
    segments: pd.DataFrame,
    recipe: Recipe,
    *,
    progress: bool = True,
    callbacks: Sequence = (),
) -> Fitted:
    """Train a net on the pieces whose split is ``'train'``; predict all others.

    Pieces whose split is ``'validation'``, if there are any, are watched during training.
    """
    from .backend import keras, make_deterministic
    from .batches import predicted
    from .fine_tuning import fit_in_stages

    # How strict the validation is has been judged where it was held out.
    check_no_leak(segments, leaky_validation=True)
    make_deterministic()
    keras.utils.set_random_seed(recipe.random_seed)
    clock = _clock(time.perf_counter())

    def fit_net(net, track: Track, recipe: Recipe) -> pd.DataFrame:
        return fit_net_on(net, track, segments, recipe, progress=progress,
                          callbacks=[clock, *callbacks])  # fmt: skip

    model = build(recipe, features.front_end, segments["genre"].nunique())
    if recipe.trunk == "frozen":
        history, probabilities = fit_in_stages(
            model, features, segments, recipe, fit_net, progress=progress
        )
    else:
        history = fit_net(model, features.track, recipe)
        probabilities = predicted(model, features.track, segments[segments["split"] != "train"])
    watched = recipe.patience and "val_loss" in history
    best = history["val_loss"].argmin() if watched else -1
    return Fitted(
        model=model,
        probabilities=probabilities,
        history=history,
        best_epoch=int(history["epoch"].iloc[best]),
        weights=str(recipe.weights or "random"),
        training_time_s=history["time_s"].iloc[-1],
    )


def build(recipe: Recipe, front_end: FrontEnd, n_genres: int):
    """The untrained net of a recipe, from log-mels [shape=(batch, n_mels, frames, 1)] on."""
    from .models import BUILDERS, Picture

    options = {"weights": recipe.weights, "head": recipe.head}
    return BUILDERS[recipe.model](
        (*front_end.shape, 1),
        n_genres,
        picture=Picture.of(front_end, recipe.input_range),
        **(options if recipe.model in TRANSFERRED else {}),
    )


def _clock(start: float):
    """A callback that writes into the history when each epoch ended, in seconds from ``start``."""
    from .backend import keras

    def tick(_, logs):
        logs["time_s"] = time.perf_counter() - start

    return keras.callbacks.LambdaCallback(on_epoch_end=tick)


def _predictions(segments: pd.DataFrame, fitted: Fitted, *, leaky: bool) -> pd.DataFrame:
    """Validation and test pieces with raw probabilities, and the temperatures that suit them.

    A leaky validation says nothing about how sure the model may be: there they are 1.
    """
    out = with_predictions(segments, fitted.probabilities)
    validation = out[out["split"] == "validation"]
    genres = sorted(segments["genre"].unique())
    tracks = track_verdicts(validation, genres)
    out["temperature"] = 1.0 if leaky else temperature_of(validation, genres)
    out["track_temperature"] = 1.0 if leaky else temperature_of(tracks, genres)
    return out


def _measured(
    features: Features, segments: pd.DataFrame, fitted: Fitted, predictions: pd.DataFrame
) -> dict:
    """What the card says of the training and its outcome."""
    from .backend import keras

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
            split: {"pieces": len(part), "accuracy": accuracy(part), "f1": f1_scores(part, genres)}
            for split, part in by_split
        },
        "inference_ms_per_piece": _median_inference_ms(fitted.model, some),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {keras.backend.backend()}",
    }


def fit_net_on(
    net, track: Track, segments: pd.DataFrame, recipe: Recipe, *, progress: bool, callbacks: list
) -> pd.DataFrame:
    """Train a net as a recipe says, without stages.

    Parameters
    ----------
    net : keras.Model
        What ``track`` gives of a piece to probabilities; trained in place.
    track : callable
        See :func:`genrecls.features.gathered`.
    segments : pd.DataFrame
        The segments table, with ``split``; there may be no ``'validation'``.
    recipe : Recipe
    progress : bool
        Show a progress bar.
    callbacks : list of keras.callbacks.Callback

    Returns
    -------
    pd.DataFrame
        One row an epoch.
    """
    from .augment import with_augmentation
    from .backend import keras
    from .batches import can_be_held, without_preamble

    segments = segments[segments["split"].isin(("train", "validation"))]
    source = track
    if recipe.augmented:
        net = with_augmentation(net, recipe)
    else:
        net, track = without_preamble(net, track, segments)
    # What is drawn in advance is so because it can be held.
    held = track is not source or can_be_held(source(segments["sha256"].iloc[0]), segments)
    data = _data_for(track, segments, recipe, held=held)
    # With PyTorch, Keras can only take one step at a time.
    small = keras.backend.backend() == "tensorflow" and net.count_params() < _SMALL
    optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[recipe.optimizer]
    net.compile(
        optimizer=optimizer(learning_rate=recipe.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=data.get("steps_per_epoch", _STEPS_AT_ONCE) if small else 1,
    )
    if recipe.halve_every:
        callbacks.append(keras.callbacks.LearningRateScheduler(halving(recipe)))
    if recipe.warm_up:
        callbacks.append(keras.callbacks.LearningRateScheduler(warm_up_and_cosine(recipe)))
    if recipe.patience and data["validation_data"]:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_loss", patience=recipe.patience, restore_best_weights=True
            )
        )
    if progress:
        callbacks.append(_epoch_bar(recipe.epochs))
    history = net.fit(**data, epochs=recipe.epochs, callbacks=callbacks, verbose=0)
    return pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def _data_for(
    track: Track, segments: pd.DataFrame, recipe: Recipe, *, held: bool
) -> dict[str, Any]:
    """Arguments of Keras' ``fit``: the pieces to train on and to validate on, held in memory or
    read batch by batch."""
    from .backend import keras
    from .batches import PREDICTED_AT_ONCE, Batches

    labels, genres = pd.factorize(segments["genre"], sort=True)
    targets = np.eye(len(genres), dtype=np.float32)[labels]
    train, validation = (segments["split"] == split for split in ("train", "validation"))
    weights = np.ones(len(genres), np.float32)
    if recipe.class_weights:
        weights[:] = train.sum() / (len(genres) * np.bincount(labels[train]))

    def part(rows: pd.Series, *of_pieces: np.ndarray, **shuffled: int) -> Batches:
        some = [values[rows] for values in of_pieces]
        return Batches(
            track, segments[rows], recipe.batch_size, some, target_goes_in=bool(recipe.augmented),
            **shuffled,
        )  # fmt: skip

    to_train_on = part(train, targets, weights[labels], shuffle_seed=recipe.random_seed)
    to_validate_on = part(validation, targets) if validation.any() else None
    if not held:
        return {"x": to_train_on, "validation_data": to_validate_on}
    if keras.backend.backend() == "tensorflow":
        return {
            "x": to_train_on.as_dataset(endless=True),
            "shuffle": False,  # it does that itself
            "steps_per_epoch": len(to_train_on),
            "validation_data": to_validate_on and to_validate_on.as_dataset(PREDICTED_AT_ONCE),
        }
    x, y, weight = to_train_on.at_once()
    return {
        "x": x,
        "y": y,
        "sample_weight": weight,
        "batch_size": recipe.batch_size,
        "validation_data": to_validate_on and to_validate_on.at_once(),
    }


def halving(recipe: Recipe):
    """The rate of an epoch: halved at every epoch divisible by ``halve_every``, 0 included."""
    return lambda epoch, *_: recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every + 1)


def warm_up_and_cosine(recipe: Recipe):
    """The rate of an epoch: up in a line for ``warm_up`` epochs, then half a cosine to 0."""
    rise, fall = recipe.warm_up, max(recipe.epochs - recipe.warm_up, 1)

    def rate(epoch: int, *_) -> float:
        if epoch < rise:
            return recipe.learning_rate * (epoch + 1) / rise
        return recipe.learning_rate * (1 + math.cos(math.pi * (epoch - rise) / fall)) / 2

    return rate


def live_plot():
    """A callback that redraws loss and accuracy while a net is trained, in a notebook.

    Not after every epoch of a small net: drawing takes a twentieth of the time at most.

    Examples
    --------
    >>> import genrecls
    >>> callbacks = [genrecls.live_plot()]  # for genrecls.train, in a notebook
    """
    from IPython.display import display
    from matplotlib import pyplot as plt

    from . import plots
    from .backend import keras

    logs: list[dict] = []
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    plt.close(figure)  # or it is shown once more at the end of the cell
    shown, due = None, 0.0

    def redraw(*_):
        nonlocal shown, due
        start = time.perf_counter()
        for ax in axes:
            ax.clear()
        plots.history(pd.DataFrame(logs).rename_axis("epoch").reset_index(), axes=axes)
        shown = shown or display(figure, display_id=True)
        shown.update(figure)
        end = time.perf_counter()
        due = end + 19 * (end - start)

    def note(_, values):
        logs.append(values)
        if time.perf_counter() >= due:
            redraw()

    return keras.callbacks.LambdaCallback(on_epoch_end=note, on_train_end=redraw)


def _epoch_bar(epochs: int):
    from tqdm.auto import tqdm

    from .backend import keras

    bar = tqdm(total=epochs, desc="training", unit="epoch")

    def advance(_, logs):
        bar.set_postfix_str(", ".join(f"{k} {logs[k]:.3f}" for k in ("loss", "val_accuracy")
                                      if k in logs))  # fmt: skip
        bar.update()

    return keras.callbacks.LambdaCallback(on_epoch_end=advance, on_train_end=lambda *_: bar.close())


def _median_inference_ms(model, x: np.ndarray, repeats: int = 21) -> float:
    """Median time of a prediction of one piece from its log-mel, in ms, after warming up."""
    times = []
    for i in range(repeats + 3):
        piece = x[[i % len(x)]]
        start = time.perf_counter()
        model.predict_on_batch(piece)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[3:]))


def _save(
    folder: Path,
    card: dict,
    fitted: Fitted,
    segments: pd.DataFrame,
    predictions: pd.DataFrame,
    first_layer: dict,
) -> None:
    """Write the run beside its place and move it there when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        fitted.model.save(new / "model.keras")
        fitted.history.to_parquet(new / "history.parquet")
        predictions.to_parquet(new / "predictions.parquet")
        segments.to_parquet(new / "segments.parquet")
        np.savez_compressed(new / "first_layer.npz", **first_layer)
        write_card(new, card)
        write_model_card(GenreClassifier.read(new))
        old = Path(temporary) / "old"
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
