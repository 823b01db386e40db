"""What tells the genres apart without being music, and which of it a front end lets through.

A *confound* goes along with the genre by accident of how a corpus was collected: where one genre
was ripped from MP3s of low bitrate, "nothing above 11 kHz" is its surest mark, and a model that
learns just that scores well on this corpus and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from genrecls.config import FrontEnd
from genrecls.corpus.splits import assign_folds
from genrecls.errors import CorpusError

#: What may tell genres apart without being music, with the format of its values.
CONFOUNDS = {
    "bandwidth_hz": "{:,.0f}",
    "duration_s": "{:.1f}",
    "loudness_lufs": "{:.1f}",
    "sample_rate": None,
    "channels": None,
    "codec": None,
}


def one_number_classifier():
    """A classifier for a table of one column, numbers or names: small balanced trees, averaged.

    It finds ranges as well as limits. A single tree knows so few different answers that its AUC
    suffers. A column that is constant makes all genres equally probable.
    """
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    names = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    trees = RandomForestClassifier(
        20,
        max_depth=2,
        min_weight_fraction_leaf=0.05,
        class_weight="balanced_subsample",
        random_state=0,
    )
    return make_pipeline(
        make_column_transformer(
            (names, make_column_selector(dtype_exclude="number")), remainder="passthrough"
        ),
        trees,
    )


def confound_auc(values: pd.Series, tracks: pd.DataFrame, *, repeats: int = 3) -> float:
    """How well one number tells the genres of tracks it has not seen: 0.5 is chance, 1 perfect.

    Area under the ROC curve, the mean over genres (one against the rest) and over the folds of
    repeated cross-validations by whole groups.

    Parameters
    ----------
    values : pd.Series
        A number or name a track.
    tracks : pd.DataFrame
        ``genre`` and ``group`` of the same tracks.
    repeats : int > 0

    Raises
    ------
    CorpusError
        If there are not two genres, or one of them has only one group.
    """
    from sklearn.metrics import roc_auc_score

    if tracks["genre"].nunique() < 2:
        raise CorpusError("tracks of two genres are needed that can be decoded")
    x, genre = values.to_frame("value"), tracks["genre"].to_numpy()
    scores = []
    for seed in range(repeats):
        fold = assign_folds(tracks, random_seed=seed).to_numpy()
        if values.nunique(dropna=False) == 1:
            return 0.5
        for test in (fold == i for i in range(fold.max() + 1)):
            model = one_number_classifier().fit(x[~test], genre[~test])
            shares = zip(model.classes_, model.predict_proba(x[test]).T, strict=True)
            scores += [roc_auc_score(genre[test] == name, share) for name, share in shares]
    return float(np.mean(scores))


def visible(tracks: pd.DataFrame, front_end: FrontEnd) -> pd.DataFrame:
    """The confounds as a image of a front end still shows them.

    That follows from what the front end does, and from nothing measured: every segment has the same
    length, sample rate and number of channels; levels relative to the loudest hide loudness; the
    spectrum ends at ``f_max``, and so do all band limits above it. A codec is seen through its
    band limit only. What a model makes of what is left is measured by :mod:`genrecls.evaluation.robustness`.

    Parameters
    ----------
    tracks : pd.DataFrame
        With the columns ``CONFOUNDS``.
    front_end : FrontEnd

    Returns
    -------
    pd.DataFrame
        The same rows and those columns. A constant column is hidden.
    """
    left = tracks[list(CONFOUNDS)].copy()
    left["duration_s"] = front_end.segment_s
    left["sample_rate"] = front_end.sample_rate
    left["channels"] = 1
    if front_end.reference == "peak":
        left["loudness_lufs"] = 0.0
    left["bandwidth_hz"] = left["bandwidth_hz"].clip(upper=front_end.f_max)
    if left["codec"].nunique() > 1:
        left["codec"] = left["bandwidth_hz"]
    return left


def confound_table(
    tracks: pd.DataFrame, front_ends: Mapping[str, FrontEnd]
) -> tuple[pd.DataFrame, str]:
    """What tells the genres apart, worst first, and the reason if that cannot be measured.

    Parameters
    ----------
    tracks : pd.DataFrame
        ``genre, group`` and the columns ``CONFOUNDS``.
    front_ends : mapping of str to FrontEnd

    Returns
    -------
    table : pd.DataFrame
        ``confound, auc alone``; for each front end ``auc left by NAME`` and ``under NAME``
        (visible or hidden); and the values in each genre: median and range, or how often.
    reason : str
    """
    left = {name: visible(tracks, front_end) for name, front_end in front_ends.items()}
    reason, rows, known = "", [], {}

    def auc(values: pd.Series) -> float:
        key = tuple(values)
        if key not in known:
            known[key] = confound_auc(values, tracks)
        return known[key]

    try:
        auc(pd.Series(0, tracks.index))
    except CorpusError as error:
        reason = str(error)
    for name, form in CONFOUNDS.items():
        row = {"confound": name, "auc alone": np.nan if reason else auc(tracks[name])}
        for by, table in left.items():
            row[f"auc left by {by}"] = np.nan if reason else auc(table[name])
            constant = table[name].nunique(dropna=False) <= 1
            row[f"under {by}"] = "hidden" if constant else "visible"
        # A genre may be called as a column above.
        for genre, values in tracks.groupby("genre")[name]:
            row[f"in {genre}"] = _summary(values, form)
        rows.append(row)
    table = pd.DataFrame(rows).sort_values("auc alone", ascending=False, kind="stable")
    return table.reset_index(drop=True), reason


def _summary(values: pd.Series, form: str | None) -> str:
    if form is None:
        return ", ".join(f"{value} ({n})" for value, n in values.value_counts().items())
    known = values.dropna()
    if not len(known):
        return "–"
    middle, low, high = (form.format(v) for v in (known.median(), known.min(), known.max()))
    return f"{middle} ({low} to {high})"
