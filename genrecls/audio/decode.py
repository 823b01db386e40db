"""A sound file of any common format in, float32 samples at a stated rate out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np

from genrecls._utils.parallel import prefetch
from genrecls.audio.resample import resample, to_mono
from genrecls.errors import AudioError, AudioWarning

#: File name endings that are looked for in folders. Decoding goes by content, not by name.
EXTENSIONS = frozenset(
    ".aac .aif .aiff .au .caf .flac .m4a .m4b .mka .mkv .mov .mp3 .mp4 .oga .ogg .opus .wav "
    ".wave .webm .wma".split()
)

# Encoder padding makes honest headers promise a few MP3 frames (0.1 s) more than there is.
_SHORTFALL_S = 0.5

# Lossy codecs overshoot full scale by a few dB at most; 12 dB over it, the bits are damaged
# (or a float file holds integers).
_LOUDEST = 4.0
_OVERSHOOT = 1.5

_BLOCK = 1 << 17  # frames: 1 MB of stereo
_KEPT_BYTES = 30_000_000
_WHOLE_BYTES = 60_000_000  # of a FLAC file: ten minutes of a CD

Result = TypeVar("Result")


@dataclass(frozen=True)
class Decoded:
    """Samples as they stand in a file.

    Attributes
    ----------
    samples : np.ndarray [shape=(channels, n), dtype=float32]
    sample_rate : int > 0 (in Hz)
    decoder : {'soundfile', 'miniaudio', 'PyAV'}
    problems : tuple of str
        What the decoders complained about on the way.
    refused : dict of str to str
        Decoders that could not read the file before this one did, and why.
    """

    samples: np.ndarray
    sample_rate: int
    decoder: str
    problems: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class Blocks:
    """The samples of a file as they are decoded, to be gone through once, a block at a time.

    The blocks are arrays [shape=(n, channels), dtype=float32], in [-1, 1] where ``clip`` is set.

    Attributes
    ----------
    sample_rate : int > 0 (in Hz)
    decoder : {'soundfile', 'miniaudio', 'PyAV', 'array'}
    problems : list of str
        What is not as it should be; complete after the last block.
    refused : dict of str to str
        Decoders that could not read the file before this one did, and why.
    promised_s : float (in seconds)
        Length that the header states.
    source : iterator of np.ndarray
        The blocks as they come from the decoder.
    clip : bool
    """

    decoder: str
    sample_rate: int
    problems: list[str]
    refused: dict[str, str]
    promised_s: float
    source: Iterator[np.ndarray]
    clip: bool

    def __iter__(self) -> Iterator[np.ndarray]:
        frames = samples = bad = 0
        peak = 0.0
        for block in self._decoded():
            frames, samples = frames + len(block), samples + block.size
            highest = float(max(block.max(), -block.min()))
            if not math.isfinite(highest):
                bad += int(np.count_nonzero(~np.isfinite(block)))
            else:
                peak = max(peak, highest)
            # What has been refused is read to its end, to say how much of it is bad.
            if not bad and peak <= _LOUDEST:
                yield np.clip(block, -1, 1) if self.clip and highest > 1 else block
        if not samples:
            raise _RefusedError("no audio in the file")
        if bad:
            raise _RefusedError(f"{bad} of {samples} samples are NaN or infinite")
        if peak > _LOUDEST:
            raise _RefusedError(f"samples reach {peak:.3g} where full scale is 1")
        decoded_s = frames / self.sample_rate
        if self.promised_s - decoded_s > _SHORTFALL_S:
            self.problems.append(
                f"the header promises {self.promised_s:.1f} s, {decoded_s:.1f} s can be decoded"
            )
        if peak > _OVERSHOOT:
            self.problems.append(
                f"samples reach {peak:.3g}; what is beyond full scale (1) is cut off"
            )

    def _decoded(self) -> Iterator[np.ndarray]:
        try:
            yield from self.source
        except _DECODER_ERRORS as error:
            raise _RefusedError(_words(error)) from error


class _RefusedError(Exception):
    """A decoder cannot read the file to its end, or what it reads is no sound."""


_DECODER_ERRORS = (OSError, RuntimeError, ValueError, EOFError)


def _words(error: Exception) -> str:
    """What an error says; libsndfile without the descriptor that soundfile puts before it."""
    return getattr(error, "error_string", None) or str(error) or repr(error)


def read_blocks(
    path: str | PathLike,
    consume: Callable[[Blocks], Result],
    *,
    clip: bool = True,
    in_thread: bool = False,
) -> Result:
    """Decode a file block by block, so that a file of any length takes the same memory.

    Parameters
    ----------
    path : str or path-like
    consume : callable
        Is given the :class:`Blocks` and reads all of them. Where a decoder fails on the way it is
        called once more, with what the next decoder makes of the file from its start.
    clip : bool
        Cut off what is beyond full scale.
    in_thread : bool
        Decode in a thread while ``consume`` works on the block before.

    Returns
    -------
    What ``consume`` returns.

    Raises
    ------
    AudioError
        If no decoder can read the file, or what comes out is no sound.
    """
    path = Path(path)
    if not path.exists():
        raise AudioError(path, {"file": "does not exist"}, "Check the path.")
    if path.is_dir():
        raise AudioError(path, {"file": "is a folder"}, "Name a file inside it.")
    if (size := path.stat().st_size) == 0:
        raise AudioError(path, {"file": "is empty"}, "Download or export it again.")
    # The C library gives freed memory back and takes it anew for every block, a twentieth of all
    # time, until it has seen a large array freed: then it keeps up to twice as much.
    np.empty(_KEPT_BYTES, np.uint8)
    reasons: dict[str, str] = {}
    decoders = [("soundfile", _soundfile), ("PyAV", _av)]
    try:
        with open(path, "rb") as file:
            begins = file.read(4)
        if begins == b"OggS":
            decoders.reverse()  # FFmpeg takes half of the time for the same samples
        elif begins == b"fLaC" and size <= _WHOLE_BYTES:
            decoders.insert(0, ("miniaudio", _flac))  # two thirds
    except OSError as error:
        why = error.strerror or repr(error)
        raise AudioError(path, {"file": why}, "Check that you may read it.") from error
    for name, decoder in decoders:
        with ExitStack() as stack:
            try:
                rate, promised_s, source, problems = stack.enter_context(decoder(path))
            except _DECODER_ERRORS as error:
                reasons[name] = _words(error)
                continue
            if in_thread:
                source = stack.enter_context(closing(prefetch(source)))
            try:
                return consume(
                    Blocks(name, rate, problems, dict(reasons), promised_s, source, clip)
                )
            except _RefusedError as error:
                reasons[name] = str(error)
    raise AudioError(path, reasons, "Play it to hear whether it is whole; export it again.")


def array_blocks(y: np.ndarray, sample_rate: int | None) -> Blocks:
    """Samples that are in memory as the one block of a file.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)], floats in [-1, 1]
    sample_rate : int > 0 (in Hz)

    Raises
    ------
    ValueError
        If there is no sample rate, or ``y`` is no sound: of another shape or of integers, empty,
        not finite, or far beyond full scale.
    """
    if not sample_rate or sample_rate <= 0:
        raise ValueError(
            "an array says nothing of its sample rate: give sample_rate, in Hz, of the array"
        )
    y = np.atleast_2d(y)
    if y.ndim > 2 or y.shape[0] > y.shape[1] or not np.issubdtype(y.dtype, np.floating):
        raise ValueError(
            f"sound is an array of floats in [-1, 1] of shape (n,) or (channels, n), not of "
            f"{y.dtype} and shape {y.shape}"
        )
    peak = float(np.abs(y).max())
    if not peak <= _LOUDEST:  # NaN neither
        raise ValueError(f"samples reach {peak:.3g} where full scale is 1")
    block = np.ascontiguousarray(y.T, np.float32)
    seconds = len(block) / sample_rate
    return Blocks("array", int(sample_rate), [], {}, seconds, iter([block]), clip=True)


def warn_problems(path: str | PathLike, problems: Sequence[str], *, stacklevel: int = 2) -> None:
    """Pass on what is not as it should be with a file as :class:`AudioWarning`."""
    for problem in problems:
        warnings.warn(f"{str(path)!r}: {problem}", AudioWarning, stacklevel=stacklevel + 1)


def load_audio(
    path: str | PathLike, *, sample_rate: int | None = None, mono: bool = True
) -> tuple[np.ndarray, int]:
    """Decode a sound file, or the sound of a video file.

    WAV, MP3, AIFF and large FLAC are decoded by libsndfile; FLAC up to 60 MB by dr_flac through
    miniaudio; OGG, and whatever these refuse (AAC in M4A or MP4, Opus in WebM, ...), by FFmpeg
    through PyAV. Nothing has to be installed beside the Python packages.

    Parameters
    ----------
    path : str or path-like
        The file; its content decides how it is decoded, not its name.
    sample_rate : int > 0, optional (in Hz)
        Resample to this rate; by default the file's own rate is kept.
    mono : bool
        Average the channels.

    Returns
    -------
    y : np.ndarray [shape=(n,) if mono, else (channels, n), dtype=float32]
        Samples in [-1, 1]: the little by which lossy codecs and resampling overshoot is cut off.
    sample_rate : int > 0 (in Hz)
        Rate of ``y``.

    Raises
    ------
    AudioError
        If no decoder can read the file, or what comes out is no sound: nothing at all, values
        that are not finite, or far beyond full scale.

    Warns
    -----
    AudioWarning
        If less can be decoded than the header promises, a decoder skipped damaged parts, or so
        much is beyond full scale that cutting it off is heard.

    Examples
    --------
    >>> import genrecls
    >>> y, sr = genrecls.load_audio("song.mp3", sample_rate=22050)
    >>> y.ndim, sr
    (1, 22050)
    """

    def collect(blocks: Blocks):
        parts = [to_mono(block) if mono else block for block in blocks]
        return np.concatenate(parts).T, blocks

    y, blocks = read_blocks(path, collect)
    warn_problems(path, blocks.problems)
    rate = blocks.sample_rate
    if sample_rate is not None and sample_rate != rate:
        y = np.clip(resample(y, rate, sample_rate), -1.0, 1.0)
        rate = sample_rate
    return np.ascontiguousarray(y), rate


def decode(path: str | PathLike) -> Decoded:
    """Decode a file as it is: all channels, its own rate. See :func:`load_audio`."""

    def collect(blocks: Blocks) -> Decoded:
        samples = np.concatenate([block.T for block in blocks], axis=1)
        return Decoded(
            samples, blocks.sample_rate, blocks.decoder, tuple(blocks.problems), blocks.refused
        )

    return read_blocks(path, collect, clip=False)


@contextmanager
def _soundfile(path: Path):
    """Rate, promised length in seconds, blocks and problems of a file, by libsndfile."""
    import soundfile

    # By descriptor, not by name: libsndfile then goes by content alone.
    with (
        open(path, "rb") as raw,
        soundfile.SoundFile(raw.fileno(), closefd=False) as file,
    ):

        def blocks():
            # Until nothing comes: `file.frames` and `file.blocks()` believe the header.
            while (block := file.read(_BLOCK, dtype="float32", always_2d=True)).size:
                yield block

        yield file.samplerate, file.frames / file.samplerate, blocks(), []


@contextmanager
def _flac(path: Path):
    """The same of FLAC by dr_flac. What is not whole is left to the next decoder."""
    import miniaudio

    # In memory: of what it reads through a function, no interrupt would come back.
    content = path.read_bytes()
    try:
        header = miniaudio.flac_get_info(content)
    except (miniaudio.MiniaudioError, ZeroDivisionError) as error:
        raise ValueError(error.args[0]) from error
    rate, channels, promised = header.sample_rate, header.nchannels, header.num_frames
    if not promised:
        raise ValueError("the header states no length")

    def blocks():
        kind, frames = miniaudio.SampleFormat.FLOAT32, 0
        try:
            for samples in miniaudio.stream_memory(content, kind, channels, rate, _BLOCK):
                block = np.frombuffer(samples, np.float32).reshape(-1, channels)
                frames += len(block)
                yield block
        except miniaudio.MiniaudioError as error:
            raise ValueError(error.args[0]) from error
        if frames != promised:
            raise ValueError(f"{frames} of {promised} samples can be decoded")

    yield rate, promised / rate, blocks(), []


@contextmanager
def _av(path: Path):
    """The same by FFmpeg."""
    import av

    try:
        with _open_av(path) as container:
            if not container.streams.audio:
                raise ValueError("no audio stream in the file")
            stream = container.streams.audio[0]
            promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
            problems: list[str] = []
            yield stream.rate, promised, _av_blocks(container, stream, problems), problems
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror or repr(error)) from error


def _av_blocks(container, stream, problems: list[str]) -> Iterator[np.ndarray]:
    import av

    to_float = av.AudioResampler(format="flt", rate=stream.rate)
    waiting, damaged = av.AudioFifo(), 0  # what comes is a few milliseconds long
    layout, changes = None, False

    def block() -> Iterator[np.ndarray]:
        if frame := waiting.read():
            channels = frame.layout.nb_channels
            for x in to_float.resample(frame):  # its `to_ndarray` would copy the samples
                samples = np.frombuffer(x.planes[0], np.float32, x.samples * channels)
                yield samples.reshape(-1, channels)

    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                damaged += 1
                continue
            for frame in frames:
                layout = layout or frame.layout
                if frame.layout.nb_channels != layout.nb_channels:  # what waits would misread it
                    changes, time_base = True, frame.time_base
                    as_before = av.AudioResampler(frame.format, layout, frame.sample_rate)
                    [frame] = as_before.resample(frame)
                    frame.time_base = time_base
                frame.pts = None  # after a gap it would not be the one that is expected
                waiting.write(frame)
            if waiting.samples >= _BLOCK:
                yield from block()
        yield from block()
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror or repr(error)) from error
    if damaged:
        problems.append(f"{damaged} damaged packets were skipped")
    if changes:
        problems.append("the number of channels changes; all has the first one")


@contextmanager
def _open_av(path: str | PathLike):
    """FFmpeg's view of a file, opened so that it can reach nothing else."""
    import av

    # As an open file, and with no protocol allowed: a name that looks like an address is no
    # address, and a playlist cannot make FFmpeg open other files.
    with (
        open(path, "rb") as raw,
        av.open(
            raw, metadata_errors="replace", options={"protocol_whitelist": "none"}
        ) as container,
    ):
        yield container
