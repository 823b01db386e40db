"""Group tracks that must be on the same side of every split."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from genrecls.audio.duplicates import COPY_SHARE, find_near_duplicates
from genrecls.audio.fingerprint import StoredFingerprints

# A genre needs three groups. A sound in three of them does not come from one artist.
_MANY_GROUPS = 3
# Two sounds in a track are one if their middles are closer than half of the shortest sound.
_SAME_SOUND_S = 2.5


def find_recordings(tracks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add ``recording`` to tracks, and merge groups that share a recording.

    The fingerprints of the tracks must be stored.
    Tracks that share a sound of 5 s or more are one recording. The exception is a short part that
    three or more groups share, such as a jingle: merging them would leave nothing to hold out.
    The pairs of ``find_near_duplicates`` are returned too, with ``shared_by``: the number of groups
    that share the sound if it is a jingle, else 0.
    """
    pairs = find_near_duplicates(StoredFingerprints(tracks["sha256"].tolist()))
    pairs["shared_by"] = _count_sharing(pairs, tracks["group"].tolist())
    same = pairs[pairs["shared_by"] == 0]
    recording = _merge_pairs(tracks["track_id"].tolist(), same)
    group = merge_groups(tracks["group"], pd.Series(recording))
    return tracks.assign(recording=recording, group=group), pairs


def _count_sharing(pairs: pd.DataFrame, groups: list[str]) -> np.ndarray:
    """Return for each pair the number of groups that share its sound, 0 if it is a copy."""
    is_copy = (pairs["share"] >= COPY_SHARE).to_numpy()
    groups = _merge_pairs(groups, pairs[is_copy])
    parts = pairs[~is_copy]
    # A sound is a place in a track. All places where it was found are connected by pairs.
    places = pd.DataFrame(
        {
            "pair": [*parts.index, *parts.index],
            "track": [*parts["a"], *parts["b"]],
            "middle": [*parts["middle_s"], *(parts["middle_s"] - parts["offset_s"])],
        }
    ).sort_values(["track", "middle"])
    far = (places["track"].diff() != 0) | (places["middle"].diff() > _SAME_SOUND_S)
    sound = merge_groups(far.cumsum(), places["pair"])
    group = places["track"].map(dict(enumerate(groups)))
    counts = group.groupby(sound).transform("nunique").groupby(places["pair"]).first()
    return counts.where(counts >= _MANY_GROUPS, 0).reindex(pairs.index, fill_value=0).to_numpy()


def _merge_pairs(groups: list[str], pairs: pd.DataFrame) -> list:
    """Merge the groups of the tracks in each pair."""
    names = [*groups, *(groups[a] for a in pairs["a"])]
    merged = merge_groups(pd.Series(names), pd.Series([*range(len(groups)), *pairs["b"]]))
    return merged[: len(groups)]


def merge_groups(groups: pd.Series, same: pd.Series) -> list:
    """Merge groups until rows with the same key are in the same group."""
    group, names = pd.factorize(groups, sort=True)
    key, keys = pd.factorize(same)
    n = len(names) + len(keys)
    # Groups and keys are the nodes of a graph, and each row is an edge between them.
    edges = coo_array((np.ones(len(groups)), (group, len(names) + key)), shape=(n, n))
    _, component = connected_components(edges, directed=False)
    # Merged groups get the alphabetically first of their names, which are sorted.
    first = pd.Series(names).groupby(component[: len(names)]).first()
    return first[component[group]].tolist()
