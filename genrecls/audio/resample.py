"""Changes of sample rate and number of channels."""

from __future__ import annotations

import numpy as np


def to_mono(block: np.ndarray) -> np.ndarray:
    """Mean of the channels of a block [shape=(n, channels)], of a quarter of the time that NumPy's
    ``mean`` takes."""
    channels = block.shape[1]
    return block[:, 0] if channels == 1 else block @ np.full(channels, 1 / channels, np.float32)


def resample(y: np.ndarray, orig_sr: int, target_sr: int) -> np.ndarray:
    """Change the sample rate with a band-limited filter (SoX resampler, high quality).

    Parameters
    ----------
    y : np.ndarray [shape=(..., n)]
    orig_sr, target_sr : int > 0 (in Hz)

    Returns
    -------
    np.ndarray [shape=(..., about n * target_sr / orig_sr), dtype=float32]

    Examples
    --------
    >>> import genrecls
    >>> import numpy as np
    >>> genrecls.resample(np.zeros((2, 44100)), 44100, 22050).shape
    (2, 22050)
    """
    import soxr

    return soxr.resample(np.asarray(y, np.float32).T, orig_sr, target_sr).T


class Resampler:
    """:func:`resample` of one channel, block by block; what overshoots full scale is cut off.

    Parameters
    ----------
    orig_sr, target_sr : float > 0 (in Hz)
    """

    def __init__(self, orig_sr: float, target_sr: float):
        import soxr

        same = orig_sr == target_sr
        self._stream = None if same else soxr.ResampleStream(orig_sr, target_sr, 1, dtype="float32")

    def push(self, y: np.ndarray, *, last: bool = False) -> np.ndarray:
        """What is known of the resampled sound after the next samples [shape=(n,)]; after the
        last ones all of it."""
        if self._stream is None:
            return y
        y = self._stream.resample_chunk(np.ascontiguousarray(y), last=last)
        return np.clip(y, -1, 1, out=y)
