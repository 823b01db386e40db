"""Open media files with FFmpeg, safely and with one kind of error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path

import av
from av.container import InputContainer

from genrecls.errors import AudioError

# FFmpeg recognizes some rare formats by so little that it takes headerless samples for them.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,ogg,rm,tta,voc,w64,wav,wv"
)


@contextmanager
def open_container(path: str | PathLike) -> Iterator[InputContainer]:
    """Open a media file so that FFmpeg cannot reach any other file."""
    with ExitStack() as stack:
        with raise_audio_error(path):
            _check_file(Path(path))
            # FFmpeg would take some names for addresses, and a playlist would make it open other
            # files. An open file without any protocol prevents both.
            file = stack.enter_context(open(path, "rb"))
            options = {"protocol_whitelist": "none", "format_whitelist": _FORMATS}
            try:
                container = av.open(file, "r", metadata_errors="replace", options=options)
            except TypeError:  # PyAV 19 has no argument metadata_errors.
                container = av.open(file, "r", options=options)
            stack.enter_context(container)
        yield container


@contextmanager
def raise_audio_error(path: str | PathLike) -> Iterator[None]:
    """Turn every error into an AudioError, because damaged files cause errors of any type."""
    try:
        yield
    except AudioError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        if isinstance(error, PermissionError):
            raise AudioError(path, {"file": reason}, "Check that you may read it.") from error
        advice = "Play it to hear whether it is complete; export it again."
        raise AudioError(path, {"FFmpeg": reason}, advice) from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise AudioError(path, {"file": "does not exist"}, "Check the path.")
    if path.is_dir():
        raise AudioError(path, {"file": "is a folder"}, "Name a file inside it.")
    if not path.is_file():
        raise AudioError(path, {"file": "is a pipe or a device"}, "Save the sound in a file.")
    if not path.stat().st_size:
        raise AudioError(path, {"file": "is empty"}, "Download or export it again.")
