"""A corpus, a front end and a recipe to a saved run."""

from __future__ import annotations

import logging
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from .bundle import FORMAT, GenreClassifier, probability_columns, write_card
from .config import FrontEnd, Recipe, hash_json, project_root
from .corpus import Corpus, assign_splits, sha256_of, split_hash
from .evaluation import accuracy, f1_scores
from .explain import first_layer_activations
from .features import Features, prepare

log = logging.getLogger(__name__)

# Raise it when the same recipe and data give another run than before.
_VERSION = 1

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
    """
    folder = Path(folder or project_root() / "models" / corpus.name / name)
    features = prepare(corpus, front_end, jobs=jobs, progress=progress)
    segments = assign_splits(features.segments, method=recipe.split, random_seed=recipe.random_seed)
    split = split_hash(segments)
    decides = [_VERSION, name, recipe.to_dict(), front_end.to_dict(), split]
    if recipe.weights and Path(recipe.weights).is_file():
        decides.append(sha256_of(Path(recipe.weights)))
    uid = hash_json(decides)[:16]
    if GenreClassifier.uid_of(folder) == uid:
        log.info("%s is up to date", folder)
        return GenreClassifier.load(folder)

    fitted = _fit(features, segments, recipe, progress=progress, callbacks=callbacks)
    card = {
        "format": FORMAT,
        "name": name,
        "uid": uid,
        "corpus": corpus.name,
        "genres": corpus.genres,
        "front_end": front_end.to_dict(),
        "recipe": recipe.to_dict(),
        "split_hash": split,
        "corpus_hash": split_hash(segments.drop(columns="split")),
        "left_out": features.failures.to_dict("records"),
        "notes": features.notes.to_dict("records"),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in VERSIONS_OF},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **fitted["card"],
    }
    _save(folder, card, fitted, segments)
    return GenreClassifier.load(folder)


def _fit(features: Features, segments: pd.DataFrame, recipe: Recipe, *, progress, callbacks):
    from .backend import keras
    from .models import (
        Picture,
        build_cnn,
        build_inception_resnet_v2,
        calibrate_batch_norm,
        split_trunk,
    )

    keras.utils.set_random_seed(recipe.random_seed)
    genres = sorted(segments["genre"].unique())
    labels = segments["genre"].map(genres.index).to_numpy()
    x = features.log_mels(segments)
    where = {s: np.flatnonzero(segments["split"] == s) for s in ("train", "validation", "test")}

    picture = Picture.of(features.front_end, recipe.input_range)
    start = time.perf_counter()
    if recipe.model == "cnn":
        model = build_cnn(x.shape[1:], len(genres), picture=picture)
    else:
        model = build_inception_resnet_v2(
            x.shape[1:], len(genres), weights=recipe.weights, picture=picture
        )
    net, trunk = model, None
    if recipe.trunk == "frozen":
        if recipe.weights is None:
            order = np.random.default_rng(recipe.random_seed).permutation(where["train"])
            parts = _bar(_batches(order, 16), "batch norm", progress=progress)
            calibrate_batch_norm(model, (x[part] for part in parts))
        trunk, net = split_trunk(model)
        trunk.trainable = False

    def inputs(split: str) -> np.ndarray:
        """What the part that is trained takes: log-mels, or what a frozen trunk makes of them."""
        rows = x[where[split]]
        return _predict(trunk, rows, what=f"trunk, {split}", progress=progress) if trunk else rows

    fit_on = {split: (inputs(split), labels[where[split]]) for split in ("train", "validation")}
    history = _fit_net(net, fit_on, recipe, progress=progress, callbacks=list(callbacks))
    training_time_s = time.perf_counter() - start

    held_out = np.concatenate([where["validation"], where["test"]])
    probabilities = np.concatenate(
        [
            net.predict(rows, batch_size=32, verbose=0)
            for rows in (fit_on["validation"][0], inputs("test"))
        ]
    )
    predictions = segments.iloc[held_out].reset_index(drop=True)
    predictions[probability_columns(genres)] = probabilities
    predictions["predicted"] = np.array(genres)[probabilities.argmax(axis=1)]
    best = int(history["val_loss"].argmin()) if recipe.patience else len(history) - 1
    card = {
        "architecture": model.name,
        "parameters": int(model.count_params()),
        "trained_parameters": int(sum(np.prod(w.shape) for w in model.trainable_weights)),
        "weights": recipe.weights or "random",
        "training_time_s": training_time_s,
        "epochs": len(history),
        "best_epoch": best,
        "validation_accuracy": float(history["val_accuracy"].iloc[best]),
        "metrics": {
            split: {"pieces": len(part), "accuracy": accuracy(part), "f1": f1_scores(part, genres)}
            for split, part in predictions.groupby("split", sort=False)
        },
        "inference_ms_per_piece": _median_inference_ms(model, x[held_out]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {keras.backend.backend()}",
    }
    shown = where["test"][0]
    first_layer = {
        "path": np.array(segments["path"].iloc[shown]),
        "segment": np.array(segments["segment"].iloc[shown]),
        "log_mel": x[shown, ..., 0],
        "maps": first_layer_activations(model, x[shown]),
    }
    return {
        "model": model,
        "history": history,
        "predictions": predictions,
        "first_layer": first_layer,
        "card": card,
    }


def _fit_net(
    net, fit_on: dict[str, tuple], recipe: Recipe, *, progress: bool, callbacks: list
) -> pd.DataFrame:
    from .backend import keras

    optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[recipe.optimizer]
    net.compile(
        optimizer=optimizer(learning_rate=recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    if recipe.halve_every:
        callbacks.append(keras.callbacks.LearningRateScheduler(halving(recipe)))
    if recipe.patience:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_loss", patience=recipe.patience, restore_best_weights=True
            )
        )
    if progress:
        callbacks.append(_epoch_bar(recipe.epochs))
    inputs, labels = fit_on["train"]
    counts = np.bincount(labels)
    history = net.fit(
        inputs,
        labels,
        validation_data=fit_on["validation"],
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        class_weight=(
            {i: len(labels) / (len(counts) * n) for i, n in enumerate(counts)}
            if recipe.class_weights
            else None
        ),
        callbacks=callbacks,
        verbose=0,
    )
    return pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def halving(recipe: Recipe):
    """The rate of an epoch: halved at every epoch divisible by ``halve_every``, 0 included."""
    return lambda epoch, *_: recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every + 1)


def live_plot():
    """A callback that redraws loss and accuracy after every epoch, in a notebook."""
    from IPython.display import display
    from matplotlib import pyplot as plt

    from . import plots
    from .backend import keras

    logs: list[dict] = []
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    plt.close(figure)  # or it is shown once more at the end of the cell
    shown = None

    def redraw(_, values):
        nonlocal shown
        logs.append(values)
        for ax in axes:
            ax.clear()
        plots.history(pd.DataFrame(logs).rename_axis("epoch").reset_index(), axes=axes)
        shown = shown or display(figure, display_id=True)
        shown.update(figure)

    return keras.callbacks.LambdaCallback(on_epoch_end=redraw)


def _epoch_bar(epochs: int):
    from tqdm.auto import tqdm

    from .backend import keras

    bar = tqdm(total=epochs, desc="training", unit="epoch")

    def advance(_, logs):
        bar.set_postfix_str(f"loss {logs['loss']:.3f}, val_accuracy {logs['val_accuracy']:.2f}")
        bar.update()

    return keras.callbacks.LambdaCallback(on_epoch_end=advance, on_train_end=lambda *_: bar.close())


def _batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[i : i + size] for i in range(0, len(order), size)]


def _predict(model, x: np.ndarray, *, progress: bool, what: str) -> np.ndarray:
    parts = _bar(_batches(np.arange(len(x)), 16), what, progress=progress)
    return np.concatenate([model.predict_on_batch(x[part]) for part in parts])


def _bar(parts: list[np.ndarray], what: str, *, progress: bool):
    from tqdm.auto import tqdm

    return tqdm(parts, desc=what, unit="batch", disable=not progress)


def _median_inference_ms(model, x: np.ndarray, repeats: int = 21) -> float:
    """Median time of a prediction of one piece from its log-mel, in ms, after warming up."""
    times = []
    for i in range(repeats + 3):
        piece = x[[i % len(x)]]
        start = time.perf_counter()
        model.predict_on_batch(piece)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[3:]))


def _save(folder: Path, card: dict, fitted: dict, segments: pd.DataFrame) -> None:
    """Write the run beside its place and move it there when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        fitted["model"].save(new / "model.keras")
        fitted["history"].to_parquet(new / "history.parquet")
        fitted["predictions"].to_parquet(new / "predictions.parquet")
        segments.to_parquet(new / "segments.parquet")
        np.savez_compressed(new / "first_layer.npz", **fitted["first_layer"])
        write_card(new, card)
        old = Path(temporary) / "old"
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
