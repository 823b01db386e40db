"""Samples to 15-second pieces, pieces to log-mel spectrograms, log-mels to pictures."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from .config import FrontEnd

#: Smallest mel power kept: -100 dB. Digital silence must not become minus infinity.
SMALLEST_POWER = 1e-10

#: What a change over time is taken from: this many frames before and after each.
DELTA_REACH = 4

_FRAMES = 28

# A piece whose loudest mel value stays below this is as good as silent: it is left dark instead
# of having its noise floor drawn as if it were music. In dB, for the default front end about
# 75 dB below a sine at full scale.
_SILENCE_DB = -20.0


def split_segments(
    y: np.ndarray,
    *,
    sample_rate: int,
    length_s: float = 15.0,
    hop_s: float | None = None,
    pad: bool = False,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Cut samples into pieces of equal length.

    Parameters
    ----------
    y : np.ndarray [shape=(..., n)]
        Samples of one track.
    sample_rate : int > 0 (in Hz)
    length_s : float > 0 (in seconds)
        Length of a piece.
    hop_s : float > 0, optional (in seconds)
        Step from the start of one piece to the next; by default ``length_s`` (no overlap).
    pad : bool
        Complete the last piece with zeros. By default what is left over is dropped.

    Returns
    -------
    pieces : np.ndarray [shape=(pieces, ..., round(length_s * sample_rate))]
        A read-only view of ``y`` (of a padded copy where ``pad`` adds something).
    table : pd.DataFrame
        One row a piece: ``segment`` (from 1, as in the original's ``<song>_<i+1>``),
        ``start_s``, ``end_s`` (in seconds; a padded piece ends where the sound does).

    Raises
    ------
    ValueError
        If ``y`` is shorter than one piece and ``pad`` is False, or is empty.

    Examples
    --------
    >>> import genrecls
    >>> import numpy as np
    >>> pieces, table = genrecls.split_segments(np.zeros(44100 * 40), sample_rate=44100)
    >>> pieces.shape
    (2, 661500)
    >>> table
       segment  start_s  end_s
    0        1      0.0   15.0
    1        2     15.0   30.0
    """
    if sample_rate <= 0 or length_s <= 0 or (hop_s is not None and hop_s <= 0):
        raise ValueError("sample_rate, length_s and hop_s are greater than 0")
    y = np.asarray(y)
    n = y.shape[-1]
    length = round(length_s * sample_rate)
    hop = length if hop_s is None else max(1, round(hop_s * sample_rate))
    if n == 0 or (n < length and not pad):
        raise ValueError(
            f"{n / sample_rate:.7g} s of sound is shorter than one piece of {length_s:g} s; "
            f"pad=True completes it with silence"
        )
    starts = np.arange(0, max(n - length, 0) + 1, hop)
    if pad and starts[-1] + length < n and starts[-1] + hop < n:
        starts = np.append(starts, starts[-1] + hop)
    short_by = max(starts[-1] + length - n, 0)
    if short_by:
        y = np.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, short_by)])
    windows = np.lib.stride_tricks.sliding_window_view(y, length, axis=-1)
    pieces = np.moveaxis(windows[..., ::hop, :], -2, 0)
    table = pd.DataFrame(
        {
            "segment": np.arange(1, len(pieces) + 1),
            "start_s": starts / sample_rate,
            "end_s": np.minimum(starts + length, n) / sample_rate,
        }
    )
    return pieces, table


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
    """Whether a piece is as good as silent: nothing to tell a genre by.

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


def power_spectra(frames: np.ndarray, window: np.ndarray, bins: slice = slice(None)) -> np.ndarray:
    """Power in some bins of windowed frames.

    Parameters
    ----------
    frames : np.ndarray [shape=(count, n), dtype=float32]
    window : np.ndarray [shape=(n, 1), dtype=float32]
    bins : slice

    Returns
    -------
    np.ndarray [shape=(bins, count), dtype=float32]
        The bins first, so that a product with weights of bands need not transpose it.
    """
    from scipy.fft import rfft

    spectra = rfft(frames.T * window, axis=0, overwrite_x=True)[bins]
    power = spectra.real**2
    power += spectra.imag**2
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


def to_image(log_mel: np.ndarray, front_end: FrontEnd | None = None) -> np.ndarray:
    """Colour a log-mel: sound is a picture too.

    The levels in ``front_end.picture_db`` are scaled to [0, 1] and go through the colour map.
    Preset ``seed`` draws only the 3 dB above a power of 1, which is what the original did by
    giving log2 power to a colour map for [0, 1]: most of its picture is one of two colours.

    With ``'deltas'`` the scaled level is the first channel. The second is how much it changes
    over 9 frames, by the slope of a straight line fitted to them (``librosa.feature.delta`` times
    9), the third how much that changes in turn; both from -0.5, drawn as 0, to 0.5, drawn as 1.

    Parameters
    ----------
    log_mel : np.ndarray [shape=(..., n_mels, frames)] (in dB)
    front_end : FrontEnd, optional
        By default ``FrontEnd.preset("default")``.

    Returns
    -------
    np.ndarray [shape=(..., n_mels, frames, 3), dtype=float32], in [0, 1]
        Row 0 is the lowest band: show it with ``origin="lower"``.

    Examples
    --------
    >>> import genrecls
    >>> import numpy as np
    >>> front_end = genrecls.FrontEnd.preset("default")
    >>> genrecls.to_image(np.full((128, 323), -80.0), front_end).max().item()
    0.0
    """
    front_end = front_end or FrontEnd.preset("default")
    low, high = front_end.picture_db
    level = np.clip((np.asarray(log_mel, np.float32) - low) / (high - low), 0, 1)
    if front_end.colormap == "gray":
        return np.repeat(level[..., None], 3, axis=-1)
    if front_end.colormap == "deltas":
        delta = _delta(level)
        changes = np.stack([delta, _delta(delta)], axis=-1)
        return np.concatenate([level[..., None], np.clip(changes + 0.5, 0, 1)], axis=-1)
    table = color_table(front_end.colormap)
    return table[np.minimum((level * len(table)).astype(int), len(table) - 1)]


def delta_weights() -> np.ndarray:
    """Weights of the frames around one, from first to last, that make its change over them all.

    Returns
    -------
    np.ndarray [shape=(2 * DELTA_REACH + 1,)]
    """
    steps = np.arange(-DELTA_REACH, DELTA_REACH + 1)
    return len(steps) * steps / np.sum(steps**2)


def _delta(values: np.ndarray) -> np.ndarray:
    """Change over time; before the first and after the last frame stands that frame itself."""
    from scipy.ndimage import correlate1d

    return correlate1d(values, delta_weights(), axis=-1, mode="nearest")


def color_table(colormap: str) -> np.ndarray:
    """The 256 colours of a colour map.

    Returns
    -------
    np.ndarray [shape=(256, 3), dtype=float32], in [0, 1]
    """
    import matplotlib

    return matplotlib.colormaps[colormap](np.arange(256))[:, :3].astype(np.float32)
