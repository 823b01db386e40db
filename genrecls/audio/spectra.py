"""Power spectra of frames."""

from __future__ import annotations

import numpy as np


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
