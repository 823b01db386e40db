"""Keras, imported without the log messages that TensorFlow prints on the way.

Errors are not lost: they are raised as exceptions. ``TF_CPP_MIN_LOG_LEVEL=0`` shows the messages.
"""

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


@contextlib.contextmanager
def _without_stderr():
    """Discard the output of C++ code on stderr."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


#: Keras backends that every part of genrecls works with.
BACKENDS = ("tensorflow", "torch", "jax")


def check_backend(name: str) -> None:
    """Refuse a Keras backend that cannot train."""
    if name not in BACKENDS:
        choices = ", ".join(BACKENDS)
        raise ImportError(f"the Keras backend is {name!r}; set KERAS_BACKEND to one of {choices}")


check_backend(os.environ.get("KERAS_BACKEND") or BACKENDS[0])
_quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0"
# TensorFlow prints some messages before it reads the variable.
with _without_stderr() if _quiet else contextlib.nullcontext():
    try:
        import keras
    except ImportError as error:
        advice = f"install it, or set KERAS_BACKEND to one of {', '.join(BACKENDS)}"
        raise ImportError(f"Keras cannot load its backend ({error}); {advice}") from error

_NAME = keras.backend.backend()
check_backend(_NAME)  # the file keras.json may name it, too
if _quiet:  # it warns of "retracing" where several small models are used, which does no harm
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
# Keras has already loaded its backend, so that this import costs nothing.
_framework: Any = importlib.import_module(_NAME)


def make_deterministic() -> None:
    """Make training reproducible, bit by bit, on the same machine.

    A CPU needs no more time for this. A GPU does, and lacks a few operations then.
    ``GENRECLS_DETERMINISTIC=0`` turns it off.
    """
    if os.environ.get("GENRECLS_DETERMINISTIC") == "0":
        return
    if _NAME == "tensorflow":
        _framework.config.experimental.enable_op_determinism()
    elif _NAME == "torch":
        # Several versions of torch refuse matrix products on a GPU without this setting.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        _framework.use_deterministic_algorithms(True)


def gradient(function: Callable, x: np.ndarray) -> np.ndarray:
    """Compute the gradient of a scalar function, which is written with `keras.ops`."""
    tensor: Any = keras.ops.convert_to_tensor(x)
    if _NAME == "tensorflow":
        with _framework.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        result = tape.gradient(value, tensor)
    elif _NAME == "torch":
        tensor.requires_grad_()
        [result] = _framework.autograd.grad(function(tensor), tensor)
    else:
        result = _framework.grad(function)(tensor)
    return np.asarray(keras.ops.convert_to_numpy(result))
