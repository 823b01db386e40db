"""Quality measures agree with known sound and with a second implementation."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from conftest import coloured
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls.audio.quality import (
    BandwidthMeter,
    ClippingMeter,
    LoudnessMeter,
    measure_track,
)
from genrecls.errors import AudioError

RATE = 44100


def measured(meter, y, blocks=1):
    for block in np.array_split(y, blocks, axis=-1):
        meter.push(block)
    return meter.finish()


def bandwidth_hz(y, rate=RATE, blocks=1):
    return measured(BandwidthMeter(rate), y, blocks)


def loudness(y, rate=RATE, blocks=1):
    return measured(LoudnessMeter(rate), y, blocks)


def n_clipped(y, blocks=1):
    return sum(measured(ClippingMeter(), side, blocks) for side in (y, -y))


@pytest.mark.parametrize("cut", [4000, 8000, 11000, 16000, 19000])
@pytest.mark.parametrize("slope", [0, -3, -6])
def test_bandwidth_edge_is_where_the_sound_was_cut_off(rng, cut, slope):
    y = coloured(rng, 10, slope_db=slope, cut_hz=cut)
    assert bandwidth_hz(y) == pytest.approx(cut, abs=200)


@pytest.mark.parametrize("slope", [0, -6, -9, -12])
def test_bandwidth_edge_is_not_found_in_music_that_fades_with_frequency(rng, slope):
    assert bandwidth_hz(coloured(rng, 10, slope_db=slope)) == RATE / 2


@pytest.mark.parametrize("rate", [8000, 22050, 96000])
def test_bandwidth_edge_is_found_at_other_rates(rng, rate):
    assert bandwidth_hz(coloured(rng, 5, rate=rate), rate) == rate / 2
    if rate > 16000:
        cut = coloured(rng, 5, cut_hz=7000, rate=rate)
        assert bandwidth_hz(cut, rate) == pytest.approx(7000, abs=200)


@pytest.mark.parametrize("n", [0, 100, 50000])
def test_silence_has_no_edge_and_no_loudness(n):
    assert bandwidth_hz(np.zeros(n, np.float32), RATE) == RATE / 2
    assert loudness(np.zeros((2, n), np.float32), RATE) is None


@pytest.mark.parametrize(("channels", "rate"), [(1, 44100), (2, 22050), (5, 48000)])
def test_loudness_agrees_with_torchaudio(rng, channels, rate):
    y = rng.normal(0, 0.1, (channels, 12 * rate))
    y[:, 4 * rate : 8 * rate] *= 1e-5  # Both gates have an effect.
    expected = torchaudio.functional.loudness(torch.tensor(y), rate).item()
    assert loudness(y, rate) == pytest.approx(expected, abs=0.1)


def test_measures_do_not_depend_on_the_blocks(rng):
    y = rng.normal(0, 0.1, (2, 12 * 22050 + 5000)).astype(np.float32)
    y[:, : 4 * 22050] /= 5
    assert loudness(y, 22050, 37) == pytest.approx(loudness(y, 22050), abs=1e-6)
    y = coloured(rng, 5, cut_hz=8000)
    assert bandwidth_hz(y, RATE, 100) == bandwidth_hz(y) < 8200


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 9))
def test_clipping_is_counted_at_the_final_maximum(steps, blocks):
    """The maximum grows by less or by more than the tolerance of 4e-5."""
    y = np.float32(0.5) + np.array(steps, np.float32) * np.float32(1.5e-5)
    top = y >= y.max() - np.float32(4e-5)
    expected = np.count_nonzero(top[2:] & top[1:-1] & top[:-2])
    assert measured(ClippingMeter(), y, blocks) == expected


def test_loudness_leaves_the_low_frequency_channel_out(rng):
    y = rng.normal(0, 0.1, (6, 2 * RATE))
    expected = loudness(y, RATE)
    y[3] = 0
    assert loudness(y, RATE) == expected
    y[2] = 0
    assert loudness(y, RATE) < expected - 0.5


@settings(max_examples=20)
@given(st.floats(-30, 0), st.floats(100, 5000))
def test_loudness_follows_the_gain_and_tones_do_not_clip(gain_db, frequency):
    y = 0.9 * np.sin(2 * np.pi * frequency * np.arange(2 * RATE) / RATE)[None]
    louder, quieter = loudness(y, RATE), loudness(y * 10 ** (gain_db / 20), RATE)
    assert louder - quieter == pytest.approx(-gain_db, abs=0.05)
    assert n_clipped(np.round(y[0] * 2**15) / 2**15) == 0


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_clipping_is_found_even_if_the_level_was_lowered_later(rng, gain):
    y = gain * np.clip(coloured(rng, 5) * 8, -0.9, 0.9)
    assert n_clipped(y) > 0.005 * len(y)
    assert n_clipped(y / 2 + 0.1) > 0.005 * len(y)
    assert n_clipped(coloured(rng, 5)) == 0


def test_measures_need_no_more_memory_for_long_tracks(tmp_path, rng):
    peaks = []
    for minutes in (2, 10):
        file = tmp_path / f"{minutes}.wav"
        soundfile.write(file, rng.normal(0, 0.1, minutes * 60 * 8000).astype(np.float32), 8000)
        tracemalloc.start()
        measure_track(file)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_measure_track_measures_duration_silence_and_dc(tmp_path, rng):
    y = np.zeros((2, 20 * RATE))
    y[:, : 8 * RATE] = coloured(rng, 8)
    y[1] += 0.02
    soundfile.write(tmp_path / "track.ogg", y.T, RATE)
    measured = measure_track(tmp_path / "track.ogg")
    assert (measured["codec"], measured["channels"]) == ("VORBIS", 2)
    assert (measured["duration_s"], measured["segments"], measured["notes"]) == (20, 1, [])
    assert measured["remainder_s"] == pytest.approx(5)
    assert measured["dc"] == pytest.approx(0.02, abs=1e-3)
    assert measured["longest_silence_s"] == pytest.approx(12, abs=0.2)
    assert not measured["silent"]
    with pytest.raises(AudioError):
        measure_track(tmp_path / "none.wav")
