"""Log-mel spectrograms as images."""

from __future__ import annotations

import numpy as np

from genrecls._utils.colors import color_table, delta_weights
from genrecls.config import FrontEnd


def to_image(log_mel: np.ndarray, front_end: FrontEnd | None = None) -> np.ndarray:
    """Colour a log-mel: sound is a picture too.

    The levels in ``front_end.image_db`` are scaled to [0, 1] and go through the colour map.
    Preset ``original`` draws only the 3 dB above a power of 1, which is what the original did by
    giving log2 power to a colour map for [0, 1]: most of its image is one of two colours.

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
    low, high = front_end.image_db
    level = np.clip((np.asarray(log_mel, np.float32) - low) / (high - low), 0, 1)
    if front_end.colormap == "gray":
        return np.repeat(level[..., None], 3, axis=-1)
    if front_end.colormap == "deltas":
        delta = _delta(level)
        changes = np.stack([delta, _delta(delta)], axis=-1)
        return np.concatenate([level[..., None], np.clip(changes + 0.5, 0, 1)], axis=-1)
    table = color_table(front_end.colormap)
    return table[np.minimum((level * len(table)).astype(int), len(table) - 1)]


def _delta(values: np.ndarray) -> np.ndarray:
    """Change over time; before the first and after the last frame stands that frame itself."""
    from scipy.ndimage import correlate1d

    return correlate1d(values, delta_weights(), axis=-1, mode="nearest")
