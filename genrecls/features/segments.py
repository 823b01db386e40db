"""Segments: stretches of equal length that a track is cut into."""

from __future__ import annotations

import numpy as np
import pandas as pd

from genrecls.config import FrontEnd

#: Shortest step between segments (in seconds). At 0.01 s the segments would fill the memory.
MIN_STEP_S = 0.1


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
        Step from the start of a segment to the start of the next; by default ``length_s``.
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
    if sample_rate <= 0 or length_s <= 0 or (step_s is not None and step_s <= 0):
        raise ValueError("sample_rate, length_s and step_s must be above 0")
    y = np.asarray(y)
    n = y.shape[-1]
    length = round(length_s * sample_rate)
    step = length if step_s is None else max(1, round(step_s * sample_rate))
    if n == 0 or (n < length and not pad):
        raise ValueError(
            f"{n / sample_rate:.7g} s of sound is shorter than one segment of {length_s:g} s; "
            f"use a longer recording or pad=True"
        )
    starts = np.arange(0, max(n - length, 0) + 1, step)
    if pad and max(starts[-1] + length, starts[-1] + step) < n:
        starts = np.append(starts, starts[-1] + step)
    if starts[-1] + length > n:
        y = np.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, starts[-1] + length - n)])
    windows = np.lib.stride_tricks.sliding_window_view(y, length, axis=-1)
    table = pd.DataFrame(
        {"segment": np.arange(1, len(starts) + 1), "start_s": starts / sample_rate}
    )
    table["end_s"] = np.minimum(starts + length, n) / sample_rate
    return np.moveaxis(windows[..., ::step, :], -2, 0), table


def step_samples(front_end: FrontEnd, step_s: float | None) -> int:
    """Return the step from one segment to the next in samples.

    Parameters
    ----------
    front_end : FrontEnd
        Settings with the sample rate and the length of a segment.
    step_s : float, optional (in seconds)
        Step from the start of a segment to the start of the next; None: the length of a segment.

    Raises
    ------
    ValueError
        If the step is out of range or does not divide the length of a segment. The prediction of
        a track rests on segments without overlap, which must be among the overlapping ones.
    """
    length, length_s = front_end.segment_samples, front_end.segment_s
    if step_s is None:
        return length
    if not MIN_STEP_S <= step_s <= length_s:  # also refuses NaN
        raise ValueError(f"step_s must be from {MIN_STEP_S:g} to {length_s:g} s, not {step_s:g} s")
    step = round(step_s * front_end.sample_rate)
    if length % step:
        seconds = [
            s for s in range(1, int(length_s) + 1) if length % (s * front_end.sample_rate) == 0
        ]
        choices = ", ".join(map(str, seconds or [length_s]))
        raise ValueError(
            f"step_s must divide the segment length: {length_s:g} s / {step_s:g} s is not a whole "
            f"number; try {' or '.join(choices.rsplit(', ', 1))}"
        )
    return step


def non_overlapping(segments: pd.DataFrame, front_end: FrontEnd) -> np.ndarray:
    """Select the segments of a track that follow each other without overlap.

    Parameters
    ----------
    segments : pd.DataFrame
        All segments of a track in the order of time, with the column ``start_s``.
    front_end : FrontEnd
        Settings with the length of a segment.

    Returns
    -------
    np.ndarray [shape=(len(segments),), dtype=bool]
        True for the first segment and for each one a whole number of lengths later.
    """
    step_s = segments["start_s"].diff().iloc[1:2].min()  # NaN if there is one segment
    every = 1 if np.isnan(step_s) else round(front_end.segment_s / step_s)
    return np.arange(len(segments)) % every == 0
