"""The model card of a trained run (Mitchell et al. 2019): what it is for, how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from genrecls._utils.io import write_atomically
from genrecls.config import MIN_CONFIDENCE
from genrecls.evaluation.calibration import calibrated, probability_columns
from genrecls.evaluation.intervals import score_intervals
from genrecls.evaluation.runs import Run
from genrecls.evaluation.scores import aggregate_tracks, confusion_matrix
from genrecls.evaluation.tables import split_table
from genrecls.report.markdown import escape, markdown

CARD = "README.md"

_FEW_GROUPS = 10


def write_model_card(run: Run) -> None:
    """Write ``README.md`` into the folder of a run, from what is saved there."""
    text = model_card(run)
    write_atomically(run.folder / CARD, lambda file: file.write(text.encode()))


def model_card(run: Run) -> str:
    """The card of a run in Markdown: intended use, data, metrics with intervals, limits.

    Parameters
    ----------
    run : Run
        Neither its model nor sound is needed.

    Examples
    --------
    >>> import genrecls
    >>> from genrecls.model_card import model_card
    >>> run = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> model_card(run).splitlines()[0]
    '# compact_cnn-default'
    """
    card, front_end = run.card, run.front_end
    genres = ", ".join(map(escape, run.genres))
    test = run.predictions.query("split == 'test'")
    table = split_table(run.segments)
    table.columns = [f"{genre} {what}" for genre, what in table.columns]
    return "\n".join(
        [
            f"# {escape(run.name)}\n",
            f"A {escape(card['architecture'])} of {card['parameters']:,} parameters (weights at "
            f"the start: {escape(card['weights'])}), trained on the corpus "
            f"*{escape(card['corpus'])}* by genrecls {card['versions']['genrecls']} on "
            f"{card['created'][:10]}.\n",
            "## Intended use\n",
            f"To say which of these genres a track is: {genres}; for teaching, research and one's "
            f"own music. It takes {front_end.segment_s:g} s of sound or more and hears one channel "
            f"at {front_end.sample_rate:,} Hz, from {front_end.f_min:g} to {front_end.f_max:g} Hz. "
            f"Not for anything that decides about people or their income.\n",
            "```python\nimport genrecls\n\n"
            f'classifier = genrecls.GenreClassifier.load("models/{card["corpus"]}/{run.name}")\n'
            'print(classifier.predict("song.mp3").prediction)\n```\n',
            "## Data\n",
            f"Validation is held out by {run.recipe.split_by}; {_shared(run.segments)} Tracks left "
            f"out: {len(card['left_out'])}; used with a warning: {len(card['notes'])}.\n",
            markdown(table.reset_index()),
            *_sources(run.segments),
            "## Metrics\n",
            "Of the test, with 95 % intervals of the bootstrap over whole artists. Temperatures of "
            f"the probabilities: {run.temperature:.2f} (segments), {run.track_temperature:.2f} "
            f"(tracks).\n",
            markdown(_metrics(run, test)),
            _when_sure(run, test),
            "Test tracks: rows are true genres, columns what was predicted.\n",
            markdown(
                confusion_matrix(aggregate_tracks(test, run.genres), run.genres).reset_index()
            ),
            "## Limits\n",
            *[f"- {limit}" for limit in _limits(run, test)],
            "",
        ]
    )


def _shared(segments: pd.DataFrame) -> str:
    test = segments["split"] == "test"
    shared = set(segments.loc[test, "group"]) & set(segments.loc[~test, "group"])
    if not shared:
        return "no artist of the test is in any other part."
    return f"artists of the test that are in other parts too: {len(shared)}."


def _sources(segments: pd.DataFrame) -> list[str]:
    known = [column for column in ("genre", "licence") if column in segments]
    if "licence" not in known:
        return ["Where the music comes from and its licences are not stated.\n"]
    tracks = segments.drop_duplicates("track_id").groupby(known).size().rename("tracks")
    return [markdown(tracks.reset_index())]


def _metrics(run: Run, test: pd.DataFrame) -> pd.DataFrame:
    columns = {}
    for level, table in (("tracks", aggregate_tracks(test, run.genres)), ("segments", test)):
        found = score_intervals(table, run.genres)
        columns[f"{level} ({len(table)})"] = [
            f"{row.value:.3f} ({row.low:.2f}–{row.high:.2f})" for row in found.itertuples()
        ]
        names = found.index
    return pd.DataFrame({"score": names, **columns})


def _when_sure(run: Run, test: pd.DataFrame) -> str:
    tracks = calibrated(aggregate_tracks(test, run.genres), run.genres)
    sure = tracks[tracks[probability_columns(run.genres)].max(axis=1) >= MIN_CONFIDENCE]
    right = int((sure["predicted"] == sure["genre"]).sum())
    return (
        f'Below a probability of {MIN_CONFIDENCE:g} the prediction is "not sure": so it is for '
        f"{len(tracks) - len(sure)} of {len(tracks)} test tracks; of the other {len(sure)}, "
        f"{right} are right.\n"
    )


def _limits(run: Run, test: pd.DataFrame) -> Iterator[str]:
    yield (
        "It knows no other genres: whatever it hears, it answers one of its own or that it is not "
        "sure."
    )
    fewest = test.groupby("genre")["group"].nunique()
    if fewest.min() < _FEW_GROUPS:
        yield (
            f"Artists in the test of {escape(fewest.idxmin())}: {fewest.min()}. With so few the "
            f"intervals are wide and still too narrow."
        )
    if run.recipe.split_by != "artist":
        what = "segments of a track" if run.recipe.split_by == "segment" else "tracks of an artist"
        yield (
            f"Its validation leaks ({what} stand in training and validation): its validation "
            f"accuracy says little, and its probabilities are not calibrated."
        )
    segments = run.segments
    if "source" in segments and segments["source"].str.contains("synthetic", case=False).all():
        yield "The music it was trained on is synthetic: on real music it has not been tested."
    if run.front_end.reference == "unit":
        yield "It sees absolute levels, and can tell recordings by their loudness."
    if run.front_end.f_max > 15_000:
        yield "It sees where the spectrum ends, and can tell recordings by their codec."
    yield "What else tells the genres of this corpus apart without being music: `genrecls audit`."
