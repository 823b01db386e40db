"""Saved runs and cross-validations, read from files."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils.paths import project_root
from genrecls.config import FrontEnd, Recipe
from genrecls.errors import ModelError
from genrecls.evaluation.calibration import (
    fit_group_temperature,
)
from genrecls.evaluation.scores import aggregate_tracks

#: Version of the folder's layout.
FORMAT = 3
log = logging.getLogger(__name__)

CARD = "card.json"


def _wrong_with(card: Any) -> str | None:
    """Why a card cannot be used, if it cannot."""
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        return "is no card of genrecls"
    if card["format"] > FORMAT:
        return (
            f"was made by a later version of genrecls (format {card['format']}; this version "
            f"reads {FORMAT}): update genrecls"
        )
    if card["format"] < FORMAT:
        return (
            f"was made by an earlier version of genrecls (format {card['format']}; this version "
            f"reads {FORMAT}): train the model again"
        )
    genres, corpus = card.get("genres"), card.get("corpus")
    if not (isinstance(genres, list) and all(isinstance(genre, str) for genre in genres)
            and len(set(genres)) == len(genres) >= 2):  # fmt: skip
        return f"is damaged: its genres are {genres!r}"
    for key in ("name", "uid", "corpus", "created", "corpus_hash"):
        if not isinstance(card.get(key), str):
            return f"is damaged: its {key} is {card.get(key)!r}"
    if Path(corpus).name != corpus:
        return f"is damaged: its corpus is {corpus!r}, which is no name of a folder"
    for key in ("temperature", "track_temperature"):
        value = card.get(key)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            return f"is damaged: its {key} is {value!r}"
    for key, kind in (("front_end", FrontEnd), ("recipe", Recipe)):
        try:
            kind.from_dict(card[key])
        except (KeyError, TypeError, ValueError) as error:
            return f"is damaged: its {key} cannot be used ({error})"
    return None


FOLDER = "cross_validation"


@dataclass(frozen=True)
class Run:
    """The folder of a trained model: its card and tables, read without TensorFlow.

    Attributes
    ----------
    folder : Path
    card : dict
    """

    folder: Path
    card: dict[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Run:
        """Open a saved run for its card and tables; its model may be missing.

        Raises
        ------
        ModelError
            If there is no run in the folder, or its card cannot be used.
        """
        folder = Path(folder)
        if not folder.exists():
            folder = project_root() / folder
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(
                f"no trained model in {str(folder)!r}; make one with 'genrecls train'"
            ) from error
        except (OSError, ValueError) as error:
            raise ModelError(f"{str(folder / CARD)!r} cannot be read: {error}") from error
        if wrong := _wrong_with(card):
            raise ModelError(f"{str(folder / CARD)!r} {wrong}")
        return cls(folder, card)

    @property
    def name(self) -> str:
        return self.card["name"]

    @property
    def genres(self) -> list[str]:
        """Genres in the order of the model's outputs."""
        return self.card["genres"]

    @property
    def temperature(self) -> float:
        """What calibrates the probabilities of segments. See :mod:`genrecls.evaluation.calibration`."""
        return self.card["temperature"]

    @property
    def track_temperature(self) -> float:
        """The same for tracks: a mean over segments is less sure than they are."""
        return self.card["track_temperature"]

    @cached_property
    def front_end(self) -> FrontEnd:
        return FrontEnd.from_dict(self.card["front_end"])

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.card["recipe"])

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch: ``epoch, loss, accuracy, val_loss, val_accuracy``."""
        return pd.read_parquet(self.folder / "history.parquet")

    @property
    def predictions(self) -> pd.DataFrame:
        """One row a validation or test segment: segments table, ``prob_<genre>`` (as the model
        gives them, not calibrated), ``predicted``, ``temperature``, ``track_temperature``."""
        return pd.read_parquet(self.folder / "predictions.parquet")

    @property
    def segments(self) -> pd.DataFrame:
        """Every segment of the corpus with its split."""
        return pd.read_parquet(self.folder / "segments.parquet")

    @property
    def first_layer(self) -> tuple[dict[str, Any], np.ndarray]:
        """One test segment (``path, segment, log_mel``) and its maps [shape=(channels, h, w)]."""
        with np.load(self.folder / "first_layer.npz", allow_pickle=False) as saved:
            segment = {
                "path": str(saved["path"]),
                "segment": int(saved["segment"]),
                "log_mel": saved["log_mel"],
            }
            return segment, saved["maps"]


def _read(folder: Path, genres: Sequence[str]) -> pd.DataFrame:
    return _with_temperatures(pd.read_parquet(folder / "predictions.parquet"), genres)


def _with_temperatures(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """For every row the temperatures that suit the other folds' test segments and tracks best."""
    out = predictions.assign(temperature=1.0, track_temperature=1.0)
    tested = predictions["split"] == "test"
    for (repeat, fold), rows in predictions.groupby(["repeat", "fold"]).groups.items():
        elsewhere = (predictions["repeat"] == repeat) & (predictions["fold"] != fold)
        others = predictions[tested & elsewhere]
        out.loc[rows, "temperature"] = fit_group_temperature(others, genres)
        by_track = aggregate_tracks(others, genres)
        out.loc[rows, "track_temperature"] = fit_group_temperature(by_track, genres)
    return out


def _uid_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / CARD).read_text(encoding="utf-8"))["uid"]
    except FileNotFoundError:
        return None


def has_predictions(corpus_name: str) -> bool:
    """Whether any model of the corpus has been cross-validated."""
    return any((project_root() / "models" / corpus_name / FOLDER).glob(f"[!.]*/{CARD}"))


def read_predictions(corpus_name: str) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The one predictions table: every cross-validated model of a corpus, from files.

    Returns
    -------
    predictions : pd.DataFrame
        One row a segment, repeat and model (``run``). See :func:`cross_validate`.
    cards : dict of str to dict
        Per run: front end, recipe, folds, repeats, validation.

    Raises
    ------
    ModelError
        If no model of the corpus has been cross-validated.
    """
    folder = project_root() / "models" / corpus_name / FOLDER
    cards = {}
    for card in sorted(folder.glob(f"[!.]*/{CARD}")):
        cards[card.parent.name] = json.loads(card.read_text(encoding="utf-8"))
    if not cards:
        raise ModelError(
            f"no model of {corpus_name!r} has been cross-validated; run 'genrecls crossval'"
        )
    now = max((folder / name / CARD for name in cards), key=lambda file: file.stat().st_mtime)
    corpus_hash = cards[now.parent.name]["corpus_hash"]
    for name in [name for name, card in cards.items() if card["corpus_hash"] != corpus_hash]:
        log.warning("%s is left out: the corpus has changed since", folder / name)
        del cards[name]
    tables = [_read(folder / name, card["genres"]) for name, card in cards.items()]
    return pd.concat(tables, ignore_index=True), cards


def read_runs(corpus_name: str) -> list[Run]:
    """The runs of a corpus in ``models/<corpus>/``, small nets first, preset ``original`` first.

    Runs from before the corpus changed are left out with a warning: their test is another.

    Raises
    ------
    ModelError
        If there is none.
    """
    folder = project_root() / "models" / corpus_name
    runs = [Run.read(card.parent) for card in sorted(folder.glob(f"[!.]*/{CARD}"))]
    if not runs:
        trained = sorted({card.parts[-3] for card in folder.parent.glob(f"*/*/{CARD}")})
        raise ModelError(
            f"no trained models of a corpus {corpus_name!r} (there are: {trained or 'none'}); "
            f"check the name, or run 'genrecls train' first"
        )
    now = max(runs, key=lambda run: run.card["created"]).card["corpus_hash"]
    for run in runs:
        if run.card["corpus_hash"] != now:
            log.warning("%s is left out: the corpus has changed since; train it again", run.folder)
    runs = [run for run in runs if run.card["corpus_hash"] == now]
    return sorted(runs, key=lambda r: (r.card["parameters"] > 5e6, r.recipe.split_by != "segment"))
