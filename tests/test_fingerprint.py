"""Fingerprints: what survives encoding anew is found, what merely sounds alike is not."""

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls.audio.decode import decode
from genrecls.audio.duplicates import find_near_duplicates
from genrecls.audio.fingerprint import (
    HOP_S,
    Fingerprinter,
    fingerprint,
    load_fingerprint,
    save_fingerprint,
)
from genrecls.audio.resample import resample

RATE = 22050


@lru_cache
def melody(seed: int, seconds: float = 24.0) -> np.ndarray:
    """A tune of random notes with overtones and a little noise: no two seeds share a second."""
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


def the_pair(a, b, rate=RATE):
    """The one pair among a tune, another recording, and three that have nothing to do with it."""
    prints = [fingerprint(a, RATE), fingerprint(b, rate)]
    prints += [fingerprint(melody(seed, 12.0), RATE) for seed in (7, 8, 9)]
    found = find_near_duplicates(prints)
    assert list(zip(found["a"], found["b"], strict=True)) == [(0, 1)]
    return found.iloc[0]


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
def test_changes_that_one_does_not_hear_are_seen_through(tune, change):
    pair = the_pair(tune, *change(tune))
    assert pair["bit_error_rate"] < 0.1 and pair["overlap_s"] > 20
    assert abs(pair["offset_s"]) < 2 * HOP_S


@pytest.mark.parametrize("ending, quality", [("mp3", 0.99), ("mp3", 0.5), ("ogg", 0.7)])
def test_lossy_codecs_are_seen_through(tmp_path, tune, ending, quality):
    file = tmp_path / f"tune.{ending}"
    soundfile.write(file, tune, RATE, compression_level=quality)
    again = decode(file)
    pair = the_pair(tune, again.samples[0], again.sample_rate)
    assert pair["bit_error_rate"] < 0.2 and pair["overlap_s"] > 20


@settings(max_examples=8, deadline=None)
@given(start_s=st.floats(0, 16), length_s=st.floats(6.5, 8))
def test_an_excerpt_is_found_where_it_was_cut_out(start_s, length_s):
    y = melody(0)
    start = round(start_s * RATE)
    pair = the_pair(y, y[start : start + round(length_s * RATE)])
    assert pair["offset_s"] == pytest.approx(start_s, abs=2 * HOP_S)
    assert pair["overlap_s"] > length_s - 1.5


def test_less_than_five_seconds_in_common_do_not_count(tune):
    prints = [fingerprint(y, RATE) for y in (tune, tune[: 4 * RATE])]
    assert find_near_duplicates(prints).empty


def test_a_shared_part_of_two_recordings_is_found_and_measured(tune):
    medley = np.concatenate([melody(1, 10.0), tune[: 12 * RATE], melody(2, 10.0)])
    pair = the_pair(tune, medley)
    assert pair["offset_s"] == pytest.approx(-10, abs=2 * HOP_S)
    assert 10 < pair["overlap_s"] < 16


def test_other_music_is_no_duplicate():
    assert find_near_duplicates([fingerprint(melody(s), RATE) for s in range(12)]).empty


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_silence_is_no_music_in_common(noise):
    y = noise * np.random.default_rng(0).standard_normal(20 * RATE)
    prints = fingerprint(y, RATE)
    assert len(prints) > 18 / HOP_S and not prints.any()
    assert find_near_duplicates([prints, prints]).empty


def test_silence_between_music_is_not_counted_as_overlap(tune):
    half = np.r_[tune[: 10 * RATE], np.zeros(30 * RATE, np.float32)]
    assert find_near_duplicates([fingerprint(half, RATE)] * 2)["overlap_s"][0] < 10.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9000), st.sampled_from([8000, 22050, 44100, 96000]))
def test_short_sound_has_an_empty_or_short_fingerprint(samples, rate):
    prints = fingerprint(np.ones(samples, np.float32), rate)
    assert prints.dtype == np.uint32
    assert len(prints) <= max(0, samples / rate / HOP_S)
    assert find_near_duplicates([prints, prints]).empty


def test_blocks_leave_no_seams():
    y = np.random.default_rng(0).normal(0, 0.1, 60 * 5512).astype(np.float32)
    whole, later = fingerprint(y, 5512.5), fingerprint(y[300 * 128 :], 5512.5)
    assert len(whole) > 4 * 320  # the blocks of the one begin within those of the other
    assert np.array_equal(whole[300:], later)


def test_how_much_is_pushed_at_a_time_does_not_matter(monkeypatch):
    monkeypatch.setattr("genrecls.audio.fingerprint._TOGETHER", 1 << 16)  # some, and some at the end
    y = np.random.default_rng(0).normal(0, 0.1, 30 * 44100).astype(np.float32)
    listener = Fingerprinter(44100)
    for part in np.split(y, [1, 10_000, 200_001, 200_003, 900_000]):
        listener.push(part)
    assert np.mean(listener.finish() == fingerprint(y, 44100)) > 0.999  # but for rounding


def test_of_several_channels_the_mean_is_heard():
    left, right = np.random.default_rng(0).normal(0, 0.1, (2, 20 * 44100)).astype(np.float32)
    listener = Fingerprinter(44100)
    for part in np.split(np.stack([left, right], axis=1), [3, 5, 50_000]):
        listener.push(part)
    alike = listener.finish() == fingerprint((left + right) / 2, 44100)
    assert np.mean(alike) > 0.999  # but for rounding


def test_nothing_makes_no_pairs():
    assert find_near_duplicates([]).empty
    assert find_near_duplicates([np.empty(0, np.uint32)] * 3).empty


def test_shares_of_the_values_find_what_all_of_them_find(tune, monkeypatch):
    prints = [fingerprint(y, RATE) for y in (tune, melody(3), tune[5 * RATE :], melody(4))]
    max_pending = find_near_duplicates(prints)
    monkeypatch.setattr("genrecls.audio.duplicates._MAX_PENDING", 500)
    pd.testing.assert_frame_equal(find_near_duplicates(prints), max_pending)
    assert max_pending[["a", "b"]].to_numpy().tolist() == [[0, 2]]


def test_a_sample_of_the_values_finds_whole_copies(tune, monkeypatch):
    prints = [fingerprint(y, RATE) for y in (tune, melody(3), tune, melody(4))]
    everything = find_near_duplicates(prints)
    monkeypatch.setattr("genrecls.audio.duplicates._MOST_VALUES", sum(map(len, prints)) // 8)
    pd.testing.assert_frame_equal(find_near_duplicates(prints), everything)
    assert everything[["a", "b"]].to_numpy().tolist() == [[0, 2]]


@pytest.mark.parametrize("size", [101, 997, 44100])
def test_in_blocks_it_is_the_same_as_at_once(tune, size):
    listener = Fingerprinter(RATE)
    for start in range(0, len(tune), size):
        listener.push(tune[start : start + size])
    np.testing.assert_array_equal(listener.finish(), fingerprint(tune, RATE))


def test_a_damaged_fingerprint_is_none(tmp_path, tune):
    file = tmp_path / "prints" / "x.npz"
    assert load_fingerprint(file) is None
    bits = fingerprint(tune, RATE)
    save_fingerprint(file, bits)
    np.testing.assert_array_equal(load_fingerprint(file), bits)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert load_fingerprint(file) is None
