"""Colour maps and weights shared by images and models."""

from __future__ import annotations

import numpy as np

#: What a change over time is taken from: this many frames before and after each.
DELTA_REACH = 4


def delta_weights() -> np.ndarray:
    """Weights of the frames around one, from first to last, that make its change over them all.

    Returns
    -------
    np.ndarray [shape=(2 * DELTA_REACH + 1,)]
    """
    steps = np.arange(-DELTA_REACH, DELTA_REACH + 1)
    return len(steps) * steps / np.sum(steps**2)


def color_table(colormap: str) -> np.ndarray:
    """The 256 colours of a colour map.

    Returns
    -------
    np.ndarray [shape=(256, 3), dtype=float32], in [0, 1]
    """
    import matplotlib

    return matplotlib.colormaps[colormap](np.arange(256))[:, :3].astype(np.float32)
