"""Colour tables shared by images and models."""

from __future__ import annotations

import matplotlib
import numpy as np


def color_table(colormap: str) -> np.ndarray:
    """Return the 256 colours of a colour map.

    Parameters
    ----------
    colormap : str
        Name of a matplotlib colour map.

    Returns
    -------
    np.ndarray [shape=(256, 3), dtype=float32], in [0, 1]
        RGB colours from the darkest to the brightest level.
    """
    return matplotlib.colormaps[colormap](np.arange(256))[:, :3].astype(np.float32)
