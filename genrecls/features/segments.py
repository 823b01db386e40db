"""Segments of equal length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from genrecls.config import FrontEnd


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
    length_s : float > 0 (in seconds)
        Length of a segment.
    step_s : float > 0, optional (in seconds)
        Step from the start of one segment to the next; by default ``length_s`` (no overlap).
    pad : bool
        Complete the last segment with zeros. By default what is left over is dropped.

    Returns
    -------
    segments : np.ndarray [shape=(segments, ..., round(length_s * sample_rate))]
        A read-only view of ``y`` (of a padded copy where ``pad`` adds something).
    table : pd.DataFrame
        One row a segment: ``segment`` (from 1, as in the original's ``<song>_<i+1>``),
        ``start_s``, ``end_s`` (in seconds; a padded segment ends where the sound does).

    Raises
    ------
    ValueError
        If ``y`` is shorter than one segment and ``pad`` is False, or is empty.

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
        raise ValueError("sample_rate, length_s and step_s are greater than 0")
    y = np.asarray(y)
    n = y.shape[-1]
    length = round(length_s * sample_rate)
    hop = length if step_s is None else max(1, round(step_s * sample_rate))
    if n == 0 or (n < length and not pad):
        raise ValueError(
            f"{n / sample_rate:.7g} s of sound is shorter than one segment of {length_s:g} s; "
            f"pad=True completes it with silence"
        )
    starts = np.arange(0, max(n - length, 0) + 1, hop)
    if pad and starts[-1] + length < n and starts[-1] + hop < n:
        starts = np.append(starts, starts[-1] + hop)
    short_by = max(starts[-1] + length - n, 0)
    if short_by:
        y = np.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, short_by)])
    windows = np.lib.stride_tricks.sliding_window_view(y, length, axis=-1)
    segments = np.moveaxis(windows[..., ::hop, :], -2, 0)
    table = pd.DataFrame(
        {
            "segment": np.arange(1, len(segments) + 1),
            "start_s": starts / sample_rate,
            "end_s": np.minimum(starts + length, n) / sample_rate,
        }
    )
    return segments, table


#: Segments of a track may begin so close to each other: ten times as many a second would fill the
#: memory.
MIN_STEP_S = 0.1


def step_samples(front_end: FrontEnd, step_s: float | None) -> int:
    """Samples from one segment to the next.

    Raises
    ------
    ValueError
        Unless a segment is a whole number of hops long: else the segments that a prediction rests on,
        which do not overlap, would not be among those that do.
    """
    length = front_end.segment_samples
    if step_s is None:
        return length
    if not MIN_STEP_S <= step_s <= front_end.segment_s:  # NaN neither
        raise ValueError(
            f"a hop is from {MIN_STEP_S:g} to {front_end.segment_s:g} s long, not {step_s:g} s"
        )
    hop = round(step_s * front_end.sample_rate)
    if length % hop:
        some = ", ".join(f"{front_end.segment_s / n:g}" for n in (15, 10, 5, 3, 2))
        raise ValueError(
            f"a segment of {front_end.segment_s:g} s is no whole number of hops of {step_s:g} s; "
            f"{some} s go into it"
        )
    return hop


def non_overlapping(segments: pd.DataFrame, front_end: FrontEnd) -> np.ndarray:
    """Which of the segments of a track stand side by side, from the first one on.

    Parameters
    ----------
    segments : pd.DataFrame
        All segments of a track, in the order of time, with ``start_s``.
    front_end : FrontEnd

    Returns
    -------
    np.ndarray [shape=(len(segments),), dtype=bool]
    """
    step_s = segments["start_s"].diff().iloc[1:2].min()  # NaN where there is one segment
    every = 1 if np.isnan(step_s) else round(front_end.segment_s / step_s)
    return np.arange(len(segments)) % every == 0


def _cut(sound: Iterator[np.ndarray], length: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Segments of so many samples and where they start; at last what is left, which may be empty.

    A segment is to be used before the next one is asked for, which takes its place.
    """
    segment, held, start = np.empty(length, np.float32), 0, 0
    for y in sound:
        while len(y):
            part, y = y[: length - held], y[length - held :]
            segment[held : held + len(part)] = part
            held += len(part)
            if held == length:
                yield start, segment
                segment[: length - hop] = segment[hop:]
                start, held = start + hop, length - hop
    yield start, segment[:held]
