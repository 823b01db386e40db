"""Search for recordings that share the same sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from genrecls.audio.fingerprint import _SILENT, HOP_S

# Bits of unrelated music differ in half of all cases: with a standard deviation of 0.014 in
# stretches of 5 s of 61 real tracks, never below 0.44. MP3 at 64 kbit/s costs 0.05, and 0.13 in
# the worst stretch at the worst misalignment. Haitsma and Kalker find 0.35 over 3 s safe in a
# search; songs on the same drum loop, which are no copies, come down to 0.28.
_MAX_BIT_ERROR_RATE = 0.20
_MIN_OVERLAP_S = 5.0
_WINDOW = round(_MIN_OVERLAP_S / HOP_S)  # frames

_MAX_PENDING = 1 << 20  # sub-fingerprints, six hours of music: bounds the memory to 100 MB
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
    shares = 1 + total // sampled // _MAX_PENDING
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
