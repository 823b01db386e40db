"""Saved runs and cross-validations, read from files without loading a model."""

import json
import logging
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.paths import expand_user, models_dir, project_root
from genrecls.config import FrontEnd, Recipe
from genrecls.errors import ModelError
from genrecls.evaluation.calibration import calibrated, probability_columns
from genrecls.evaluation.novelty import Novelty, label
from genrecls.evaluation.scores import aggregate_tracks, scores

log = logging.getLogger(__name__)

#: Version of the files of a run.
FORMAT = 6
CARD = "card.json"
EMBEDDINGS = "embeddings.npy"
NOVELTY = "novelty.npz"
#: Folder of the cross-validations of a corpus.
FOLDER = "cross_validation"
#: Table of the predictions of a run or a cross-validation.
PREDICTIONS = "predictions.parquet"

_CARD_CHECKS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("name", "uid", "created", "corpus_hash"), lambda x: isinstance(x, str)),
    "corpus": lambda x: x not in ("", "..") and Path(x).name == x,  # it becomes part of a path
    "genres": lambda x: x == list(dict.fromkeys(map(str, x))) and len(x) > 1,
    **dict.fromkeys(("temperature", "track_temperature"), lambda x: 0 < x < math.inf),
    "min_confidence": lambda x: 0 <= x <= 1,
    "synthetic": lambda x: isinstance(x, bool),
    "novelty_threshold": lambda x: x is None or 0 < x < math.inf,
    "front_end": FrontEnd.from_dict,
    "recipe": Recipe.from_dict,
}


def _card_problem(card: Any) -> str | None:
    """Return why a card is invalid, or None."""
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        return "is not a card of genrecls"
    if card["format"] > FORMAT:
        return "was made by a later version of genrecls; update genrecls"
    if card["format"] < FORMAT:
        return "was made by an earlier version of genrecls; train the model again"
    for key, check in _CARD_CHECKS.items():
        value = card.get(key)
        try:
            reason = "" if check(value) else "; copy the run again"
        except (TypeError, ValueError) as error:
            reason = f" ({error}); copy the run again"
        if reason:
            return f"is damaged: its {key} is {value!r}{reason}"
    return None


@dataclass(frozen=True)
class Run:
    """The folder of a trained model: its card and tables.

    Attributes
    ----------
    folder : Path
        Folder of the run.
    card : dict
        Content of ``card.json``: settings, versions and results.
    """

    folder: Path
    card: dict[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Self:
        """Read the card of a run; the file of the model may be missing.

        Parameters
        ----------
        folder : path-like
            Folder of the run, relative to the current folder or to the project. A ModelError is
            raised if there is no run in it, or its card is invalid.
        """
        folder = expand_user(folder)
        folder = folder if folder.exists() else project_root() / folder
        file = folder / CARD
        try:
            card = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            advice = "make one with 'genrecls train'"
            raise ModelError(f"no trained model in {str(folder)!r}; {advice}") from error
        except (OSError, ValueError) as error:
            raise ModelError(f"{str(file)!r} cannot be read: {error}") from error
        if problem := _card_problem(card):
            raise ModelError(f"{str(file)!r} {problem}")
        return cls(folder, card)

    @property
    def name(self) -> str:
        """Name of the run, such as ``cnn-default``."""
        return self.card["name"]

    @property
    def genres(self) -> list[str]:
        """Genres in the order of the model's outputs."""
        return self.card["genres"]

    @property
    def temperature(self) -> float:
        """Temperature that calibrates the probabilities of segments."""
        return self.card["temperature"]

    @property
    def track_temperature(self) -> float:
        """Temperature that calibrates the mean probabilities of tracks."""
        return self.card["track_temperature"]

    @cached_property
    def front_end(self) -> FrontEnd:
        """Front end that the model was trained with."""
        return FrontEnd.from_dict(self.card["front_end"])

    @cached_property
    def recipe(self) -> Recipe:
        """Recipe that the model was trained with."""
        return Recipe.from_dict(self.card["recipe"])

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch: ``epoch``, ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``."""
        return self._read("history.parquet", pd.read_parquet)

    @property
    def predictions(self) -> pd.DataFrame:
        """Validation and test segments with ``prob_<genre>`` (not calibrated) and ``predicted``.

        If known, ``novelty`` is above 1 for a segment that is none of the genres. It is lower for
        validation segments, on which it was fitted.
        """
        return self._read(PREDICTIONS, pd.read_parquet)

    @property
    def segments(self) -> pd.DataFrame:
        """Every segment of the corpus with its split."""
        return self._read("segments.parquet", pd.read_parquet)

    @property
    def embeddings(self) -> np.ndarray | None:
        """Embedding of each row of ``segments``, if the model classifies embeddings."""
        if not (self.folder / EMBEDDINGS).exists():
            return None
        return self._read(EMBEDDINGS, lambda file: np.load(file, allow_pickle=False))

    @cached_property
    def novelty(self) -> Novelty | None:
        """Measure of the novelty of embeddings, if the model classifies embeddings."""
        if self.card.get("novelty_threshold") is None:
            return None
        return self._read(NOVELTY, lambda file: Novelty(**np.load(file, allow_pickle=False)))

    def label_tracks(self, segments: pd.DataFrame) -> pd.DataFrame:
        """Return the calibrated tracks of rows of ``predictions``, with their ``label``."""
        tracks = calibrated(aggregate_tracks(segments, self.genres), self.genres)
        highest = tracks[probability_columns(self.genres)].max(axis=1)
        limit, novelty = self.card["min_confidence"], tracks.get("novelty")
        return tracks.assign(label=label(tracks["predicted"], highest, limit, novelty))

    @property
    def n_validation_tracks(self) -> int:
        """Number of tracks that the validation score comes from."""
        return self.predictions.query("split == 'validation'")["track_id"].nunique()

    @property
    def validation_score(self) -> float:
        """Balanced accuracy over validation tracks, uncertain if there are few."""
        tracks = aggregate_tracks(self.predictions.query("split == 'validation'"), self.genres)
        return float(scores(tracks, self.genres, auc=False)["balanced accuracy"][0])

    @property
    def above_chance(self) -> bool:
        """Whether the validation score is above that of guessing."""
        return self.validation_score > 1 / len(self.genres)

    @property
    def held_out_by(self) -> str:
        """Unit of the validation: segment, track, artist, or group if artists are unknown."""
        by = self.recipe.split_by
        return name_groups(self.segments) if by == "artist" else by

    @property
    def synthetic(self) -> bool:
        """Whether all music of the corpus is synthetic, according to its sources."""
        return self.card["synthetic"]

    @property
    def first_layer(self) -> tuple[dict[str, Any], np.ndarray]:
        """A test segment (``path``, ``segment``, ``log_mel``) and its first convolution's maps."""
        saved = self._read("first_layer.npz", lambda file: dict(np.load(file, allow_pickle=False)))
        segment = {"path": str(saved["path"]), "segment": int(saved["segment"])}
        return segment | {"log_mel": saved["log_mel"]}, saved["maps"]

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        """Read a file of the run, or explain that it is damaged."""
        file = self.folder / name
        try:
            return read(file)
        # These are the errors of pandas, NumPy and the module zipfile.
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{str(file)!r} is damaged ({error}); train the model or copy the run again"
            ) from error


def check_folder(folder: str | os.PathLike) -> Path:
    """Return the absolute folder of a run, or refuse one with other files, which would be lost."""
    folder = Path(os.path.abspath(expand_user(folder)))
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    # A damaged run may lack one of these files; a web site has only an index.json.
    is_run = len({CARD, cache.INDEX, PREDICTIONS} & names) > 1
    if (names and not is_run) or (os.path.lexists(folder) and not folder.is_dir()):
        raise ModelError(f"{str(folder)!r} contains other files; name a new or an empty folder")
    return folder


def is_synthetic(segments: pd.DataFrame) -> bool:
    """Return whether all music in a table is synthetic, according to its column ``source``."""
    source = segments.get("source", pd.Series([""]))
    return bool(source.str.contains("synthetic", case=False, na=False).all())


def describe_groups(segments: pd.DataFrame) -> str:
    """Write for how many tracks the artist is unknown, as a sentence.

    Parameters
    ----------
    segments : pd.DataFrame
        Segments or tracks with ``grouped_by``. The text is empty if all artists are known.
    """
    tracks = segments.drop_duplicates("track_id")
    n = int((tracks["grouped_by"] != "artist").sum()) if "grouped_by" in tracks else 0
    if not n:
        return ""
    some = f"The artist of {n} of {len(tracks)} tracks is unknown"
    which = some if n < len(tracks) else "No artist is known"
    return f"{which}: tracks by one artist may be on both sides of a split."


def name_groups(segments: pd.DataFrame) -> str:
    """Return what the groups of a table are: artists, if all of these are known."""
    return "group" if describe_groups(segments) else "artist"


def describe_test_tracks(runs: Sequence[Run]) -> str:
    """Name the runs whose test tracks differ, or return ``''``."""
    names: dict[frozenset[str], list[str]] = {}
    for run in runs:
        tracks = frozenset(run.predictions.query("split == 'test'")["track_id"])
        names.setdefault(tracks, []).append(run.name)
    if len(names) < 2:
        return ""
    sets = "; ".join(", ".join(same) for same in names.values())
    return (
        f"Some runs have other test tracks, so that their test scores may differ for this reason. "
        f"These runs can be compared with each other: {sets}."
    )


def read_runs(corpus_name: str) -> list[Run]:
    """Read the runs of a corpus from ``models/<corpus>/``.

    Parameters
    ----------
    corpus_name : str
        Name of the corpus; without a run that can be read, a ModelError is raised.

    Returns
    -------
    list of Run
        Small models first, preset ``original`` first. Left out with a warning: runs from before the
        corpus changed, of another version, with a damaged card, and second runs of a name.
    """
    folder = models_dir() / corpus_name
    runs = _read_valid(folder.glob(f"[!.]*/{CARD}"))
    if not runs:
        cards = folder.parent.glob(f"*/[!.]*/{CARD}")
        others = sorted({card.parts[-3] for card in cards} - {corpus_name})
        raise ModelError(
            f"no trained models of a corpus {corpus_name!r} that can be used (other corpora: "
            f"{others or 'none'}); check the name, or run 'genrecls train' first"
        )
    current = _find_current(runs)
    return sorted(
        current, key=lambda r: (r.card["parameters"] > 5e6, r.recipe.split_by != "segment")
    )


def _read_valid(cards: Iterable[Path]) -> list[Run]:
    """Read the runs with these cards; leave out those that are invalid with a warning."""
    runs = []
    for card in sorted(cards):
        try:
            runs.append(Run.read(card.parent))
        except ModelError as error:
            log.warning("run left out: %s", error)
    return runs


def _find_current(runs: Sequence[Run]) -> list[Run]:
    """Leave out runs from before the corpus changed, and copies of others, with a warning."""
    newest = _newest(runs)
    current: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.folder.name != run.name):  # copies come last
        if run.card["corpus_hash"] != newest.card["corpus_hash"]:
            reason = f"the corpus has changed between it and {newest.folder.name}, the newest run"
            log.warning("%s is left out: %s; train it again", run.folder, reason)
        elif run.name in current:
            other = current[run.name].folder
            log.warning("%s is left out: its name is that of the run in %s", run.folder, other)
        else:
            current[run.name] = run
    return list(current.values())


def _newest(runs: Sequence[Run]) -> Run:
    return max(runs, key=lambda run: run.card["created"])


def find_best_run() -> Run:
    """Find the best run of the corpus with the newest run; without any, raise a ModelError."""
    runs = _read_valid(models_dir().glob(f"[!.]*/[!.]*/{CARD}"))
    if not runs:
        raise ModelError(f"no trained model in {str(models_dir())!r}; run 'genrecls train' first")
    corpus_folder = _newest(runs).folder.parent
    return best_run(_find_current([run for run in runs if run.folder.parent == corpus_folder]))


def best_run(runs: Sequence[Run]) -> Run:
    """Return the run with the highest balanced accuracy over validation tracks.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one corpus. A tie goes to the lower NLL of validation segments, then to the first
        name. Runs with a leaky validation (not by artist) count only if there are no others.
        Without any run, a ModelError is raised.
    """
    if not runs:
        raise ModelError("no run to choose from; train a model with 'genrecls train'")
    return min([run for run in runs if run.recipe.split_by == "artist"] or runs, key=_rank)


def _rank(run: Run) -> tuple[float, float, str]:
    segments = run.predictions.query("split == 'validation'")
    loss = scores(segments, run.genres, auc=False)["NLL"]
    # A genre without validation tracks makes the balanced accuracy NaN, which ranks last.
    return -float(np.nan_to_num(run.validation_score)), float(loss[0]), run.name


def read_predictions(corpus_name: str) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Read the predictions of all cross-validated models of a corpus.

    Parameters
    ----------
    corpus_name : str
        Name of the corpus; without cross-validated models, a ModelError is raised.

    Returns
    -------
    predictions : pd.DataFrame
        One row per segment, repeat and model (``run``), with temperatures fitted on the other
        folds. Models from before the corpus changed, or of another version of genrecls, are left
        out with a warning.
    cards : dict of str to dict
        Card of every ``run``: settings, folds, repeats, ``split_by``.
    """
    folder = models_dir() / corpus_name / FOLDER
    intact = [card for card in folder.glob(f"[!.]*/{CARD}") if cache.load(card.parent) is not None]
    cards: dict[str, dict[str, Any]] = {}
    for file in sorted(intact, key=lambda card: card.stat().st_mtime):
        card = json.loads(file.read_text(encoding="utf-8"))
        if card.get("version") == cache.VERSIONS["cross_validation"]:
            cards[file.parent.name] = card
        else:
            reason = "it was made by another version of genrecls; run 'genrecls crossval' again"
            log.warning("%s is left out: %s", file.parent, reason)
    if not cards:
        advice = "run 'genrecls crossval'"
        raise ModelError(f"no model of {corpus_name!r} has been cross-validated; {advice}")
    *_, newest = cards.values()
    tables = {}
    for name, card in sorted(cards.items()):
        if card["corpus_hash"] == newest["corpus_hash"]:
            tables[name] = pd.read_parquet(folder / name / PREDICTIONS)
        else:
            log.warning("%s is left out: the corpus has changed since", folder / name)
    return pd.concat(tables.values(), ignore_index=True), {name: cards[name] for name in tables}
