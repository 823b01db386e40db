"""Samples to 15-second segments, segments to log-mel spectrograms, log-mels to images."""

from __future__ import annotations

import functools

import numpy as np

from genrecls.audio.spectra import power_spectra
from genrecls.config import FrontEnd

#: Smallest mel power kept: -100 dB. Digital silence must not become minus infinity.
SMALLEST_POWER = 1e-10

_FRAMES = 28

# A segment whose loudest mel value stays below this is as good as silent: it is left dark instead
# of having its noise floor drawn as if it were music. In dB, for the default front end about
# 75 dB below a sine at full scale.
_SILENCE_DB = -20.0


def mel_spectrogram(y: np.ndarray, front_end: FrontEnd | None = None) -> np.ndarray:
    """Mel-spectrogram in decibels.

    Power spectrum of Hann windows (centred, reflected at the ends), summed in triangular bands
    that are equally wide on the HTK mel scale, mel = 2595 log10(1 + f / 700), which is
    1127.01 ln(1 + f / 700) (O'Shaughnessy 1987), and 10 log10 of it.

    Parameters
    ----------
    y : np.ndarray [shape=(..., n)]
        Samples at ``front_end.sample_rate``; leading axes are a batch.
    front_end : FrontEnd, optional
        By default ``FrontEnd.preset("default")``.

    Returns
    -------
    np.ndarray [shape=(..., n_mels, 1 + n // hop_length), dtype=float32]
        Levels in dB: lowest band first, finite whatever ``y``, not below
        ``front_end.floor_db``. With ``reference='peak'`` the loudest value of each spectrogram
        is 0 dB (lower if it is silent).

    Raises
    ------
    ValueError
        If ``y`` is too short for one window or has values that are not finite, or whose power
        is not.

    Examples
    --------
    >>> import genrecls
    >>> import numpy as np
    >>> front_end = genrecls.FrontEnd.preset("default")
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(15 * 22050) / 22050)
    >>> genrecls.mel_spectrogram(tone, front_end).shape
    (128, 323)
    """
    front_end = front_end or FrontEnd.preset("default")
    db = 10 * np.log10(np.maximum(mel_power(y, front_end), SMALLEST_POWER))
    if front_end.reference == "peak":
        db -= np.maximum(db.max(axis=(-2, -1), keepdims=True), _SILENCE_DB)
    return np.maximum(db, front_end.floor_db)


def is_silent(log_mel: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Whether a segment is as good as silent: nothing to tell a genre by.

    Parameters
    ----------
    log_mel : np.ndarray [shape=(..., n_mels, frames)] (in dB)
        Of :func:`mel_spectrogram`.
    front_end : FrontEnd

    Returns
    -------
    np.ndarray [shape=(...), dtype=bool]
    """
    loudest = np.max(log_mel, axis=(-2, -1))
    # The peak of all others is at 0 dB.
    return loudest < (0 if front_end.reference == "peak" else _SILENCE_DB)


def mel_power(y: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Mel-spectrogram as power, before the logarithm. See :func:`mel_spectrogram`.

    Returns
    -------
    np.ndarray [shape=(..., n_mels, 1 + n // hop_length), dtype=float32], >= 0
    """
    y = np.asarray(y, np.float32)
    n_fft, hop = front_end.n_fft, front_end.hop_length
    if y.shape[-1] <= n_fft // 2:
        raise ValueError(f"{y.shape[-1]} samples are too few for windows of {n_fft} samples")
    window, bands = _window_and_bands(front_end)
    power = np.empty((*y.shape[:-1], front_end.n_mels, 1 + y.shape[-1] // hop), np.float32)
    for index in np.ndindex(y.shape[:-1]):
        reach = n_fft // 2
        padded = np.concatenate([y[index][reach:0:-1], y[index], y[index][-2 : -reach - 2 : -1]])
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
        # So few at once that they stay in the cache of the processor.
        for start in range(0, len(frames), _FRAMES):
            with np.errstate(invalid="ignore", over="ignore"):  # told below
                energy = power_spectra(frames[start : start + _FRAMES], window)
            power[index][:, start : start + _FRAMES] = bands @ energy
    if not np.isfinite(power).all():
        raise ValueError("samples are NaN or infinite, or their power is")
    return power


@functools.lru_cache(maxsize=8)
def _window_and_bands(front_end: FrontEnd):
    """Hann window [shape=(n_fft, 1)] and weights of the bands [shape=(n_mels, 1 + n_fft // 2)].

    Nearly all weights are 0, so that the matrix is a sparse one.
    """
    from scipy.signal.windows import hann
    from scipy.sparse import csr_array

    low, high = hz_to_mel(front_end.f_min), hz_to_mel(front_end.f_max)
    edges = mel_to_hz(np.linspace(low, high, front_end.n_mels + 2))[:, None]
    hz = np.arange(1 + front_end.n_fft // 2) * front_end.sample_rate / front_end.n_fft
    widths = np.diff(edges, axis=0)
    rising = (hz - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - hz) / widths[1:]
    weights = np.maximum(0, np.minimum(rising, falling))
    window = hann(front_end.n_fft, sym=False)
    return window.astype(np.float32)[:, None], csr_array(weights.astype(np.float32))


def mel_frequencies(front_end: FrontEnd) -> np.ndarray:
    """Centre frequency of every mel band.

    Returns
    -------
    np.ndarray [shape=(n_mels,)] (in Hz), increasing
    """
    low, high = hz_to_mel(front_end.f_min), hz_to_mel(front_end.f_max)
    return mel_to_hz(np.linspace(low, high, front_end.n_mels + 2)[1:-1])


def hz_to_mel(hz):
    """Frequency in Hz to mel (HTK): 2595 log10(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel):
    """Mel (HTK) to frequency in Hz: the inverse of :func:`hz_to_mel`."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
