"""What the network sees: the output of its first convolution for one piece."""

from __future__ import annotations

import os

import numpy as np

from .bundle import GenreClassifier
from .log_mels import track_log_mels
from .spectrogram import to_image


def first_layer_activations(model, piece: np.ndarray) -> np.ndarray:
    """Output of the first convolution of a model, whichever architecture it is.

    Parameters
    ----------
    model : keras.Model
        Of one of the builders, or any functional or sequential model with a 2-D convolution.
    piece : np.ndarray [shape=(height, width) or (height, width, channels)]
        One input of the model: a log-mel in dB, or a picture if the model takes pictures.

    Returns
    -------
    np.ndarray [shape=(channels, height', width'), dtype=float32]
        One map per channel; row 0 is the lowest frequency, as in the input.

    Raises
    ------
    ValueError
        If the model has no 2-D convolution, or the piece is not of its input shape.
    """
    from .backend import keras

    first = next((x for x in model.layers if isinstance(x, keras.layers.Conv2D)), None)
    if first is None:
        raise ValueError(f"model {model.name!r} has no 2-D convolution")
    piece = np.asarray(piece, np.float32)
    piece = piece[..., None] if piece.ndim == 2 else piece
    wanted = model.input_shape[1:]
    if len(wanted) != piece.ndim or any(
        size not in (None, n) for size, n in zip(wanted, piece.shape, strict=True)
    ):
        raise ValueError(f"the model takes pieces of shape {wanted}, not {piece.shape}")
    upto = keras.Model(model.inputs[0], first.output)
    return np.moveaxis(upto.predict_on_batch(piece[None])[0], -1, 0)


def track_activations(
    run: GenreClassifier, path: str | os.PathLike, *, piece: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Picture of a piece of a file, and what the first convolution of a saved run makes of it.

    Parameters
    ----------
    run : GenreClassifier
    path : str or path-like
    piece : int
        Position of the piece in the track, from 0.

    Returns
    -------
    image : np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
    maps : np.ndarray [shape=(channels, height', width')]

    Raises
    ------
    AudioError
        If the file cannot be used.
    """
    log_mels, _ = track_log_mels(path, run.front_end)
    levels = log_mels[piece]
    return to_image(levels, run.front_end), first_layer_activations(run.model, levels)
