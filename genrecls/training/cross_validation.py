"""Repeated cross-validation: every track is predicted by models not trained on its artist.

A corpus of a hundred tracks is too small to hold out a fifth of it for a test. In a
cross-validation, every track is tested once in each repeat.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from genrecls._utils import cache
from genrecls._utils.paths import models_dir
from genrecls.config import MODELS, FrontEnd, choose, hash_json, run_name
from genrecls.config.recipe import Model
from genrecls.corpus.splits import assign_folds, assign_splits, check_no_leak, split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.evaluation.calibration import add_predictions, fit_temperature
from genrecls.evaluation.runs import CARD, FOLDER, PREDICTIONS
from genrecls.evaluation.scores import aggregate_tracks
from genrecls.features.prepare import prepare
from genrecls.features.stored import Features
from genrecls.training.baselines import Candidate, best_number, named_candidates, network_candidate

_KIND = "cross_validation"


def cross_validate(
    corpus: Corpus | str | os.PathLike,
    models: Model | Candidate | Sequence[Model | Candidate],
    *,
    preset: str = "default",
    folds: int = 5,
    repeats: int = 3,
    split_by: str | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Predict every segment by models that were not trained on its artist.

    The results are kept in ``models/<corpus>/cross_validation/<run>/`` and read again if nothing
    has changed; an interrupted run continues after its last finished fold.

    Parameters
    ----------
    corpus : Corpus or path-like
        A corpus, or the path of one; see :meth:`genrecls.Corpus.read`.
    models : str, Candidate, Recipe, callable, or a list of these
        Names are those of models (``'compact_cnn'``), baselines (``'majority'``, ``'one_number'``,
        ``'mfcc_svm'``), or models with their preset (``'cnn-original'``,
        ``'efficientnet_lite0-default-weights-random'``). A callable is your own builder
        ``(input_shape, n_classes) -> keras.Model``.
    preset : {'original', 'default'}
        Source of the recipes and the front end, unless a name contains a preset.
    folds : int >= 2
        Number of parts, each held out once; fewer if a genre has fewer groups.
    repeats : int > 0
        Number of repetitions, with other folds and another random seed.
    split_by : {'artist', 'track', 'segment'}, optional
        Also hold out a fifth of the training side in this way, to show how much a leaky validation
        promises. By default, the models are trained on the whole training side, and the
        ``patience`` of a recipe has no effect.
    jobs : int > 0, optional
        Number of processes that prepare the features.
    progress : bool
        Show progress bars.

    Returns
    -------
    pd.DataFrame
        One row per model, repeat and segment: the segments table with ``run``, ``repeat``,
        ``fold``, ``split`` (``'test'``, with ``split_by`` also ``'validation'``), raw
        ``prob_<genre>``, ``predicted``, ``temperature`` and ``track_temperature``. The temperatures
        of a fold are fitted on the test segments and tracks of the other folds.

    Raises
    ------
    ValueError
        If no model is given, a model is unknown, or two models have the same name.
    CorpusError
        If the corpus cannot be read, or a genre has a single artist.

    Examples
    --------
    >>> import genrecls
    >>> predictions = genrecls.cross_validate(
    ...     "music", ["majority", "mfcc_svm"], folds=2, repeats=1, progress=False
    ... )
    >>> predictions.groupby("run")["track_id"].nunique().to_dict()
    {'majority': 15, 'mfcc_svm': 15}
    """
    corpus = Corpus.read(corpus)
    given: Any = models if isinstance(models, list | tuple) else [models]
    options = {"jobs": jobs, "progress": progress}
    candidates = [_find_candidate(model, corpus, preset, **options) for model in given]
    names = [candidate.name for candidate in candidates]
    if not names:
        raise ValueError("there is no model to cross-validate; name one")
    if len(set(names)) < len(names):
        raise ValueError(f"two models have the same name; give each its own: {', '.join(names)}")
    settings = {"folds": folds, "repeats": repeats, "split_by": split_by}
    tables = [_validate(corpus, candidate, settings, **options) for candidate in candidates]
    return pd.concat(tables, ignore_index=True)


def _find_candidate(
    model: Model | Candidate, corpus: Corpus, preset: str, **options: Any
) -> Candidate:
    """Turn what a user names into a candidate."""
    if isinstance(model, Candidate):
        return model
    if not isinstance(model, str) or model in MODELS:
        recipe, front_end, builder = choose(model, preset)
        return network_candidate(run_name(preset, recipe), recipe, front_end, builder)
    front_end = FrontEnd.preset(preset)
    if model == "one_number":
        return best_number(corpus, front_end, **options)
    known = named_candidates(front_end)
    if model not in known:
        choices = ", ".join(["one_number", *MODELS, *known])
        raise ValueError(f"there is no model {model!r} for this corpus; choose from {choices}")
    return known[model]


def _validate(
    corpus: Corpus, candidate: Candidate, settings: dict[str, Any], *, jobs: Any, progress: bool
) -> pd.DataFrame:
    """Read the predictions of a candidate, or make them if they are not up to date."""
    features = prepare(corpus, candidate.front_end, jobs=jobs, progress=progress)
    decisive = {
        "name": candidate.name,
        "front_end": candidate.front_end.to_dict(),
        "model": candidate.settings,
        **settings,
    }
    split, version = split_hash(features.segments), cache.VERSIONS[_KIND]
    uid = hash_json([version, decisive, split])[:16]
    by = settings["split_by"]
    run = f"{candidate.name}-by-{by}" if by else candidate.name
    folder = models_dir() / corpus.name / FOLDER / run
    entries = {}
    if (cache.load(folder) or {}).get("uid") == uid:
        predictions = pd.read_parquet(folder / PREDICTIONS)
        saved = (folder / CARD).read_text(encoding="utf-8")
    else:
        cache.check_writable(folder)
        entries = _predict_folds(candidate, features, settings, uid, desc=run, progress=progress)
        table = pd.concat(entries.values(), ignore_index=True)
        predictions, saved = fit_temperatures(table, corpus.genres), ""
        predictions.insert(0, "run", run)
    card = {
        "version": version,
        "uid": uid,
        "corpus": corpus.name,
        "corpus_hash": split_hash(corpus.tracks),
        "genres": corpus.genres,
        **decisive,
        "folds_used": int(predictions["fold"].max()) + 1,
    }
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    # Tracks that cannot be used change the hash of the corpus, but not the predictions.
    if text != saved:
        with cache.new(folder, replace=True) as (new, meta):
            meta["uid"] = uid
            predictions.to_parquet(new / PREDICTIONS)
            (new / CARD).write_text(text, encoding="utf-8")
        for path in entries:
            shutil.rmtree(path, ignore_errors=True)
    return predictions


def _predict_folds(
    candidate: Candidate, features: Features, settings: dict, uid: str, *, desc: str, progress: bool
) -> dict[Path, pd.DataFrame]:
    """Predict all folds, or read them from the cache.

    The predictions stay in memory, since a faster process may delete the entries of the cache.
    """
    cache.remove_leftovers(_KIND)
    segments, predictions = features.segments, {}
    sides = [
        (repeat, fold, segments.assign(split=np.where(held_out == fold, "test", "train")))
        for repeat in range(settings["repeats"])
        for held_out in [assign_folds(segments, folds=settings["folds"], random_seed=repeat)]
        for fold in range(held_out.max() + 1)
    ]
    for repeat, fold, split in tqdm(sides, desc=desc, unit="fold", disable=not progress):
        path = cache.entry(_KIND, f"{uid}-{repeat}-{fold}")
        with contextlib.suppress(FileNotFoundError):  # another process may just have deleted it
            if cache.load(path) is not None:
                predictions[path] = pd.read_parquet(path / PREDICTIONS)
                continue
        if by := settings["split_by"]:
            split = assign_splits(split, split_by=by, random_seed=repeat)
        else:
            check_no_leak(split)
        probabilities = candidate.fit_predict(features, split, repeat)
        predictions[path] = add_predictions(split, probabilities).assign(repeat=repeat, fold=fold)
        with cache.new(path) as (folder, _):
            predictions[path].to_parquet(folder / PREDICTIONS)
    return predictions


def fit_temperatures(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Add the temperatures of each fold, which are fitted to the test sides of the other folds."""
    table = predictions.assign(temperature=1.0, track_temperature=1.0)
    test = predictions[predictions["split"] == "test"]
    for (repeat, fold), part in predictions.groupby(["repeat", "fold"]):
        others = test[(test["repeat"] == repeat) & (test["fold"] != fold)]
        tracks = aggregate_tracks(others, genres)
        table.loc[part.index, "temperature"] = fit_temperature(others, genres)
        table.loc[part.index, "track_temperature"] = fit_temperature(tracks, genres)
    return table
