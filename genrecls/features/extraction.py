"""Extraction: from a sound file to the log-mels of its segments, block by block."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from genrecls.audio.decode import AudioStream, open_audio, stream_array
from genrecls.audio.fingerprint import Fingerprinter
from genrecls.audio.resample import Resampler, to_mono
from genrecls.config import FrontEnd
from genrecls.errors import AudioError
from genrecls.features.segments import step_samples
from genrecls.features.spectrogram import apply_reference, mel_db, sounding_share

#: Type of stored levels: half precision is exact to 0.03 dB at -80 dB and to 0.001 dB at 0 dB.
DTYPE = np.float16


def extract_log_mels(
    sound: str | os.PathLike | np.ndarray,
    front_end: FrontEnd,
    *,
    sample_rate: int | None = None,
    pad: bool = False,
    step_s: float | None = None,
    max_duration_s: float | None = None,
) -> tuple[np.ndarray, pd.DataFrame, list[str]]:
    """Compute the log-mel of each segment of a file or of samples.

    Parameters
    ----------
    sound : str, path-like, or np.ndarray [shape=(n,) or (channels, n)]
        Sound file, or samples in [-1, 1].
    front_end : FrontEnd
        Settings of segments and log-mels.
    sample_rate : int > 0 (in Hz)
        Sample rate of samples, which is required; a file has its own.
    pad : bool
        Complete the last segment with silence. By default the remainder is dropped.
    step_s : float > 0, optional (in seconds)
        Time from the start of a segment to the start of the next; by default their length.
    max_duration_s : float > 0, optional (in seconds)
        Refuse longer sound, without reading all of it.

    Returns
    -------
    log_mels : np.ndarray [shape=(segments, n_mels, frames), dtype=float16] (in dB)
        Levels in the precision of the stored ones.
    table : pd.DataFrame
        One row per segment: ``segment``, ``start_s``, ``end_s`` as in
        :func:`genrecls.split_segments`, and ``sounding``: the share of the segment that is not
        silent, from 0 to 1, which is its weight in training and in the prediction of the track.
        Rests of less than 2 s are not silence. Always 1 if the front end keeps silence.
    problems : list of str
        Problems of a file that can be used nevertheless.

    Raises
    ------
    AudioError
        If a file cannot be decoded, or if the sound is too short or too long.
    ValueError
        If the samples are not sound, or ``step_s`` does not divide the length of a segment.
    """
    options = {"pad": pad, "step_s": step_s, "max_duration_s": max_duration_s}
    with open_sound(sound, sample_rate) as stream:
        rows, log_mels = zip(*compute_log_mels(stream, front_end, **options), strict=True)
    return np.stack(log_mels), pd.DataFrame(rows), stream.problems


def open_sound(
    sound: str | os.PathLike | np.ndarray, sample_rate: int | None = None
) -> contextlib.AbstractContextManager[AudioStream]:
    """Open a sound file, or samples, as a stream; see :func:`extract_log_mels`."""
    if isinstance(sound, np.ndarray):
        return contextlib.nullcontext(stream_array(sound, sample_rate))
    return open_audio(sound, prefetch=True)


def compute_log_mels(
    stream: AudioStream,
    front_end: FrontEnd,
    *,
    pad: bool = False,
    step_s: float | None = None,
    max_duration_s: float | None = None,
    fingerprinter: Fingerprinter | None = None,
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield the row and the log-mel of each segment; see :func:`extract_log_mels`.

    Only one block and one segment are in memory at a time. The fingerprinter gets each block, too.
    """
    path, rate = stream.path or "<array>", front_end.sample_rate
    length, step = front_end.segment_samples, step_samples(front_end, step_s)
    count = n = 0
    for start, y in _cut(_resample_stream(stream, front_end, fingerprinter), length, step):
        n = len(y)
        if max_duration_s and (start + n) / rate > max_duration_s:
            reason = f"more than {max_duration_s / 60:g} minutes"
            raise AudioError(path, {"length": reason}, "Use a part of it.")
        if n < length:
            # The remainder begins with samples that the last segment has had already.
            if not pad or n <= (length - step if count else 0):
                break
            y = np.pad(y, (0, length - n))
        db = mel_db(y, front_end)
        count += 1
        row = {"segment": count, "start_s": start / rate, "end_s": (start + n) / rate}
        row["sounding"] = sounding_share(db, front_end)
        yield row, apply_reference(db, front_end).astype(DTYPE)
    if not count:
        short = f"{n / rate:.7g} s of sound is shorter than one segment of {length / rate:g} s"
        advice = "Export it again." if stream.problems else "Use a longer recording."
        raise AudioError(path, {"length": "; ".join([short, *stream.problems])}, advice)


def _cut(blocks: Iterable[np.ndarray], length: int, step: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the start and the samples of each segment, and those of the remainder."""
    start, y = 0, np.empty(0, np.float32)
    for block in blocks:
        y = np.concatenate([y, block])
        while len(y) >= length:
            yield start, y[:length]
            start, y = start + step, y[step:]
    yield start, y


def _resample_stream(
    stream: AudioStream, front_end: FrontEnd, fingerprinter: Fingerprinter | None
) -> Iterator[np.ndarray]:
    """Yield the stream as one channel at the sample rate of the front end."""
    resampler = Resampler(stream.sample_rate, front_end.sample_rate)
    n_in = n_out = 0
    for block in stream:
        n_in += len(block)
        if fingerprinter:
            fingerprinter.push(block)
        y = resampler.push(to_mono(block) if front_end.channel == "mix" else block[:, 0])
        n_out += len(y)
        yield y
    # A resampler rounds up. One sample too many would make 15 s out of a file that is shorter.
    y = resampler.push(np.empty(0, np.float32), last=True)
    yield y[: max(n_in * front_end.sample_rate // stream.sample_rate - n_out, 0)]
