"""Decode sound files of all common formats to floating-point samples."""

import itertools
import math
import os
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import av
import av.audio
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from genrecls._utils import parallel
from genrecls.audio._container import (
    check_last_page,
    compare_sizes,
    find_joined,
    open_container,
    raise_audio_error,
)
from genrecls.audio.resample import invert_cancelling, resample, to_mono
from genrecls.errors import AudioError, AudioWarning

# At other rates (in Hz), a damaged header is more likely than music.
_MIN_RATE, _MAX_RATE = 4_000, 768_000
_MAX_CHANNELS = 64

# The headers of intact MP3 files state up to 0.1 s too much, because encoders pad the sound.
_TOLERANCE_S = 0.5

# In these formats, FFmpeg does not take the length from a header, but guesses it from the size of
# the file, from bit rates or from time stamps.
_NO_LENGTH = "aac ac3 amr dts dtshd eac3 mlp mpeg mpegts truehd voc w64".split()

# Lossy codecs exceed full scale by a few dB. Samples 12 dB above it are damaged, or they are
# integers that were stored as floats.
_MAX_PEAK = 4.0
_AUDIBLE_PEAK = 1.5

# Tags between joined MP3 files, or at their end, which FFmpeg takes for damaged sound.
_TAGS = (b"APETAGEX", b"ID3", b"LYRICSBEGIN")

# So many joined files that cannot be decoded are rather random bytes that look like headers. Trying
# thousands of them would take hours.
_MAX_FAILURES = 100

_BLOCK = 1 << 17  # in samples: 1 MB of stereo


@dataclass
class AudioStream:
    """Sound in blocks [shape=(n, channels), dtype=float32]; can be iterated over once.

    ``codec`` is FFmpeg's name in upper case, such as ``'PCM_S16LE'``. ``problems``, a phrase for
    each defect, is complete after the last block. Of channels that cancel out, some are inverted.
    """

    path: str | PathLike
    sample_rate: int = 0
    codec: str = ""
    blocks: Iterable[np.ndarray] = ()
    clip: bool = True
    problems: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[np.ndarray]:
        n, inverted, peak = 0, 0, 0.0
        with raise_audio_error(self.path):
            for block in self.blocks:
                block_peak = float(max(block.max(), -block.min()))
                if not math.isfinite(block_peak):
                    raise ValueError("some samples are NaN or infinite")
                n, peak = n + len(block), max(peak, block_peak)
                if peak > _MAX_PEAK:
                    raise ValueError(f"samples reach {peak:.3g} where full scale is 1")
                if (aligned := invert_cancelling(block)) is not block:
                    inverted += len(block)
                yield np.clip(aligned, -1, 1) if self.clip and block_peak > 1 else aligned
        if inverted:
            cancelled = f"the channels cancel out in {inverted / self.sample_rate:.1f} s"
            length = f"{n / self.sample_rate:.1f} s"
            self.problems.append(f"{cancelled} of {length}; there, some are inverted now")
        if peak > _AUDIBLE_PEAK:
            self.problems.append(f"samples reach {peak:.3g}; they are cut off at full scale (1)")


@contextmanager
def open_audio(
    path: str | PathLike, *, clip: bool = True, prefetch: bool = False
) -> Iterator[AudioStream]:
    """Open a sound file, or the sound of a video file, to decode it in blocks.

    Where the sample rate or the channels change, the blocks are converted to those at the start.
    Files that are joined end to end are all decoded. Where the mean of all channels would be almost
    silent, because they cancel out, some of them are inverted.

    Parameters
    ----------
    path : str or path-like
        The file; its content decides how it is decoded, not its name.
    clip : bool
        Clip samples to [-1, 1].
    prefetch : bool
        Decode in a thread while the caller works on the block before.

    Yields
    ------
    AudioStream
        Iterator over blocks [shape=(n, channels), dtype=float32], with ``sample_rate``, ``codec``
        and ``problems``.

    Raises
    ------
    AudioError
        On opening or while reading: if the file cannot be decoded, contains no sound, or has
        samples that are not finite or far above full scale.
    """
    path = os.path.expanduser(path)
    audio = AudioStream(path, clip=clip)
    with closing(_decode_file(audio)) as frames:
        with raise_audio_error(path):
            if (first := next(frames, None)) is None:
                raise ValueError("; ".join(["no audio in the file", *audio.problems]))
            _check_rate(first.sample_rate)
        audio.sample_rate = first.sample_rate
        blocks = _convert(first, itertools.chain([first], frames), audio.problems)
        if prefetch:
            blocks = parallel.prefetch(blocks)
        with closing(blocks) as audio.blocks:
            yield audio


def stream_array(y: np.ndarray, sample_rate: float | None) -> AudioStream:
    """Return samples in memory as a stream of blocks, or refuse them."""
    if sample_rate is None:
        raise ValueError("the sample rate of an array is unknown: give sample_rate, in Hz")
    _check_rate(sample_rate)
    y = np.atleast_2d(y)
    is_float = np.issubdtype(y.dtype, np.floating)
    if y.ndim > 2 or not y.size or len(y) > _MAX_CHANNELS or not is_float:
        expected = "an array of floats in [-1, 1] of shape (n,) or (channels, n)"
        most = f"with up to {_MAX_CHANNELS} channels"
        raise ValueError(f"sound must be {expected} {most}, not of {y.dtype} and shape {y.shape}")
    peak = float(np.abs(y).max())
    if not peak <= _MAX_PEAK:  # This is also true for NaN.
        raise ValueError(f"samples reach {peak:.3g} where full scale is 1")
    starts = range(0, y.shape[1], _BLOCK)
    blocks = (np.ascontiguousarray(y[:, i : i + _BLOCK].T, np.float32) for i in starts)
    return AudioStream("<array>", int(sample_rate), "array", blocks)


def load_audio(
    path: str | PathLike,
    *,
    sample_rate: int | None = None,
    mono: bool = True,
    start_s: float = 0.0,
    duration_s: float = math.inf,
) -> tuple[np.ndarray, int]:
    """Decode a sound file, or the sound of a video file, or a part of it.

    Parameters
    ----------
    path : str or path-like
        The file; its content decides how it is decoded, not its name.
    sample_rate : int > 0, optional (in Hz)
        Rate to resample to; by default that of the file is kept.
    mono : bool
        Average the channels.
    start_s, duration_s : float (in seconds)
        Start and length of the part; only this part takes memory.

    Returns
    -------
    y : np.ndarray [shape=(n,) if mono, else (channels, n), dtype=float32]
        Samples, clipped to [-1, 1]: lossy codecs and resampling exceed full scale a little.
    sample_rate : int > 0 (in Hz)
        Sample rate of ``y``.

    Raises
    ------
    AudioError
        See :func:`genrecls.audio.open_audio`; also if the file ends before ``start_s``.

    Warns
    -----
    AudioWarning
        If a part of the file is missing or damaged, clipping is audible, or channels cancel out.

    Examples
    --------
    >>> import genrecls
    >>> y, sr = genrecls.load_audio("song.mp3", sample_rate=22050)
    >>> y.ndim, sr
    (1, 22050)
    """
    parts, n = [], 0
    with open_audio(path) as audio:
        rate = audio.sample_rate
        for block in audio:
            bounds = np.array([start_s, start_s + duration_s]) * rate - n
            start, end = np.clip(bounds.round(), 0, len(block)).astype(int)
            if start < end:
                parts.append(to_mono(block[start:end]) if mono else block[start:end])
            n += len(block)
            if end < len(block):
                break
    if not parts:
        raise AudioError(path, {"length": f"ends after {n / rate:.7g} s"}, "Start earlier.")
    warn_problems(path, audio.problems)
    y = np.concatenate(parts).T
    if sample_rate is not None and sample_rate != rate:
        y, rate = np.clip(resample(y, rate, sample_rate), -1.0, 1.0), sample_rate
    return np.ascontiguousarray(y), rate


def warn_problems(path: str | PathLike, problems: Sequence[str]) -> None:
    """Issue an :class:`AudioWarning` for each problem of a file."""
    for problem in problems:
        warnings.warn(f"{str(path)!r}: {problem}", AudioWarning, stacklevel=3)


def _check_rate(sample_rate: float) -> None:
    # This is also true for NaN.
    if not _MIN_RATE <= sample_rate <= _MAX_RATE or sample_rate % 1:
        plausible = f"a whole number from {_MIN_RATE} to {_MAX_RATE}"
        raise ValueError(f"a sample rate of {sample_rate} Hz is not plausible: it is {plausible}")


def _decode_file(audio: AudioStream) -> Generator[av.AudioFrame]:
    """Decode a file and those that are joined to it, and complete ``audio`` on the way."""
    start, end, kind, failure, failures = 0, 0, "", "", 0
    while start is not None and failures < _MAX_FAILURES:
        try:
            with raise_audio_error(audio.path), open_container(audio.path, start) as container:
                kind = container.format.name
                end, failure = yield from _decode_container(container, start, audio)
        except AudioError as error:
            if not start:
                raise
            end, failure, failures = 0, "; ".join(error.reasons.values()), failures + 1
        last, start = start, find_joined(audio.path, kind, start, end)
    if failure:
        audio.problems.append(f"the rest of the file cannot be read: {failure}")
    if kind == "ogg":
        audio.problems += check_last_page(audio.path, last)
    if kind in ("aiff", "avi", "w64", "wav"):
        audio.problems += compare_sizes(audio.path, last, end)


def _decode_container(
    container: InputContainer, start: int, audio: AudioStream
) -> Generator[av.AudioFrame, None, tuple[int, str]]:
    """Decode the first stream with sound; return where it ends and the error that has ended it."""
    end, failure, streams = 0, "", _find_streams(container)
    for i, stream in enumerate(streams):
        if i:
            container.seek(0)
        packets = container.demux(stream)
        packet = next(packets)
        stated_s = _stated_duration(container, stream, packet.pos or 0)
        if not start:
            audio.codec = stream.codec_context.codec.canonical_name.upper()
        packets = itertools.chain([packet], packets)
        decoded_s, end, failure = yield from _decode_packets(packets, audio.problems)
        # The time stamps of recorded streams begin anywhere; some headers still count from 0.
        start_s = (container.start_time or 0) / av.time_base
        missing_s = min(abs(stated_s - s - decoded_s) for s in (0, start_s))
        if stated_s and missing_s > _TOLERANCE_S:
            header = f"the header at byte {start}" if start else "the header"
            promise = f"{header} promises {stated_s:.1f} s, {decoded_s:.1f} s can be decoded"
            audio.problems.append(promise)
        if decoded_s:
            if others := len(streams) - i - 1:
                audio.problems.append(f"other streams of sound that are not used: {others}")
            break
    return end, failure


def _find_streams(container: InputContainer) -> list[av.audio.AudioStream]:
    """Return the audio streams that FFmpeg has a decoder for, beginning with the best one."""
    # Without a decoder, a stream has no codec context.
    usable = [stream for stream in container.streams.audio if stream.codec_context]
    if not usable:
        raise ValueError("unknown codec" if container.streams.audio else "no audio in the file")
    best = container.streams.best("audio")
    return sorted(usable, key=lambda stream: stream is not best)


def _stated_duration(
    container: InputContainer, stream: av.audio.AudioStream, start_byte: int
) -> float:
    """Return the duration that the header states in seconds, or 0."""
    duration = stream.duration or 0
    if container.format.name == "caf":  # Its duration is that of the file, also if it is truncated.
        duration = max(duration, stream.frames)
    duration_s = duration * float(stream.time_base or 0)
    if stream.duration is None and not container.streams.video:
        duration_s = (container.duration or 0) / av.time_base
    # Where the header states none, FFmpeg guesses it from the first bit rate.
    bit_rate = stream.codec_context.bit_rate or math.inf
    guess_s = 8 * (container.size - start_byte) / bit_rate
    guessed = container.format.name == "mp3" and abs(duration_s - guess_s) < 0.001
    return 0.0 if guessed or container.format.name in _NO_LENGTH else duration_s


def _decode_packets(
    packets: Iterable[av.Packet], problems: list[str]
) -> Generator[av.AudioFrame, None, tuple[float, int, str]]:
    """Yield frames; return their length in seconds, the last byte, and the error that ended it."""
    length_s, end, damaged, failure = 0.0, 0, 0, ""
    try:
        for packet in packets:
            end = max(end, (packet.pos or 0) + packet.size)
            try:
                for frame in packet.decode():
                    length_s += frame.samples / max(frame.sample_rate, 1)
                    yield frame
            except FFmpegError:
                damaged += not bytes(packet).startswith(_TAGS)
    except FFmpegError as error:
        failure = error.strerror or ""
    if damaged:
        problems.append(f"damaged packets were skipped: {damaged}")
    return length_s, end, failure


def _convert(
    first: av.AudioFrame, frames: Iterable[av.AudioFrame], problems: list[str]
) -> Generator[np.ndarray]:
    """Convert frames to long blocks with the sample rate and the channels of the first frame."""
    rates, counts, n = set(), set(), first.layout.nb_channels
    runs = itertools.groupby(
        frames, lambda x: (x.sample_rate, x.layout.nb_channels, x.layout.name, x.format.name)
    )
    for (rate, count, *_), run in runs:
        _check_rate(rate)
        rates.add(rate)
        counts.add(count)
        resampler = av.AudioResampler("flt", rate=first.sample_rate)
        # Neither the frames before resampling nor those after it are longer than a block.
        for joined in _join(run, _BLOCK * min(rate / first.sample_rate, 1)):
            for frame in filter(None, resampler.resample(joined)):
                channels = frame.layout.nb_channels
                # AudioFrame.to_ndarray would copy the samples.
                samples: Any = frame.planes[0]
                block = np.frombuffer(samples, np.float32, frame.samples * channels)
                block = block.reshape(-1, channels)
                if channels != n:  # FFmpeg would let channels of opposite polarity cancel out
                    block = np.repeat(to_mono(invert_cancelling(block))[:, None], n, axis=1)
                yield block
    if len(rates) > 1:
        problems.append(f"the sample rate changes; all sound has {first.sample_rate} Hz now")
    if len(counts) > 1:
        problems.append(f"the number of channels changes; it is {n} everywhere now")


def _join(frames: Iterable[av.AudioFrame], size: float) -> Iterator[av.AudioFrame | None]:
    """Join frames of a few milliseconds to at least ``size`` samples, and end with None."""
    fifo = av.AudioFifo()
    for frame in frames:
        frame.pts = None  # AudioFifo refuses frames after a gap.
        fifo.write(frame)
        if fifo.samples >= size:
            yield fifo.read()
    if fifo.samples:
        yield fifo.read()
    yield None
