"""A sound file to the log-mels of its pieces, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from .audio import AudioError, Blocks, Resampler, array_blocks, mixed, read_blocks, warn_of
from .config import FrontEnd
from .fingerprint import Fingerprinter
from .spectrogram import is_silent, mel_spectrogram

# Half precision is exact to 0.03 dB at -80 dB and to 0.001 dB around 0 dB.
DTYPE = np.float16

#: Pieces of a track may begin so close to each other: ten times as many a second would fill the
#: memory.
SHORTEST_HOP_S = 0.1


def track_log_mels(
    path: str | os.PathLike, front_end: FrontEnd, *, pad: bool = False
) -> tuple[np.ndarray, pd.DataFrame]:
    """Log-mels of the pieces of one file.

    Parameters
    ----------
    path : str or path-like
    front_end : FrontEnd
    pad : bool
        Complete the last piece with silence instead of dropping it.

    Returns
    -------
    log_mels : np.ndarray [shape=(pieces, n_mels, frames), dtype=float16] (in dB)
        In the precision in which they are stored, so that a model is always given what it was
        trained on.
    table : pd.DataFrame
        ``segment, start_s, end_s`` as of :func:`genrecls.split_segments`, and ``silent``.

    Raises
    ------
    AudioError
        If the file cannot be decoded or is shorter than one piece.
    """
    log_mels, table, problems = hear(path, front_end, pad=pad)
    warn_of(path, problems)
    return log_mels, table


def hear(
    sound: str | os.PathLike | np.ndarray,
    front_end: FrontEnd,
    *,
    sample_rate: int | None = None,
    pad: bool = False,
    hop_s: float | None = None,
    longest_s: float | None = None,
) -> tuple[np.ndarray, pd.DataFrame, list[str]]:
    """:func:`track_log_mels` of a file or of samples, and what is to be warned of.

    Parameters
    ----------
    sound : str, path-like, or np.ndarray [shape=(n,) or (channels, n)]
    front_end : FrontEnd
    sample_rate : int > 0 (in Hz)
        Of an array.
    pad, hop_s, longest_s
        See :func:`to_log_mels`.

    Returns
    -------
    log_mels : np.ndarray [shape=(pieces, n_mels, frames), dtype=float16] (in dB)
    table : pd.DataFrame
    problems : list of str

    Raises
    ------
    AudioError
        If a file cannot be decoded, or is too short or too long.
    ValueError
        If samples are no sound, or a piece is no whole number of hops long.
    """

    def collect(blocks: Blocks):
        log_mels: list[np.ndarray] = []
        options = {"pad": pad, "hop_s": hop_s, "longest_s": longest_s}
        table = to_log_mels(path, blocks, front_end, log_mels.append, **options)
        return np.stack(log_mels), table, blocks.problems

    if isinstance(sound, np.ndarray):
        path = "<array>"
        return collect(array_blocks(sound, sample_rate))
    path = sound
    return read_blocks(path, collect, in_thread=True)


def to_log_mels(
    path,
    blocks: Blocks,
    front_end: FrontEnd,
    keep: Callable[[np.ndarray], object],
    *,
    pad: bool = False,
    hop_s: float | None = None,
    longest_s: float | None = None,
    listener: Fingerprinter | None = None,
) -> pd.DataFrame:
    """Give the log-mel of every piece to ``keep``, and every block to ``listener``.

    No more than a block and a piece is held at a time.

    Parameters
    ----------
    path : str or path-like
        For the error.
    blocks : Blocks
    front_end : FrontEnd
    keep : callable
    pad : bool
        Complete the last piece with silence instead of dropping it.
    hop_s : float > 0, optional (in seconds)
        From the start of one piece to that of the next; by default their length. See
        :func:`hop_samples`.
    longest_s : float > 0, optional (in seconds)
        Refuse what is longer, without reading the rest.
    listener : Fingerprinter, optional

    Returns
    -------
    pd.DataFrame
        The table of the pieces.

    Raises
    ------
    AudioError
        If there is less than one piece of sound, or more than ``longest_s``.
    """
    rate, length = front_end.sample_rate, front_end.segment_samples
    hop = hop_samples(front_end, hop_s)
    rows = []
    for start, y in _cut(_sound(blocks, front_end, listener), length, hop):
        n = len(y)
        if longest_s and (start + n) / rate > longest_s:
            raise AudioError(
                path, {"length": f"more than {longest_s / 60:g} minutes"}, "Use a part of it."
            )
        if n < length and not (pad and n > (length - hop if rows else 0)):
            break
        if n < length:
            y = np.pad(y, (0, length - n))
        log_mel = mel_spectrogram(y, front_end)
        keep(log_mel.astype(DTYPE))
        silent = bool(is_silent(log_mel, front_end))
        rows.append((len(rows) + 1, start / rate, (start + n) / rate, silent))
    if not rows:
        short = f"{n / rate:.7g} s of sound is shorter than one piece of {front_end.segment_s:g} s"
        if blocks.problems:
            short = "; ".join([short, *blocks.problems])
        advice = "Export it again." if blocks.problems else "Use a longer recording."
        raise AudioError(path, {"length": short}, advice)
    return pd.DataFrame(rows, columns=["segment", "start_s", "end_s", "silent"])


def _sound(
    blocks: Blocks, front_end: FrontEnd, listener: Fingerprinter | None
) -> Iterator[np.ndarray]:
    """One channel at the rate of the front end, in stretches [shape=(n,)] of any length.

    No more of it than the file is long: a resampler rounds up, and 15 s less one sample are none.
    """
    resampler = Resampler(blocks.sample_rate, front_end.sample_rate)
    frames = given = 0
    for block in blocks:
        frames += len(block)
        if listener:
            listener.push(block)
        y = resampler.push(mixed(block) if front_end.channel == "mix" else block[:, 0])
        given += len(y)
        yield y
    rest = resampler.push(np.empty(0, np.float32), last=True)
    yield rest[: max(frames * front_end.sample_rate // blocks.sample_rate - given, 0)]


def hop_samples(front_end: FrontEnd, hop_s: float | None) -> int:
    """Samples from one piece to the next.

    Raises
    ------
    ValueError
        Unless a piece is a whole number of hops long: else the pieces that a verdict rests on,
        which do not overlap, would not be among those that do.
    """
    length = front_end.segment_samples
    if hop_s is None:
        return length
    if not SHORTEST_HOP_S <= hop_s <= front_end.segment_s:  # NaN neither
        raise ValueError(
            f"a hop is from {SHORTEST_HOP_S:g} to {front_end.segment_s:g} s long, not {hop_s:g} s"
        )
    hop = round(hop_s * front_end.sample_rate)
    if length % hop:
        some = ", ".join(f"{front_end.segment_s / n:g}" for n in (15, 10, 5, 3, 2))
        raise ValueError(
            f"a piece of {front_end.segment_s:g} s is no whole number of hops of {hop_s:g} s; "
            f"{some} s go into it"
        )
    return hop


def do_not_overlap(pieces: pd.DataFrame, front_end: FrontEnd) -> np.ndarray:
    """Which of the pieces of a track stand side by side, from the first one on.

    Parameters
    ----------
    pieces : pd.DataFrame
        All pieces of a track, in the order of time, with ``start_s``.
    front_end : FrontEnd

    Returns
    -------
    np.ndarray [shape=(len(pieces),), dtype=bool]
    """
    hop_s = pieces["start_s"].diff().iloc[1:2].min()  # NaN where there is one piece
    every = 1 if np.isnan(hop_s) else round(front_end.segment_s / hop_s)
    return np.arange(len(pieces)) % every == 0


def _cut(sound: Iterator[np.ndarray], length: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces of so many samples and where they start; at last what is left, which may be empty.

    A piece is to be used before the next one is asked for, which takes its place.
    """
    piece, held, start = np.empty(length, np.float32), 0, 0
    for y in sound:
        while len(y):
            part, y = y[: length - held], y[length - held :]
            piece[held : held + len(part)] = part
            held += len(part)
            if held == length:
                yield start, piece
                piece[: length - hop] = piece[hop:]
                start, held = start + hop, length - hop
    yield start, piece[:held]
