"""A sound file to the log-mels of its segments, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from genrecls.audio.decode import Blocks, array_blocks, read_blocks, warn_problems
from genrecls.audio.fingerprint import Fingerprinter
from genrecls.audio.resample import Resampler, to_mono
from genrecls.config import FrontEnd
from genrecls.errors import AudioError
from genrecls.features.segments import _cut, step_samples
from genrecls.features.spectrogram import is_silent, mel_spectrogram

# Half precision is exact to 0.03 dB at -80 dB and to 0.001 dB around 0 dB.
DTYPE = np.float16


def track_log_mels(
    path: str | os.PathLike, front_end: FrontEnd, *, pad: bool = False
) -> tuple[np.ndarray, pd.DataFrame]:
    """Log-mels of the segments of one file.

    Parameters
    ----------
    path : str or path-like
    front_end : FrontEnd
    pad : bool
        Complete the last segment with silence instead of dropping it.

    Returns
    -------
    log_mels : np.ndarray [shape=(segments, n_mels, frames), dtype=float16] (in dB)
        In the precision in which they are stored, so that a model is always given what it was
        trained on.
    table : pd.DataFrame
        ``segment, start_s, end_s`` as of :func:`genrecls.split_segments`, and ``silent``.

    Raises
    ------
    AudioError
        If the file cannot be decoded or is shorter than one segment.
    """
    log_mels, table, problems = extract_log_mels(path, front_end, pad=pad)
    warn_problems(path, problems)
    return log_mels, table


def extract_log_mels(
    sound: str | os.PathLike | np.ndarray,
    front_end: FrontEnd,
    *,
    sample_rate: int | None = None,
    pad: bool = False,
    step_s: float | None = None,
    max_duration_s: float | None = None,
) -> tuple[np.ndarray, pd.DataFrame, list[str]]:
    """:func:`track_log_mels` of a file or of samples, and what is to be warned of.

    Parameters
    ----------
    sound : str, path-like, or np.ndarray [shape=(n,) or (channels, n)]
    front_end : FrontEnd
    sample_rate : int > 0 (in Hz)
        Of an array.
    pad, step_s, max_duration_s
        See :func:`compute_log_mels`.

    Returns
    -------
    log_mels : np.ndarray [shape=(segments, n_mels, frames), dtype=float16] (in dB)
    table : pd.DataFrame
    problems : list of str

    Raises
    ------
    AudioError
        If a file cannot be decoded, or is too short or too long.
    ValueError
        If samples are no sound, or a segment is no whole number of hops long.
    """

    def collect(blocks: Blocks):
        log_mels: list[np.ndarray] = []
        options = {"pad": pad, "step_s": step_s, "max_duration_s": max_duration_s}
        table = compute_log_mels(path, blocks, front_end, log_mels.append, **options)
        return np.stack(log_mels), table, blocks.problems

    if isinstance(sound, np.ndarray):
        path = "<array>"
        return collect(array_blocks(sound, sample_rate))
    path = sound
    return read_blocks(path, collect, in_thread=True)


def compute_log_mels(
    path,
    blocks: Blocks,
    front_end: FrontEnd,
    keep: Callable[[np.ndarray], object],
    *,
    pad: bool = False,
    step_s: float | None = None,
    max_duration_s: float | None = None,
    listener: Fingerprinter | None = None,
) -> pd.DataFrame:
    """Give the log-mel of every segment to ``keep``, and every block to ``listener``.

    No more than a block and a segment is held at a time.

    Parameters
    ----------
    path : str or path-like
        For the error.
    blocks : Blocks
    front_end : FrontEnd
    keep : callable
    pad : bool
        Complete the last segment with silence instead of dropping it.
    step_s : float > 0, optional (in seconds)
        From the start of one segment to that of the next; by default their length. See
        :func:`step_samples`.
    max_duration_s : float > 0, optional (in seconds)
        Refuse what is longer, without reading the rest.
    listener : Fingerprinter, optional

    Returns
    -------
    pd.DataFrame
        The table of the segments.

    Raises
    ------
    AudioError
        If there is less than one segment of sound, or more than ``max_duration_s``.
    """
    rate, length = front_end.sample_rate, front_end.segment_samples
    hop = step_samples(front_end, step_s)
    rows = []
    for start, y in _cut(_sound(blocks, front_end, listener), length, hop):
        n = len(y)
        if max_duration_s and (start + n) / rate > max_duration_s:
            raise AudioError(
                path, {"length": f"more than {max_duration_s / 60:g} minutes"}, "Use a part of it."
            )
        if n < length and not (pad and n > (length - hop if rows else 0)):
            break
        if n < length:
            y = np.pad(y, (0, length - n))
        log_mel = mel_spectrogram(y, front_end)
        keep(log_mel.astype(DTYPE))
        silent = bool(is_silent(log_mel, front_end))
        rows.append((len(rows) + 1, start / rate, (start + n) / rate, silent))
    if not rows:
        short = (
            f"{n / rate:.7g} s of sound is shorter than one segment of {front_end.segment_s:g} s"
        )
        if blocks.problems:
            short = "; ".join([short, *blocks.problems])
        advice = "Export it again." if blocks.problems else "Use a longer recording."
        raise AudioError(path, {"length": short}, advice)
    return pd.DataFrame(rows, columns=["segment", "start_s", "end_s", "silent"])


def _sound(
    blocks: Blocks, front_end: FrontEnd, listener: Fingerprinter | None
) -> Iterator[np.ndarray]:
    """One channel at the rate of the front end, in stretches [shape=(n,)] of any length.

    No more of it than the file is long: a resampler rounds up, and 15 s less one sample are none.
    """
    resampler = Resampler(blocks.sample_rate, front_end.sample_rate)
    frames = given = 0
    for block in blocks:
        frames += len(block)
        if listener:
            listener.push(block)
        y = resampler.push(to_mono(block) if front_end.channel == "mix" else block[:, 0])
        given += len(y)
        yield y
    rest = resampler.push(np.empty(0, np.float32), last=True)
    yield rest[: max(frames * front_end.sample_rate // blocks.sample_rate - given, 0)]
