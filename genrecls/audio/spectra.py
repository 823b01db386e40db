"""Power spectra of frames."""

from typing import Any

import numpy as np
from scipy.fft import rfft


def power_spectra(frames: np.ndarray, window: np.ndarray, bins: slice = slice(None)) -> np.ndarray:
    """Compute the power spectra [shape=(bins, count)] of frames [shape=(count, n)]."""
    # The bins come first, so that band weights are multiplied from the left without a transpose.
    spectra: Any = rfft(frames.T * window, axis=0, overwrite_x=True)
    spectra = spectra[bins]
    power = spectra.real**2
    power += spectra.imag**2
    return power
