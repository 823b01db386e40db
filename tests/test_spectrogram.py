import dataclasses
import re

import librosa
import matplotlib
import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
import torchaudio
from conftest import coloured
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls import FrontEnd, load_audio, mel_spectrogram, split_segments, to_image
from genrecls.features.segments import non_overlapping, step_samples
from genrecls.features.spectrogram import (
    hz_to_mel,
    mel_db,
    mel_frequencies,
    mel_power,
    mel_to_hz,
    sounding_share,
)

ORIGINAL, DEFAULT, MUSICNN = map(FrontEnd.preset, ("original", "default", "musicnn"))
PRESETS = pytest.mark.parametrize(
    "front_end", [ORIGINAL, DEFAULT, MUSICNN], ids=["original", "default", "musicnn"]
)


def sine(hz, front_end, seconds=15.0, amplitude=0.5):
    t = np.arange(round(seconds * front_end.sample_rate)) / front_end.sample_rate
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.float32)


# Segmentation


@given(
    n=st.integers(1, 5000), length=st.integers(1, 700), hop=st.integers(1, 900), pad=st.booleans()
)
def test_split_segments_returns_the_stretches_in_its_table(n, length, hop, pad):
    y, rate = np.arange(1, n + 1), 100
    if n < length and not pad:
        with pytest.raises(ValueError, match="shorter than one segment"):
            split_segments(y, sample_rate=rate, length_s=length / rate, step_s=hop / rate)
        return
    segments, table = split_segments(
        y, sample_rate=rate, length_s=length / rate, step_s=hop / rate, pad=pad
    )
    assert len(segments) == len(table)
    assert segments.shape[1] == length
    assert list(table["segment"]) == list(range(1, len(table) + 1))
    for segment, row in zip(segments, table.itertuples(), strict=True):
        start, end = round(row.start_s * rate), round(row.end_s * rate)
        np.testing.assert_array_equal(segment[: end - start], y[start:end])
        assert not segment[end - start :].any()
    left = n - round(table["end_s"].iloc[-1] * rate)
    assert left < hop if not pad else left <= max(hop - length, 0)


def test_split_segments_drops_or_pads_the_remainder():
    y = np.ones(40 * 1000)
    assert len(split_segments(y, sample_rate=1000)[0]) == 2
    segments, table = split_segments(y, sample_rate=1000, pad=True)
    assert len(segments) == 3
    assert segments[2].sum() == 10 * 1000
    assert table["end_s"].iloc[-1] == 40.0


def test_split_segments_needs_the_whole_length_of_a_segment():
    assert len(split_segments(np.ones(15 * 44100), sample_rate=44100)[0]) == 1
    with pytest.raises(ValueError, match="14.99"):
        split_segments(np.ones(15 * 44100 - 1), sample_rate=44100)


def test_split_segments_keeps_channels():
    assert split_segments(np.ones((2, 31000)), sample_rate=1000)[0].shape == (2, 2, 15000)


# Steps between segments


@pytest.mark.parametrize(("step_s", "samples"), [(None, 330750), (15, 330750), (2.5, 55125)])
def test_step_samples_converts_seconds(step_s, samples):
    assert step_samples(DEFAULT, step_s) == samples


@pytest.mark.parametrize(
    ("length_s", "step_s", "message"),
    [
        (15.0, 4.0, "15 s / 4 s is not a whole number; try 1, 3, 5 or 15"),
        (7.0, 2.0, "7 s / 2 s is not a whole number; try 1 or 7"),
        (2.5, 2.0, "2.5 s / 2 s is not a whole number; try 2.5"),
        (15.0, 0.01, "step_s must be from 0.1 to 15 s, not 0.01 s"),
        (15.0, 16.0, "step_s must be from 0.1 to 15 s, not 16 s"),
        (15.0, float("nan"), "step_s must be from 0.1 to 15 s, not nan s"),
    ],
)
def test_step_samples_suggests_steps_that_fit(length_s, step_s, message):
    front_end = dataclasses.replace(DEFAULT, segment_s=length_s)
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        step_samples(front_end, step_s)
    for step in re.findall(r"[\d.]+", message.partition("try ")[2]):
        assert step_samples(front_end, float(step)) > 0


@pytest.mark.parametrize(("step_s", "every"), [(None, 1), (5.0, 3), (0.5, 30)])
def test_non_overlapping_selects_segments_side_by_side(step_s, every):
    _, table = split_segments(np.ones(61 * 100), sample_rate=100, step_s=step_s)
    selected = table[non_overlapping(table, DEFAULT)]
    assert selected["start_s"].tolist() == [0, 15, 30, 45]
    assert non_overlapping(table, DEFAULT)[::every].sum() == 4
    assert non_overlapping(table.head(1), DEFAULT).tolist() == [True]


# Mel spectrogram


def test_original_image_has_its_shape():
    levels = mel_spectrogram(sine(440, ORIGINAL), ORIGINAL)
    assert levels.shape == ORIGINAL.shape == (400, 162)
    assert levels.dtype == np.float32
    assert to_image(levels, ORIGINAL).shape == (400, 162, 3)


def signals(front_end):
    rng = np.random.default_rng(0)
    rate, n = front_end.sample_rate, front_end.segment_samples
    music, _ = librosa.effects.hpss(
        sum(sine(f, front_end) for f in (196.0, 246.9, 293.7)) / 3 + 0.01 * rng.standard_normal(n)
    )
    return {
        "noise": rng.normal(0, 0.1, n),
        "tone": sine(1000, front_end),
        "chirp": librosa.chirp(fmin=50, fmax=9000, sr=rate, length=n),
        "music": music,
    }


def torchaudio_mel(y, front_end):
    """Compute the spectrogram with the library of the original, in double precision."""
    names = ("sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max", "mel_scale")
    settings = {name: getattr(front_end, name) for name in names}
    settings["norm"] = "slaney" if front_end.mel_scale == "slaney" else None
    transform = torchaudio.transforms.MelSpectrogram(**settings).double()
    return transform(torch.tensor(y, dtype=torch.float64)).numpy()


def librosa_mel(y, front_end):
    """Compute the spectrogram with librosa, in double precision."""
    return librosa.feature.melspectrogram(
        y=y.astype(np.float64),
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        fmin=front_end.f_min,
        fmax=front_end.f_max,
        htk=front_end.mel_scale == "htk",
        norm="slaney" if front_end.mel_scale == "slaney" else None,
        pad_mode="reflect",
        dtype=np.float64,
    )


@PRESETS
@pytest.mark.parametrize("reference", [librosa_mel, torchaudio_mel])
def test_mel_power_agrees_with_two_other_libraries(front_end, reference):
    for name, y in signals(front_end).items():
        y = np.asarray(y, np.float32)
        expected = reference(y, front_end)
        assert relative_error(mel_power(y, front_end), expected) <= 1e-3, name


def relative_error(ours, reference):
    """Return the largest relative error down to 80 dB below the peak, in single precision."""
    audible = reference > reference.max() * 1e-8
    return np.max(np.abs(ours - reference)[audible] / reference[audible])


@PRESETS
@pytest.mark.parametrize("hz", [220.0, 1000.0, 5000.0, 7500.0])
def test_a_sine_is_in_the_band_around_its_frequency(front_end, hz):
    levels = mel_spectrogram(sine(hz, front_end), front_end)
    band = np.bincount(levels.argmax(axis=0)).argmax()
    centres = mel_frequencies(front_end)
    assert abs(band - np.abs(centres - hz).argmin()) <= 1


def test_mel_scale_agrees_with_its_other_formula():
    hz = np.array([0.0, 100, 1000, 8000])
    np.testing.assert_allclose(hz_to_mel(hz), 1127.01048 * np.log(1 + hz / 700), rtol=2e-5)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)
    np.testing.assert_allclose(
        mel_frequencies(ORIGINAL), librosa.mel_frequencies(402, fmin=0, fmax=22050, htk=True)[1:-1]
    )
    slaney = hz_to_mel(hz, "slaney")
    np.testing.assert_allclose(slaney, librosa.hz_to_mel(hz))
    np.testing.assert_allclose(mel_to_hz(slaney, "slaney"), hz, atol=1e-9)
    np.testing.assert_allclose(
        mel_frequencies(MUSICNN), librosa.mel_frequencies(98, fmin=0, fmax=8000)[1:-1]
    )


@PRESETS
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-8, 1.0])
def test_levels_are_finite_and_not_below_the_floor(front_end, level):
    y = level * np.random.default_rng(0).standard_normal(front_end.segment_samples)
    levels = mel_spectrogram(y, front_end)
    assert np.isfinite(levels).all()
    assert levels.min() >= front_end.floor_db


@pytest.mark.parametrize("front_end", [DEFAULT, MUSICNN], ids=["default", "musicnn"])
def test_silence_is_dark_with_a_reference_in_the_segment(front_end):
    silence = np.zeros(front_end.segment_samples)
    assert to_image(mel_spectrogram(silence, front_end), front_end).max() == 0


def test_mean_reference_is_a_power_of_1(rng):
    for y in (rng.normal(0, 0.1, 48000), sine(440, MUSICNN, 3.0, amplitude=0.01)):
        power = 10 ** (mel_spectrogram(y, MUSICNN) / 10)
        assert power.mean() == pytest.approx(1, rel=1e-3)
    silence = mel_spectrogram(1e-6 * rng.normal(0, 0.1, 48000), MUSICNN)
    assert (10 ** (silence / 10)).mean() < 1e-3


def test_a_segment_at_minus_13_lufs_has_a_mean_power_of_1(rng):
    """Music has a spectrum that falls by about 4.5 dB per octave."""
    y = coloured(rng, 15, rate=16000)
    y *= 10 ** ((-13 - pyloudnorm.Meter(16000).integrated_loudness(y)) / 20)
    assert 10 * np.log10(mel_power(y, MUSICNN).mean()) == pytest.approx(0, abs=1.5)


@pytest.mark.parametrize(
    ("sounds", "share"),
    [
        ([], 0),
        ([(0, 15)], 1),
        ([(14, 15)], 1 / 15),
        ([(3, 4), (10, 12)], 3 / 15),
        ([(0.8 * i, 0.8 * i + 0.1) for i in range(19)], 1),  # a beat with rests between
        ([(1.5, 6), (7.8, 13.2)], 1),  # rests of up to 2 s, even at the ends
        ([(2.5, 15)], 12.5 / 15),
    ],
)
@pytest.mark.parametrize("peak", [0.5, 0.001])  # the second is a soft passage at -60 dBFS
@pytest.mark.parametrize("front_end", [DEFAULT, MUSICNN], ids=["default", "musicnn"])
def test_sounding_share_is_the_share_without_silence_of_2_s(sounds, share, peak, front_end):
    t = np.arange(front_end.segment_samples) / front_end.sample_rate
    y = peak * np.sin(2 * np.pi * 440 * t) * sum(((a <= t) & (t < b) for a, b in sounds), 0 * t)
    db = mel_db(y, front_end)
    # A window is 0.09 s long, so that it reaches over each end of a sound.
    assert sounding_share(db, front_end) == pytest.approx(share, abs=0.02)
    assert (sounding_share(db, front_end) == share) or 0 < share < 1
    assert sounding_share(db, dataclasses.replace(front_end, skip_silence=False)) == 1
    assert sounding_share(mel_db(y, ORIGINAL), ORIGINAL) == 1


def test_sounding_share_of_a_segment_shorter_than_a_rest_is_0_if_it_is_silent():
    front_end = dataclasses.replace(DEFAULT, segment_s=1.0)
    assert sounding_share(mel_db(np.zeros(22050), front_end), front_end) == 0


@settings(deadline=None, max_examples=20)
@given(gain_db=st.floats(-30, 6), seed=st.integers(0, 99))
def test_levels_do_not_depend_on_loudness(gain_db, seed):
    y = np.random.default_rng(seed).normal(0, 0.1, DEFAULT.sample_rate)
    louder = y * 10 ** (gain_db / 20)
    for front_end in (DEFAULT, MUSICNN):
        difference = mel_spectrogram(louder, front_end) - mel_spectrogram(y, front_end)
        assert np.abs(difference).max() < 0.01


def test_default_levels_do_not_depend_on_sound_above_10_khz():
    below = sine(440, DEFAULT, 1.0) + sine(3000, DEFAULT, 1.0)
    above = sine(10800, DEFAULT, 1.0, amplitude=0.2)
    difference = mel_spectrogram(below + above, DEFAULT) - mel_spectrogram(below, DEFAULT)
    # The ends are excluded: reflection makes a click there, which is in all bands.
    assert np.abs(difference[:, 2:-2]).max() < 0.1
    low = sine(440, ORIGINAL, 1.0)
    high = sine(17000, ORIGINAL, 1.0, amplitude=0.2)
    difference = mel_spectrogram(low + high, ORIGINAL) - mel_spectrogram(low, ORIGINAL)
    assert np.abs(difference).max() > 20


def test_a_batch_equals_its_items():
    y = np.random.default_rng(0).normal(0, 0.1, (2, 3, 22050)).astype(np.float32)
    batch = mel_spectrogram(y, DEFAULT)
    assert batch.shape[:2] == (2, 3)
    np.testing.assert_allclose(batch[1, 2], mel_spectrogram(y[1, 2], DEFAULT), atol=1e-3)


@pytest.mark.parametrize("at", [0, 12345, -1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e25])
def test_one_bad_sample_is_refused(bad, at):
    y = np.zeros(22050)
    y[at] = bad
    with pytest.raises(ValueError, match="NaN or infinite, or their power is"):
        mel_spectrogram(y, DEFAULT)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="too few"):
        mel_spectrogram(np.zeros(100), DEFAULT)


# Images


def test_original_image_has_its_clipping():
    """The original passed log2 power to a colour map that takes [0, 1]."""
    y = np.random.default_rng(0).normal(0, 0.1, ORIGINAL.segment_samples).astype(np.float32)
    power = mel_power(y, ORIGINAL)
    original = matplotlib.colormaps["viridis"](np.log2(power).astype(np.float64))[..., :3]
    ours = to_image(mel_spectrogram(y, ORIGINAL), ORIGINAL)
    assert np.mean(np.abs(ours - original).max(axis=-1) > 0.01) < 1e-3
    ends = matplotlib.colormaps["viridis"]([0, 255])[:, :3]
    at_ends = [(np.abs(ours - end).max(axis=-1) < 1e-6).mean() for end in ends]
    assert sum(at_ends) > 0.5


def test_default_image_uses_the_whole_range():
    y = np.random.default_rng(0).normal(0, 0.1, DEFAULT.segment_samples)
    image = to_image(mel_spectrogram(y, DEFAULT), DEFAULT)
    assert image.max() == 1
    assert image.dtype == np.float32
    assert len(np.unique(image)) > 1000


def test_colours_follow_the_level():
    viridis = dataclasses.replace(DEFAULT, colormap="viridis")
    levels = np.linspace(-90, 10, 101)[:, None]
    image = to_image(levels, viridis)
    ends = matplotlib.colormaps["viridis"]([0, 255])[:, :3].astype(np.float32)
    np.testing.assert_array_equal(image[[0, -1], 0], ends)
    assert (np.diff(image[..., 1], axis=0) >= 0).all()


def test_double_precision_samples_give_single_precision_levels():
    y = torch.zeros(22050, dtype=torch.float64).numpy()
    assert mel_spectrogram(y, DEFAULT).dtype == np.float32


def test_the_sample_rate_of_a_file_does_not_change_the_levels(tmp_path):
    t = np.arange(16 * 48000) / 48000
    y = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.3 * np.sin(2 * np.pi * 2500 * t)
    images = []
    for rate in (48000, 44100, 32000):
        file = tmp_path / f"{rate}.wav"
        soundfile.write(file, librosa.resample(y, orig_sr=48000, target_sr=rate), rate)
        samples, _ = load_audio(file, sample_rate=DEFAULT.sample_rate)
        images.append(mel_spectrogram(samples[: DEFAULT.segment_samples], DEFAULT))
    loud = images[0] > -50
    for other in images[1:]:
        assert np.abs(other - images[0])[loud].max() < 1
