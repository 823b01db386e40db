"""Images: log-mels in colours."""

import matplotlib
import numpy as np

from genrecls.config import FrontEnd


def to_image(log_mel: np.ndarray, front_end: FrontEnd | None = None) -> np.ndarray:
    """Convert a log-mel to a colour image: sound is a picture too.

    The levels in ``front_end.image_db`` are scaled to [0, 1] and coloured by the colour map.
    Most of an ``original`` image has one of two colours, because it shows only 3 dB.

    Parameters
    ----------
    log_mel : np.ndarray [shape=(..., n_mels, frames)] (in dB)
        One log-mel or a batch.
    front_end : FrontEnd, optional
        Settings with the levels and the colours; by default ``FrontEnd.preset("default")``.

    Returns
    -------
    np.ndarray [shape=(..., n_mels, frames, 3), dtype=float32], in [0, 1]
        RGB image. Row 0 is the lowest band: show it with ``origin="lower"``.

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
    return matplotlib.colormaps[front_end.colormap](level)[..., :3].astype(np.float32)
