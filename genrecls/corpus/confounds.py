"""Measure how well non-musical properties of the tracks predict the genre.

A *confound* is related to the genre only because of how the corpus was collected. If all tracks
in one genre were ripped from MP3s with a low bitrate, "nothing above 11 kHz" identifies that
genre; a model that learns only this does well on this corpus and nowhere else.
"""

import functools
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tqdm.auto import tqdm

from genrecls.config import PRESETS, FrontEnd
from genrecls.corpus.splits import assign_folds
from genrecls.errors import CorpusError

#: Properties that are tested, with the format of numbers.
CONFOUNDS = {
    "bandwidth_hz": "{:,.0f}",
    "duration_s": "{:.1f}",
    "loudness_lufs": "{:.1f}",
    "sample_rate": None,
    "channels": None,
    "codec": None,
}
#: Lowest AUC at which a confound is reported. With 15 groups per genre, one random property in 60
#: reaches it.
HIGH_AUC = 0.75


def one_number_classifier() -> Pipeline:
    """Build a classifier for a table with one column of numbers or names."""
    # Trees find ranges, unlike a linear model; many trees give many different probabilities.
    names = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    not_numbers = make_column_selector(dtype_exclude="number")
    columns = make_column_transformer((names, not_numbers), remainder="passthrough")
    trees = RandomForestClassifier(
        20,
        max_depth=2,
        min_weight_fraction_leaf=0.05,
        class_weight="balanced_subsample",
        random_state=0,
    )
    return make_pipeline(columns, trees)


def confound_auc(values: pd.Series, tracks: pd.DataFrame, *, repeats: int = 3) -> float:
    """Compute how well one value per track predicts the genre.

    The result is the area under the ROC curve: the mean over genres (one against the others) and
    folds of whole groups.
    """
    if tracks["genre"].nunique() < 2:
        raise CorpusError("fewer than two genres have tracks that can be decoded")
    x, genre = values.to_frame("value"), tracks["genre"].to_numpy()
    folds = [assign_folds(tracks, random_seed=seed).to_numpy() for seed in range(repeats)]
    if values.nunique(dropna=False) == 1:
        return 0.5
    scores = []
    for fold in folds:
        for test in (fold == i for i in range(fold.max() + 1)):
            model = one_number_classifier().fit(x[~test], genre[~test])
            columns = zip(model.classes_, model.predict_proba(x[test]).T, strict=True)
            scores += [roc_auc_score(genre[test] == name, column) for name, column in columns]
    return float(np.mean(scores))


def visible_confounds(tracks: pd.DataFrame, front_end: FrontEnd) -> pd.DataFrame:
    """Return the confounds as far as a front end leaves them visible."""
    # All segments have one length, rate and channel, and the spectrum ends at f_max.
    visible = tracks[list(CONFOUNDS)].assign(
        duration_s=front_end.segment_s,
        sample_rate=front_end.sample_rate,
        channels=1,
        bandwidth_hz=tracks["bandwidth_hz"].clip(upper=front_end.f_max),
    )
    if front_end.reference != "unit":  # levels relative to the segment hide the loudness
        visible["loudness_lufs"] = 0.0
    if visible["codec"].nunique() > 1:  # a codec is visible only through its band limit
        visible["codec"] = visible["bandwidth_hz"]
    return visible


def confound_table(tracks: pd.DataFrame, *, progress: bool = False) -> tuple[pd.DataFrame, str]:
    """Tabulate how well each confound predicts the genre, the best first.

    The columns are ``confound``, ``auc alone``; for each preset ``auc left by <name>`` and
    ``under <name>`` (visible or hidden); for each genre the values: median and range, or counts.
    If no AUC can be computed, the reason is returned too; else it is empty.
    """
    reason = ""
    try:
        confound_auc(pd.Series(0, tracks.index), tracks)
    except CorpusError as error:
        reason = str(error)

    @functools.cache
    def auc(values: tuple) -> float:
        return np.nan if reason else confound_auc(pd.Series(values, tracks.index), tracks)

    tables = {name: visible_confounds(tracks, FrontEnd.preset(name)) for name in PRESETS}
    rows = []
    options: dict[str, Any] = {"delay": 2, "leave": False, "disable": not progress}
    for confound, form in tqdm(CONFOUNDS.items(), desc="confounds", **options):
        row = {"confound": confound, "auc alone": auc(tuple(tracks[confound]))}
        for name, table in tables.items():
            constant = table[confound].nunique(dropna=False) <= 1
            left = auc(tuple(table[confound]))
            # A codec is visible only as its bandwidth, which may predict the genre better.
            row[f"auc left by {name}"] = left if constant else min(row["auc alone"], left)
            row[f"under {name}"] = "hidden" if constant else "visible"
        # The prefix keeps the name of a genre apart from the columns above.
        for genre, values in tracks.groupby("genre")[confound]:
            row[f"in {genre}"] = _summarize(values, form)
        rows.append(row)
    table = pd.DataFrame(rows).sort_values("auc alone", ascending=False, kind="stable")
    return table.reset_index(drop=True), reason


def _summarize(values: pd.Series, form: str | None) -> str:
    if form is None:
        return ", ".join(f"{value} ({n})" for value, n in values.value_counts().items())
    if values.isna().all():
        return "–"
    middle, low, high = (form.format(v) for v in (values.median(), values.min(), values.max()))
    return f"{middle} ({low} to {high})"
