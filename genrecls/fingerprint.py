"""What stays of a recording when it is encoded anew: fingerprints, and who shares them.

The method is that of Haitsma and Kalker: 32 bits every 23 ms say whether the energy between
neighbouring bands rises or falls. Codecs, gain and resampling leave most of the bits as they are.
They take a frame of 0.37 s for each; here the energies of frames of 93 ms are averaged over 0.4 s,
which takes less than half of the time.

References
----------
J. Haitsma, T. Kalker: A highly robust audio fingerprinting system. ISMIR 2002.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .audio import Resampler, mixed
from .config import project_root
from .files import write_atomically
from .spectrogram import power_spectra

#: Raise it when the same file gives another fingerprint, or the same fingerprints other pairs.
VERSION = 7

_RATE = 5512.5  # Hz, an eighth of the rate of a CD; the bands end at 2 kHz
_HOP = 128
_FRAME = 512  # samples, 93 ms
_STEP = _FRAME // 2  # from frame to frame
_SMOOTHED = 18 * _HOP  # samples: 0.4 s, so long that half a hop of misalignment hardly matters
_REACH = _FRAME + _SMOOTHED - _HOP  # samples that decide a sub-fingerprint: two means
# Sub-fingerprints, so that they stay in the cache of the processor; an even number, so that the
# next ones begin with a frame.
_AT_A_TIME = 320
# Samples at about twice the rate, 48 s, that are waited for: one batch after the other finds its
# tables in the cache, which the decoder takes for itself.
_TOGETHER = 1 << 19
_BANDS = 33
_F_MIN, _F_MAX = 300.0, 2000.0

#: Seconds between sub-fingerprints.
HOP_S = _HOP / _RATE

# Frames below -70 dBFS are noise of the medium, and matching those would make one piece of music
# out of all pauses. Zero stands for them.
_SILENT = np.uint32(0)
_SILENT_RMS = 10 ** (-70 / 20)

# Bits of unrelated music differ in half of all cases: with a standard deviation of 0.014 in
# stretches of 5 s of 61 real tracks, never below 0.44. MP3 at 64 kbit/s costs 0.05, and 0.13 in
# the worst stretch at the worst misalignment. Haitsma and Kalker find 0.35 over 3 s safe in a
# search; songs on the same drum loop, which are no copies, come down to 0.28.
_MAX_BIT_ERROR_RATE = 0.20
_MIN_OVERLAP_S = 5.0
_WINDOW = round(_MIN_OVERLAP_S / HOP_S)  # frames

_AT_ONCE = 1 << 20  # sub-fingerprints, six hours of music: bounds the memory to 100 MB
_MOST_VALUES = 1 << 24  # sub-fingerprints that vote, 90 hours: bounds the votes that chance makes
_MOST_COMMON = 50  # occurrences: what stands everywhere tells nothing
_NEIGHBOURS = 8  # equal values, in the order of the tracks, that vote: bounds the memory
_OFFSET_BIN = 8  # frames, so that votes that stand a frame apart meet
_SPAN = 1 << 24  # offsets, in bins
_MIN_VOTES = 2
_MOST_OFFSETS = 5  # to verify for a pair: loops vote for many

# Neighbouring bits are not independent; times an odd number (Knuth), the highest ones are.
_MIXES = np.uint32(2654435761)

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
    listener = Fingerprinter(sample_rate)
    listener.push(y)
    return listener.finish()


class Fingerprinter:
    """:func:`fingerprint`, block by block.

    Parameters
    ----------
    sample_rate : int > 0 (in Hz)
    """

    def __init__(self, sample_rate: int):
        self._mean_of = max(1, int(sample_rate / (2 * _RATE)))
        self._resampler = Resampler(sample_rate / self._mean_of, _RATE)
        self._rest = np.empty((0, 1), np.float32)  # of the samples, too few for a mean
        self._means = [np.empty(0, np.float32)]
        self._waiting = np.empty(0, np.float32)  # from the first sample of the next frame on
        self._parts = [np.empty(0, np.uint32)]

    def push(self, y: np.ndarray) -> None:
        """Take the next samples [shape=(n,) or (n, channels)]."""
        y = np.asarray(y, np.float32)
        y = y[:, None] if y.ndim == 1 else y
        y = np.concatenate([self._rest, y]) if len(self._rest) else y
        whole = len(y) // self._mean_of * self._mean_of
        self._rest = y[whole:]
        # Over the channels, and a rough filter before the exact one, which has less to do after it.
        self._means.append(mixed(y[:whole].reshape(-1, self._mean_of * y.shape[1])))
        if sum(map(len, self._means)) >= _TOGETHER:
            self._listen()

    def finish(self) -> np.ndarray:
        """The fingerprint of all that was pushed. Nothing can be pushed after it."""
        self._listen(last=True)
        return np.concatenate(self._parts)

    def _listen(self, *, last: bool = False) -> None:
        means = np.concatenate(self._means)
        self._means = [means[:0]]
        y = np.concatenate([self._waiting, self._resampler.push(means, last=last)])
        count = max(0, (len(y) - _REACH) // _HOP + 1)
        if not last:
            count -= count % _AT_A_TIME
        for start in range(0, count, _AT_A_TIME):
            n = min(_AT_A_TIME, count - start)
            self._parts.append(_sub_fingerprints(y[start * _HOP :][: (n - 1) * _HOP + _REACH]))
        self._waiting = y[count * _HOP :]


def _sub_fingerprints(y: np.ndarray) -> np.ndarray:
    """All that can be told from samples [shape=(n,)]."""
    window, used, rises, means = _window_rises_and_means()
    frames = np.lib.stride_tricks.sliding_window_view(y, _FRAME)[::_STEP]
    power = power_spectra(frames, window, used)
    hops = y.reshape(-1, _HOP)
    count = len(hops) - _REACH // _HOP + 1
    smooth = means[: count + 1, : power.shape[1]] @ (rises @ power).T
    rising = smooth[1:] < smooth[:-1]
    bits = np.packbits(rising, axis=1).view(">u4")[:, 0].astype(np.uint32)
    total = np.r_[0.0, np.cumsum(np.einsum("ij,ij->i", hops, hops), dtype=np.float64)]
    silent = total[-count:] - total[:count] < _REACH * _SILENT_RMS**2
    return np.where(silent, _SILENT, bits)


@functools.cache
def _window_rises_and_means() -> tuple[np.ndarray, slice, np.ndarray, np.ndarray]:
    """Window of a frame, the bins of all bands, and the matrices that take the energy of a band
    from that of the next one and average over frames."""
    edges = np.round(np.geomspace(_F_MIN, _F_MAX, _BANDS + 1) * _FRAME / _RATE).astype(int)
    used = slice(edges[0], edges[-1])
    bins = np.arange(edges[0], edges[-1])
    bands = (edges[:-1, None] <= bins) & (bins < edges[1:, None])
    rises = np.diff(bands.astype(np.float32), axis=0)
    centres = _HOP * np.arange(_AT_A_TIME + 1)[:, None] + _SMOOTHED // 2 - _HOP
    frames = _STEP * np.arange((centres[-1, 0] + _SMOOTHED // 2) // _STEP + 1)
    from_centre = np.minimum(np.abs(frames - centres) / (_SMOOTHED / 2), 1)
    means = 1 + np.cos(np.pi * from_centre)  # Hann
    means /= means.sum(axis=1, keepdims=True)
    # The squares of two that overlap by half add up to 1, so that all samples count the same.
    window = np.sin(np.pi * (np.arange(_FRAME) + 0.5) / _FRAME)
    return window.astype(np.float32)[:, None], used, rises, means.astype(np.float32)


def fingerprint_file(sha256: str) -> Path:
    """Where the fingerprint of the file with a content hash is kept."""
    return project_root() / "data" / f"fingerprints-{VERSION}" / f"{sha256}.npz"


def keep_fingerprint(file: Path, bits: np.ndarray) -> None:
    """Write what :func:`fingerprint` gives, with a checksum."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda f: np.savez(f, bits=bits))


def kept_fingerprint(file: Path) -> np.ndarray | None:
    """The fingerprint in a file; None if there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            return saved["bits"]
    except Exception:  # there is no end of what damaged bytes make it raise
        return None


class _Kept(Sequence):
    """The kept fingerprints of files, read when they are asked for."""

    def __init__(self, hashes: Sequence[str]):
        self.hashes = list(hashes)

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, i: int) -> np.ndarray:
        return kept_fingerprint(fingerprint_file(self.hashes[i]))


def read_fingerprints(hashes: Sequence[str]) -> Sequence[np.ndarray]:
    """The kept fingerprints of files, by their content hashes; one at a time is read."""
    return _Kept(hashes)


def find_near_duplicates(fingerprints: Sequence[np.ndarray]) -> pd.DataFrame:
    """Pairs of recordings that share 5 s or more of the same recorded sound.

    Equal sub-fingerprints of two recordings vote for the offset at which they stand; offsets with
    several votes are verified on all bits. In more than 90 hours of music a sample of the values
    votes, or chance would make too many votes for any memory: the longer the corpus, the longer
    must be what two recordings share to be found.

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
        of_a, of_b = fingerprints[a], fingerprints[b]
        found = [
            (*_compare(of_a, of_b, at), -at)
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
    total = sum(map(len, fingerprints))
    sampled = 1 + total // _MOST_VALUES  # one in so many
    shares = 1 + total // sampled // _AT_ONCE
    votes = pd.concat([_votes(fingerprints, share, shares, sampled) for share in range(shares)])
    votes = votes.groupby(level=0).sum()
    votes = votes[votes >= _MIN_VOTES].sort_values(ascending=False)
    pairs = votes.index.to_numpy() // _SPAN
    for key in votes.groupby(pairs).head(_MOST_OFFSETS).index:
        pair, offset = divmod(int(key), _SPAN)
        yield *divmod(pair, len(fingerprints)), (offset - _SPAN // 2) * _OFFSET_BIN


def _votes(fingerprints: Sequence[np.ndarray], share: int, shares: int, sampled: int) -> pd.Series:
    """How many equal sub-fingerprints speak for each pair and offset, of a share of a sample of all
    values."""
    values, track, frame = [np.empty(0, np.uint32)], [], []
    for i, of_track in enumerate(fingerprints):
        # A value that lasts votes once.
        begins = np.r_[True, of_track[1:] != of_track[:-1]][: len(of_track)]
        sample, of_sample = np.divmod(of_track * _MIXES, np.uint32(sampled))
        mine = (of_sample == 0) & (sample % np.uint32(shares) == share)
        kept = np.flatnonzero(begins & (of_track != _SILENT) & mine)
        values.append(of_track[kept])
        track.append(np.full(len(kept), i))
        frame.append(kept)
    values = np.concatenate(values)
    order = np.argsort(values, kind="stable")
    _, inverse, counts = np.unique(values[order], return_inverse=True, return_counts=True)
    order = order[counts[inverse] <= _MOST_COMMON]
    values = values[order]
    track, frame = (np.concatenate([np.empty(0, int), *x])[order] for x in (track, frame))
    ballots = []
    for lag in range(1, _NEIGHBOURS + 1):
        i = np.flatnonzero((values[lag:] == values[:-lag]) & (track[lag:] != track[:-lag]))
        offset = (frame[i] - frame[i + lag]) // _OFFSET_BIN + _SPAN // 2
        pair = track[i] * len(fingerprints) + track[i + lag]
        ballots.append(pd.Series(pair * _SPAN + offset).value_counts())
    return pd.concat(ballots)
