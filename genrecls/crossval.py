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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .bundle import CARD, BundleError
from .calibration import temperature_of, with_predictions
from .config import FrontEnd, Recipe, hash_json, project_root
from .corpus import Corpus, assign_folds, assign_splits, check_no_leak, split_hash
from .evaluation import track_verdicts
from .features import Features, prepare
from .files import write_atomically
from .weights import settings_of

log = logging.getLogger(__name__)

# Raise it when the same model and data give other predictions than before.
_VERSION = 2

FOLDER = "cross_validation"

#: Ways of holding out a validation, the most leaky first.
VALIDATIONS = ("piece", "track", "artist")


@dataclass(frozen=True)
class Model:
    """Something that can be fitted on some pieces and asked about others.

    Attributes
    ----------
    name : str
        Its row in every table, and its folder.
    front_end : FrontEnd
        What it hears of the sound.
    fit_predict : callable
        ``(features, segments, random_seed) -> probabilities`` [shape=(pieces, genres)]: fit on
        the pieces whose ``split`` is ``'train'`` and predict all others, in their order.
    settings : dict
        JSON-ready: what decides the outcome beside the front end.
    """

    name: str
    front_end: FrontEnd
    fit_predict: Callable[[Features, pd.DataFrame, int], np.ndarray]
    settings: dict


def net(name: str, recipe: Recipe, front_end: FrontEnd) -> Model:
    """A net of :mod:`genrecls.models`, trained as its recipe says."""

    def fit_predict(features: Features, segments: pd.DataFrame, random_seed: int) -> np.ndarray:
        from .training import fit

        seeded = dataclasses.replace(recipe, random_seed=random_seed)
        return fit(features, segments, seeded, progress=False).probabilities

    return Model(name, front_end, fit_predict, settings_of(recipe))


def cross_validate(
    corpus: Corpus,
    model: Model,
    *,
    folds: int = 5,
    repeats: int = 3,
    validation: str | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Predict every piece of a corpus by models that were not trained on its group.

    Parameters
    ----------
    corpus : Corpus
    model : Model
    folds : int >= 2
        Parts of the corpus, each held out once; fewer where a genre has fewer groups.
    repeats : int > 0
        How often, with other folds and another random seed of the model.
    validation : {'artist', 'track', 'piece'}, optional
        Hold out a fifth of the training side too, in this way. It is what a leaky split is
        compared with. By default all of it is trained on.
    jobs : int > 0, optional
        Processes that prepare the features.
    progress : bool
        Show progress bars.

    Returns
    -------
    pd.DataFrame
        One row a piece and repeat (and side): the segments table with ``run, repeat, fold,
        split`` (``'test'``, and ``'validation'`` if asked for), raw ``prob_<genre>...``,
        ``predicted``, and ``temperature`` and ``track_temperature``, those of the piece's fold.
        They are fitted on the test pieces and tracks of the other folds, which no model of theirs
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
    settings = {"folds": folds, "repeats": repeats, "validation": validation}
    decides = [_VERSION, model.name, model.settings, model.front_end.to_dict(), settings]
    uid = hash_json([*decides, split_hash(segments)])[:16]
    run = model.name if validation is None else f"{model.name}-by-{validation}"
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
            held_out = _hold_out(sides, validation, repeat)
            said = model.fit_predict(features, held_out, repeat)
            table = with_predictions(held_out, said).assign(repeat=repeat, fold=fold)
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


def _hold_out(sides: pd.DataFrame, validation: str | None, repeat: int) -> pd.DataFrame:
    if validation:
        return assign_splits(sides, method=validation, random_seed=repeat)
    check_no_leak(sides)
    return sides


def _read(folder: Path, genres: Sequence[str]) -> pd.DataFrame:
    return _with_temperatures(pd.read_parquet(folder / "predictions.parquet"), genres)


def _with_temperatures(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """For every row the temperatures that suit the other folds' test pieces and tracks best."""
    out = predictions.assign(temperature=1.0, track_temperature=1.0)
    tested = predictions["split"] == "test"
    for (repeat, fold), rows in predictions.groupby(["repeat", "fold"]).groups.items():
        elsewhere = (predictions["repeat"] == repeat) & (predictions["fold"] != fold)
        others = predictions[tested & elsewhere]
        out.loc[rows, "temperature"] = temperature_of(others, genres)
        verdicts = track_verdicts(others, genres)
        out.loc[rows, "track_temperature"] = temperature_of(verdicts, genres)
    return out


def _uid_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / CARD).read_text(encoding="utf-8"))["uid"]
    except FileNotFoundError:
        return None


def _bar(plan: list, what: str, *, progress: bool):
    from tqdm.auto import tqdm

    return tqdm(plan, desc=what, unit="fold", disable=not progress)


def has_predictions(corpus_name: str) -> bool:
    """Whether any model of the corpus has been cross-validated."""
    return any((project_root() / "models" / corpus_name / FOLDER).glob(f"[!.]*/{CARD}"))


def read_predictions(corpus_name: str) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The one predictions table: every cross-validated model of a corpus, from files.

    Returns
    -------
    predictions : pd.DataFrame
        One row a piece, repeat and model (``run``). See :func:`cross_validate`.
    cards : dict of str to dict
        Per run: front end, recipe, folds, repeats, validation.

    Raises
    ------
    BundleError
        If no model of the corpus has been cross-validated.
    """
    folder = project_root() / "models" / corpus_name / FOLDER
    cards = {}
    for card in sorted(folder.glob(f"[!.]*/{CARD}")):
        cards[card.parent.name] = json.loads(card.read_text(encoding="utf-8"))
    if not cards:
        raise BundleError(
            f"no model of {corpus_name!r} has been cross-validated; run 'genrecls crossval'"
        )
    now = max((folder / name / CARD for name in cards), key=lambda file: file.stat().st_mtime)
    corpus_hash = cards[now.parent.name]["corpus_hash"]
    for name in [name for name, card in cards.items() if card["corpus_hash"] != corpus_hash]:
        log.warning("%s is left out: the corpus has changed since", folder / name)
        del cards[name]
    tables = [_read(folder / name, card["genres"]) for name, card in cards.items()]
    return pd.concat(tables, ignore_index=True), cards
