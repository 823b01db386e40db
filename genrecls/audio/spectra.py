"""Power spectra of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.fft import rfft


def power_spectra(frames: np.ndarray, window: np.ndarray, bins: slice = slice(None)) -> np.ndarray:
    """Compute the power spectra of windowed frames.

    Parameters
    ----------
    frames : np.ndarray [shape=(count, n), dtype=float32]
        Samples of the frames.
    window : np.ndarray [shape=(n, 1), dtype=float32]
        Window that the frames are multiplied by.
    bins : slice
        Frequency bins to return; by default all of them.

    Returns
    -------
    np.ndarray [shape=(bins, count), dtype=float32]
        Power. The bins come first, so that a matrix of band weights can be multiplied from the
        left without a transpose.
    """
    spectra: Any = rfft(frames.T * window, axis=0, overwrite_x=True)
    spectra = spectra[bins]
    power = spectra.real**2
    power += spectra.imag**2
    return power
