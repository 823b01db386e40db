"""Repeated grouped cross-validation: every track predicted by models that never heard its artist.

A corpus of a hundred tracks is too small to spare a fifth of it for a test that decides anything.
Here every track is tested, once in each repeat, and the predictions of all models stand in one
table.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genrecls._utils.io import write_atomically
from genrecls._utils.paths import project_root
from genrecls.config import FrontEnd, Recipe, hash_json
from genrecls.corpus.splits import assign_folds, assign_splits, check_no_leak, split_hash
from genrecls.corpus.tracks import Corpus
from genrecls.evaluation.calibration import add_predictions
from genrecls.evaluation.runs import CARD, FOLDER, _read, _uid_of
from genrecls.features.prepare import Features, prepare
from genrecls.models.weights import recipe_settings

log = logging.getLogger(__name__)

# Raise it when the same model and data give other predictions than before.
_VERSION = 2


@dataclass(frozen=True)
class Candidate:
    """Something that can be fitted on some segments and asked about others.

    Attributes
    ----------
    name : str
        Its row in every table, and its folder.
    front_end : FrontEnd
        What it hears of the sound.
    fit_predict : callable
        ``(features, segments, random_seed) -> probabilities`` [shape=(segments, genres)]: fit on
        the segments whose ``split`` is ``'train'`` and predict all others, in their order.
    settings : dict
        JSON-ready: what decides the outcome beside the front end.
    """

    name: str
    front_end: FrontEnd
    fit_predict: Callable[[Features, pd.DataFrame, int], np.ndarray]
    settings: dict


def network_candidate(name: str, recipe: Recipe, front_end: FrontEnd) -> Candidate:
    """A net of :mod:`genrecls.models`, trained as its recipe says."""

    def fit_predict(features: Features, segments: pd.DataFrame, random_seed: int) -> np.ndarray:
        from genrecls.training.loop import fit

        seeded = dataclasses.replace(recipe, random_seed=random_seed)
        return fit(features, segments, seeded, progress=False).probabilities

    return Candidate(name, front_end, fit_predict, recipe_settings(recipe))


def cross_validate(
    corpus: Corpus,
    model: Candidate,
    *,
    folds: int = 5,
    repeats: int = 3,
    split_by: str | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Predict every segment of a corpus by models that were not trained on its group.

    Parameters
    ----------
    corpus : Corpus
    model : Model
    folds : int >= 2
        Parts of the corpus, each held out once; fewer where a genre has fewer groups.
    repeats : int > 0
        How often, with other folds and another random seed of the model.
    split_by : {'artist', 'track', 'segment'}, optional
        Hold out a fifth of the training side too, in this way. It is what a leaky split is
        compared with. By default all of it is trained on.
    jobs : int > 0, optional
        Processes that prepare the features.
    progress : bool
        Show progress bars.

    Returns
    -------
    pd.DataFrame
        One row a segment and repeat (and side): the segments table with ``run, repeat, fold,
        split`` (``'test'``, and ``'validation'`` if asked for), raw ``prob_<genre>...``,
        ``predicted``, and ``temperature`` and ``track_temperature``, those of the segment's fold.
        They are fitted on the test segments and tracks of the other folds, which no model of theirs
        was trained on.

    Notes
    -----
    Nothing is held out as validation unless asked for, so that a recipe's ``patience`` has nothing
    to watch: every epoch of every stage is trained.

    Every fold is written to ``models/<corpus>/cross_validation/<name>/`` when it is done: an
    interrupted run goes on where it stopped, and a finished one is read.

    Examples
    --------
    >>> import genrecls
    >>> from genrecls.baselines import mfcc_svm
    >>> corpus = genrecls.Corpus.read("music")
    >>> model = mfcc_svm(genrecls.FrontEnd.preset("default"))
    >>> predictions = genrecls.cross_validate(corpus, model, folds=2, repeats=1, progress=False)
    >>> predictions["track_id"].nunique()
    15
    """
    features = prepare(corpus, model.front_end, jobs=jobs, progress=progress)
    segments = features.segments
    settings = {"folds": folds, "repeats": repeats, "split_by": split_by}
    decides = [_VERSION, model.name, model.settings, model.front_end.to_dict(), settings]
    uid = hash_json([*decides, split_hash(segments)])[:16]
    run = model.name if split_by is None else f"{model.name}-by-{split_by}"
    folder = project_root() / "models" / corpus.name / FOLDER / run
    if _uid_of(folder) == uid:
        return _read(folder, corpus.genres)

    parts = folder / f".{uid}"
    parts.mkdir(parents=True, exist_ok=True)
    plan = [
        (repeat, fold, segments.assign(split=np.where(of == fold, "test", "train")))
        for repeat in range(repeats)
        for of in [assign_folds(segments, folds=folds, random_seed=repeat)]
        for fold in range(of.max() + 1)
    ]
    done = []
    for repeat, fold, sides in _bar(plan, run, progress=progress):
        file = parts / f"{repeat}-{fold}.parquet"
        if not file.exists():
            held_out = _hold_out(sides, split_by, repeat)
            said = model.fit_predict(features, held_out, repeat)
            table = add_predictions(held_out, said).assign(repeat=repeat, fold=fold)
            write_atomically(file, table.to_parquet)
        done.append(pd.read_parquet(file))
    predictions = pd.concat(done, ignore_index=True)
    predictions.insert(0, "run", run)
    card = {
        "uid": uid,
        "name": model.name,
        "corpus": corpus.name,
        "corpus_hash": split_hash(corpus.tracks),
        "genres": corpus.genres,
        "front_end": model.front_end.to_dict(),
        "model": model.settings,
        **settings,
        "folds_used": int(predictions["fold"].max()) + 1,
    }
    # No card must stand beside predictions that are not its own.
    (folder / CARD).unlink(missing_ok=True)
    write_atomically(folder / "predictions.parquet", predictions.to_parquet)
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / CARD, lambda f: f.write(text.encode()))
    for leftover in (item for item in folder.glob(".*") if item.is_dir()):
        shutil.rmtree(leftover)
    return _read(folder, corpus.genres)


def _hold_out(sides: pd.DataFrame, split_by: str | None, repeat: int) -> pd.DataFrame:
    if split_by:
        return assign_splits(sides, split_by=split_by, random_seed=repeat)
    check_no_leak(sides)
    return sides


def _bar(plan: list, what: str, *, progress: bool):
    from tqdm.auto import tqdm

    return tqdm(plan, desc=what, unit="fold", disable=not progress)
