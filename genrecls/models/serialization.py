"""Model files: loaded with Keras, or exported as ONNX for programs without Keras."""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import genrecls.models.image  # noqa: F401  registers the Image layer
from genrecls._utils.backend import keras
from genrecls.config import FrontEnd
from genrecls.errors import ModelError
from genrecls.models.checks import check_model_file

#: Largest accepted difference between the probabilities of a model and of its export.
EXPORT_TOLERANCE = 1e-4


def load_model(file: Path, front_end: FrontEnd, n_genres: int) -> keras.Model:
    """Load a model file, or refuse it if the model does not fit."""
    check_model_file(file)
    try:
        model: Any = keras.saving.load_model(file, safe_mode=True, compile=False)
    except Exception as error:  # Damaged values make Keras raise errors of any type.
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ModelError(f"{str(file)!r} cannot be read: {reason}") from error
    inputs, outputs = model.input_shape[1:], model.output_shape[1:]
    expected = (*front_end.shape, 1)
    fits = len(inputs) == 3 and all(n in (None, e) for n, e in zip(inputs, expected, strict=True))
    if not fits or outputs != (n_genres,):
        raise ModelError(
            f"{str(file)!r} is not the model of its card: it turns {inputs} into {outputs}, not "
            f"{expected} into {(n_genres,)}"
        )
    return model


def export_onnx(
    model: keras.Model, file: Path, front_end: FrontEnd, properties: dict[str, str]
) -> float:
    """Export a model as ONNX, and return the largest difference of a probability."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        message = f'{error}; ONNX is an extra of genrecls: pip install ".[onnx]" in its folder'
        raise ImportError(message) from error
    shape = front_end.shape
    signature = keras.InputSpec(shape=(None, *shape, 1), dtype="float32", name="log_mel")
    segments = np.random.default_rng(0).uniform(-80, 20, (4, *shape, 1)).astype(np.float32)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        new = Path(folder) / "new.onnx"
        with warnings.catch_warnings():
            # The converters use functions that NumPy and PyTorch have deprecated.
            warnings.simplefilter("ignore")
            model.export(str(new), format="onnx", verbose=False, input_signature=[signature])
        exported = onnx.load(new)
        onnx.helper.set_model_props(exported, properties)
        onnx.save(exported, new)
        session = onnxruntime.InferenceSession(new, providers=["CPUExecutionProvider"])
        [probabilities] = session.run(None, {session.get_inputs()[0].name: segments})
        difference = float(np.abs(probabilities - model.predict_on_batch(segments)).max())
        if not difference <= EXPORT_TOLERANCE:
            raise ModelError(
                f"{str(file)!r} is not written: the probabilities of the exported model differ "
                f"by {difference:.2g} from those of the model itself"
            )
        os.replace(new, file)
    return difference
