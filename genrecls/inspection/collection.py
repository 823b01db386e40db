"""Questions about a collection that the embeddings of a run answer, without model or sound.

The run is one whose model classifies embeddings, such as musicnn. A group is an artist; if that
is not known, an album; without an album, a track.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from genrecls.corpus.splits import assign_folds
from genrecls.evaluation.calibration import add_predictions, probability_columns
from genrecls.evaluation.intervals import score_intervals
from genrecls.evaluation.runs import Run
from genrecls.evaluation.scores import aggregate_tracks

# On busy cores, several threads wait for each other much longer than they work.
_one_thread = threadpool_limits.wrap(limits=1)

_TRACK = ["track_id", "path", "genre"]
_REPEATS = 3

# The C of training is not used because it is chosen on tracks that the curve tests. This value is
# that of a training which cannot choose.
_CURVE_C = 10.0
_LABEL_C = 1.0  # with less regularization, a head also learns the wrong labels


def learning_curve(run: Run) -> pd.DataFrame:
    """Measure the score of heads that are fitted on few groups of each genre.

    Parameters
    ----------
    run : Run
        A run with embeddings; others raise a ValueError.

    Returns
    -------
    pd.DataFrame
        One row for 1, 2, 4, ... random ``groups`` of each genre (all of them, if it has fewer):
        macro F1 over tracks of other groups, from repeated cross-validation, as ``value``, and its
        95 % interval, ``low`` and ``high``. The interval does not include the choice of the groups
        that the heads are fitted on.
    """
    sizes, rows = run.segments.groupby("genre")["group"].nunique(), []
    largest = int(sizes.max() - sizes.max() // min(5, sizes.min()))
    for n in sorted({*(2**i for i in range(largest.bit_length())), largest}):
        repeats = [_predict_held_out(run, _CURVE_C, n, repeat) for repeat in range(_REPEATS)]
        tracks = aggregate_tracks(pd.concat(repeats, ignore_index=True), run.genres)
        rows.append({"groups": n, **score_intervals(tracks, run.genres, auc=False).loc["macro F1"]})
    return pd.DataFrame(rows)


def find_suspicious_labels(run: Run) -> pd.DataFrame:
    """Rank all tracks by the probability of their label, the lowest first.

    Parameters
    ----------
    run : Run
        See :func:`learning_curve`.

    Returns
    -------
    pd.DataFrame
        One row per track: ``track_id, path, genre`` (its label), ``probability`` of the label (not
        calibrated) from heads that were fitted without its group, the most probable genre as
        ``predicted``, and ``start_s`` of the segment that fits the label worst.
    """
    segments = _predict_held_out(run, _LABEL_C)
    worst = _label_probability(segments, run).groupby(segments["track_id"]).idxmin()
    tracks = aggregate_tracks(segments, run.genres)
    tracks["probability"] = _label_probability(tracks, run)
    tracks["start_s"] = segments["start_s"][worst[tracks["track_id"]]].to_numpy()
    columns = [*_TRACK, "probability", "predicted", "start_s"]
    return tracks.sort_values("probability", kind="stable", ignore_index=True)[columns]


def nearest_segments(run: Run, embeddings: np.ndarray, n: int = 5) -> pd.DataFrame:
    """Find the training segments that are most similar to some embeddings.

    Parameters
    ----------
    run : Run
        See :func:`learning_curve`.
    embeddings : np.ndarray [shape=(segments, dimensions)]
        Such as rows of ``run.embeddings``.
    n : int > 0
        Number of neighbours at most, each from another track.

    Returns
    -------
    pd.DataFrame
        The neighbours of each embedding, the most similar first: ``query`` (index of the
        embedding), ``similarity`` (cosine), ``track_id, path, genre, start_s``.
    """
    x, train = _unit_embeddings(run), run.segments["split"] == "train"
    neighbors = NearestNeighbors(n_neighbors=int(train.sum()), metric="cosine").fit(x[train])
    distances, rows = neighbors.kneighbors(embeddings)
    table = run.segments[train].iloc[rows.ravel()][[*_TRACK, "start_s"]].reset_index(drop=True)
    table.insert(0, "query", np.repeat(range(len(rows)), rows.shape[1]))
    table.insert(1, "similarity", 1 - distances.ravel())
    table = table.drop_duplicates(["query", "track_id"])
    return table.groupby("query").head(n).reset_index(drop=True)


@_one_thread
def embedding_map(run: Run) -> pd.DataFrame:
    """Place all tracks on a map by t-SNE, where similar tracks are near each other.

    Parameters
    ----------
    run : Run
        See :func:`learning_curve`.

    Returns
    -------
    pd.DataFrame
        One row per track: ``track_id, path, genre, x, y``. Large distances have no meaning.
    """
    # PCA keeps fewer of the nearest neighbours.
    weighted = pd.DataFrame(_unit_embeddings(run)).mul(run.segments["sounding"], axis=0)
    means = normalize(weighted.groupby(run.segments["track_id"], sort=False).sum())
    points = TSNE(perplexity=min(30, (len(means) - 1) / 3), random_state=0).fit_transform(means)
    tracks = run.segments.drop_duplicates("track_id")[_TRACK].reset_index(drop=True)
    return tracks.assign(x=points[:, 0], y=points[:, 1])


def _unit_embeddings(run: Run) -> np.ndarray:
    if (embeddings := run.embeddings) is None:
        raise ValueError(f"{run.name!r} has no embeddings; train 'musicnn' or another frozen model")
    return np.asarray(normalize(embeddings.astype(float)))


@_one_thread
def _predict_held_out(run: Run, c: float, n: float = np.inf, repeat: int = 0) -> pd.DataFrame:
    """Predict each segment by a head that was fitted on n groups per genre of the other folds."""
    x, segments = _unit_embeddings(run), run.segments
    fold = assign_folds(segments, random_seed=repeat)
    groups = segments["group"].drop_duplicates().sample(frac=1, random_state=repeat)
    order = segments["group"].map(pd.Series(range(len(groups)), groups))
    probabilities = np.empty((len(x), len(run.genres)))
    for held_out in [fold == i for i in range(fold.max() + 1)]:
        fitted = order.mask(held_out).groupby(segments["genre"]).rank("dense") <= n
        head = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
        head.fit(x[fitted], segments["genre"][fitted], segments["sounding"][fitted])
        probabilities[held_out] = head.predict_proba(x[held_out])
    return add_predictions(segments.assign(split="test", repeat=repeat, fold=fold), probabilities)


def _label_probability(table: pd.DataFrame, run: Run) -> pd.Series:
    labels, columns = table["genre"].map(run.genres.index), probability_columns(run.genres)
    return pd.Series(table[columns].to_numpy()[np.arange(len(table)), labels], table.index)
