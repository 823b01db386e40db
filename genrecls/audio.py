"""A sound file of any common format in, float32 samples at a stated rate out."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

from .config import GenreclsError

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


class AudioError(GenreclsError, ValueError):
    """A file that cannot be used, with the reason of every decoder that tried.

    Attributes
    ----------
    path : Path
    reasons : dict of str to str
        Decoder (or check) and what it said.
    advice : str
        What the user can do.
    """

    def __init__(self, path: str | PathLike, reasons: dict[str, str], advice: str):
        self.path, self.reasons, self.advice = Path(path), reasons, advice
        said = "; ".join(f"{who}: {why}" for who, why in reasons.items())
        super().__init__(f"{str(path)!r} cannot be used ({said}). {advice}")

    def __reduce__(self):
        return type(self), (self.path, self.reasons, self.advice)


class AudioWarning(UserWarning):
    """A file that is used although something about it is not as it should be."""


@dataclass(frozen=True)
class Decoded:
    """Samples as they stand in a file.

    Attributes
    ----------
    samples : np.ndarray [shape=(channels, n), dtype=float32]
    sample_rate : int > 0 (in Hz)
    decoder : {'soundfile', 'PyAV'}
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


def load_audio(
    path: str | PathLike, *, sample_rate: int | None = None, mono: bool = True
) -> tuple[np.ndarray, int]:
    """Decode a sound file, or the sound of a video file.

    WAV, FLAC, OGG, MP3 and AIFF are decoded by libsndfile; whatever it refuses (AAC in M4A or
    MP4, Opus in WebM, ...) by FFmpeg through PyAV. Nothing has to be installed beside the
    Python packages.

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
    >>> y, sr = load_audio("song.mp3", sample_rate=22050)  # doctest: +SKIP
    """
    decoded = decode(path)
    for problem in decoded.problems:
        warnings.warn(f"{str(path)!r}: {problem}", AudioWarning, stacklevel=2)
    y, rate = decoded.samples, decoded.sample_rate
    if mono:
        y = y.mean(axis=0)
    if sample_rate is not None and sample_rate != rate:
        y = resample(y, rate, sample_rate)
        rate = sample_rate
    return np.clip(y, -1.0, 1.0), rate


def read_tags(path: str | PathLike) -> dict[str, str]:
    """What a file says of itself (ID3, Vorbis comments, MP4 atoms).

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict of str to str
        ``artist``, ``album`` and ``title`` where they are given; empty for what is no sound file.
    """
    import av

    try:
        # FFmpeg writes a traceback of a file of no bytes to stderr.
        if not Path(path).stat().st_size:
            return {}
        with _open_av(path) as container:
            tags = dict(container.metadata)
            # Ogg keeps them in the stream.
            for stream in container.streams.audio[:1]:
                tags = {**stream.metadata, **tags}
    except (av.error.FFmpegError, OSError, RuntimeError, ValueError):
        return {}
    known = {name.lower(): text.strip() for name, text in tags.items()}
    return {name: known[name] for name in ("artist", "album", "title") if known.get(name)}


def resample(y: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Change the sample rate with a band-limited filter (SoX resampler, high quality).

    Parameters
    ----------
    y : np.ndarray [shape=(..., n)]
    rate, new_rate : int > 0 (in Hz)

    Returns
    -------
    np.ndarray [shape=(..., about n * new_rate / rate), dtype=float32]
    """
    import soxr

    return soxr.resample(np.asarray(y, np.float32).T, rate, new_rate).T


def decode(path: str | PathLike) -> Decoded:
    """Decode a file as it is: all channels, its own rate. See :func:`load_audio`."""
    path = Path(path)
    if not path.exists():
        raise AudioError(path, {"file": "does not exist"}, "Check the path.")
    if path.is_dir():
        raise AudioError(path, {"file": "is a folder"}, "Name a file inside it.")
    if path.stat().st_size == 0:
        raise AudioError(path, {"file": "is empty"}, "Download or export it again.")
    reasons: dict[str, str] = {}
    decoders: dict[str, Callable[[Path], Decoded]] = {
        "soundfile": _decode_soundfile,
        "PyAV": _decode_av,
    }
    for name, decoder in decoders.items():
        try:
            decoded = decoder(path)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            # libsndfile's own words, without the descriptor that soundfile puts before them
            reasons[name] = getattr(error, "error_string", None) or str(error) or repr(error)
            continue
        if complaint := _complaint(decoded.samples):
            reasons[name] = complaint
            continue
        peak = np.abs(decoded.samples).max()
        if peak > _OVERSHOOT:
            loud = f"samples reach {peak:.3g}; what is beyond full scale (1) is cut off"
            decoded = dataclasses.replace(decoded, problems=(*decoded.problems, loud))
        return dataclasses.replace(decoded, refused=reasons)
    raise AudioError(path, reasons, "Play it to hear whether it is whole; export it again.")


def _complaint(samples: np.ndarray) -> str | None:
    """Why decoded samples cannot be music, or None."""
    if not samples.size:
        return "no audio in the file"
    finite = np.isfinite(samples)
    if not finite.all():
        return f"{np.count_nonzero(~finite)} of {samples.size} samples are NaN or infinite"
    peak = np.abs(samples).max()
    if peak > _LOUDEST:
        return f"samples reach {peak:.3g} where full scale is 1"
    return None


def _decode_soundfile(path: Path) -> Decoded:
    import soundfile

    # By descriptor, not by name: libsndfile then goes by content alone.
    with (
        open(path, "rb") as raw,
        soundfile.SoundFile(raw.fileno(), closefd=False) as file,
    ):
        rate, promised, blocks = file.samplerate, file.frames, []
        # Until nothing comes: `file.frames` and `file.blocks()` believe the header.
        while (block := file.read(1 << 20, dtype="float32", always_2d=True)).size:
            blocks.append(block.T)
    samples = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.float32)
    problems = _shortfall(promised / rate, samples.shape[1] / rate)
    return Decoded(samples, rate, "soundfile", problems)


def _decode_av(path: Path) -> Decoded:
    import av

    try:
        with _open_av(path) as container:
            return _decode_av_stream(container)
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror or repr(error)) from error


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


def _decode_av_stream(container) -> Decoded:
    import av

    if not container.streams.audio:
        raise ValueError("no audio stream in the file")
    stream = container.streams.audio[0]
    rate = stream.rate
    promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
    to_float = av.AudioResampler(format="fltp", rate=rate)
    blocks, damaged = [], 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            continue
        for frame in frames:
            blocks += [part.to_ndarray() for part in to_float.resample(frame)]
    samples = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.float32)
    problems = _shortfall(promised, samples.shape[1] / rate)
    if damaged:
        problems += (f"{damaged} damaged packets were skipped",)
    return Decoded(samples, rate, "PyAV", problems)


def _shortfall(promised_s: float, decoded_s: float) -> tuple[str, ...]:
    if promised_s - decoded_s <= _SHORTFALL_S:
        return ()
    return (f"the header promises {promised_s:.1f} s, {decoded_s:.1f} s can be decoded",)
