"""Training of a model on a corpus, from files to a saved run."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from genrecls._utils import cache
from genrecls._utils.io import hash_if_readable
from genrecls._utils.paths import models_dir
from genrecls.classifier import GenreClassifier, save_run
from genrecls.config import FrontEnd, Recipe, choose, hash_json, run_name
from genrecls.config.recipe import Model
from genrecls.corpus.splits import assign_splits, split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.errors import ModelError
from genrecls.evaluation.runs import CARD, FORMAT, check_folder
from genrecls.features.prepare import prepare
from genrecls.features.stored import Features
from genrecls.models.building import builder_uid
from genrecls.models.weights import recipe_settings
from genrecls.report.model_card import MODEL_CARD_FILE, write_model_card
from genrecls.training.novelty import fit_novelty
from genrecls.training.outcome import (
    compute_first_layer,
    describe_corpus,
    fit_calibration,
    make_card,
    make_predictions,
)
from genrecls.training.stages import fit

# Raise it when the same recipe and data give another run than before.
_VERSION = 9


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
        ``'efficientnet_lite0'``, ``'efficientnet_lite0_frozen'``, ``'musicnn'``), a complete
        recipe, or your own builder ``(input_shape, n_classes) -> keras.Model``.
    preset : {'original', 'default'}
        Source of the recipe and the front end: the original lab, or the corrected settings.
    front_end : FrontEnd, optional
        Replaces the front end of the preset.
    name : str, optional
        Name of the run in every table; by default the model, the preset and the changes.
    folder : path-like, optional
        Folder of the run; by default ``models/<corpus>/<name>``. An earlier run is replaced.
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
        If a model, preset or field of the recipe is unknown, or your builder has a model's name.
    CorpusError
        If the corpus cannot be read, or a genre has too few tracks or artists to be split.
    WeightsError
        If the pretrained weights of the recipe are missing or wrong.
    ModelError
        If the training has diverged, or ``folder`` contains anything but a run.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.train("music", "compact_cnn", epochs=20, progress=False)
    >>> run.genres
    ['classique', 'jazz', 'rap']
    """
    corpus = Corpus.read(corpus)
    recipe, front_end, builder = choose(model, preset, front_end, **changes)
    name = name or run_name(preset, recipe, front_end)
    folder = check_folder(folder or models_dir() / corpus.name / name)
    features = prepare(corpus, front_end, jobs=jobs, progress=progress)
    segments = assign_splits(
        features.segments, split_by=recipe.split_by, random_seed=recipe.random_seed
    )
    split = split_hash(segments)
    uid = _hash_run(name, recipe, front_end, segments, split, corpus.background, builder)
    if run := _find_run(folder, uid):
        return _update_card(run, corpus, features)
    cache.check_writable(folder)
    fitted = fit(
        features, segments, recipe, builder=builder, progress=progress, callbacks=callbacks
    )
    novelty = fit_novelty(fitted, segments, corpus.background, front_end, recipe)
    calibration = fit_calibration(segments, fitted, leaky=recipe.split_by != "artist")
    predictions = make_predictions(segments, fitted, calibration, novelty)
    card = {"format": FORMAT, "name": name, "uid": uid, "split_hash": split, **calibration}
    card["novelty_threshold"] = novelty and float(novelty.threshold)
    run = save_run(
        folder,
        card=card | make_card(corpus, features, segments, recipe, fitted),
        model=fitted.model,
        history=fitted.history,
        segments=segments,
        predictions=predictions,
        first_layer=compute_first_layer(fitted.model, features, segments),
        embeddings=fitted.embeddings,
        novelty=novelty,
    )
    write_model_card(run)
    return run


def _hash_run(
    name: str,
    recipe: Recipe,
    front_end: FrontEnd,
    segments: pd.DataFrame,
    split: str,
    background: Sequence[Path],
    builder: Callable | None,
) -> str:
    """Hash everything that decides the outcome of a run."""
    settings = [recipe_settings(recipe), front_end.to_dict(), split]
    stated = segments.filter(["path", "source", "licence"]).drop_duplicates()
    settings.append(stated.to_csv(index=False))  # the model card states them
    if background and recipe.head == "logistic":
        settings.append(cache.memoize("file_hashes", hash_if_readable, background))
    if builder:
        settings.append(builder_uid(builder, front_end, segments["genre"].nunique()))
    return hash_json([_VERSION, name, *settings])[:16]


def _find_run(folder: Path, uid: str) -> GenreClassifier | None:
    """Load the run in a folder if it is up to date."""
    if cache.load(folder) is None:  # there is no run, or a part of it is damaged
        return None
    try:
        run = GenreClassifier.load(folder)
    except ModelError:
        return None
    if run.card["uid"] != uid:
        return None
    if not (folder / MODEL_CARD_FILE).exists():
        write_model_card(run)
    return run


def _update_card(run: GenreClassifier, corpus: Corpus, features: Features) -> GenreClassifier:
    """Write the card again if the tracks that cannot be used have changed."""
    known = describe_corpus(corpus, features)
    # Runs are compared by the hash of all tracks.
    if run.card["corpus_hash"] == known["corpus_hash"]:
        return run
    with cache.new(run.folder, replace=True) as (new, _):
        cache.copy(run.folder, new)
        text = json.dumps(run.card | known, indent=2, ensure_ascii=False) + "\n"
        (new / CARD).write_text(text, encoding="utf-8")
    run = GenreClassifier.load(run.folder)
    write_model_card(run)
    return run
