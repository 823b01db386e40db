"""Tables of scores and of example tracks, from saved predictions."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest
from tqdm.auto import tqdm

from genrecls.config import BACKBONES, SPLIT_BY
from genrecls.evaluation.intervals import format_interval, format_p, mcnemar, score_intervals
from genrecls.evaluation.novelty import NONE_OF_THESE, NOT_SURE
from genrecls.evaluation.runs import Run, describe_test_tracks, name_groups
from genrecls.evaluation.scores import LOSSES, accuracy, aggregate_tracks, f1_scores, scores

log = logging.getLogger(__name__)


def split_table(segments: pd.DataFrame) -> pd.DataFrame:
    """Count segments, tracks and artists (or other groups) per genre and split.

    Parameters
    ----------
    segments : pd.DataFrame
        Segments table with a split.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare("music", progress=False)
    >>> table = genrecls.split_table(genrecls.assign_splits(features.segments, split_by="artist"))
    >>> table.loc[("rap", "test"), "artists"].item()
    2
    """
    counts = segments.groupby(["genre", "split"]).agg(
        segments=("track_id", "size"), tracks=("track_id", "nunique"), groups=("group", "nunique")
    )
    order = [s for s in ("train", "validation", "test") if s in set(segments["split"])]
    return counts.reindex(order, level="split").rename(
        columns={"groups": f"{name_groups(segments)}s"}
    )


def comparison_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Compare trained models, one row per run.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one corpus.

    Returns
    -------
    pd.DataFrame
        The first row always predicts the commonest genre of the training segments. ``test F1`` is
        the macro F1 over segments, with a 95 % bootstrap interval over groups; the interval of
        ``test tracks right`` is Wilson's. ``above chance`` is ``yes`` if the balanced accuracy over
        validation tracks is higher than that of guessing, which may be luck if there are few.
        ``validation split`` is leaky if tracks or artists are in training and validation. The
        inference is timed on the machine of the training. A warning is logged if the runs have
        different test tracks.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> genrecls.comparison_table([run])["architecture"].tolist()
    ['always classique', 'compact_cnn']
    """
    if different := describe_test_tracks(runs):
        log.warning("%s", different)
    rows = [_majority_row(run) for run in runs[-1:]]
    for run in runs:
        test = run.predictions.query("split == 'test'")
        names = {"weights": run.card["weights"], "backbone": _backbone(run)}
        leaky = "" if run.recipe.split_by == "artist" else " (leaky)"
        names["validation split"] = f"by {run.held_out_by}{leaky}"
        names["above chance"] = "yes" if run.above_chance else "no"
        rows.append(_comparison_row(run.name, test, run.genres, run.card | names))
    return pd.DataFrame(rows)


def _majority_row(run: Run) -> dict[str, Any]:
    segments = run.segments
    commonest = str(segments.query("split == 'train'")["genre"].value_counts().idxmax())
    probabilities = {f"prob_{genre}": float(genre == commonest) for genre in run.genres}
    segments = segments.assign(predicted=commonest, **probabilities)
    right = accuracy(segments.query("split == 'validation'"))
    card = {"architecture": f"always {commonest}", "validation_accuracy": right}
    card |= dict.fromkeys(("parameters", "training_time_s", "inference_ms_per_segment"), 0)
    card |= dict.fromkeys(("weights", "backbone", "validation split"), "–")
    test = segments.query("split == 'test'")
    return _comparison_row(card["architecture"], test, run.genres, card | {"above chance": "no"})


def _comparison_row(
    name: str, test: pd.DataFrame, genres: Sequence[str], card: dict[str, Any]
) -> dict[str, Any]:
    tracks = aggregate_tracks(test, genres)
    right = int((tracks["predicted"] == tracks["genre"]).sum())
    share = binomtest(right, len(tracks)).proportion_ci(method="wilson")
    f1 = score_intervals(test, genres, auc=False).loc["macro F1"]
    return {
        "run": name,
        "test F1": round(f1["value"], 3),
        "F1 interval": f"{f1['low']:.2f}–{f1['high']:.2f}",
        "test tracks right": f"{right} of {len(tracks)}",
        "share interval": f"{share.low:.2f}–{share.high:.2f}",
        "test accuracy": round(accuracy(test), 3),
        "validation accuracy": round(card["validation_accuracy"], 3),
        **{name: card[name] for name in ("above chance", "validation split")},
        "test groups": test["group"].nunique(),
        "test segments": len(test),
        **{name: card[name] for name in ("architecture", "weights", "backbone", "parameters")},
        "training time (s)": round(card["training_time_s"], 1),
        "inference (ms/segment)": round(card["inference_ms_per_segment"], 1),
    }


def _backbone(run: Run) -> str:
    if run.recipe.model not in BACKBONES:
        return "–"
    if run.recipe.backbone == "trained":
        return "trained"
    # A second stage that did not improve the validation loss has been undone.
    stages = run.history.set_index("epoch")["stage"]
    return "fine-tuned" if stages[run.card["best_epoch"]] == 2 else "frozen"


def score_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Tabulate the scores of segments with 95 % intervals, one row per run and split.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one corpus.
    """
    rows = []
    for run in runs:
        leaky = "" if run.recipe.split_by == "artist" else " (leaky)"
        for split, part in run.predictions.groupby("split", sort=False):
            name = f"{split}{leaky}" if split == "validation" else split
            intervals = _format_scores(score_intervals(part, run.genres))
            f1 = {f"F1 {g}": round(x, 3) for g, x in f1_scores(part, run.genres).items()}
            f1.pop("F1 macro")
            rows.append({"run": run.name, "split": name, **_sizes(part), **intervals, **f1})
    return pd.DataFrame(rows)


def _format_scores(intervals: pd.DataFrame) -> dict[str, str]:
    shown = intervals.drop(list(LOSSES))[["value", "low", "high"]]
    return {str(score): format_interval(*row) for score, row in shown.iterrows()}


def _sizes(segments: pd.DataFrame) -> dict[str, int]:
    return {
        "groups": segments["group"].nunique(),
        "tracks": segments["track_id"].nunique(),
        "segments": len(segments[["track_id", "segment"]].drop_duplicates()),
    }


def _levels(segments: pd.DataFrame, genres: Sequence[str]) -> dict[str, pd.DataFrame]:
    return {"track": aggregate_tracks(segments, genres), "segment": segments}


def _with_bar(runs: Iterable) -> Iterable:
    """Show a progress bar while the intervals of many runs are computed."""
    return tqdm(list(runs), desc="intervals", unit="run", delay=2, leave=False)


def _test_segments(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    by_run = predictions[predictions["split"] == "test"].groupby("run", sort=False)
    return {str(run): segments for run, segments in by_run}


def cross_validated_scores(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Compute the scores of cross-validated models on tracks and on segments.

    Parameters
    ----------
    predictions : pd.DataFrame
        Table of :func:`read_predictions`; only the test is used.
    genres : sequence of str
        Genres in the order of the model's outputs.

    Returns
    -------
    pd.DataFrame
        One row per ``run``, ``level`` (``track`` or ``segment``) and ``score``: ``value``, its 95 %
        interval ``low`` and ``high``, sizes, ``fewest groups`` (of any genre), ``repeats``. The
        run with the highest balanced accuracy over tracks is last.
    """
    intervals = {}
    for run, segments in _with_bar(_test_segments(predictions).items()):
        sizes = _sizes(segments)
        sizes["fewest groups"] = int(segments.groupby("genre")["group"].nunique().min())
        sizes["repeats"] = segments["repeat"].nunique()
        for level, table in _levels(segments, genres).items():
            intervals[run, level] = score_intervals(table, genres).assign(**sizes)
    table = pd.concat(intervals, names=["run", "level"])
    rank = table.xs(("track", "balanced accuracy"), level=("level", "score"))["value"]
    return table.reset_index().sort_values(
        "run", key=lambda run: run.map(rank), kind="stable", ignore_index=True
    )


def summary_table(scores: pd.DataFrame, level: str) -> pd.DataFrame:
    """Format cross-validated scores: one row per run, one column per score.

    Parameters
    ----------
    scores : pd.DataFrame
        Table of :func:`cross_validated_scores`.
    level : {'track', 'segment'}
        Level to show.

    Returns
    -------
    pd.DataFrame
        Scores with their intervals, and sizes; ``repeats`` only if they differ.
    """
    rows, names = [], ["groups", "fewest groups", "tracks", "segments"]
    if scores["repeats"].nunique() > 1:
        names.append("repeats")
    for run, part in scores[scores["level"] == level].groupby("run", sort=False):
        sizes = part.iloc[0][names].to_dict()
        rows.append({"run": run, **_format_scores(part.set_index("score")), **sizes})
    return pd.DataFrame(rows)


def paired_table(predictions: pd.DataFrame, genres: Sequence[str], against: str) -> pd.DataFrame:
    """Compare one cross-validated run with each of the others on the tracks that both have.

    There is one row per other run: its scores subtracted from those of ``against``, with 95 %
    intervals of the paired bootstrap, and the tracks that only one of the two predicts correctly.
    """
    runs = _test_segments(predictions)
    reference = runs.pop(against)
    rows = []
    for run, segments in _with_bar(runs.items()):
        # A front end may leave out a silent track that another one uses.
        segments = segments[segments["track_id"].isin(reference["track_id"])]
        ours = _levels(reference[reference["track_id"].isin(segments["track_id"])], genres)
        theirs = _levels(segments, genres)
        row: dict[str, Any] = {f"{against} minus": run}
        for level, table in theirs.items():
            differences = score_intervals(ours[level], genres, minus=table, auc=False)
            names = ["balanced accuracy", "macro F1"] if level == "track" else ["macro F1"]
            for score, interval in differences.loc[names].iterrows():
                row[f"{score}, {level}s"] = format_interval(*interval, signed=True)
        test = mcnemar(ours["track"], theirs["track"])
        row[f"only {against} right"] = test["only first"]
        row["only the other right"] = test["only second"]
        rows.append(row | {"McNemar p": format_p(test["p"]), **_sizes(segments)})
    return pd.DataFrame(rows)


def calibration_table(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Compare the losses on the test before and after temperature scaling, per run and level."""
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


def label_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Count the labels of test tracks: right and wrong genres, "not sure" and "none of these"."""
    rows = []
    for run in runs:
        tracks = run.label_tracks(run.predictions.query("split == 'test'"))
        right, counts = tracks["label"] == tracks["genre"], tracks["label"].value_counts()
        others = {label: int(counts.get(label, 0)) for label in (NOT_SURE, NONE_OF_THESE)}
        wrong = len(tracks) - int(right.sum()) - sum(others.values())
        row = {"run": run.name, "right": int(right.sum()), "wrong": wrong, **others}
        rows.append(row | {"sure from": round(run.card["min_confidence"], 3)})
    return pd.DataFrame(rows)


def leak_table(predictions: pd.DataFrame, cards: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Compare the balanced accuracy over validation segments with that over segments of the test.

    Parameters
    ----------
    predictions, cards
        Results of :func:`read_predictions`. Runs without a validation are left out.

    Returns
    -------
    pd.DataFrame
        One row per model and ``validation by``: ``validation``, ``test`` and ``optimism``, their
        difference, with 95 % intervals in ``... low`` and ``... high``. Empty if no run has a
        validation.
    """
    rows = []
    for name, card in _with_bar((n, card) for n, card in cards.items() if card["split_by"]):
        segments, genres = predictions[predictions["run"] == name], card["genres"]
        row = {"model": card["name"], "validation by": card["split_by"]}
        row |= {**_sizes(segments), "repeats": card["repeats"]}
        validation, test = (segments[segments["split"] == s] for s in ("validation", "test"))
        parts = {
            "validation": score_intervals(validation, genres, auc=False),
            "test": score_intervals(test, genres, auc=False),
            "optimism": score_intervals(validation, genres, minus=test, auc=False),
        }
        for part, intervals in parts.items():
            row[part], row[f"{part} low"], row[f"{part} high"] = intervals.loc["balanced accuracy"]
        rows.append(row)
    # The most leaky way to split comes first.
    rows.sort(key=lambda row: (row["model"], SPLIT_BY.index(row["validation by"])))
    return pd.DataFrame(rows).replace({"validation by": {"artist": name_groups(predictions)}})


def leak_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Format a leak table; all values are balanced accuracies.

    Parameters
    ----------
    table : pd.DataFrame
        Table of :func:`leak_table`.
    """
    summary = table[["model", "validation by"]].copy()
    for part in ("validation", "test", "optimism"):
        intervals = table[[part, f"{part} low", f"{part} high"]].to_numpy()
        summary[part] = [format_interval(*x, signed=part == "optimism") for x in intervals]
    return summary.join(table[["groups", "tracks", "segments", "repeats"]])


def leak_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Reshape a leak table for :func:`genrecls.plots.intervals`.

    Parameters
    ----------
    table : pd.DataFrame
        Table of :func:`leak_table`.
    """
    label = table["model"] + ", validation by " + table["validation by"]
    parts = []
    for part in ("validation", "test"):
        rows = pd.DataFrame({"label": label, "group": part})
        rows[["value", "low", "high"]] = table[[part, f"{part} low", f"{part} high"]]
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def example_track_ids(run: Run) -> dict[str, str]:
    """Choose test tracks that are easy and hard for a run.

    Parameters
    ----------
    run : Run
        The run whose probabilities of the true genre decide.

    Returns
    -------
    dict of str to str
        ``track_id`` of ``easy <genre>``, the most probable track of a genre that is predicted
        correctly, of ``hard`` and of ``hardest``, as far as there are such tracks.
    """
    tracks = aggregate_tracks(run.predictions.query("split == 'test'"), run.genres)
    tracks["true_prob"] = [row[f"prob_{row['genre']}"] for row in tracks.to_dict("records")]
    tracks = tracks.sort_values("true_prob", kind="stable")
    right = tracks[2:].query("predicted == genre")
    easy = right.groupby("genre")["track_id"].last().to_dict()
    hard = list(zip(("hardest", "hard"), tracks["track_id"], strict=False))
    return {f"easy {genre}": track_id for genre, track_id in easy.items()} | dict(hard[::-1])


def segment_table(runs: Sequence[Run], track_id: str) -> pd.DataFrame:
    """Tabulate the predictions of several runs on every segment of a test track.

    Parameters
    ----------
    runs : sequence of Run
        Only the first gives probabilities, as in the original.
    track_id : str
        A test track, such as one of :func:`example_track_ids`.

    Returns
    -------
    pd.DataFrame
        The original's columns: ``songname`` (``<file name>_<part>``), ``genre``, ``y_test`` (index
        of the genre), ``part``, ``y_<run>`` (predicted index) and ``<genre>_prob``.
    """
    chosen = f"split == 'test' and track_id == {track_id!r}"
    tables = [run.predictions.query(chosen).set_index("segment").sort_index() for run in runs]
    first, genres = tables[0], runs[0].genres
    table = first[["genre"]].assign(y_test=first["genre"].map(genres.index), part=first.index)
    names = first["path"].str.rsplit("/", n=1).str[-1]
    table.insert(0, "songname", names + "_" + first.index.astype(str))
    for run, other in zip(runs, tables, strict=True):
        table[f"y_{run.name}"] = other["predicted"].map(run.genres.index)
    for genre in genres:
        table[f"{genre}_prob"] = first[f"prob_{genre}"].round(2)
    return table.reset_index(drop=True)
