"""Stored features: the segments of a corpus, and their log-mels on disk.

The report reads them without an audio decoder, so that this module must not import one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls.config import FrontEnd
from genrecls.errors import CorpusError

#: Function that takes the hash of a sound file and returns an array [shape=(segments, ...)]: the
#: log-mels of all its segments, or the outputs of a frozen backbone for them.
SegmentLoader = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Features:
    """The segments of a corpus and their log-mels under one front end.

    Attributes
    ----------
    front_end : FrontEnd
        Settings that the log-mels were computed with.
    segments : pd.DataFrame
        One row per segment: ``track_id, path, genre, artist, segment, start_s, end_s, split``, the
        other columns of the tracks table, and ``recording``, which is equal for tracks that share
        5 s or more of a recording, such as a copy in another format. Their ``group`` is equal, too.
        ``sounding`` is the weight of a segment: the share that is not silent, above 0 and up to 1.
    failures : pd.DataFrame
        One row per track that cannot be used: ``path, reason``.
    notes : pd.DataFrame
        One row per warning about a track that can be used: ``path, note``.
    folder : Path
        Folder of the stored log-mels.
    """

    front_end: FrontEnd
    segments: pd.DataFrame
    failures: pd.DataFrame
    notes: pd.DataFrame
    folder: Path

    def log_mels(self, segments: pd.DataFrame) -> np.ndarray:
        """Load the log-mels of segments.

        Parameters
        ----------
        segments : pd.DataFrame
            Rows of ``self.segments`` in any order.

        Returns
        -------
        np.ndarray [shape=(len(segments), n_mels, frames, 1), dtype=float32] (in dB)
            Log-mels in the order of the rows.
        """
        return gather_segments(self.track, segments)

    def track(self, sha256: str) -> np.ndarray:
        """Map the log-mels of all segments of the file with a hash, even the silent ones."""
        return _map(self.folder / log_mels_entry(self.front_end, sha256).name)[..., None]


def gather_segments(loader: SegmentLoader, segments: pd.DataFrame) -> np.ndarray:
    """Load the array of each row of ``sha256`` and ``segment``, as float32."""
    rows = segments.reset_index(drop=True)
    out = np.empty((len(rows), *loader(rows["sha256"].iloc[0]).shape[1:]), np.float32)
    for sha256, group in rows.groupby("sha256", sort=False):
        out[group.index] = loader(str(sha256))[group["segment"].to_numpy() - 1]
    return out


def log_mels_entry(front_end: FrontEnd, sha256: str) -> Path:
    """Return the cache entry for the log-mels of a file with this hash."""
    return cache.entry("log_mels", f"{front_end.log_mel_uid}-{sha256}")


def stored_log_mels(front_end: FrontEnd, sha256: str) -> np.ndarray:
    """Map the stored log-mels of a track into memory.

    The result [shape=(segments, n_mels, frames), dtype=float16] (in dB) has all segments, even
    silent ones. A CorpusError is raised if it is missing or damaged.
    """
    entry = log_mels_entry(front_end, sha256)
    if cache.load(entry) is None:
        advice = "'genrecls train' computes it again, and keeps models that are up to date"
        raise CorpusError(f"{str(entry)!r} is missing; {advice}")
    return _map(entry)


def _map(entry: Path) -> np.ndarray:
    return np.load(entry / "log_mels.npy", mmap_mode="r", allow_pickle=False)
