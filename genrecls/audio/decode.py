"""Decode sound files of all common formats to floating-point samples."""

from __future__ import annotations

import itertools
import math
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
from genrecls.audio._container import open_container, raise_audio_error
from genrecls.audio.resample import resample, to_mono
from genrecls.errors import AudioWarning

# At other rates, a damaged header is more likely than music.
_SAMPLE_RATES = range(4_000, 768_001)

# The headers of intact MP3 files state up to 0.1 s too much, because encoders pad the sound.
_MAX_SHORTFALL_S = 0.5

# Lossy codecs exceed full scale by a few dB. Samples 12 dB above it are damaged, or they are
# integers that were stored as floats.
_MAX_PEAK = 4.0
_AUDIBLE_PEAK = 1.5

_BLOCK = 1 << 17  # in samples: 1 MB of stereo


@dataclass(frozen=True)
class Decoded:
    """All samples of a file [shape=(channels, n)], unchanged."""

    samples: np.ndarray
    sample_rate: int
    codec: str
    problems: tuple[str, ...]


@dataclass
class AudioStream:
    """Sound in blocks [shape=(n, channels), dtype=float32]; can be iterated over once.

    ``codec`` is FFmpeg's name in upper case, such as ``'PCM_S16LE'``; ``duration_s`` is that of the
    header, or 0. ``problems``, a phrase for each defect, is complete after the last block.
    """

    sample_rate: int
    codec: str
    duration_s: float
    blocks: Iterator[np.ndarray]
    clip: bool = True
    path: str | PathLike = ""
    problems: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[np.ndarray]:
        n, peak = 0, 0.0
        with raise_audio_error(self.path):
            for block in self.blocks:
                block_peak = float(max(block.max(), -block.min()))
                if not math.isfinite(block_peak):
                    raise ValueError("some samples are NaN or infinite")
                n, peak = n + len(block), max(peak, block_peak)
                if peak > _MAX_PEAK:
                    raise ValueError(f"samples reach {peak:.3g} where full scale is 1")
                yield np.clip(block, -1, 1) if self.clip and block_peak > 1 else block
        length_s = n / self.sample_rate
        if self.duration_s - length_s > _MAX_SHORTFALL_S:
            promised = f"the header promises {self.duration_s:.1f} s"
            self.problems.append(f"{promised}, {length_s:.1f} s can be decoded")
        if peak > _AUDIBLE_PEAK:
            self.problems.append(f"samples reach {peak:.3g}; they are cut off at full scale (1)")


@contextmanager
def open_audio(
    path: str | PathLike, *, clip: bool = True, prefetch: bool = False
) -> Iterator[AudioStream]:
    """Open a sound file, or the sound of a video file, to decode it in blocks.

    Where the sample rate or the channels change, the blocks are converted to those at the start.

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
        Iterator over blocks [shape=(n, channels), dtype=float32], with ``sample_rate``, ``codec``,
        ``duration_s`` and ``problems``.

    Raises
    ------
    AudioError
        On opening or while reading: if the file cannot be decoded, contains no sound, or has
        samples that are not finite or far above full scale.
    """
    problems: list[str] = []
    with open_container(path) as container:
        with raise_audio_error(path):
            stream = _select_stream(container)
            packets = container.demux(stream)
            packet = next(packets)
            duration_s = _stated_duration(container, stream, packet.pos or 0)
            frames = _decode_packets(itertools.chain([packet], packets), container, problems)
            if (first := next(frames, None)) is None:
                raise ValueError("; ".join(["no audio in the file", *problems]))
            if first.sample_rate not in _SAMPLE_RATES:
                raise ValueError(f"a sample rate of {first.sample_rate} Hz is not plausible")
            codec = stream.codec_context.codec.canonical_name.upper()
        blocks = _convert(first, itertools.chain([first], frames), problems)
        if prefetch:
            blocks = parallel.prefetch(blocks)
        with closing(blocks):
            yield AudioStream(first.sample_rate, codec, duration_s, blocks, clip, path, problems)


def stream_array(y: np.ndarray, sample_rate: int | None) -> AudioStream:
    """Return samples in memory as a stream of one block, or refuse them."""
    if not sample_rate or sample_rate <= 0:
        raise ValueError("the sample rate of an array is unknown: give sample_rate, in Hz")
    y = np.atleast_2d(y)
    if y.ndim > 2 or y.shape[0] > y.shape[1] or not np.issubdtype(y.dtype, np.floating):
        expected = "an array of floats in [-1, 1] of shape (n,) or (channels, n)"
        raise ValueError(f"sound must be {expected}, not of {y.dtype} and shape {y.shape}")
    peak = float(np.abs(y).max())
    if not peak <= _MAX_PEAK:  # This is also true for NaN.
        raise ValueError(f"samples reach {peak:.3g} where full scale is 1")
    block = np.ascontiguousarray(y.T, np.float32)
    return AudioStream(int(sample_rate), "array", len(block) / sample_rate, iter([block]))


def load_audio(
    path: str | PathLike, *, sample_rate: int | None = None, mono: bool = True
) -> tuple[np.ndarray, int]:
    """Decode a sound file, or the sound of a video file.

    Parameters
    ----------
    path : str or path-like
        The file; its content decides how it is decoded, not its name.
    sample_rate : int > 0, optional (in Hz)
        Rate to resample to; by default that of the file is kept.
    mono : bool
        Average the channels.

    Returns
    -------
    y : np.ndarray [shape=(n,) if mono, else (channels, n), dtype=float32]
        Samples, clipped to [-1, 1]: lossy codecs and resampling exceed full scale a little.
    sample_rate : int > 0 (in Hz)
        Sample rate of ``y``.

    Raises
    ------
    AudioError
        See :func:`genrecls.audio.open_audio`.

    Warns
    -----
    AudioWarning
        If a part of the file is missing or damaged, or clipping is audible.

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
        y, rate = np.clip(resample(y, rate, sample_rate), -1.0, 1.0), sample_rate
    return np.ascontiguousarray(y), rate


def decode(path: str | PathLike) -> Decoded:
    """Decode all channels of a file at its sample rate, without clipping."""
    with open_audio(path, clip=False) as audio:
        samples = np.concatenate([block.T for block in audio], axis=1)
    return Decoded(samples, audio.sample_rate, audio.codec, tuple(audio.problems))


def warn_problems(path: str | PathLike, problems: Sequence[str]) -> None:
    """Issue an :class:`AudioWarning` for each problem of a file."""
    for problem in problems:
        warnings.warn(f"{str(path)!r}: {problem}", AudioWarning, stacklevel=3)


def _select_stream(container: InputContainer) -> av.audio.AudioStream:
    """Return the best audio stream, or else the first one that FFmpeg has a decoder for."""
    best = container.streams.best("audio")
    for stream in (best, *container.streams.audio):
        # Without a decoder, a stream has no codec context.
        if isinstance(stream, av.audio.AudioStream) and stream.codec_context:
            return stream
    raise ValueError("unknown codec" if container.streams.audio else "no audio in the file")


def _stated_duration(
    container: InputContainer, stream: av.audio.AudioStream, start_byte: int
) -> float:
    """Return the duration that the header states in seconds, or 0."""
    duration_s = (stream.duration or 0) * float(stream.time_base or 0)
    # Where the header states none, FFmpeg guesses it from the first bit rate.
    bit_rate = stream.codec_context.bit_rate or math.inf
    guess_s = 8 * (container.size - start_byte) / bit_rate
    guessed = container.format.name in ("aac", "mp3") and abs(duration_s - guess_s) < 0.001
    return 0.0 if guessed else duration_s


def _decode_packets(
    packets: Iterable[av.Packet], container: InputContainer, problems: list[str]
) -> Iterator[av.AudioFrame]:
    n_bytes = damaged = 0
    try:
        for packet in packets:
            n_bytes += packet.size
            try:
                yield from packet.decode()
            except FFmpegError:
                damaged += 1
    except FFmpegError as error:
        problems.append(f"the rest of the file cannot be read: {error.strerror}")
    if damaged:
        problems.append(f"{damaged} damaged packets were skipped")
    # A size field in a WAV header has 32 bits, which are too few for 4 GB.
    if container.format.name == "wav" and n_bytes < container.size / 2:
        problems.append(f"the header describes only {n_bytes} of {container.size} bytes as sound")


def _convert(
    first: av.AudioFrame, frames: Iterable[av.AudioFrame], problems: list[str]
) -> Generator[np.ndarray]:
    """Convert frames to long blocks with the sample rate and the channels of the first frame."""
    rates, layouts = set(), set()
    runs = itertools.groupby(frames, lambda x: (x.sample_rate, x.layout.name, x.format.name))
    for (rate, layout, _), run in runs:
        rates.add(rate)
        layouts.add(layout)
        resampler = av.AudioResampler("flt", first.layout, first.sample_rate)
        for joined in _join(run):
            for frame in filter(None, resampler.resample(joined)):
                channels = frame.layout.nb_channels
                # AudioFrame.to_ndarray would copy the samples.
                samples: Any = frame.planes[0]
                block = np.frombuffer(samples, np.float32, frame.samples * channels)
                yield block.reshape(-1, channels)
    if len(rates) > 1:
        problems.append(f"the sample rate changes; all sound has {first.sample_rate} Hz now")
    if len(layouts) > 1:
        problems.append(f"the channels change; all sound is {first.layout.name} now")


def _join(frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame | None]:
    """Join frames of a few milliseconds to long ones, and end with None."""
    fifo = av.AudioFifo()
    for frame in frames:
        frame.pts = None  # AudioFifo refuses frames after a gap.
        fifo.write(frame)
        if fifo.samples >= _BLOCK:
            yield fifo.read()
    if fifo.samples:
        yield fifo.read()
    yield None
