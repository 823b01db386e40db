"""Results of robustness tests."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from genrecls.errors import ModelError
from genrecls.evaluation.intervals import wilson_interval
from genrecls.evaluation.runs import Run

ROBUSTNESS_FILE = "robustness.parquet"
ALL_GENRES = "all genres"


def read_robustness(run: Run) -> pd.DataFrame:
    """What :func:`measure_robustness` has saved for a run.

    Returns
    -------
    pd.DataFrame
        One row a test track and transformation: ``track_id, path, genre, group,
        transformation, before, after`` (predictions), ``flipped, prob_before, prob_after`` (of the
        prediction before, not calibrated), ``image_change_db`` (mean absolute change of the
        log-mel within ``front_end.image_db``, which is what the model can see; NaN where the
        time axis is another) and ``segments``. The settings and the run's uid are its ``attrs``.

    Raises
    ------
    ModelError
        If there is nothing, or what is there is of another model.
    """
    if _settings_of(run).get("uid") != run.card["uid"]:
        raise ModelError(
            f"no {ROBUSTNESS_FILE} of this model in {str(run.folder)!r}; run 'genrecls robustness'"
        )
    return pd.read_parquet(run.folder / ROBUSTNESS_FILE)


def flip_rates(runs: Sequence[Run]) -> pd.DataFrame:
    """How many predictions flip, from the saved tables alone.

    Returns
    -------
    pd.DataFrame
        One row a run, transformation and genre (and :data:`ALL_GENRES`): ``run, transformation, genre,
        flips, n`` (tracks), ``rate``, its 95 % Wilson interval ``low, high``, and
        ``image_change_db`` (mean).

    Raises
    ------
    ModelError
        If a run has not been ridden.
    """
    rows = []
    for run in runs:
        saved = read_robustness(run)
        for genre in (*run.genres, ALL_GENRES):
            tracks = saved if genre == ALL_GENRES else saved[saved["genre"] == genre]
            for transformation, part in tracks.groupby("transformation", sort=False):
                flips, n = int(part["flipped"].sum()), len(part)
                low, high = wilson_interval(flips, n)
                rows.append(
                    {"run": run.name, "transformation": transformation, "genre": genre}
                    | {"flips": flips, "n": n, "rate": flips / n, "low": low, "high": high}
                    | {"image_change_db": part["image_change_db"].mean()}
                )
    return pd.DataFrame(rows)


def flip_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a transformation: per run and genre, how many of how many predictions flip.

    Returns
    -------
    pd.DataFrame
        Index ``transformation``, columns ``(run, genre)``, cells such as ``'3 of 11'``.

    Raises
    ------
    ModelError
        If a run has not been ridden.
    """
    rates = flip_rates(runs)
    rates["cell"] = rates["flips"].astype(str) + " of " + rates["n"].astype(str)
    table = rates.pivot(index="transformation", columns=["run", "genre"], values="cell")
    columns = pd.MultiIndex.from_frame(rates[["run", "genre"]].drop_duplicates())
    return table.reindex(index=rates["transformation"].unique(), columns=columns).fillna("–")


def _settings_of(run: Run) -> dict:
    """Under which settings the saved table of a run was made; empty if there is none."""
    import pyarrow.parquet

    try:
        return pd.read_parquet(run.folder / ROBUSTNESS_FILE, columns=["segments"]).attrs
    except (FileNotFoundError, pyarrow.lib.ArrowException):
        return {}
