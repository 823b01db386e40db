"""Measure level, silence, clipping, loudness and bandwidth of one sound file."""

from __future__ import annotations

import math
from os import PathLike
from typing import Any

import numpy as np
import pyloudnorm
from scipy.ndimage import median_filter

from genrecls.audio.decode import decode
from genrecls.audio.fingerprint import fingerprint
from genrecls.audio.resample import to_mono
from genrecls.audio.spectra import power_spectra
from genrecls.config import FrontEnd

_SEGMENT_S = FrontEnd().segment_s
_FRAME_S = 0.05
_SILENCE_DBFS = -60.0
_CHUNK_S = 60  # pyloudnorm needs several times the memory of the samples


def measure_track(path: str | PathLike) -> dict[str, Any]:
    """Measure one file, independently of the other files of a corpus.

    Parameters
    ----------
    path : str or path-like
        The sound file.

    Returns
    -------
    dict
        ``codec``, ``sample_rate`` (Hz), ``channels``, ``duration_s``; the number of whole
        ``segments`` of 15 s and the ``remainder_s`` after them; the ``peak`` and the largest
        ``dc`` of any channel, where full scale is 1; the share ``clipped`` of all samples;
        ``silent`` (whether the whole file is), ``silent_s`` and ``longest_silence_s``, from
        frames of 50 ms below -60 dBFS RMS; ``loudness_lufs`` (ITU-R BS.1770-4);
        ``bandwidth_hz``, the frequency above which a codec, for example, has cut the sound off,
        or half the sample rate; ``notes``, the problems on decoding; and the ``fingerprint``.

    Raises
    ------
    AudioError
        If the file cannot be decoded or is not sound.
    """
    decoded = decode(path)
    y, rate = decoded.samples, decoded.sample_rate
    mono = to_mono(np.clip(y, -1, 1).T)
    silent = _silent_frames(y, rate)
    changes = np.flatnonzero(np.diff(np.r_[0, silent, 0]))
    segments, remainder = divmod(y.shape[1], round(_SEGMENT_S * rate))
    return {
        "codec": decoded.codec,
        "sample_rate": rate,
        "channels": len(y),
        "duration_s": y.shape[1] / rate,
        "segments": segments,
        "remainder_s": remainder / rate,
        "peak": float(max(y.max(), -y.min())),
        "dc": float(np.abs(y.mean(axis=1, dtype=np.float64)).max()),
        "clipped": _clipped_share(y),
        "silent": bool(silent.all()),
        "silent_s": float(silent.sum() * _FRAME_S),
        "longest_silence_s": float((changes[1::2] - changes[::2]).max(initial=0) * _FRAME_S),
        "loudness_lufs": loudness(y, rate),
        "bandwidth_hz": _bandwidth_edge(mono, rate),
        "notes": list(decoded.problems),
        "fingerprint": fingerprint(mono, rate),
    }


def _silent_frames(y: np.ndarray, rate: int) -> np.ndarray:
    """Return for each 50 ms whether all channels are silent, apart from a constant (DC)."""
    length = round(_FRAME_S * rate)
    count = y.shape[1] // length
    silent = np.ones(count, bool)
    for channel in y:
        frames = channel[: count * length].reshape(count, length)
        silent &= frames.std(axis=1) < 10 ** (_SILENCE_DBFS / 20)
    return silent


def _clipped_share(y: np.ndarray) -> float:
    """Compute the share of samples that are at least the third in a row at an extreme."""
    # The extreme of the channel is compared instead of full scale, because the level may have been
    # lowered after clipping. Tones above 100 Hz do not stay within a 16-bit step for so long.
    count = 0
    for channel in y:
        for side in (channel, -channel):
            top = side >= max(side.max() - 4e-5, 0.05)
            count += np.count_nonzero(top[2:] & top[1:-1] & top[:-2])
    return count / y.size


def loudness(y: np.ndarray, rate: int) -> float | None:
    """Measure the loudness in LUFS (ITU-R BS.1770-4); None below -70 LUFS."""
    if len(y) > 5:  # The fourth of six channels, that of the low frequencies, does not count.
        y = np.delete(y, 3, axis=0)[:5]
    meter = pyloudnorm.Meter(rate)
    block_lufs: list[float] = []
    for start in range(0, y.shape[1] - math.ceil(meter.block_size * rate) + 1, _CHUNK_S * rate):
        meter.integrated_loudness(y[:, start : start + _CHUNK_S * rate].T)
        block_lufs += meter.blockwise_loudness
    # The gates of the standard: absolute at -70 LUFS, then 10 LU below the mean of what remains.
    power = 10 ** (np.array(block_lufs) / 10)
    power = power[power >= 1e-7]
    return float(10 * np.log10(power[power > power.mean() / 10].mean())) if len(power) else None


def _bandwidth_edge(y: np.ndarray, rate: int) -> float:
    """Find the frequency in Hz above which one channel was cut off, or half the sample rate.

    A cut is a steep edge in the mean spectrum: within 1.5 kHz the level falls by 15 dB or more,
    and it stays below. Music that fades by 12 dB per octave falls less. The cut is where the
    level is within 6 dB of that in the kilohertz below the edge for the last time.
    """
    n_fft = 4096
    frames = y[: len(y) // n_fft * n_fft].reshape(-1, n_fft)
    window = np.hanning(n_fft + 1)[:-1, None].astype(np.float32)
    power = np.zeros(n_fft // 2)
    for start in range(0, len(frames), 256):
        spectra = power_spectra(frames[start : start + 256], window, slice(n_fft // 2))
        power += spectra.sum(axis=1, dtype=float)
    if not power.any():
        return rate / 2
    width = max(1, round(100 * n_fft / rate))  # bins of about 100 Hz
    bin_hz = width * rate / n_fft
    power = power[: len(power) // width * width].reshape(-1, width).mean(axis=1)
    # Values 110 dB below the maximum are rounding errors. The median removes single tones.
    level = 10 * np.log10(np.maximum(power, 1e-11 * power.max()))
    level = median_filter(level, 5, mode="nearest")
    highest_above = np.maximum.accumulate(level[::-1])[::-1]
    # Below 3 kHz, where an octave is narrow, music itself falls as steeply.
    reach, before, first = (round(hz / bin_hz) for hz in (1500, 1000, 3000))
    drop = level[first:-reach] - highest_above[first + reach :]
    if not len(drop) or drop.max() < 15:
        return rate / 2
    edge = first + int(drop.argmax())
    threshold = np.median(level[edge - before : edge + 1]) - 6
    last = edge - before + np.flatnonzero(level[edge - before : edge + reach] >= threshold)[-1]
    return float((last + 1) * bin_hz)
