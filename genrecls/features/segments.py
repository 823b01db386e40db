"""Segments: stretches of equal length that a track is cut into."""

import numpy as np
import pandas as pd

from genrecls.config import FrontEnd

# Shortest step between segments (in seconds). At 0.01 s the segments would fill the memory.
_MIN_STEP_S = 0.1


def split_segments(
    y: np.ndarray,
    *,
    sample_rate: int,
    length_s: float = 15.0,
    step_s: float | None = None,
    pad: bool = False,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Cut samples into segments of equal length.

    Parameters
    ----------
    y : np.ndarray [shape=(..., n)]
        Samples of one track.
    sample_rate : int > 0 (in Hz)
        Sample rate of ``y``.
    length_s : float > 0 (in seconds)
        Length of a segment.
    step_s : float > 0, optional (in seconds)
        Time from the start of a segment to the start of the next; by default ``length_s``.
    pad : bool
        Complete the last segment with zeros. By default the remainder is dropped.

    Returns
    -------
    segments : np.ndarray [shape=(segments, ..., round(length_s * sample_rate))]
        A read-only view of ``y``, or of a padded copy.
    table : pd.DataFrame
        One row per segment: ``segment`` (numbered from 1, as the original numbers its files),
        ``start_s`` and ``end_s`` (in seconds; a padded segment ends where the sound ends).

    Raises
    ------
    ValueError
        If ``y`` is empty, or if it is shorter than one segment and ``pad`` is False.

    Examples
    --------
    >>> import genrecls
    >>> import numpy as np
    >>> segments, table = genrecls.split_segments(np.zeros(44100 * 40), sample_rate=44100)
    >>> segments.shape
    (2, 661500)
    >>> table
       segment  start_s  end_s
    0        1      0.0   15.0
    1        2     15.0   30.0
    """
    step_s = length_s if step_s is None else step_s
    if min(sample_rate, length_s, step_s) <= 0:
        raise ValueError("sample_rate, length_s and step_s must be above 0")
    y = np.asarray(y)
    n, length, step = y.shape[-1], round(length_s * sample_rate), round(step_s * sample_rate)
    step = max(1, step)
    if n == 0 or (n < length and not pad):
        raise ValueError(
            f"{n / sample_rate:.7g} s of sound is shorter than one segment of {length_s:g} s; "
            f"use a longer recording or pad=True"
        )
    starts = np.arange(0, max(n - length, 0) + 1, step)
    if pad and starts[-1] + max(length, step) < n:
        starts = np.append(starts, starts[-1] + step)
    if (missing := starts[-1] + length - n) > 0:
        y = np.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, missing)])
    windows = np.lib.stride_tricks.sliding_window_view(y, length, axis=-1)[..., ::step, :]
    table = pd.DataFrame({"start_s": starts, "end_s": np.minimum(starts + length, n)}) / sample_rate
    table.insert(0, "segment", np.arange(1, len(starts) + 1))
    return np.moveaxis(windows, -2, 0), table


def step_samples(front_end: FrontEnd, step_s: float | None) -> int:
    """Convert the step between segments from seconds to samples.

    It must divide the length of a segment, its default, since the prediction of a track needs the
    segments that do not overlap. Otherwise, a ValueError is raised.
    """
    length, length_s, rate = front_end.segment_samples, front_end.segment_s, front_end.sample_rate
    if step_s is None:
        return length
    if not _MIN_STEP_S <= step_s <= length_s:  # also refuses NaN
        raise ValueError(f"step_s must be from {_MIN_STEP_S:g} to {length_s:g} s, not {step_s:g} s")
    step = round(step_s * rate)
    if length % step:
        seconds = [s for s in range(1, int(length_s) + 1) if length % (s * rate) == 0]
        choices = " or ".join(", ".join(map(str, seconds or [length_s])).rsplit(", ", 1))
        raise ValueError(
            f"step_s must divide the segment length: {length_s:g} s / {step_s:g} s is not a whole "
            f"number; try {choices}"
        )
    return step


def non_overlapping(segments: pd.DataFrame, front_end: FrontEnd) -> np.ndarray:
    """Mark the segments of a track that follow each other without overlap."""
    step_s = segments["start_s"].diff().iloc[1:2].min()  # NaN if there is one segment
    every = 1 if np.isnan(step_s) else round(front_end.segment_s / step_s)
    return np.arange(len(segments)) % every == 0
