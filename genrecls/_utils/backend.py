"""Keras, imported without the pages that TensorFlow writes to the terminal and to notebooks.

Errors are unharmed: they come as exceptions. ``TF_CPP_MIN_LOG_LEVEL=0`` shows the rest.
"""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["gradient", "keras", "make_deterministic"]


@contextlib.contextmanager
def _without_stderr():
    """Send what C++ writes to the standard error stream to nowhere."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
    import keras
else:
    # What TensorFlow says before it reads that variable goes to the stream itself.
    with _without_stderr():
        import keras


def make_deterministic() -> None:
    """Let the same seeds give the same net on the same machine, bit by bit.

    Sums are then made in the same order every time. It costs no time worth mentioning on a CPU; on
    a GPU it does, and a few operations cannot be had. ``GENRECLS_DETERMINISTIC=0`` turns it off.
    """
    if os.environ.get("GENRECLS_DETERMINISTIC") == "0":
        return
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def gradient(function, x):
    """Gradient of a scalar function of a tensor, whichever backend Keras runs on.

    Parameters
    ----------
    function : callable
        Of a tensor to a scalar, in `keras.ops`.
    x : np.ndarray

    Returns
    -------
    np.ndarray [shape of x]
    """
    backend = keras.backend.backend()
    x = keras.ops.convert_to_tensor(x)
    if backend == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        slope = tape.gradient(value, x)
    elif backend == "torch":
        import torch

        x.requires_grad_()
        [slope] = torch.autograd.grad(function(x), x)
    else:
        raise NotImplementedError(f"gradients with the Keras backend {backend!r}")
    return keras.ops.convert_to_numpy(slope)
