"""Decode sound files of any common format with FFmpeg, through PyAV.

The content of a file decides how it is decoded, not its name. Nothing has to be installed beside
the Python packages.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream as ContainerStream
from av.container import InputContainer

from genrecls._utils import parallel
from genrecls.audio.resample import resample, to_mono
from genrecls.errors import AudioError, AudioWarning

#: File name endings by which sound files are recognized in a folder.
EXTENSIONS = frozenset(
    ".aac .aif .aiff .au .caf .flac .m4a .m4b .mka .mkv .mov .mp3 .mp4 .oga .ogg .opus .wav "
    ".wave .webm .wma".split()
)

# Other formats of FFmpeg have weak signatures: the one of a game console matches any plain
# samples without a header.
_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,ogg,rm,tta,voc,w64,wav,wv"
)

# At other rates a damaged header is more likely than music.
_RATES = range(4_000, 768_001)

# Encoders pad, so that an intact file may be a few MP3 frames (0.1 s) shorter than its header
# states.
_MAX_SHORTFALL_S = 0.5

# Lossy codecs exceed full scale by a few dB at most. Samples that are 12 dB above full scale are
# damaged, or they are integers that were stored as floats.
_MAX_PEAK = 4.0
_AUDIBLE_PEAK = 1.5

_BLOCK = 1 << 17  # in samples: 1 MB of stereo


@dataclass(frozen=True)
class Decoded:
    """The samples of a file, unchanged.

    Attributes
    ----------
    samples : np.ndarray [shape=(channels, n), dtype=float32]
        Full scale is 1, which lossy codecs may exceed.
    sample_rate : int > 0 (in Hz)
        Sample rate of the file.
    codec : str
        FFmpeg's name of the codec in upper case, such as ``'MP3'`` or ``'PCM_S16LE'``.
    problems : tuple of str
        One sentence for each defect of the file.
    """

    samples: np.ndarray
    sample_rate: int
    codec: str
    problems: tuple[str, ...] = ()


@dataclass
class AudioStream:
    """Sound that is decoded block by block while it is iterated over, once.

    The blocks are arrays [shape=(n, channels), dtype=float32].

    Attributes
    ----------
    sample_rate : int > 0 (in Hz)
        Sample rate of all blocks.
    codec : str
        FFmpeg's name of the codec in upper case, such as ``'MP3'`` or ``'PCM_S16LE'``.
    duration_s : float >= 0 (in seconds)
        Duration according to the header of the file; 0 if the header states none.
    problems : list of str
        One sentence for each defect of the file. The list is complete after the last block.
    blocks : iterator of np.ndarray
        The source of the blocks.
    """

    sample_rate: int
    codec: str
    duration_s: float
    problems: list[str]
    blocks: Iterator[np.ndarray]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.blocks


@contextmanager
def open_audio(
    path: str | PathLike, *, clip: bool = True, prefetch: bool = False
) -> Iterator[AudioStream]:
    """Open a sound file, or the sound of a video file, to read it block by block.

    The memory does not depend on the length of the file. If the sample rate or the number of
    channels changes within the file, all blocks are converted to those at its start.

    Parameters
    ----------
    path : str or path-like
        The file.
    clip : bool
        Clip samples to [-1, 1].
    prefetch : bool
        Decode in a thread while the caller works on the block before.

    Yields
    ------
    AudioStream
        The blocks; to be read before the ``with`` statement ends.

    Raises
    ------
    AudioError
        If the file cannot be decoded or is not sound: nothing at all, values that are not
        finite, or values far above full scale. It is raised on opening or while reading.
    """
    with open_container(path) as container, ExitStack() as stack:
        problems: list[str] = []
        with _raise_audio_error(path):
            stream = _select_stream(container)
            packets = container.demux(stream)
            first_packet = next(packets)
            duration_s = _header_duration(container, stream, first_packet.pos or 0)
            packets = itertools.chain([first_packet], packets)
            frames = _decode_packets(container, packets, problems)
            first = next(frames, None)
            if first is None:
                raise ValueError("no audio in the file")
            if first.sample_rate not in _RATES:
                raise ValueError(f"a sample rate of {first.sample_rate} Hz is not plausible")
            codec = stream.codec_context.codec.canonical_name.upper()
        blocks = _convert(first, itertools.chain([first], frames), problems)
        if prefetch:
            blocks = stack.enter_context(closing(parallel.prefetch(blocks)))
        audio = AudioStream(first.sample_rate, codec, duration_s, problems, blocks)
        audio.blocks = _check_blocks(path, audio, blocks, clip)
        yield audio


def stream_array(y: np.ndarray, sample_rate: int | None) -> AudioStream:
    """Present samples in memory as the one block of a file.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)]
        Floats, where full scale is 1.
    sample_rate : int > 0 (in Hz)
        Sample rate of ``y``.

    Returns
    -------
    AudioStream
        The samples, clipped to [-1, 1].

    Raises
    ------
    ValueError
        If there is no sample rate, or ``y`` is not sound: of another shape or of integers, empty,
        not finite, or far above full scale.
    """
    if not sample_rate or sample_rate <= 0:
        raise ValueError("an array does not contain its sample rate: give sample_rate, in Hz")
    y = np.atleast_2d(y)
    if y.ndim > 2 or y.shape[0] > y.shape[1] or not np.issubdtype(y.dtype, np.floating):
        raise ValueError(
            f"sound must be an array of floats in [-1, 1] of shape (n,) or (channels, n), not of "
            f"{y.dtype} and shape {y.shape}"
        )
    peak = float(np.abs(y).max())
    if not peak <= _MAX_PEAK:  # This is also true for NaN.
        raise ValueError(f"samples must be in [-1, 1]; these reach {peak:.3g}")
    block = np.ascontiguousarray(y.T, np.float32)
    audio = AudioStream(int(sample_rate), "array", len(block) / sample_rate, [], iter([block]))
    audio.blocks = _check_blocks("array", audio, audio.blocks, clip=True)
    return audio


def load_audio(
    path: str | PathLike, *, sample_rate: int | None = None, mono: bool = True
) -> tuple[np.ndarray, int]:
    """Decode a sound file, or the sound of a video file.

    Parameters
    ----------
    path : str or path-like
        The file; its content decides how it is decoded, not its name.
    sample_rate : int > 0, optional (in Hz)
        Resample to this rate; by default the sample rate of the file is kept.
    mono : bool
        Average the channels.

    Returns
    -------
    y : np.ndarray [shape=(n,) if mono, else (channels, n), dtype=float32]
        Samples in [-1, 1]; what exceeds full scale after decoding or resampling is clipped.
    sample_rate : int > 0 (in Hz)
        Sample rate of ``y``.

    Raises
    ------
    AudioError
        If the file cannot be decoded or is not sound: nothing at all, values that are not
        finite, or values far above full scale.

    Warns
    -----
    AudioWarning
        If the file is shorter than its header states, if damaged parts were skipped, or if
        clipping is audible.

    Examples
    --------
    >>> import genrecls
    >>> y, sr = genrecls.load_audio("song.mp3", sample_rate=22050)
    >>> y.ndim, sr
    (1, 22050)
    """
    with open_audio(path) as audio:
        y = np.concatenate([to_mono(block) if mono else block for block in audio]).T
    warn_problems(path, audio.problems)
    rate = audio.sample_rate
    if sample_rate is not None and sample_rate != rate:
        y = np.clip(resample(y, rate, sample_rate), -1.0, 1.0)
        rate = sample_rate
    return np.ascontiguousarray(y), rate


def decode(path: str | PathLike) -> Decoded:
    """Decode all channels of a file at its sample rate, without clipping.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Decoded
        The samples and the properties of the file.

    Raises
    ------
    AudioError
        See :func:`load_audio`.
    """
    with open_audio(path, clip=False) as audio:
        samples = np.concatenate([block.T for block in audio], axis=1)
    return Decoded(samples, audio.sample_rate, audio.codec, tuple(audio.problems))


def warn_problems(path: str | PathLike, problems: Sequence[str], *, stacklevel: int = 2) -> None:
    """Issue an :class:`AudioWarning` for each problem of a file.

    Parameters
    ----------
    path : str or path-like
        The file.
    problems : sequence of str
        The problems, such as those of an :class:`AudioStream`.
    stacklevel : int > 0
        See :func:`warnings.warn`.
    """
    for problem in problems:
        warnings.warn(f"{str(path)!r}: {problem}", AudioWarning, stacklevel=stacklevel + 1)


@contextmanager
def open_container(path: str | PathLike) -> Iterator[InputContainer]:
    """Open a media file with FFmpeg, which cannot reach any other file or address.

    Parameters
    ----------
    path : str or path-like
        The file.

    Yields
    ------
    av.container.InputContainer
        The open file.

    Raises
    ------
    AudioError
        If the file cannot be opened.
    """
    with ExitStack() as stack:
        with _raise_audio_error(path):
            _check_file(Path(path))
            # FFmpeg gets an open file, because it would take some names for addresses. Without
            # any protocol, a playlist cannot make it open other files.
            file = stack.enter_context(open(path, "rb"))
            options = {"protocol_whitelist": "none", "format_whitelist": _CONTAINERS}
            try:
                container = av.open(file, metadata_errors="replace", options=options)
            except TypeError:  # From PyAV 19 on there is no such argument.
                container = av.open(file, options=options)
            stack.enter_context(container)
        yield container


def _check_file(path: Path) -> None:
    for failed, reason, advice in (
        (not path.exists(), "does not exist", "Check the path."),
        (path.is_dir(), "is a folder", "Name a file inside it."),
        (not path.is_dir() and not path.is_file(), "is not a regular file", "Save it as a file."),
        (path.is_file() and not path.stat().st_size, "is empty", "Download or export it again."),
    ):
        if failed:
            raise AudioError(path, {"file": reason}, advice)


@contextmanager
def _raise_audio_error(path: str | PathLike) -> Iterator[None]:
    """Turn every error of reading a file into an AudioError: damaged files cause any of them."""
    try:
        yield
    except AudioError:
        raise
    except PermissionError as error:
        raise AudioError(path, {"file": error.strerror}, "Check that you may read it.") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        advice = "Play it to hear whether it is complete; export it again."
        raise AudioError(path, {"FFmpeg": reason}, advice) from error


def _select_stream(container: InputContainer) -> ContainerStream:
    """Return the best audio stream, or the first one that can be decoded."""
    best = container.streams.best("audio")
    for stream in (best, *container.streams.audio):
        # PyAV has no codec context where FFmpeg has no decoder.
        if isinstance(stream, ContainerStream) and stream.codec_context is not None:
            return stream
    found = "no decoder for its audio" if container.streams.audio else "no audio in the file"
    raise ValueError(found)


def _header_duration(container: InputContainer, stream: ContainerStream, start: int) -> float:
    """Return the duration in seconds that the header states, or 0."""
    if not stream.duration or not stream.time_base:
        return 0.0
    duration_s = float(stream.duration * stream.time_base)
    # If the header states no duration, FFmpeg guesses it from the first bit rate.
    bit_rate = stream.codec_context.bit_rate
    guess_s = 8 * (container.size - start) / bit_rate if bit_rate else 0.0
    is_guess = container.format.name in ("aac", "mp3") and abs(duration_s - guess_s) < 0.001
    return 0.0 if is_guess else duration_s


def _decode_packets(
    container: InputContainer, packets: Iterable[av.Packet], problems: list[str]
) -> Iterator[AudioFrame]:
    damaged = used = 0
    for packet in packets:
        used += packet.size
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            damaged += 1
    if damaged:
        problems.append(f"{damaged} damaged packets were skipped")
    # The size field of a WAV file has 32 bits and starts again from 0 at 4 GiB.
    if container.format.name == "wav" and used < container.size / 2:
        problems.append(f"only {used} of {container.size} bytes are sound according to the header")


def _convert(
    first: AudioFrame, frames: Iterable[AudioFrame], problems: list[str]
) -> Iterator[np.ndarray]:
    """Gather frames to blocks of floats, all with the rate and the channels of the first frame."""
    runs = itertools.groupby(frames, lambda x: (x.sample_rate, x.layout.name, x.format.name))
    rates, layouts = set(), set()
    for (rate, layout, _), run in runs:
        rates.add(rate)
        layouts.add(layout)
        resampler = av.AudioResampler("flt", first.layout, first.sample_rate)
        for gathered in itertools.chain(_gather(run), [None]):
            for x in resampler.resample(gathered):
                if x is not None:
                    channels = x.layout.nb_channels
                    # AudioFrame.to_ndarray would copy the samples.
                    samples = np.frombuffer(x.planes[0], np.float32, x.samples * channels)
                    yield samples.reshape(-1, channels)
    if len(rates) > 1:
        problems.append(f"the sample rate changes; all is resampled to {first.sample_rate} Hz")
    if len(layouts) > 1:
        problems.append(f"the channels change; all is converted to {first.layout.name}")


def _gather(frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
    """Join frames of a few milliseconds to long ones."""
    fifo = av.AudioFifo()
    for frame in frames:
        frame.pts = None  # AudioFifo refuses frames after a gap.
        fifo.write(frame)
        if fifo.samples >= _BLOCK:
            yield fifo.read()
    if fifo.samples:
        yield fifo.read()


def _check_blocks(
    path: str | PathLike, audio: AudioStream, blocks: Iterator[np.ndarray], clip: bool
) -> Iterator[np.ndarray]:
    """Pass on blocks, refuse those that are not sound, and list what is wrong with them."""
    frames = samples = bad = 0
    peak = 0.0
    with _raise_audio_error(path):
        for block in blocks:
            frames, samples = frames + len(block), samples + block.size
            block_peak = float(max(block.max(), -block.min()))
            if not math.isfinite(block_peak):
                bad += int(np.count_nonzero(~np.isfinite(block)))
            else:
                peak = max(peak, block_peak)
            # A file that is refused is read to its end, to count the bad samples.
            if not bad and peak <= _MAX_PEAK:
                yield np.clip(block, -1, 1) if clip and block_peak > 1 else block
        if not samples:
            raise ValueError("no audio in the file")
        if bad:
            raise ValueError(f"{bad} of {samples} samples are NaN or infinite")
        if peak > _MAX_PEAK:
            raise ValueError(f"samples reach {peak:.3g} where full scale is 1")
    decoded_s = frames / audio.sample_rate
    if audio.duration_s - decoded_s > _MAX_SHORTFALL_S:
        audio.problems.append(
            f"the header states {audio.duration_s:.1f} s, but only {decoded_s:.1f} s can be decoded"
        )
    if peak > _AUDIBLE_PEAK:
        audio.problems.append(f"samples reach {peak:.3g}; what exceeds full scale (1) is clipped")
