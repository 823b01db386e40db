"""Groups: copies are one recording however many there are, and a jingle joins nobody."""

import numpy as np
import pandas as pd
import pytest
from conftest import fingerprint
from test_fingerprint import RATE, melody

from genrecls.audio.fingerprint import HOP_S, fingerprint_file, save_fingerprint
from genrecls.corpus.groups import find_recordings


def find(prints, groups=None):
    """Store fingerprints and find the recordings of tracks with these groups."""
    names = [f"t{i:03}" for i in range(len(prints))]
    for name, bits in zip(names, prints, strict=True):
        save_fingerprint(fingerprint_file(name), bits)
    groups = groups or [f"g{name}" for name in names]
    tracks = pd.DataFrame({"track_id": names, "sha256": names, "group": groups})
    return find_recordings(tracks)


def reencode(bits, rng):
    """Flip some of the bits, as a lossy codec does."""
    flips = rng.random((len(bits), 32)) < 0.03
    return bits ^ np.packbits(flips, axis=1).view(">u4")[:, 0].astype(np.uint32)


@pytest.mark.parametrize("n", [50, 51, 120])
@pytest.mark.parametrize("equal", [True, False])
def test_find_recordings_connects_any_number_of_copies(home, rng, n, equal):
    song = fingerprint(melody(0), RATE)
    prints = [song if equal else reencode(song, rng) for _ in range(n)]
    others = [fingerprint(melody(seed, 12.0), RATE) for seed in (7, 8, 9)]
    tracks, pairs = find([*prints, *others])
    assert tracks["recording"][:n].nunique() == tracks["group"][:n].nunique() == 1
    assert tracks["group"].nunique() == tracks["recording"].nunique() == 4
    assert len(pairs) < 10 * n
    assert (pairs["share"] > 0.8).all()


@pytest.mark.parametrize("n", [3, 52])
def test_find_recordings_does_not_join_artists_by_a_jingle(home, rng, n):
    jingle, frames = fingerprint(melody(999, 7.0), RATE), round(9 / HOP_S)
    prints = []
    for i in range(n):
        before, after = rng.integers(1, 2**32, (2, frames), dtype=np.uint32)
        prints.append(np.concatenate([before[: i % 5 * 80], reencode(jingle, rng), after]))
    tracks, pairs = find(prints)
    assert tracks["group"].nunique() == tracks["recording"].nunique() == n
    assert set(pairs["shared_by"]) == {n}
    assert (pairs["share"] < 0.5).all()


def test_find_recordings_joins_copies_that_begin_with_a_jingle(home):
    jingle, song = melody(999, 7.0), melody(1, 14.0)
    songs = [np.r_[jingle, y] for y in (song, song, melody(2, 14.0), melody(3, 14.0))]
    tracks, pairs = find([fingerprint(y, RATE) for y in songs])
    assert tracks["recording"].tolist() == ["t000", "t000", "t002", "t003"]
    assert sorted(set(pairs["shared_by"])) == [0, 3]


def test_find_recordings_joins_two_artists_with_a_sound_in_common(home):
    common = melody(999, 7.0)
    tracks, pairs = find([fingerprint(np.r_[common, melody(i, 14.0)], RATE) for i in range(2)])
    assert tracks["recording"].nunique() == 1
    assert pairs["shared_by"].tolist() == [0]


def test_find_recordings_joins_overlapping_parts_of_one_recording(home):
    """Each part shares another place with each of its neighbours: this is no jingle."""
    y = melody(5, 48.0)
    parts = [y[start * RATE : (start + 16) * RATE] for start in (0, 9, 18, 27)]
    tracks, pairs = find([fingerprint(part, RATE) for part in parts])
    assert (pairs["share"] < 0.5).all()
    assert len(pairs) == 3
    assert tracks["recording"].nunique() == 1
