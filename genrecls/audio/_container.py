"""Open media files with FFmpeg, safely and with one kind of error."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from genrecls.errors import AudioError

# FFmpeg detects some rare formats so loosely that it mistakes headerless samples for them. None
# of these was recognized in 480 files of headerless sound.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,matroska,mlp,mov,mp3,mpc,"
    "mpc8,mpeg,mpegts,ogg,oma,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wv"
)

# How files begin. Where another file of these formats is joined to the first one, FFmpeg stops or
# loses a part of it; in all others, it reads on.
_BEGINNINGS = {
    "aiff": rb"FORM....AIF[CF]",
    "asf": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "caf": rb"caff\0\x01\0\0desc",
    "flac": rb"fLaC[\0\x80]\0\0\x22",
    "flv": rb"FLV\x01[\x01\x04\x05]\0{3}\x09",
    "matroska": rb"\x1aE\xdf\xa3.{1,80}(matroska|webm)",
    "mov": rb"ftyp[ -~]{4}\0",  # after its length in 4 bytes
    "ogg": rb"OggS\0\x02",
    "tta": rb"TTA1[\1\2\3]\0",
    "voc": rb"Creative Voice File",
    "w64": rb"riff.{20}wave",
    "wav": rb"(RIFF|RF64)....WAVE",
    "wv": rb"wvpk.{12}\0{4}",
}
# In these formats, FFmpeg would decode the next file in the state of the last one, or lose a part
# of it, unless the first one ends there.
_CHAINED = ("asf", "caf", "flac", "matroska", "mov")

_BLOCK_BYTES = 1 << 22  # that are searched at once
_MAX_PATTERN_BYTES = 100  # of which a block may contain only the first ones
_MIN_BYTES = 8  # of a file, so that its own beginning is not found again

# Some programs count a few bytes too much, or fill the last block of a disk.
_TOLERANCE_BYTES = 4096
_MAX_PAGE_BYTES = 27 + 255 + 255 * 255  # in Ogg: header, lengths of the segments, segments
# A program that writes to a pipe does not know the size and states the largest, or nearly so.
_MAX_RIFF_BYTES = 0x7FFF_F000


@contextmanager
def open_container(path: str | PathLike, start: int = 0) -> Iterator[InputContainer]:
    """Open a media file at a byte offset, without access to any other file."""
    with raise_audio_error(path):
        _check_file(Path(path))
        # FFmpeg would take some names for addresses. These prefixes prevent it, and none of the
        # formats makes it open another file. With an open file of Python, PyAV would print a
        # traceback and give up where a wrong size leads FFmpeg to a place outside.
        source = f"subfile,,start,{start},end,{_find_chained(path, start)},,:file:{path}"
        options = {"protocol_whitelist": "subfile,file", "format_whitelist": _FORMATS}
        try:
            container = av.open(source, "r", metadata_errors="replace", options=options)
        except TypeError:  # PyAV 19 has no argument metadata_errors.
            container = av.open(source, "r", options=options)
    with container:
        yield container


def _find_chained(path: str | PathLike, start: int) -> int:
    """Return where a file ends because another one is joined to it, or 0."""
    with open(path, "rb") as file:
        file.seek(start)
        head = file.read(100)
    if head.startswith(b"OggS"):
        # The pages at the beginning have flag 2. Several streams have several of them.
        other_page = _find(path, rb"OggS\0\0", start)
        return (other_page and _find(path, _BEGINNINGS["ogg"], other_page)) or 0
    for name in _CHAINED:
        if re.match(rb"(?:.{4})?" + _BEGINNINGS[name], head, re.DOTALL):
            return find_joined(path, name, start, 0) or 0
    return 0


def _find(path: str | PathLike, pattern: bytes, position: int) -> int | None:
    """Return where a pattern first occurs after a position in a file, or None."""
    compiled, tail = re.compile(pattern, re.DOTALL), b""
    with open(path, "rb") as file:
        file.seek(position)
        while block := file.read(_BLOCK_BYTES):
            content = tail + block
            if found := compiled.search(content):
                return position - len(tail) + found.start()
            position += len(block)
            tail = content[-_MAX_PATTERN_BYTES:]
    return None


def find_joined(path: str | PathLike, format_name: str, start: int, end: int) -> int | None:
    """Return where another file begins behind the sound of a file, or None."""
    name = format_name.partition(",")[0]
    if name not in _BEGINNINGS:
        return None
    found = _find(path, _BEGINNINGS[name], start + max(end, _MIN_BYTES))
    return found - 4 if found and name == "mov" else found


def compare_sizes(path: str | PathLike, start: int, end: int) -> list[str]:
    """Return how the header of a WAV, AIFF, Wave64 or AVI file disagrees with its size."""
    with open(path, "rb") as file:
        file.seek(start)
        header = file.read(24)
        size = os.fstat(file.fileno()).st_size - start
        order = "big" if header[:4] in (b"FORM", b"RIFX") else "little"
        # In Wave64, names have 16 bytes, sizes 8 bytes, and chunks begin at multiples of 8.
        is_w64 = header[:4] == b"riff"
        number = slice(16, 24) if is_w64 else slice(4, 8)
        file.seek(start + end + -end % (8 if is_w64 else 2))
        # A chunk with other data may follow, which begins with its name and its size.
        chunk = file.read(24)
    stated = int.from_bytes(header[number], order) + (0 if is_w64 else 8)
    known = header[:4] != b"FORM" and (is_w64 or stated < _MAX_RIFF_BYTES)
    if known and size + _TOLERANCE_BYTES < stated:
        return [f"the header promises {stated} bytes, the file has {size}"]
    length = int.from_bytes(chunk[number], order)
    is_chunk = re.fullmatch(rb"[ -~]{4}", chunk[:4]) and length <= size - end
    has_size = is_w64 or header[8:12] in (b"WAVE", b"AIFF", b"AIFC")
    if has_size and size - end > _TOLERANCE_BYTES and not is_chunk:
        return [f"the header describes only {end} of {size} bytes; the rest is not used"]
    return []


def check_last_page(path: str | PathLike, start: int) -> list[str]:
    """Return the problem of an Ogg file that ends within a page."""
    with open(path, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - _MAX_PAGE_BYTES))
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    is_cut = len(page) < 27 + len(lengths) + sum(lengths)
    return ["the file is truncated: its last page is incomplete"] if is_cut else []


@contextmanager
def raise_audio_error(path: str | PathLike) -> Iterator[None]:
    """Raise errors in a sound file as AudioError.

    Damaged files cause errors of any type. Too many open files or a failing disk are not problems
    of the file, so that these errors stay as they are.
    """
    try:
        yield
    except AudioError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        by_ffmpeg, number = isinstance(error, FFmpegError), getattr(error, "errno", None)
        # FFmpeg also returns EIO for damaged files.
        if number in (errno.EMFILE, errno.ENFILE) or (number == errno.EIO and not by_ffmpeg):
            raise
        if isinstance(error, PermissionError) and not by_ffmpeg:
            raise AudioError(path, {"file": reason}, "Check that you may read it.") from error
        # FFmpeg returns EPERM, or EINVAL, where a header contains an impossible value.
        if number in (errno.EINVAL, errno.EPERM):
            reason = "the format is unknown or the header is damaged"
        what = "FFmpeg" if by_ffmpeg else "sound"
        advice = "Play it to hear whether it is complete; export it again."
        raise AudioError(path, {what: reason}, advice) from error


def _check_file(path: Path) -> None:
    # A worker process does not have the pipes of the shell, which are in this folder.
    shell_pipe = path.parent == Path("/dev/fd")
    if not path.exists() and not shell_pipe:
        raise AudioError(path, {"file": "does not exist"}, "Check the path.")
    if path.is_dir():
        raise AudioError(path, {"file": "is a folder"}, "Name a file inside it.")
    if not path.is_file():
        raise AudioError(path, {"file": "is a pipe or a device"}, "Save the sound in a file.")
    if not path.stat().st_size:
        raise AudioError(path, {"file": "is empty"}, "Download or export it again.")
