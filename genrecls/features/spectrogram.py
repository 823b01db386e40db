"""Log-mels: mel spectrograms in decibels."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal.windows import hann
from scipy.sparse import csr_array

from genrecls.audio.spectra import power_spectra
from genrecls.config import FrontEnd

_MIN_POWER = 1e-10  # so that digital silence has -100 dB instead of minus infinity

# Number of frames that are transformed together. They fit in the cache of the processor, which
# saves 13 % of the time of prepare() (12 tracks of 4 minutes, default front end, one process).
_FRAMES = 28

# A segment whose highest level is below -20 dB counts as silent. It stays dark: divided by its
# own peak, its noise would look like music. For the default front end, this level is about 75 dB
# below a sine at full scale.
_SILENCE_DB = -20.0


def mel_spectrogram(y: np.ndarray, front_end: FrontEnd | None = None) -> np.ndarray:
    """Compute the mel spectrogram of samples in decibels.

    The power spectra of Hann windows (centred, reflected at both ends) are summed in triangular
    bands of equal width on the HTK mel scale [1]_.

    Parameters
    ----------
    y : np.ndarray [shape=(..., n)]
        Samples at ``front_end.sample_rate``. Leading axes are a batch.
    front_end : FrontEnd, optional
        Settings of windows and bands; by default ``FrontEnd.preset("default")``.

    Returns
    -------
    np.ndarray [shape=(..., n_mels, 1 + n // hop_length), dtype=float32] (in dB)
        Finite levels, lowest band first. With ``reference='peak'`` the highest level of each
        spectrogram is 0 dB, or lower if it is silent.

    Raises
    ------
    ValueError
        If ``y`` is too short for one window, or if its values or their power are not finite.

    References
    ----------
    .. [1] D. O'Shaughnessy: Speech Communication: Human and Machine. Addison-Wesley, 1987. HTK
       uses its formula; see :func:`hz_to_mel`.

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
    db = 10 * np.log10(np.maximum(mel_power(y, front_end), _MIN_POWER))
    if front_end.reference == "peak":
        db -= np.maximum(db.max(axis=(-2, -1), keepdims=True), _SILENCE_DB)
    return np.maximum(db, front_end.floor_db)


def is_silent(log_mel: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Return whether each log-mel is too quiet to be music."""
    # Relative to its peak, every segment that is not silent reaches 0 dB.
    limit = 0 if front_end.reference == "peak" else _SILENCE_DB
    return np.max(log_mel, axis=(-2, -1)) < limit


def mel_power(y: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Compute the mel spectrogram of samples as power.

    Parameters
    ----------
    y, front_end
        See :func:`mel_spectrogram`, which also describes shape and errors.
    """
    y = np.asarray(y, np.float32)
    n, n_fft, hop = y.shape[-1], front_end.n_fft, front_end.hop_length
    if n <= n_fft // 2:
        raise ValueError(f"{n} samples are too few for windows of {n_fft} samples")
    window, bands = _window_and_bands(front_end)
    power = np.empty((*y.shape[:-1], front_end.n_mels, 1 + n // hop), np.float32)
    for index in np.ndindex(y.shape[:-1]):
        padded = np.pad(y[index], n_fft // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
        for start in range(0, len(frames), _FRAMES):
            part = slice(start, start + _FRAMES)
            with np.errstate(invalid="ignore", over="ignore"):  # the result is checked below
                power[index][:, part] = bands @ power_spectra(frames[part], window)
    if not np.isfinite(power).all():
        raise ValueError("samples are NaN or infinite, or their power is")
    return power


@functools.lru_cache(maxsize=8)
def _window_and_bands(front_end: FrontEnd) -> tuple[np.ndarray, csr_array]:
    """Return the window as a column, and the weight of every frequency in every band."""
    edges = _band_edges(front_end)[:, None]
    hz = np.arange(1 + front_end.n_fft // 2) * front_end.sample_rate / front_end.n_fft
    widths = np.diff(edges, axis=0)
    rising = (hz - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - hz) / widths[1:]
    weights = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    window = hann(front_end.n_fft, sym=False).astype(np.float32)
    return window[:, None], csr_array(weights)  # nearly all weights are 0


def _band_edges(front_end: FrontEnd) -> np.ndarray:
    low, high = hz_to_mel(np.array([front_end.f_min, front_end.f_max]))
    return mel_to_hz(np.linspace(low, high, front_end.n_mels + 2))


def mel_frequencies(front_end: FrontEnd) -> np.ndarray:
    """Return the centre frequency of every mel band [shape=(n_mels,)] (in Hz).

    Parameters
    ----------
    front_end : FrontEnd
        Settings of the bands.
    """
    return _band_edges(front_end)[1:-1]


def hz_to_mel(hz: ArrayLike) -> np.ndarray:
    """Convert frequencies to the HTK mel scale: 2595 log10(1 + hz / 700).

    Parameters
    ----------
    hz : array-like >= 0 (in Hz)
        Frequencies.
    """
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel: ArrayLike) -> np.ndarray:
    """Convert values on the HTK mel scale to frequencies in Hz.

    Parameters
    ----------
    mel : array-like >= 0
        Values on the mel scale; see :func:`hz_to_mel`.
    """
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
