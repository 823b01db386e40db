"""Find recordings that share the same sound, by their fingerprints."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from genrecls.audio.fingerprint import HOP_S, SILENT

# Half of all bits differ between unrelated music: in stretches of 5 s of 61 real tracks, 0.44 or
# more. MP3 at 64 kbit/s changes 0.05 of the bits, and 0.13 in the worst stretch at the worst
# misalignment. Different songs on the same drum loop go down to 0.28.
_MAX_BIT_ERROR_RATE = 0.20
_MIN_OVERLAP_S = 5.0
_WINDOW = round(_MIN_OVERLAP_S / HOP_S)  # frames

#: Share of the shorter recording from which on a pair is one of copies or excerpts. They share all
#: of it, and a jingle is a small part.
COPY_SHARE = 0.5

_MAX_VALUES_PER_PART = 1 << 20  # six hours of music: bounds the memory to 100 MB
_MAX_VOTING_VALUES = 1 << 24  # 90 hours of music: bounds the votes that are due to chance
_MAX_NEIGHBOURS = 8  # equal values, in the order of the tracks, that vote: bounds the memory
# More frequent values are in many copies, or in music that stays the same. They vote once for each
# track and its next one: copies are still connected, and the time stays proportional to the number.
_FREQUENT = 50
_OFFSET_BIN = 8  # frames, so that votes for almost the same offset are counted together
_OFFSETS = 1 << 24  # number of offsets, in bins
_MIN_VOTES = 2
_MAX_OFFSETS_PER_PAIR = 5  # to verify; loops have votes for many offsets
_MAX_SHIFTS = 3  # in a bin, to compare bit by bit, which takes ten times as long as to count equals

# Neighbouring bits are correlated; those of a product with this number (Knuth's) are not.
_HASH_FACTOR = np.uint32(2654435761)

_BITS_SET = np.array([byte.bit_count() for byte in range(256)], np.uint8)


def find_near_duplicates(fingerprints: Sequence[np.ndarray]) -> pd.DataFrame:
    """Find pairs of recordings that share 5 s or more of the same sound.

    Equal sub-fingerprints of two recordings vote for the offset between them. Offsets with
    several votes are verified on all bits. In more than 90 hours of music only a sample of the
    values votes, so that the shared sound must be longer. Among many copies, not all pairs are
    found, but enough to connect all copies.

    The result has one row per pair: positions ``a < b``; ``offset_s`` (the sound at time t in b is
    at t + offset_s in a); ``overlap_s``, without silence; the ``bit_error_rate`` in it; the
    ``share`` of the shorter recording that is equal; and ``middle_s``, its place in a.
    """
    digests: dict[bytes, int] = {}
    first, sounding = [], []
    for i, bits in enumerate(fingerprints):
        first.append(digests.setdefault(hashlib.sha256(bits.tobytes()).digest(), i))
        sounding.append(np.count_nonzero(bits != SILENT))
    # Equal fingerprints need no votes. The first of them represents the others.
    equal = [(one, i, [0]) for i, one in enumerate(first) if one != i]
    copies, rows = np.arange(len(first)), []  # copies have the number of one of them
    for a, b, shifts in itertools.chain(equal, _candidates(fingerprints, sorted(set(first)))):
        is_known = copies[a] == copies[b]
        if is_known and np.count_nonzero(copies == copies[a]) > _MAX_NEIGHBOURS:
            continue
        one, two = fingerprints[a], fingerprints[b]
        best = sorted(shifts, key=lambda shift: _count_equal(one, two, shift))[-_MAX_SHIFTS:]
        matches = [(*_compare(one, two, shift), shift) for shift in best]
        errors, frames, middle, shift = min(matches, key=lambda match: match[0] - match[1] / 2)
        if frames:
            times = (shift * HOP_S, frames * HOP_S)
            # Half of the bits agree by chance, which makes a stretch seem longer than it is.
            share = (frames - 2 * errors) / min(sounding[a], sounding[b])
            rows.append((a, b, *times, errors / frames, share, middle * HOP_S))
            if share >= COPY_SHARE:
                copies[copies == copies[b]] = copies[a]
    columns = ["a", "b", "offset_s", "overlap_s", "bit_error_rate", "share", "middle_s"]
    pairs = pd.DataFrame(rows, columns=columns).sort_values("overlap_s", ascending=False)
    return pairs.drop_duplicates(["a", "b"]).sort_values(["a", "b"], ignore_index=True)


def _count_equal(a: np.ndarray, b: np.ndarray, offset: int) -> int:
    """Count the values that are equal in ``a`` and in ``b`` delayed."""
    a, b = a[max(0, offset) :], b[max(0, -offset) :]
    n = min(len(a), len(b))
    return int(np.count_nonzero((a[:n] == b[:n]) & (a[:n] != SILENT)))


def _compare(a: np.ndarray, b: np.ndarray, offset: int) -> tuple[float, int, float]:
    """Compare ``a`` with ``b`` delayed: sum of bit error rates, number and middle of equal frames.

    Frames are equal if they are in any stretch of ``_WINDOW`` frames with few bit errors.
    """
    start = max(0, offset)
    stop = max(start, min(len(a), len(b) + offset))
    a, b = a[start:stop], b[start - offset : stop - offset]
    audible = (a != SILENT) & (b != SILENT)
    if np.count_nonzero(audible) < _WINDOW:
        return 0.0, 0, 0.0
    errors = _BITS_SET[(a ^ b)[audible].view(np.uint8)].reshape(-1, 4).sum(axis=1) / 32
    total = np.r_[0.0, np.cumsum(errors)]
    similar = total[_WINDOW:] - total[:-_WINDOW] <= _MAX_BIT_ERROR_RATE * _WINDOW
    equal = np.convolve(similar, np.ones(_WINDOW)) > 0.5
    frames = start + np.flatnonzero(audible)[equal]
    return float(errors[equal].sum()), len(frames), float(np.mean(frames)) if len(frames) else 0.0


def _candidates(
    fingerprints: Sequence[np.ndarray], distinct: list[int]
) -> Iterator[tuple[int, int, range]]:
    """Yield pairs a < b and the offsets (in frames) around those with the most votes."""
    total = sum(len(fingerprints[i]) for i in distinct)
    every = 1 + total // _MAX_VOTING_VALUES
    parts = 1 + total // every // _MAX_VALUES_PER_PART
    votes = pd.concat([_votes(fingerprints, distinct, part, parts, every) for part in range(parts)])
    votes = votes.groupby(level=0).sum()
    votes = votes[votes >= _MIN_VOTES].sort_values(ascending=False)
    pairs = votes.index.to_numpy() // _OFFSETS
    for key in votes.groupby(pairs).head(_MAX_OFFSETS_PER_PAIR).index:
        pair, offset = divmod(int(key), _OFFSETS)
        start = (offset - _OFFSETS // 2 - 1) * _OFFSET_BIN
        yield *divmod(pair, len(fingerprints)), range(start, start + 2 * _OFFSET_BIN + 1)


def _votes(
    fingerprints: Sequence[np.ndarray], distinct: list[int], part: int, parts: int, every: int
) -> pd.Series:
    """Count the votes for each pair and offset by one part of a sample of the values."""
    values, tracks, frames = [np.empty(0, np.uint32)], [np.empty(0, int)], [np.empty(0, int)]
    for i in distinct:
        bits = fingerprints[i]
        # A value that is repeated votes only once.
        is_new = np.r_[True, bits[1:] != bits[:-1]][: len(bits)]
        quotient, remainder = np.divmod(bits * _HASH_FACTOR, np.uint32(every))
        in_part = (remainder == 0) & (quotient % np.uint32(parts) == part)
        kept = np.flatnonzero(is_new & (bits != SILENT) & in_part)
        values.append(bits[kept])
        tracks.append(np.full(len(kept), i, np.int64))
        frames.append(kept)
    value, track, frame = (np.concatenate(x) for x in (values, tracks, frames))
    order = np.argsort(value, kind="stable")
    value, track, frame = value[order], track[order], frame[order]
    _, inverse, counts = np.unique(value, return_inverse=True, return_counts=True)
    frequent = counts[inverse] > _FREQUENT
    is_first = np.r_[True, (value[1:] != value[:-1]) | (track[1:] != track[:-1])][: len(value)]
    kept = ~frequent | is_first
    value, track, frame, frequent = value[kept], track[kept], frame[kept], frequent[kept]
    votes = []
    for lag in range(1, _MAX_NEIGHBOURS + 1):
        same = (value[lag:] == value[:-lag]) & (track[lag:] != track[:-lag])
        i = np.flatnonzero(same & ~frequent[lag:] if lag > 1 else same)
        offset = (frame[i] - frame[i + lag]) // _OFFSET_BIN + _OFFSETS // 2
        pair = track[i] * len(fingerprints) + track[i + lag]
        votes.append(pd.Series(pair * _OFFSETS + offset).value_counts())
    return pd.concat(votes)
