"""What the network sees: the output of its first convolution for one piece."""

from __future__ import annotations

import numpy as np


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
    import keras

    first = next((x for x in model.layers if isinstance(x, keras.layers.Conv2D)), None)
    if first is None:
        raise ValueError(f"model {model.name!r} has no 2-D convolution")
    piece = np.asarray(piece, np.float32)
    piece = piece[..., None] if piece.ndim == 2 else piece
    if piece.shape != tuple(model.input_shape[1:]):
        raise ValueError(
            f"the model takes pieces of shape {model.input_shape[1:]}, not {piece.shape}"
        )
    upto = keras.Model(model.inputs[0], first.output)
    return np.moveaxis(upto.predict_on_batch(piece[None])[0], -1, 0)
