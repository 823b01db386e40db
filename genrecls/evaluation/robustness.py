"""Results of robustness tests, read and counted; see :mod:`genrecls.inspection.robustness`."""

import contextlib
from collections.abc import Sequence

import pandas as pd
from scipy.stats import binomtest

from genrecls.errors import ModelError
from genrecls.evaluation.runs import Run

ROBUSTNESS_FILE = "robustness.parquet"
#: Row of a table of flips that counts the tracks of all genres.
ALL_GENRES = "all genres"


def read_robustness(run: Run) -> pd.DataFrame:
    """Read the saved robustness test of a run.

    There is one row per test track and ``transformation``: the predicted genres ``before`` and
    ``after``, ``flipped``, ``prob_before`` and ``prob_after`` (of the genre ``before``, not
    calibrated), ``image_change_db`` (mean absolute change of the levels that the model receives;
    NaN if time is shifted). The ``attrs`` of the table hold the settings.
    """
    table = read_finished(run)
    if table.empty or table.attrs.get("missing"):
        raise ModelError(
            f"no complete {ROBUSTNESS_FILE} of this model in {str(run.folder)!r}; "
            "run 'genrecls robustness'"
        )
    return table


def read_finished(run: Run) -> pd.DataFrame:
    """Read the tracks tested so far; the table is empty if there are none."""
    try:
        table = pd.read_parquet(run.folder / ROBUSTNESS_FILE)
    except (OSError, ValueError):  # it is missing or damaged
        table = pd.DataFrame()
    is_current = table.attrs.get("uid") == run.card["uid"]
    return table if is_current else pd.DataFrame(columns=["track_id"])


def tested_runs(runs: Sequence[Run]) -> list[Run]:
    """Choose the runs whose robustness has been tested.

    Parameters
    ----------
    runs : sequence of Run
        For example those that :func:`genrecls.evaluation.read_runs` returns.

    Returns
    -------
    list of Run
        The runs with saved results, in the same order.
    """
    tested = []
    for run in runs:
        with contextlib.suppress(ModelError):
            read_robustness(run)
            tested.append(run)
    return tested


def flip_rates(runs: Sequence[Run]) -> pd.DataFrame:
    """Count the predictions that flip under each transformation.

    Parameters
    ----------
    runs : sequence of Run
        Runs that have been tested, or a ModelError is raised.

    Returns
    -------
    pd.DataFrame
        One row per ``run``, ``genre`` (or :data:`ALL_GENRES`) and ``transformation``: ``flips``,
        ``n`` (tracks), ``rate``, its 95 % Wilson interval ``low`` and ``high``, and the mean
        ``image_change_db``.
    """
    rows = []
    for run in runs:
        table = read_robustness(run)
        for genre in (*run.genres, ALL_GENRES):
            tracks = table if genre == ALL_GENRES else table[table["genre"] == genre]
            for transformation, part in tracks.groupby("transformation", sort=False):
                flips, n = int(part["flipped"].sum()), len(part)
                low, high = binomtest(flips, n).proportion_ci(method="wilson")
                rates = flips, n, flips / n, low, high, part["image_change_db"].mean()
                rows.append((run.name, transformation, genre, *rates))
    columns = "run transformation genre flips n rate low high image_change_db".split()
    return pd.DataFrame(rows, columns=columns)


def flip_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Tabulate the flips, such as ``'3 of 11'``: a row per run and transformation.

    Parameters
    ----------
    runs : sequence of Run
        See :func:`flip_rates`.

    Returns
    -------
    pd.DataFrame
        ``run``, ``transformation``, one column per genre, and :data:`ALL_GENRES`.
    """
    rates = flip_rates(runs)
    rates["cell"] = rates["flips"].astype(str) + " of " + rates["n"].astype(str)
    table = rates.pivot(index=["run", "transformation"], columns="genre", values="cell")
    rows = rates[["run", "transformation"]].drop_duplicates().itertuples(index=False)
    table = table.loc[list(rows), rates["genre"].unique()].fillna("–")
    return table.rename_axis(columns=None).reset_index()
