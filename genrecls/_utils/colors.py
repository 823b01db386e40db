"""Colour tables shared by images and models."""

import matplotlib
import numpy as np


def color_table(colormap: str) -> np.ndarray:
    """Return the 256 RGB colours of a colour map, in [0, 1]."""
    return matplotlib.colormaps[colormap](np.arange(256))[:, :3].astype(np.float32)
