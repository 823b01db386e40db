"""What stays of a recording when it is encoded anew: fingerprints, and who shares them.

The method is that of Haitsma and Kalker: 32 bits every 20 ms say whether the energy between
neighbouring bands rises or falls. Codecs, gain and resampling leave most of the bits as they are.

References
----------
J. Haitsma, T. Kalker: A highly robust audio fingerprinting system. ISMIR 2002.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .audio import resample
from .config import project_root

# Raise it when the same file gives another fingerprint than before.
_VERSION = 1

_RATE = 5512  # Hz; the bands end at 2 kHz
_FRAME = 2048  # samples, 0.37 s: so long that half a hop of misalignment hardly matters
_HOP = 110
_BANDS = 33
_F_MIN, _F_MAX = 300.0, 2000.0

#: Seconds between sub-fingerprints.
HOP_S = _HOP / _RATE

# Frames below -70 dBFS are noise of the medium, and matching those would make one piece of music
# out of all pauses. Zero stands for them.
_SILENT = np.uint32(0)
_SILENT_RMS = 10 ** (-70 / 20)

# Bits of unrelated music differ in half of all cases: 0.500 with a standard deviation of 0.011 in
# 16,000 stretches of 5 s of 61 real tracks at random offsets, never below 0.44. MP3 at 64 kbit/s
# costs 0.02 to 0.08. Haitsma and Kalker find 0.35 over 3 s safe in a search; songs on the same drum
# loop, which are no copies, come down to 0.25.
_MAX_BIT_ERROR_RATE = 0.20
_MIN_OVERLAP_S = 5.0
_WINDOW = round(_MIN_OVERLAP_S / HOP_S)  # frames

_MOST_COMMON = 50  # occurrences: what stands everywhere tells nothing
_NEIGHBOURS = 8  # equal values, in the order of the tracks, that vote: bounds the memory
_OFFSET_BIN = 8  # frames, so that votes that stand a frame apart meet
_SPAN = 1 << 24  # offsets, in bins
_MIN_VOTES = 2
_MOST_OFFSETS = 5  # to verify for a pair: loops vote for many

_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def fingerprint(y: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sub-fingerprints of a recording.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        One channel.
    sample_rate : int > 0 (in Hz)

    Returns
    -------
    np.ndarray [shape=(frames,), dtype=uint32]
        One every ``HOP_S`` seconds, 0 where it is silent; empty below 0.4 s.
    """
    from scipy.fft import rfft

    y = resample(y, sample_rate, _RATE)
    count = 1 + (len(y) - _FRAME) // _HOP
    if count < 2:
        return np.empty(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(y, _FRAME)[::_HOP]
    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    edges = np.geomspace(_F_MIN, _F_MAX, _BANDS + 1) * _FRAME / _RATE
    starts = np.round(edges).astype(int)
    parts = []
    # In blocks of 20 s, each with the last frame of the one before it.
    for start in range(0, count - 1, 1024):
        block = frames[start : start + 1025]
        spectrum = rfft(block * window)[:, : starts[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        energy = np.add.reduceat(power, starts[:-1], axis=1)
        rising = np.diff(np.diff(energy, axis=1), axis=0) < 0
        bits = np.packbits(rising, axis=1).view(">u4")[:, 0].astype(np.uint32)
        silent = (block[1:] ** 2).mean(axis=1) < _SILENT_RMS**2
        parts.append(np.where(silent, _SILENT, bits))
    return np.concatenate(parts)


def fingerprint_file(sha256: str) -> Path:
    """Where the fingerprint of the file with a content hash is kept."""
    return project_root() / "data" / f"fingerprints-{_VERSION}" / f"{sha256}.npy"


def read_fingerprints(hashes: Sequence[str]) -> list[np.ndarray]:
    """The kept fingerprints of files, by their content hashes."""
    return [np.load(fingerprint_file(sha256), allow_pickle=False) for sha256 in hashes]


def find_near_duplicates(fingerprints: Sequence[np.ndarray]) -> pd.DataFrame:
    """Pairs of recordings that share 5 s or more of the same recorded sound.

    Equal sub-fingerprints of two recordings vote for the offset at which they stand; offsets with
    several votes are verified on all bits. That takes memory and time in proportion to the length
    of all recordings together.

    Parameters
    ----------
    fingerprints : sequence of np.ndarray [shape=(frames,), dtype=uint32]
        Of :func:`fingerprint`.

    Returns
    -------
    pd.DataFrame
        A row a pair: positions ``a < b``; ``offset_s`` (what stands at time t in b stands at
        t + offset_s in a); ``overlap_s``, the length of what is the same, without silence; and
        ``bit_error_rate`` in it.
    """
    rows = []
    for a, b, offset in _candidates(fingerprints):
        found = [
            (*_compare(fingerprints[a], fingerprints[b], at), -at)
            for at in range(offset - _OFFSET_BIN, offset + _OFFSET_BIN + 1)
        ]
        wrong, frames, at = min(found, key=lambda f: f[0] - f[1] / 2)
        if frames:
            rows.append((a, b, -at * HOP_S, frames * HOP_S, wrong / frames))
    columns = ["a", "b", "offset_s", "overlap_s", "bit_error_rate"]
    found = pd.DataFrame(rows, columns=columns).sort_values("overlap_s", ascending=False)
    return found.drop_duplicates(["a", "b"]).sort_values(["a", "b"], ignore_index=True)


def _compare(a: np.ndarray, b: np.ndarray, offset: int) -> tuple[float, int]:
    """Frames that are the same in ``a`` and in ``b`` delayed, as (sum of bit error rates, number).

    The same are those in any stretch of ``_WINDOW`` frames with few wrong bits.
    """
    start = max(0, offset)
    stop = max(start, min(len(a), len(b) + offset))
    of_a, of_b = a[start:stop], b[start - offset : stop - offset]
    heard = (of_a != _SILENT) & (of_b != _SILENT)
    if np.count_nonzero(heard) < _WINDOW:
        return 0.0, 0
    wrong = _ONES[(of_a ^ of_b)[heard].view(np.uint8)].reshape(-1, 4).sum(axis=1) / 32
    total = np.r_[0.0, np.cumsum(wrong)]
    good = total[_WINDOW:] - total[:-_WINDOW] <= _MAX_BIT_ERROR_RATE * _WINDOW
    same = np.convolve(good, np.ones(_WINDOW)) > 0.5
    return float(wrong[same].sum()), int(np.count_nonzero(same))


def _candidates(fingerprints: Sequence[np.ndarray]) -> Iterator[tuple[int, int, int]]:
    """Pairs a < b and the offsets (in frames) that have the most votes."""
    lengths = [len(f) for f in fingerprints]
    values = np.concatenate([np.empty(0, np.uint32), *fingerprints])
    track = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in lengths)])
    # A value that lasts votes once.
    begins = np.r_[True, (values[1:] != values[:-1]) | (track[1:] != track[:-1])][: len(values)]
    kept = np.flatnonzero(begins & (values != _SILENT))
    kept = kept[np.argsort(values[kept], kind="stable")]
    _, inverse, counts = np.unique(values[kept], return_inverse=True, return_counts=True)
    kept = kept[counts[inverse] <= _MOST_COMMON]
    values, track, frame = values[kept], track[kept], frame[kept]
    ballots = []
    for lag in range(1, _NEIGHBOURS + 1):
        i = np.flatnonzero((values[lag:] == values[:-lag]) & (track[lag:] != track[:-lag]))
        offset = (frame[i] - frame[i + lag]) // _OFFSET_BIN + _SPAN // 2
        pair = track[i] * len(lengths) + track[i + lag]
        ballots.append(pd.Series(pair * _SPAN + offset).value_counts())
    votes = pd.concat(ballots).groupby(level=0).sum()
    votes = votes[votes >= _MIN_VOTES].sort_values(ascending=False)
    pairs = votes.index.to_numpy() // _SPAN
    for key in votes.groupby(pairs).head(_MOST_OFFSETS).index:
        pair, offset = divmod(int(key), _SPAN)
        yield *divmod(pair, len(lengths)), (offset - _SPAN // 2) * _OFFSET_BIN
