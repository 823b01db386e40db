"""Checks of a saved model before Keras reads it.

A ``.keras`` file names the classes and functions that Keras makes the model of, and a few layers
execute code from the file. The checks accept only names in Keras itself, which its safe mode
restricts further, and classes that genrecls has registered. They do not load Keras.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from genrecls.errors import ModelError

_PARTS = {"metadata.json", "config.json", "model.weights.h5"}

# How Keras writes a connection between layers, and the arguments of an index.
_PLAIN_VALUES = {"__keras_tensor__", "__slice__", "__ellipsis__"}

# Keras classes that execute code from the file or from a folder that the file names.
_CODE_CLASSES = {"Lambda", "TFSMLayer", "TorchModuleWrapper"}


def check_model_file(file: Path) -> None:
    """Refuse a model file that is missing, is damaged or could execute code."""
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
        raise ModelError(f"{str(file)!r} is not a Keras model: it holds {sorted(names)}")
    if refused := find_unsafe(config):
        raise ModelError(
            f"{str(file)!r} is refused: it holds {refused!r}, which is neither a standard part "
            "of Keras nor of genrecls; use only models from a source that you trust"
        )


def find_unsafe(config: Any) -> str | None:
    """Find an object in a configuration that is neither Keras' own nor ours."""
    todo = [config]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if "class_name" in value and not _is_safe(value):
                return f"{value.get('module')}.{value['class_name']}"
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return None


def _is_safe(described: dict) -> bool:
    name, module = str(described["class_name"]), str(described.get("module"))
    if name in _PLAIN_VALUES:
        return True
    if name in _CODE_CLASSES or name.startswith("__") or not name.isidentifier():
        return False
    if str(described.get("registered_name")).startswith("genrecls>"):
        return module.startswith("genrecls.")
    return module == "keras" or module.startswith("keras.")
