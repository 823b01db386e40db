"""The file of a trained model: whole, and of nothing but what genrecls builds; and as ONNX."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from genrecls.config import FrontEnd
from genrecls.errors import ModelError

#: How far the probabilities of an exported model may be from those of the model itself.
EXPORT_TOLERANCE = 1e-4

# What the nets of `genrecls.models` are made of. Keras would build other things as well, some of
# which run what stands in the file.
_MODULES = frozenset(
    "keras keras.layers keras.initializers keras.optimizers keras.src.models.functional "
    "keras.src.applications.inception_resnet_v2 genrecls.models.image".split()
)
_CLASSES = frozenset(
    "Activation Adam Add AveragePooling2D BatchNormalization Concatenate Conv2D CustomScaleLayer "
    "DTypePolicy Dense DepthwiseConv2D Dropout Flatten Functional GlobalAveragePooling2D "
    "GlorotUniform InputLayer MaxPooling2D Ones Image ReLU SGD TruncatedNormal VarianceScaling "
    "Zeros".split()
)
_TENSOR = "__keras_tensor__"
_PARTS = frozenset({"metadata.json", "config.json", "model.weights.h5"})


def check_model_file(file: Path) -> None:
    """Refuse a model file that is damaged or holds something that genrecls does not build.

    Nothing of it is executed; neither TensorFlow nor Keras is needed.

    Parameters
    ----------
    file : Path
        A ``.keras`` file.

    Raises
    ------
    ModelError
        If it is missing, is no whole zip archive of a Keras model, or describes a layer or an
        object that is none of those in the nets of :mod:`genrecls.models`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
            names = set(archive.namelist())
            config = json.loads(archive.read("config.json")) if "config.json" in names else None
    except FileNotFoundError as error:
        raise ModelError(f"{str(file)!r} is missing; train the model again") from error
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{str(file)!r} is damaged ({error}); copy it again") from error
    if damaged:
        raise ModelError(f"{str(file)!r} is damaged (in {damaged}); copy it again")
    if names != _PARTS:
        raise ModelError(f"{str(file)!r} is no model of genrecls: it holds {sorted(names)}")
    for module, name in _objects(config):
        if name not in _CLASSES or module not in _MODULES:
            raise ModelError(
                f"{str(file)!r} is refused: it holds {f'{module}.{name}'!r}, of which no net of "
                f"genrecls is made"
            )


def _objects(config) -> Iterator[tuple[str | None, str]]:
    """Module and class of everything that Keras would make of a configuration."""
    if isinstance(config, dict):
        if "class_name" in config and config["class_name"] != _TENSOR:
            yield str(config.get("module")), str(config["class_name"])
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _objects(part)


def load_model(file: Path, front_end: FrontEnd, n_genres: int):
    """The Keras model of a checked file.

    Raises
    ------
    ModelError
        If Keras cannot make it, or it does not take what the front end gives.
    """
    from genrecls import models  # noqa: F401  registers the Image layer
    from genrecls._utils.backend import keras

    try:
        model = keras.saving.load_model(file, safe_mode=True, compile=False)
    except Exception as error:  # there is no end of what damaged values make Keras raise
        raise ModelError(f"{str(file)!r} cannot be read: {_first_line(error)}") from error
    takes, gives = model.input_shape[1:], model.output_shape[1:]
    wanted = (*front_end.shape, 1)
    fits = len(takes) == 3 and all(n in (None, w) for n, w in zip(takes, wanted, strict=True))
    if not fits or gives != (n_genres,):
        raise ModelError(
            f"{str(file)!r} is not the model of its card: it makes {gives} of {takes}, not "
            f"{(n_genres,)} of {wanted}"
        )
    return model


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), repr(error))


def export_onnx(model, file: Path, front_end: FrontEnd, properties: dict[str, str]) -> float:
    """Write a model as ONNX, once ONNX Runtime has given the same answers.

    Parameters
    ----------
    model : keras.Model
    file : Path
    front_end : FrontEnd
        What the model takes.
    properties : dict of str to str
        Kept in the file as its metadata.

    Returns
    -------
    float
        Largest difference of a probability, of random segments.

    Raises
    ------
    ModelError
        If the answers differ by more than :data:`EXPORT_TOLERANCE`; nothing is written then.
    ImportError
        If the extra ``onnx`` is not installed.
    """
    from genrecls._utils.backend import keras

    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f'{error}; ONNX is an extra of genrecls: pip install ".[onnx]"'
        ) from error
    takes = keras.InputSpec(shape=(None, *front_end.shape, 1), dtype="float32", name="log_mel")
    rng = np.random.default_rng(0)
    segments = rng.uniform(-80, 20, (4, *front_end.shape, 1)).astype(np.float32)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        new = Path(folder) / "new.onnx"
        with warnings.catch_warnings():
            # The converters use what NumPy and PyTorch are about to give up.
            warnings.simplefilter("ignore")
            model.export(str(new), format="onnx", verbose=False, input_signature=[takes])
        exported = onnx.load(new)
        onnx.helper.set_model_props(exported, properties)
        onnx.save(exported, new)
        session = onnxruntime.InferenceSession(new, providers=["CPUExecutionProvider"])
        [answers] = session.run(None, {session.get_inputs()[0].name: segments})
        difference = float(np.abs(answers - model.predict_on_batch(segments)).max())
        if not difference <= EXPORT_TOLERANCE:
            raise ModelError(
                f"the exported model differs by {difference:.2g} from the model itself; "
                f"{str(file)!r} is not written"
            )
        os.replace(new, file)
    return difference
