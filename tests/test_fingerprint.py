"""Fingerprints find all encodings of a recording, and no other music."""

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import decode, fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls.audio.duplicates import find_near_duplicates
from genrecls.audio.fingerprint import (
    HOP_S,
    Fingerprinter,
    StoredFingerprints,
    fingerprint_file,
    load_fingerprint,
    save_fingerprint,
)
from genrecls.audio.resample import resample

RATE = 22050


@lru_cache
def melody(seed: int, seconds: float = 24.0) -> np.ndarray:
    """Generate random notes and a little noise; tunes of different seeds share no second."""
    rng = np.random.default_rng(seed)
    y = 1e-3 * rng.standard_normal(round(seconds * RATE))
    at = 0.0
    while at < seconds:
        length = rng.uniform(0.1, 0.5)
        t = np.arange(round(min(2 * length, seconds - at) * RATE)) / RATE
        tone = sum(np.sin(2 * np.pi * rng.uniform(200, 2000) * t) for _ in range(4))
        start = round(at * RATE)
        y[start : start + len(t)] += 0.05 * tone[: len(y) - start] * np.exp(-3 * t)
        at += length
    return y.astype(np.float32)


@pytest.fixture(scope="module")
def tune():
    return melody(0)


def only_pair(a, b, rate=RATE):
    """Return the only pair among two recordings and three unrelated ones."""
    prints = [fingerprint(a, RATE), fingerprint(b, rate)]
    prints += [fingerprint(melody(seed, 12.0), RATE) for seed in (7, 8, 9)]
    pairs = find_near_duplicates(prints)
    assert list(zip(pairs["a"], pairs["b"], strict=True)) == [(0, 1)]
    return pairs.iloc[0]


def low_passed(y):
    spectrum = np.fft.rfft(y)
    spectrum[np.fft.rfftfreq(len(y), 1 / RATE) > 8000] = 0
    return np.fft.irfft(spectrum, len(y))


CHANGES = {
    "gain": lambda y: (y / 2, RATE),
    "low-pass at 8 kHz": lambda y: (low_passed(y), RATE),
    "48 kHz": lambda y: (resample(y, RATE, 48000), 48000),
    "16 kHz": lambda y: (resample(y, RATE, 16000), 16000),
    "16 bit": lambda y: (np.round(y * 2**15) / 2**15, RATE),
    "a fade": lambda y: (y * np.linspace(0.2, 1, len(y)), RATE),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_near_duplicates_are_found_after_inaudible_changes(tune, change):
    pair = only_pair(tune, *change(tune))
    assert pair["bit_error_rate"] < 0.1
    assert pair["overlap_s"] > 20
    assert abs(pair["offset_s"]) < 2 * HOP_S


@pytest.mark.parametrize(("ending", "quality"), [("mp3", 0.99), ("mp3", 0.5), ("ogg", 0.7)])
def test_near_duplicates_are_found_after_lossy_codecs(tmp_path, tune, ending, quality):
    file = tmp_path / f"tune.{ending}"
    soundfile.write(file, tune, RATE, compression_level=quality)
    again = decode(file)
    pair = only_pair(tune, again.samples[0], again.sample_rate)
    assert pair["bit_error_rate"] < 0.2
    assert pair["overlap_s"] > 20


@settings(max_examples=8)
@given(start_s=st.floats(0, 16), length_s=st.floats(6.5, 8))
def test_near_duplicates_locate_an_excerpt(start_s, length_s):
    y = melody(0)
    start = round(start_s * RATE)
    pair = only_pair(y, y[start : start + round(length_s * RATE)])
    assert pair["offset_s"] == pytest.approx(start_s, abs=2 * HOP_S)
    assert pair["overlap_s"] > length_s - 1.5


def test_near_duplicates_share_at_least_five_seconds(tune):
    prints = [fingerprint(y, RATE) for y in (tune, tune[: 4 * RATE])]
    assert find_near_duplicates(prints).empty


def test_near_duplicates_measure_the_shared_part(tune):
    medley = np.concatenate([melody(1, 10.0), tune[: 12 * RATE], melody(2, 10.0)])
    pair = only_pair(tune, medley)
    assert pair["offset_s"] == pytest.approx(-10, abs=2 * HOP_S)
    assert 10 < pair["overlap_s"] < 16


def test_near_duplicates_ignore_other_music():
    assert find_near_duplicates([fingerprint(melody(s), RATE) for s in range(12)]).empty


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_near_duplicates_ignore_silence(noise):
    y = noise * np.random.default_rng(0).standard_normal(20 * RATE)
    prints = fingerprint(y, RATE)
    assert len(prints) > 18 / HOP_S
    assert not prints.any()
    assert find_near_duplicates([prints, prints]).empty


def test_near_duplicates_do_not_count_silence_as_overlap(tune):
    half = np.r_[tune[: 10 * RATE], np.zeros(30 * RATE, np.float32)]
    assert find_near_duplicates([fingerprint(half, RATE)] * 2)["overlap_s"][0] < 10.5


@settings(max_examples=20)
@given(st.integers(0, 9000), st.sampled_from([8000, 22050, 44100, 96000]))
def test_fingerprint_of_short_sound_is_short_or_empty(samples, rate):
    prints = fingerprint(np.ones(samples, np.float32), rate)
    assert prints.dtype == np.uint32
    assert len(prints) <= max(0, samples / rate / HOP_S)
    assert find_near_duplicates([prints, prints]).empty


def test_fingerprint_has_no_seams_between_batches():
    y = np.random.default_rng(0).normal(0, 0.1, 60 * 5512).astype(np.float32)
    whole, later = fingerprint(y, 5512.5), fingerprint(y[300 * 128 :], 5512.5)
    assert len(whole) > 4 * 320  # Several batches; those of the two begin at different places.
    assert np.array_equal(whole[300:], later)


@pytest.mark.parametrize(
    ("rate", "size"), [(RATE, 101), (RATE, 997), (RATE, 44100), (44100, 200_003)]
)
def test_fingerprinter_does_not_depend_on_the_size_of_blocks(tune, rate, size):
    fingerprinter = Fingerprinter(rate)
    for start in range(0, len(tune), size):
        fingerprinter.push(tune[start : start + size])
    np.testing.assert_array_equal(fingerprinter.finish(), fingerprint(tune, rate))


def test_fingerprinter_averages_channels():
    left, right = np.random.default_rng(0).normal(0, 0.1, (2, 20 * 44100)).astype(np.float32)
    fingerprinter = Fingerprinter(44100)
    for part in np.split(np.stack([left, right], axis=1), [3, 5, 50_000]):
        fingerprinter.push(part)
    equal = fingerprinter.finish() == fingerprint((left + right) / 2, 44100)
    assert np.mean(equal) > 0.999  # The rest are rounding errors.


def test_near_duplicates_of_nothing_are_empty():
    assert find_near_duplicates([]).empty
    assert find_near_duplicates([np.empty(0, np.uint32)] * 3).empty


def test_near_duplicates_do_not_depend_on_the_parts(tune, monkeypatch):
    prints = [fingerprint(y, RATE) for y in (tune, melody(3), tune[5 * RATE :], melody(4))]
    expected = find_near_duplicates(prints)
    monkeypatch.setattr("genrecls.audio.duplicates._MAX_VALUES_PER_PART", 500)
    pd.testing.assert_frame_equal(find_near_duplicates(prints), expected)
    assert expected[["a", "b"]].to_numpy().tolist() == [[0, 2]]


def test_near_duplicates_are_found_by_a_sample_of_the_values(tune, monkeypatch):
    prints = [fingerprint(y, RATE) for y in (tune, melody(3), tune, melody(4))]
    expected = find_near_duplicates(prints)
    monkeypatch.setattr("genrecls.audio.duplicates._MAX_VOTING_VALUES", sum(map(len, prints)) // 8)
    pd.testing.assert_frame_equal(find_near_duplicates(prints), expected)
    assert expected[["a", "b"]].to_numpy().tolist() == [[0, 2]]


def test_fingerprint_is_stored_in_the_cache(home, tune):
    path = fingerprint_file("abc")
    assert path.is_relative_to(home / "data")
    assert not path.exists()
    bits = fingerprint(tune, RATE)
    save_fingerprint(path, bits)
    np.testing.assert_array_equal(load_fingerprint(path), bits)


def test_stored_fingerprints_are_loaded_when_they_are_used(home, tune):
    """Those of a hundred thousand tracks take 5 GB."""
    stored = StoredFingerprints(["abc", "def"])
    bits = fingerprint(tune, RATE)
    save_fingerprint(fingerprint_file("abc"), bits)
    assert len(stored) == 2
    np.testing.assert_array_equal(stored[0], bits)
    with pytest.raises(FileNotFoundError):
        stored[1]
