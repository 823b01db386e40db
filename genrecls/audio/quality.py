"""What can be said of one sound file without knowing the others: format, level, bandwidth."""

from __future__ import annotations

import os

import numpy as np

from genrecls.audio.decode import decode
from genrecls.audio.fingerprint import fingerprint
from genrecls.audio.resample import to_mono
from genrecls.config import FrontEnd

_SEGMENT_S = FrontEnd().segment_s
_FRAME_S = 0.05
_SILENCE_DBFS = -60.0


def measure_track(path: str | os.PathLike) -> dict:
    """What can be said of one file without knowing the others.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict
        ``codec, sample_rate`` (Hz), ``channels``, ``duration_s``, whole ``segments`` of
        15 s and the ``remainder_s``; ``peak`` and the largest ``dc`` of a channel (full scale is
        1); ``clipped``, see :func:`clipped_share`; ``silent`` (all of it), ``silent_s`` and
        ``longest_silence_s`` (frames of 50 ms below -60 dBFS RMS); ``loudness_lufs``, see
        :func:`loudness`; ``bandwidth_hz``, see :func:`bandwidth_edge`; ``notes`` of the decoder; and the ``fingerprint``.

    Raises
    ------
    AudioError
        If no decoder can read it, or what comes out is no sound.
    """
    decoded = decode(path)
    y, rate = decoded.samples, decoded.sample_rate
    mix = to_mono(np.clip(y, -1, 1).T)
    silent = _silent_frames(y, rate)
    turns = np.flatnonzero(np.diff(np.r_[0, silent, 0]))
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
        "clipped": clipped_share(y),
        "silent": bool(silent.all()),
        "silent_s": float(silent.sum() * _FRAME_S),
        "longest_silence_s": float((turns[1::2] - turns[::2]).max(initial=0) * _FRAME_S),
        "loudness_lufs": loudness(y, rate),
        "bandwidth_hz": bandwidth_edge(mix, rate),
        "notes": list(decoded.problems),
        "fingerprint": fingerprint(mix, rate),
    }


def _silent_frames(y: np.ndarray, rate: int) -> np.ndarray:
    """Of each 50 ms, whether all channels are silent; DC is no sound."""
    length = round(_FRAME_S * rate)
    count = y.shape[1] // length
    silent = np.ones(count, bool)
    for channel in y:
        frames = channel[: count * length].reshape(count, length)
        silent &= frames.std(axis=1) < 10 ** (_SILENCE_DBFS / 20)
    return silent


def clipped_share(y: np.ndarray) -> float:
    """Share of samples that are at least the third in a row at the extreme of their channel.

    The extreme counts, not full scale: what was clipped may have been turned down since. One
    step of 16 bits less is still the extreme. Tones above 100 Hz do not stay there for so long.
    """
    count = 0
    for channel in y:
        for side in (channel, -channel):
            top = side >= max(side.max() - 4e-5, 0.05)
            count += np.count_nonzero(top[2:] & top[1:-1] & top[:-2])
    return count / y.size


def loudness(y: np.ndarray, rate: int) -> float | None:
    """Integrated loudness (ITU-R BS.1770-4) in LUFS; None where all is below -70 LUFS.

    Gives what ``torchaudio.functional.loudness`` gives, but in blocks: that takes 2 GB and many
    seconds for four minutes of music.

    Parameters
    ----------
    y : np.ndarray [shape=(channels, n)]
        With six channels, the fourth is taken for that of the low frequencies, and left out.
    rate : int > 0 (in Hz)
    """
    from scipy.signal import sosfilt

    if len(y) > 5:
        y = np.delete(y, 3, axis=0)[:5]
    weights = np.array([1, 1, 1, 1.41, 1.41])[: len(y)]
    step = round(0.1 * rate)
    sos, state = _k_weighting(rate), np.zeros((2, len(y), 2))
    power = []
    for start in range(0, y.shape[1] - step + 1, 100 * step):
        block = y[:, start : start + 100 * step].astype(float)
        filtered, state = sosfilt(sos, block, axis=1, zi=state)
        whole = filtered[:, : filtered.shape[1] // step * step].reshape(len(y), -1, step)
        power.append(weights @ (whole**2).mean(axis=2))
    steps = np.concatenate([np.empty(0), *power])
    if len(steps) < 4:
        return None
    # Blocks of 400 ms, three quarters shared with the next.
    blocks = np.convolve(steps, np.full(4, 0.25), "valid")
    blocks = blocks[blocks > 10 ** ((-70 + 0.691) / 10)]
    if not len(blocks):
        return None
    return float(-0.691 + 10 * np.log10(blocks[blocks > blocks.mean() / 10].mean()))


def _k_weighting(rate: int) -> np.ndarray:
    """A high shelf of 4 dB at 1.5 kHz and a high pass at 38 Hz (R. Bristow-Johnson's biquads)."""
    shelf, w, q = 10 ** (4 / 40), 2 * np.pi * 1500 / rate, 1 / np.sqrt(2)
    cos, slope = np.cos(w), np.sqrt(shelf) * np.sin(w) / q
    plus, minus = shelf + 1, shelf - 1
    high_shelf = [
        shelf * (plus + minus * cos + slope),
        -2 * shelf * (minus + plus * cos),
        shelf * (plus + minus * cos - slope),
        plus - minus * cos + slope,
        2 * (minus - plus * cos),
        plus - minus * cos - slope,
    ]
    w, q = 2 * np.pi * 38 / rate, 0.5
    cos, alpha = np.cos(w), np.sin(w) / (2 * q)
    high_pass = [(1 + cos) / 2, -1 - cos, (1 + cos) / 2, 1 + alpha, -2 * cos, 1 - alpha]
    return np.array([np.divide(high_shelf, high_shelf[3]), np.divide(high_pass, high_pass[3])])


def bandwidth_edge(y: np.ndarray, rate: int) -> float:
    """Frequency in Hz above which a recording has been cut off; half the rate where it has not.

    A cut is a cliff in the long-term spectrum: within 1.5 kHz the level falls by 15 dB or more
    and never comes back. Music that fades towards the treble by 12 dB an octave or so loses less.
    The edge is where the level is last within 6 dB of that of the kilohertz before the cliff.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
    rate : int > 0 (in Hz)
    """
    from scipy.fft import rfft
    from scipy.ndimage import median_filter

    n_fft = 4096
    frames = y[: len(y) // n_fft * n_fft].reshape(-1, n_fft)
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    power = np.zeros(n_fft // 2)
    for start in range(0, len(frames), 256):
        spectrum = rfft(frames[start : start + 256] * window)[:, :-1]
        power += (spectrum.real**2 + spectrum.imag**2).sum(axis=0, dtype=float)
    if not power.any():
        return rate / 2
    width = max(1, round(100 * n_fft / rate))  # of a bin of about 100 Hz
    bin_hz = width * rate / n_fft
    power = power[: len(power) // width * width].reshape(-1, width).mean(axis=1)
    # What is 110 dB down is rounding error. The median takes out single tones.
    level = 10 * np.log10(np.maximum(power, 1e-11 * power.max()))
    level = median_filter(level, 5, mode="nearest")
    rest = np.maximum.accumulate(level[::-1])[::-1]
    # Below 3 kHz, where an octave is short, music falls as steeply by nature.
    reach, before, first = (round(hz / bin_hz) for hz in (1500, 1000, 3000))
    drop = level[first:-reach] - rest[first + reach :]
    if not len(drop) or drop.max() < 15:
        return rate / 2
    cliff = first + int(drop.argmax())
    near = np.median(level[cliff - before : cliff + 1]) - 6
    last = cliff - before + np.flatnonzero(level[cliff - before : cliff + reach] >= near)[-1]
    return float((last + 1) * bin_hz)
