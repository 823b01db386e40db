"""ImageNet weights: found, verified before Keras sees them, or an error that says what to do."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from ..config import GenreclsError, project_root

log = logging.getLogger(__name__)

FILE = "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
MD5 = "d19885ff4a710c122648d3b5c3b684e4"
SIZE = 219_055_592
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/{FILE}"


class WeightsError(GenreclsError, RuntimeError):
    """The weights cannot be had; the message names the file, its md5 and where to put it."""


def find_imagenet_weights(url: str = URL, md5: str = MD5) -> Path:
    """The verified file of InceptionResNetV2's ImageNet weights.

    Looked for in ``models/weights/``, then in the cache of Keras; else downloaded to the former.
    A file with the wrong content is left alone and never used.

    Parameters
    ----------
    url, md5 : str
        Where to download from, and what the file's checksum must be.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
    """
    own = project_root() / "models" / "weights" / FILE
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    for file in (own, keras_home / "models" / FILE):
        if file.is_file():
            found = _md5(file)
            if found != md5:
                raise WeightsError(
                    f"{str(file)!r} has md5 {found}, not {md5}: it is damaged or another file. "
                    f"It was left as it is; move it away, or replace it by the right one"
                )
            return file
    return _download(url, md5, own)


def _download(url: str, md5: str, target: Path) -> Path:
    import pooch
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    log.info("downloading %s (%d MB)", url, SIZE // 1_000_000)
    try:
        pooch.retrieve(
            url, known_hash=f"md5:{md5}", fname=target.name, path=target.parent, progressbar=True
        )
    except (requests.RequestException, OSError, ValueError) as error:
        raise WeightsError(
            f"the ImageNet weights cannot be downloaded ({error}). Get {FILE} "
            f"({SIZE:,} bytes, md5 {md5}) from {url} on a machine that can and put it at "
            f"{str(target)!r}; or train with weights=None (random weights)"
        ) from error
    return target


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
