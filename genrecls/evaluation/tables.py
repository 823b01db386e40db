"""Tables of scores, from saved predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from genrecls.config import BACKBONES, SPLIT_BY
from genrecls.evaluation.calibration import probability_columns
from genrecls.evaluation.intervals import format_interval, mcnemar, score_intervals
from genrecls.evaluation.runs import Run
from genrecls.evaluation.scores import LOSSES, accuracy, aggregate_tracks, f1_scores, scores


def split_table(segments: pd.DataFrame) -> pd.DataFrame:
    """Count segments, tracks and artists per split and genre.

    Parameters
    ----------
    segments : pd.DataFrame
        Segments table with a split.

    Returns
    -------
    pd.DataFrame
        Index: ``split``; columns: ``(genre, 'segments' | 'tracks' | 'artists')``.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> table = genrecls.split_table(genrecls.assign_splits(features.segments, split_by="artist"))
    >>> table.loc["test", ("rap", "artists")].item()
    2
    """
    order = [s for s in ("train", "validation", "test") if s in set(segments["split"])]
    counts = segments.groupby(["split", "genre"]).agg(
        segments=("track_id", "size"), tracks=("track_id", "nunique"), artists=("group", "nunique")
    )
    by_genre = counts.unstack("genre").swaplevel(axis=1)
    return by_genre.sort_index(axis=1, level=0, sort_remaining=False).loc[order]


def comparison_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Compare trained models: the original's columns first, then what is needed to read them.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one corpus.

    Returns
    -------
    pd.DataFrame
        One row per run, after a baseline that always predicts the commonest genre of the training
        segments. ``test F1`` is the macro F1 over test segments, ``F1 interval`` its bootstrap
        interval over groups; ``share interval`` is the Wilson interval of the share of
        ``test tracks right`` (both 95 %). ``validation split`` is marked ``leaky`` if tracks or
        artists are in training and validation. ``inference (ms/segment)`` is the median time from
        log-mel to probabilities, one segment at a time, on the machine that trained the run.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22(158), 1927, DOI 10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> genrecls.comparison_table([run])["architecture"].tolist()
    ['always classique', 'compact_cnn']
    """
    rows = [_majority_row(runs[-1])]
    for run in runs:
        test = run.predictions.query("split == 'test'")
        row = _comparison_row(test, run.genres, run.card, split_by=run.recipe.split_by)
        names = {"weights": run.card["weights"], "backbone": _backbone(run), "run": run.name}
        rows.append(row | names)
    return pd.DataFrame(rows)


def _majority_row(run: Run) -> dict[str, Any]:
    segments = run.segments
    commonest = segments.loc[segments["split"] == "train", "genre"].value_counts().idxmax()
    table = segments.assign(predicted=commonest)
    for genre, column in zip(run.genres, probability_columns(run.genres), strict=True):
        table[column] = float(genre == commonest)
    card = {
        "architecture": f"always {commonest}",
        "parameters": 0,
        "training_time_s": 0.0,
        "validation_accuracy": accuracy(table[table["split"] == "validation"]),
        "inference_ms_per_segment": 0.0,
    }
    row = _comparison_row(table[table["split"] == "test"], run.genres, card, split_by="artist")
    return row | dict.fromkeys(("weights", "backbone", "run"), "–")


def _comparison_row(
    test: pd.DataFrame, genres: Sequence[str], card: dict[str, Any], *, split_by: str
) -> dict[str, Any]:
    tracks = aggregate_tracks(test, genres)
    right = int((tracks["predicted"] == tracks["genre"]).sum())
    share = binomtest(right, len(tracks)).proportion_ci(method="wilson")
    f1 = score_intervals(test, genres, auc=False).loc["macro F1"]
    return {
        "architecture": card["architecture"],
        "parameters": card["parameters"],
        "training time (s)": round(card["training_time_s"], 1),
        "validation accuracy": round(card["validation_accuracy"], 3),
        "test F1": round(f1["value"], 3),
        "F1 interval": f"{f1['low']:.2f}–{f1['high']:.2f}",
        "test tracks right": f"{right} of {len(tracks)}",
        "share interval": f"{share.low:.2f}–{share.high:.2f}",
        "validation split": f"by {split_by}" + ("" if split_by == "artist" else " (leaky)"),
        "test accuracy": round(accuracy(test), 3),
        "test groups": test["group"].nunique(),
        "test segments": len(test),
        "inference (ms/segment)": round(card["inference_ms_per_segment"], 1),
    }


def _backbone(run: Run) -> str:
    if run.recipe.model not in BACKBONES:
        return "–"
    if run.recipe.backbone == "trained":
        return "trained"
    # A second stage that did not improve the validation loss has been undone.
    stage = run.history.set_index("epoch").loc[run.card["best_epoch"], "stage"]
    return "fine-tuned" if stage == 2 else "frozen"


def score_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Tabulate the scores of segments with their intervals, one row per run and split.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one corpus.

    Returns
    -------
    pd.DataFrame
        ``run``, ``split``, sizes, every score with its interval, and the F1 of every genre.
    """
    rows = []
    for run in runs:
        leaky = "" if run.recipe.split_by == "artist" else " (leaky)"
        for split, part in run.predictions.groupby("split", sort=False):
            intervals = score_intervals(part, run.genres).drop(list(LOSSES))
            values = {str(row[0]): format_interval(*row[1:]) for row in intervals.itertuples()}
            f1 = f1_scores(part, run.genres)
            f1 = {f"F1 {genre}": round(f1[genre], 3) for genre in run.genres}
            name = f"{split}{leaky}" if split == "validation" else split
            rows.append({"run": run.name, "split": name} | _sizes(part) | values | f1)
    return pd.DataFrame(rows)


def _sizes(segments: pd.DataFrame) -> dict[str, int]:
    return {
        "groups": segments["group"].nunique(),
        "tracks": segments["track_id"].nunique(),
        "segments": len(segments[["track_id", "segment"]].drop_duplicates()),
    }


def _levels(segments: pd.DataFrame, genres: Sequence[str]) -> dict[str, pd.DataFrame]:
    return {"track": aggregate_tracks(segments, genres), "segment": segments}


def _test_segments(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the test segments of every run, by its name."""
    return dict(list(predictions.query("split == 'test'").groupby("run", sort=False)))


def cross_validated_scores(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Compute the scores of cross-validated models on tracks and on segments.

    Parameters
    ----------
    predictions : pd.DataFrame
        Table of :func:`~genrecls.evaluation.runs.read_predictions`; test segments are used.
    genres : sequence of str
        Genres in the order of the model's outputs.

    Returns
    -------
    pd.DataFrame
        One row per run, ``level`` (``track`` or ``segment``) and ``score``: ``value``, ``low``,
        ``high``, ``groups``, ``fewest groups`` (of any genre), ``tracks``, ``segments``,
        ``repeats``. The run with the highest balanced accuracy over tracks is last.
    """
    tables, headline = [], {}
    for run, segments in _test_segments(predictions).items():
        fewest = int(segments.groupby("genre")["group"].nunique().min())
        sizes = {
            **_sizes(segments),
            "fewest groups": fewest,
            "repeats": segments["repeat"].nunique(),
        }
        for level, table in _levels(segments, genres).items():
            intervals = score_intervals(table, genres)
            headline.setdefault(run, intervals.loc["balanced accuracy", "value"])
            tables.append(intervals.reset_index().assign(run=run, level=level, **sizes))
    table = pd.concat(tables, ignore_index=True)
    table = table.sort_values("run", key=lambda run: run.map(headline), kind="stable")
    first = ["run", "level", "score", "value", "low", "high"]
    return table[[*first, *sizes]].reset_index(drop=True)


def summary_table(scores: pd.DataFrame, level: str) -> pd.DataFrame:
    """Format cross-validated scores: one row per run, one column per score.

    Parameters
    ----------
    scores : pd.DataFrame
        Table of :func:`cross_validated_scores`.
    level : {'track', 'segment'}
        Level to show.
    """
    rows = []
    shown = scores[(scores["level"] == level) & ~scores["score"].isin(LOSSES)]
    for run, part in shown.groupby("run", sort=False):
        values = {
            row.score: format_interval(row.value, row.low, row.high) for row in part.itertuples()
        }
        sizes = part[["groups", "fewest groups", "tracks", "segments"]].iloc[0].to_dict()
        rows.append({"run": run, **values, **sizes})
    return pd.DataFrame(rows)


def paired_table(predictions: pd.DataFrame, genres: Sequence[str], against: str) -> pd.DataFrame:
    """Compare one cross-validated run with every other one on the same tracks.

    Parameters
    ----------
    predictions : pd.DataFrame
        Table of :func:`~genrecls.evaluation.runs.read_predictions`; test segments are used.
    genres : sequence of str
        Genres in the order of the model's outputs.
    against : str
        The run from whose scores those of the others are subtracted.

    Returns
    -------
    pd.DataFrame
        One row per other run: differences with 95 % intervals of the paired bootstrap, number of
        tracks that only one of the two runs predicts correctly, and the exact McNemar p.
    """
    runs = _test_segments(predictions)
    ours = _levels(runs[against], genres)
    rows = []
    for run in [run for run in runs if run != against]:
        theirs = _levels(runs[run], genres)
        tracks, segments = (
            score_intervals(ours[level], genres, minus=theirs[level], auc=False)
            for level in ("track", "segment")
        )
        test = mcnemar(ours["track"], theirs["track"])
        rows.append(
            {
                f"{against} minus": run,
                "balanced accuracy, tracks": _format_difference(tracks, "balanced accuracy"),
                "macro F1, tracks": _format_difference(tracks, "macro F1"),
                "macro F1, segments": _format_difference(segments, "macro F1"),
                f"only {against} right": test["only first"],
                "only the other right": test["only second"],
                "McNemar p": round(test["p"], 3),
                **_sizes(runs[run]),
            }
        )
    return pd.DataFrame(rows)


def _format_difference(intervals: pd.DataFrame, score: str) -> str:
    return format_interval(*intervals.loc[score], signed=True)


def calibration_table(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Compare the losses of test predictions before and after temperature scaling.

    Parameters
    ----------
    predictions : pd.DataFrame
        Predictions of one or more runs (``run``) on segments.
    genres : sequence of str
        Genres in the order of the model's outputs.

    Returns
    -------
    pd.DataFrame
        One row per run and level: NLL, Brier score and ECE ``before`` and ``after``, the range of
        the ``temperature``, and sizes.
    """
    rows = []
    for run, segments in _test_segments(predictions).items():
        for level, table in _levels(segments, genres).items():
            before, after = scores(table.assign(temperature=1.0), genres), scores(table, genres)
            row: dict[str, Any] = {"run": run, "level": level}
            for name in LOSSES:
                row[f"{name} before"] = round(float(before[name][0]), 3)
                row[f"{name} after"] = round(float(after[name][0]), 3)
            low, high = table["temperature"].min(), table["temperature"].max()
            row["temperature"] = f"{low:.2f}–{high:.2f}" if low < high else f"{low:.2f}"
            rows.append(row | _sizes(segments))
    return pd.DataFrame(rows)


def leak_table(predictions: pd.DataFrame, cards: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Compare validation scores with the scores on held-out artists.

    Parameters
    ----------
    predictions : pd.DataFrame
        First result of :func:`~genrecls.evaluation.runs.read_predictions`.
    cards : dict of str to dict
        Its second result. Runs without a validation are left out.

    Returns
    -------
    pd.DataFrame
        One row per model, ``validation by``, level and score (accuracy, macro F1): ``validation``,
        ``test`` and their difference ``optimism``, each with its 95 % interval in the columns
        ``... low`` and ``... high``. Empty if no run has a validation.
    """
    rows = []
    for name, card in cards.items():
        if not card["split_by"]:
            continue
        segments, genres = predictions[predictions["run"] == name], card["genres"]
        validation, test = (
            _levels(segments[segments["split"] == split], genres)
            for split in ("validation", "test")
        )
        for level in ("segment", "track"):
            parts = {
                "validation": score_intervals(validation[level], genres, auc=False),
                "test": score_intervals(test[level], genres, auc=False),
                "optimism": score_intervals(
                    validation[level], genres, minus=test[level], auc=False
                ),
            }
            for score in ("accuracy", "macro F1"):
                row = {"model": card["name"], "validation by": card["split_by"], "level": level}
                row |= {"score": score, **_sizes(segments), "repeats": card["repeats"]}
                for part, table in parts.items():
                    row[part], row[f"{part} low"], row[f"{part} high"] = table.loc[score]
                rows.append(row)
    if not rows:
        return pd.DataFrame()
    # The ways to split are sorted by how much they leak, everything else by name.
    return pd.DataFrame(rows).sort_values(
        ["model", "level", "score", "validation by"],
        key=lambda column: column.replace(SPLIT_BY, range(3)),
        ignore_index=True,
    )


def leak_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Format the accuracy over segments in a leak table, with intervals.

    Parameters
    ----------
    table : pd.DataFrame
        Table of :func:`leak_table`.
    """
    shown = table.query("level == 'segment' and score == 'accuracy'")
    summary = shown[["model", "validation by"]].copy()
    for part, column in (
        ("validation", "validation accuracy"),
        ("test", "test accuracy"),
        ("optimism", "optimism"),
    ):
        values = shown[[part, f"{part} low", f"{part} high"]].to_numpy()
        summary[column] = [format_interval(*row, signed=part == "optimism") for row in values]
    return summary.join(shown[["groups", "tracks", "segments", "repeats"]]).reset_index(drop=True)


def leak_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Reshape the accuracy over segments in a leak table for :func:`genrecls.plots.intervals`.

    Parameters
    ----------
    table : pd.DataFrame
        Table of :func:`leak_table`.
    """
    shown = table.query("level == 'segment' and score == 'accuracy'")
    label = shown["model"] + ", validation by " + shown["validation by"]
    parts = []
    for part in ("validation", "test"):
        values = shown[[part, f"{part} low", f"{part} high"]].set_axis(
            ["value", "low", "high"], axis=1
        )
        values.insert(0, "label", label)
        values.insert(1, "group", part)
        parts.append(values)
    return pd.concat(parts, ignore_index=True)
