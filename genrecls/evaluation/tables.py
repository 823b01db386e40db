"""Saved predictions to numbers and tables. Needs neither a model nor audio."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from genrecls.config import BACKBONES
from genrecls.evaluation.calibration import probability_columns
from genrecls.evaluation.intervals import (
    mcnemar,
    paired_difference,
    score_intervals,
    wilson_interval,
)
from genrecls.evaluation.runs import Run
from genrecls.evaluation.scores import LOSSES, accuracy, aggregate_tracks, f1_scores, scores


def split_table(segments: pd.DataFrame) -> pd.DataFrame:
    """Segments and tracks per split and genre, as in the original's table of proportions.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> table = genrecls.split_table(genrecls.assign_splits(features.segments, split_by="artist"))
    >>> table.loc["test", ("rap", "artists")].item()
    2
    """
    order = [s for s in ("train", "validation", "test") if s in set(segments["split"])]
    by = segments.groupby(["split", "genre"])
    counts = pd.DataFrame(
        {
            "segments": by.size(),
            "tracks": by["track_id"].nunique(),
            "artists": by["group"].nunique(),
        }
    )
    by_genre = counts.unstack("genre").swaplevel(axis=1)
    return by_genre.sort_index(axis=1, level=0, sort_remaining=False).loc[order]


def comparison_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: the original's columns first, then what one must know to read them.

    The first row is no model: it always says the commonest genre of the training segments.

    ``test F1`` is the macro F1 over test segments, ``F1 interval`` that of a bootstrap over groups;
    ``test tracks right`` counts track predictions and ``share interval`` is the Wilson interval of
    their share (95 % both); ``validation split`` says how validation was held out, and ``leaky``
    marks that tracks or artists stood on both sides;
    ``inference (ms/segment)`` is the median time from log-mel to probabilities, one segment at a
    time, on the machine that trained the run.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> genrecls.comparison_table([run])["architecture"].tolist()
    ['always classique', 'compact_cnn']
    """
    return pd.DataFrame([_majority_row(runs[-1]), *map(_comparison_row, runs)])


def _majority_row(run: Run) -> dict:
    """What always saying the commonest training genre would get, under the split of a run."""
    segments = run.segments
    commonest = segments.loc[segments["split"] == "train", "genre"].value_counts().idxmax()
    said = segments.assign(predicted=commonest)
    for genre, column in zip(run.genres, probability_columns(run.genres), strict=True):
        said[column] = float(genre == commonest)
    nothing = {"architecture": f"always {commonest}", "parameters": 0, "training_time_s": 0.0}
    validation = accuracy(said[said["split"] == "validation"])
    card = nothing | {"validation_accuracy": validation, "inference_ms_per_segment": 0.0}
    return _scores(said[said["split"] == "test"], run.genres, card, by="artist") | {
        "weights": "–", "backbone": "–", "run": "–"
    }  # fmt: skip


def _comparison_row(run: Run) -> dict:
    test = run.predictions.query("split == 'test'")
    scores = _scores(test, run.genres, run.card, by=run.recipe.split_by)
    return scores | {"weights": run.card["weights"], "backbone": _backbone(run), "run": run.name}


def _backbone(run: Run) -> str:
    """What became of the backbone; a second stage that made it worse has been undone."""
    if run.recipe.model not in BACKBONES:
        return "–"
    if run.recipe.backbone == "trained":
        return "trained"
    stage = run.history.set_index("epoch").loc[run.card["best_epoch"], "stage"]
    return "fine-tuned" if stage == 2 else "frozen"


def _scores(test: pd.DataFrame, genres: Sequence[str], card: dict, *, by: str) -> dict:
    tracks = aggregate_tracks(test, genres)
    right = int((tracks["predicted"] == tracks["genre"]).sum())
    f1 = score_intervals(test, genres, auc=False).loc["macro F1"]
    return {
        "architecture": card["architecture"],
        "parameters": card["parameters"],
        "training time (s)": round(card["training_time_s"], 1),
        "validation accuracy": round(card["validation_accuracy"], 3),
        "test F1": round(f1["value"], 3),
        "F1 interval": f"{f1['low']:.2f}–{f1['high']:.2f}",
        "test tracks right": f"{right} of {len(tracks)}",
        "share interval": "{:.2f}–{:.2f}".format(*wilson_interval(right, len(tracks))),
        "validation split": f"by {by}" + ("" if by == "artist" else " (leaky)"),
        "test accuracy": round(accuracy(test), 3),
        "test groups": test["group"].nunique(),
        "test segments": len(test),
        "inference (ms/segment)": round(card["inference_ms_per_segment"], 1),
    }


def score_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run and split: sizes, and scores of segments with their intervals over groups."""
    rows = []
    for run in runs:
        leaky = "" if run.recipe.split_by == "artist" else " (leaky)"
        for split, part in run.predictions.groupby("split", sort=False):
            found = score_intervals(part, run.genres).drop(list(LOSSES))
            name = f"{split}{leaky}" if split == "validation" else split
            values = {score: _value(*row) for score, row in zip(found.index, found.to_numpy(),
                                                                 strict=True)}  # fmt: skip
            f1 = {f"F1 {genre}": round(f, 3) for genre, f in f1_scores(part, run.genres).items()
                  if genre != "macro"}  # fmt: skip
            rows.append({"run": run.name, "split": name} | _sizes(part) | values | f1)
    return pd.DataFrame(rows)


def _sizes(segments: pd.DataFrame) -> dict[str, int]:
    return {
        "groups": segments["group"].nunique(),
        "tracks": segments["track_id"].nunique(),
        "segments": len(segments[["track_id", "segment"]].drop_duplicates()),
    }


def cross_validated_scores(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Scores of cross-validated models with their intervals, of tracks and of segments.

    Parameters
    ----------
    predictions : pd.DataFrame
        See :func:`genrecls.evaluation.runs.read_predictions`; test segments only are used.
    genres : sequence of str

    Returns
    -------
    pd.DataFrame
        One row a run, level (``track`` or ``segment``) and score: ``run, level, score, value, low,
        high, groups, fewest groups`` (of any genre), ``tracks, segments, repeats``. Sorted by the
        balanced accuracy over tracks.
    """
    rows = []
    for run, segments in predictions.query("split == 'test'").groupby("run", sort=False):
        sizes = _sizes(segments) | {
            "fewest groups": int(segments.groupby("genre")["group"].nunique().min()),
            "repeats": segments["repeat"].nunique(),
        }
        for level, table in (("track", aggregate_tracks(segments, genres)), ("segment", segments)):
            found = score_intervals(table, genres).reset_index()
            rows.append(found.assign(run=run, level=level, **sizes))
    table = pd.concat(rows, ignore_index=True)
    headline = table.query("level == 'track' and score == 'balanced accuracy'")
    order = headline.sort_values("value", kind="stable")["run"].tolist()
    table = table.sort_values("run", key=lambda r: r.map(order.index), kind="stable")
    first = ["run", "level", "score", "value", "low", "high"]
    return table[first + list(sizes)].reset_index(drop=True)


def summary_table(tidy: pd.DataFrame, level: str) -> pd.DataFrame:
    """The scores of one level as a table to read: a row a run, a column a score."""
    rows = []
    shown = tidy[(tidy["level"] == level) & ~tidy["score"].isin(LOSSES)]
    for run, of_run in shown.groupby("run", sort=False):
        values = {s.score: _value(s.value, s.low, s.high) for s in of_run.itertuples()}
        sizes = of_run[["groups", "fewest groups", "tracks", "segments"]].iloc[0].to_dict()
        rows.append({"run": run, **values, **sizes})
    return pd.DataFrame(rows)


def _value(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.2f}–{high:.2f})"


def _signed(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} ({low:+.2f} to {high:+.2f})"


def paired_table(predictions: pd.DataFrame, genres: Sequence[str], against: str) -> pd.DataFrame:
    """Every cross-validated run against one of them, on the same tracks.

    Returns
    -------
    pd.DataFrame
        One row a run: differences ``against`` minus run in balanced accuracy and macro F1 over
        tracks and in macro F1 over segments, with 95 % intervals of the paired bootstrap; tracks
        that only one of both gets right, and the exact McNemar p.
    """
    runs = dict(list(predictions.query("split == 'test'").groupby("run", sort=False)))
    rows = []
    for run, segments in runs.items():
        if run == against:
            continue
        ours, theirs = (aggregate_tracks(p, genres) for p in (runs[against], segments))
        tracks = paired_difference(ours, theirs, genres, auc=False)
        of_segments = paired_difference(runs[against], segments, genres, auc=False)
        test = mcnemar(ours, theirs)
        rows.append(
            {
                f"{against} minus": run,
                "balanced accuracy, tracks": _signed(*tracks.loc["balanced accuracy"]),
                "macro F1, tracks": _signed(*tracks.loc["macro F1"]),
                "macro F1, segments": _signed(*of_segments.loc["macro F1"]),
                f"only {against} right": test["only first"],
                "only the other right": test["only second"],
                "McNemar p": round(test["p"], 3),
            }
            | _sizes(segments)
        )
    return pd.DataFrame(rows)


def calibration_table(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """NLL, Brier score and ECE of test segments and tracks, before and after temperature scaling."""
    rows = []
    for run, segments in predictions.query("split == 'test'").groupby("run", sort=False):
        for level, table in (("track", aggregate_tracks(segments, genres)), ("segment", segments)):
            row = {"run": run, "level": level} | _sizes(segments)
            for when, part in (("before", table.assign(temperature=1.0)), ("after", table)):
                found = scores(part, genres)
                row |= {f"{name} {when}": round(float(found[name][0]), 3) for name in LOSSES}
            low, high = table["temperature"].min(), table["temperature"].max()
            spread = f"{low:.2f}–{high:.2f}" if low < high else f"{low:.2f}"
            rows.append(row | {"temperature": spread})
    order = [f"{name} {when}" for name in LOSSES for when in ("before", "after")]
    sizes = ["groups", "tracks", "segments"]
    return pd.DataFrame(rows)[["run", "level", *order, "temperature", *sizes]]


def leak_table(predictions: pd.DataFrame, cards: dict[str, dict]) -> pd.DataFrame:
    """What a validation promises, and what the test by whole artists keeps.

    Parameters
    ----------
    predictions : pd.DataFrame
    cards : dict of str to dict
        See :func:`genrecls.evaluation.runs.read_predictions`; runs without a validation are left out.

    Returns
    -------
    pd.DataFrame
        One row a model, way of holding out validation, level and score (accuracy, macro F1):
        ``validation`` and ``test``, and ``optimism``, their difference; each with the 95 %
        interval of the bootstrap over artists, in columns ``... low`` and ``... high``.
    """
    rows = []
    for name, card in cards.items():
        if not card["split_by"]:
            continue
        segments = predictions[predictions["run"] == name]
        sides = dict(list(segments.groupby("split")))
        for level in ("segment", "track"):
            two = [
                sides[s] if level == "segment" else aggregate_tracks(sides[s], card["genres"])
                for s in ("validation", "test")
            ]
            found = {
                "validation": score_intervals(two[0], card["genres"], auc=False),
                "test": score_intervals(two[1], card["genres"], auc=False),
                "optimism": paired_difference(*two, card["genres"], auc=False),
            }
            for score in ("accuracy", "macro F1"):
                row = {
                    "model": card["name"],
                    "validation by": card["split_by"],
                    "level": level,
                    "score": score,
                    **_sizes(segments),
                    "repeats": card["repeats"],
                }
                for what, table in found.items():
                    value, low, high = table.loc[score]
                    row |= {what: value, f"{what} low": low, f"{what} high": high}
                rows.append(row)
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    order = ["segment", "track", "artist"]
    table["order"] = table["validation by"].map(order.index)
    return table.sort_values(["model", "level", "score", "order"], ignore_index=True).drop(
        columns="order"
    )


def leak_summary(table: pd.DataFrame) -> pd.DataFrame:
    """The leak table to read: accuracy over segments, intervals in brackets."""
    shown = table[(table["level"] == "segment") & (table["score"] == "accuracy")]
    out = shown[["model", "validation by"]].copy()
    for what, write in (("validation", _value), ("test", _value), ("optimism", _signed)):
        columns = shown[[what, f"{what} low", f"{what} high"]].to_numpy()
        out[f"{what} accuracy" if what != "optimism" else what] = [write(*c) for c in columns]
    return out.join(shown[["groups", "tracks", "segments", "repeats"]]).reset_index(drop=True)


def leak_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The leak table as :func:`genrecls.plots.intervals` takes it."""
    shown = table[(table["level"] == "segment") & (table["score"] == "accuracy")]
    label = shown["model"] + ", validation by " + shown["validation by"]
    parts = [
        pd.DataFrame({"label": label, "group": what, "value": shown[what],
                      "low": shown[f"{what} low"], "high": shown[f"{what} high"]})
        for what in ("validation", "test")
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
