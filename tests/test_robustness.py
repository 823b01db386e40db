"""Each transformation changes only what its name says; flips are found and counted."""

import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from matplotlib import pyplot as plt
from scipy import signal

from genrecls import Corpus, FrontEnd, plots
from genrecls.errors import GenreclsError, ModelError
from genrecls.evaluation import robustness as robustness_tables
from genrecls.evaluation.robustness import (
    ALL_GENRES,
    ROBUSTNESS_FILE,
    flip_rates,
    flip_table,
    read_robustness,
)
from genrecls.features.extraction import extract_log_mels
from genrecls.features.spectrogram import mel_frequencies
from genrecls.inspection import robustness

RATE = 44100
N = 4 * RATE
ORIGINAL = dataclasses.replace(FrontEnd.preset("original"), segment_s=4.0)
DEFAULT = dataclasses.replace(FrontEnd.preset("default"), segment_s=4.0)


def transform(name, y, rate=RATE):
    return robustness.TRANSFORMATIONS[name](y, rate, np.random.default_rng(0))


def sine(hz, n=N, rate=RATE):
    return np.float32(0.3) * np.sin(2 * np.pi * hz * np.arange(n) / rate).astype(np.float32)


def level_db(y):
    """Level of the inner part, which the ends do not influence."""
    inner = y[..., y.shape[-1] // 4 : -(y.shape[-1] // 4)]
    return 10 * np.log10(np.mean(inner.astype(float) ** 2))


def pitch_hz(y, rate):
    inner = y[y.shape[-1] // 4 :][: 2 * rate]
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner)), 16 * len(inner)))
    return spectrum.argmax() * rate / (16 * len(inner))


@pytest.fixture(scope="module")
def music():
    """Stereo, 4 s: decaying notes with overtones over a little full-band noise."""
    rng = np.random.default_rng(1)
    t = np.arange(N) / RATE
    notes = sum(
        np.sin(2 * np.pi * hz * t) * np.exp(-6 * ((t - start) % 0.7))
        for hz, start in zip(rng.uniform(100, 6000, 12), rng.uniform(0, 0.7, 12), strict=True)
    )
    y = 0.05 * notes + 0.01 * rng.standard_normal((2, N))
    y[1] *= 0.7
    return y.astype(np.float32)


@pytest.mark.parametrize("name", robustness.TRANSFORMATIONS)
@pytest.mark.parametrize(("channels", "rate"), [(2, RATE), (1, 22050), (3, 96000)])
def test_transformation_keeps_channels_and_duration_except_tempo(name, channels, rate, rng):
    y = (0.1 * rng.standard_normal((channels, rate))).astype(np.float32)
    z, new_rate = transform(name, y, rate)
    factor = {"tempo −6 %": 0.94, "tempo +6 %": 1.06}.get(name, 1.0)
    assert z.shape[0] == channels
    assert z.dtype == np.float32
    assert np.isfinite(z).all()
    assert z.shape[1] / new_rate == pytest.approx(1 / factor, abs=2 / rate)


def test_gain_is_6_db_beyond_full_scale():
    y = 2 * sine(440)[None]
    for name, db in (("gain −6 dB", -6), ("gain +6 dB", 6)):
        np.testing.assert_allclose(transform(name, y)[0], y * 10 ** (db / 20), rtol=1e-6)


def test_mono_puts_the_mean_in_every_channel(music):
    z, _ = transform("mono", music)
    np.testing.assert_array_equal(z[0], z[1])
    np.testing.assert_allclose(z[0], music.mean(axis=0))


@pytest.mark.parametrize("khz", [8, 11, 16])
def test_low_pass_keeps_low_and_removes_high_frequencies(khz):
    name = f"low-pass {khz} kHz"
    below = sum(sine(hz) for hz in (60, 1000, 950 * khz))
    z, _ = transform(name, below[None])
    inner = slice(N // 4, -N // 4)
    np.testing.assert_allclose(z[0, inner], below[inner], atol=1e-3)  # zero phase
    above = sum(sine(hz) for hz in (1000 * khz, 1100 * khz, 20000))
    assert level_db(transform(name, above[None])[0]) < level_db(above) - 75


def test_low_pass_above_the_band_of_a_file_changes_nothing(music):
    np.testing.assert_array_equal(transform("low-pass 16 kHz", music, 22050)[0], music)


@pytest.mark.parametrize("rate", [RATE, 22050])
def test_mp3_is_aligned_and_better_at_a_higher_bit_rate(music, rate):
    errors = []
    for kbit_s in (64, 128, 320):
        z, _ = transform(f"MP3 {kbit_s} kbit/s", music, rate)
        lag = signal.correlate(z[0], music[0], method="fft").argmax() - (N - 1)
        assert abs(lag) / rate < 0.002
        errors.append(level_db(z - music) - level_db(music))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < -15


def test_file_rate_changes_the_rate_but_not_the_sound():
    for name, hz in (("file at 22.05 kHz", 22050), ("file at 48 kHz", 48000)):
        z, rate = transform(name, sine(440)[None])
        assert rate == hz
        inner = slice(hz, 3 * hz)
        np.testing.assert_allclose(z[0, inner], sine(440, 4 * hz, hz)[inner], atol=1e-3)
    assert level_db(transform("file at 22.05 kHz", sine(12000)[None])[0]) < -80


def test_noise_is_white_at_its_signal_to_noise_ratio(music):
    for db in (20, 30):
        noise = transform(f"noise, {db} dB SNR", music)[0] - music
        snr = 10 * np.log10(np.mean(music**2) / np.mean(noise**2))
        assert snr == pytest.approx(db, abs=0.05)
        _, power = signal.welch(noise[0], RATE)
        low, high = power[1:64].mean(), power[64:-1].mean()
        assert 10 * np.log10(low / high) == pytest.approx(0, abs=0.3)


def test_tempo_keeps_the_pitch_and_pitch_keeps_the_tempo():
    y = sine(440)[None]
    for name in ("tempo −6 %", "tempo +6 %"):
        assert pitch_hz(transform(name, y)[0][0], RATE) == pytest.approx(440, abs=0.5)
    assert pitch_hz(transform("pitch +1 semitone", y)[0][0], RATE) == pytest.approx(466.16, abs=0.5)
    assert pitch_hz(transform("pitch −1 semitone", y)[0][0], RATE) == pytest.approx(415.30, abs=0.5)
    clicks = np.zeros((1, N), np.float32)
    clicks[0, RATE :: RATE // 2] = 1
    for name, factor in (("tempo +6 %", 1.06), ("pitch +1 semitone", 1.0)):
        z = np.abs(transform(name, clicks)[0][0])
        peaks, _ = signal.find_peaks(z, height=0.3 * z.max(), distance=RATE // 4)
        assert np.diff(peaks).mean() / RATE == pytest.approx(0.5 / factor, abs=0.005)


def test_tilt_has_its_slope_and_limits():
    for sign, name in ((1, "tilt +1.5 dB/octave"), (-1, "tilt −1.5 dB/octave")):
        for hz, db in ((30, -6), (62.5, -6), (125, -4.5), (1000, 0), (8000, 4.5), (20000, 6)):
            y = sine(hz)[None]
            gain = level_db(transform(name, y)[0]) - level_db(y)
            assert gain == pytest.approx(sign * db, abs=0.1)


# --- runs -----------------------------------------------------------------------------------


@dataclass
class StubClassifier:
    """A saved run whose ``probability`` of rap is a function of one log-mel."""

    folder: Path
    front_end: FrontEnd
    segments: pd.DataFrame
    probability: Callable
    card: dict = field(default_factory=lambda: {"uid": "1"})
    genres = ("classique", "rap")

    @property
    def name(self):
        return self.folder.name

    def predict_log_mels(self, log_mels):
        rap = np.array([self.probability(log_mel.astype(float)) for log_mel in log_mels], float)
        return np.stack([1 - rap, rap], axis=1)


def bandwidth(front_end):
    """Return a model that uses only whether there is sound above 12 kHz: a horse."""
    high = mel_frequencies(front_end) > 12000
    return lambda log_mel: log_mel[high].mean() > log_mel[~high].mean() - 30


def loudness(log_mel):
    return log_mel.mean() > -8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Pulsed noise, up to 8 kHz in ``classique`` and full-band in ``rap``."""
    root = tmp_path_factory.mktemp("music") / "noise"
    rng = np.random.default_rng(0)
    t = np.arange(round(8.3 * RATE)) / RATE
    for genre in ("classique", "rap"):
        (root / genre).mkdir(parents=True)
        for artist in "abc":
            pulse = np.exp(-3 * (t % rng.uniform(0.4, 0.6)))
            y = 0.1 * pulse * rng.standard_normal((2, len(t)))
            if genre == "classique":
                y = signal.sosfiltfilt(signal.butter(12, 8000, fs=RATE, output="sos"), y)
            soundfile.write(root / genre / f"{artist} - x.wav", y.T, RATE, "FLOAT")
    return Corpus.read(root)


@pytest.fixture
def classifier(corpus, tmp_path):
    def make(name, front_end, probability, artists="a"):
        folder = tmp_path / name
        folder.mkdir()
        segments = pd.concat([corpus.tracks.assign(segment=i, sounding=1.0) for i in (1, 2)])
        test = segments["artist"].isin(list(artists))
        segments["split"] = np.where(test, "test", "train")
        return StubClassifier(folder, front_end, segments, probability)

    return make


@pytest.fixture
def quick_transformations(monkeypatch):
    """Use only transformations that are quick."""
    names = ("gain −6 dB", "low-pass 8 kHz", "noise, 30 dB SNR")
    quick = {name: robustness.TRANSFORMATIONS[name] for name in names}
    monkeypatch.setattr(robustness, "TRANSFORMATIONS", quick)


def measure(runs, corpus, **options):
    robustness.measure_robustness(runs, corpus, **{"jobs": 1, "progress": False} | options)


def test_flips_reveal_a_model_of_the_bandwidth_and_spare_a_constant_one(
    corpus, classifier, monkeypatch
):
    flipping = classifier("flipping", ORIGINAL, bandwidth(ORIGINAL))
    constant = classifier("constant", DEFAULT, lambda log_mel: 0.3)
    monkeypatch.setattr(robustness, "_N_SEGMENTS", 1)
    measure([flipping, constant], corpus)
    table = flip_table([flipping, constant])
    assert table["run"].tolist() == ["flipping"] * 19 + ["constant"] * 19
    assert table["transformation"].tolist() == list(robustness.TRANSFORMATIONS) * 2
    table = table.set_index(["run", "transformation"])
    for name in ("low-pass 8 kHz", "low-pass 11 kHz", "file at 22.05 kHz"):
        assert table.loc["flipping", name].tolist() == ["0 of 1", "1 of 1", "1 of 2"]
    for name in ("gain −6 dB", "gain +6 dB", "mono", "file at 48 kHz", "MP3 320 kbit/s"):
        assert table.loc["flipping", name].tolist() == ["0 of 1", "0 of 1", "0 of 2"]
    # Noise fills the empty band, which turns the classical track into rap.
    assert table.loc["flipping", "noise, 20 dB SNR"].tolist() == ["1 of 1", "0 of 1", "1 of 2"]
    assert set(table.loc["constant", ALL_GENRES]) == {"0 of 2"}

    saved = read_robustness(flipping)
    assert (saved["before"] == saved["genre"]).all()
    assert (saved["segments"] == 1).all()
    assert (saved["flipped"] == (saved["before"] != saved["after"])).all()
    assert (saved["prob_after"] < 0.5).tolist() == saved["flipped"].tolist()
    tempo = saved["transformation"].str.startswith("tempo")
    assert (saved["image_change_db"].isna() == tempo).all()

    change = {
        run.name: read_robustness(run).groupby("transformation")["image_change_db"].mean()
        for run in (flipping, constant)
    }
    for name in ("gain −6 dB", "gain +6 dB", "mono", "low-pass 11 kHz", "low-pass 16 kHz"):
        assert change["constant"][name] < 0.05
    # Preset original shows a range of 3 dB, in which small gains count.
    assert change["flipping"]["gain −6 dB"] > 0.05
    assert change["flipping"]["low-pass 11 kHz"] > 0.2


def test_flip_rates_have_intervals_and_can_be_plotted(quick_transformations, corpus, classifier):
    runs = [classifier(name, ORIGINAL, bandwidth(ORIGINAL), "abc") for name in "pqrs"]
    measure(runs, corpus)
    rates = flip_rates(runs).query("genre == @ALL_GENRES")
    assert len(rates) == 4 * 3
    assert (rates["n"] == 6).all()
    low_pass = rates[rates["transformation"] == "low-pass 8 kHz"]
    assert (low_pass["flips"] == 3).all()
    assert (low_pass["rate"] == 0.5).all()
    assert low_pass["low"].between(0.1, 0.3).all()
    assert low_pass["high"].between(0.7, 0.9).all()
    _, ax = plt.subplots()
    assert plots.robustness(rates, ax=ax) is ax
    shown = ax.images[0].get_array()
    down = [label.get_text() for label in ax.get_yticklabels()]
    assert down == list(robustness.TRANSFORMATIONS)
    assert shown.shape == (3, 4)
    assert (shown[down.index("low-pass 8 kHz")] == 0.5).all()
    shares = [text.get_text() for text in ax.texts]
    assert shares.count("0 of 6") == 4
    assert shares.count("3 of 6") == 8
    plt.close(ax.figure)


def test_untouched_log_mels_are_those_of_the_classifier(corpus):
    path = corpus.file(corpus.tracks["path"].iloc[0])
    for front_end in (ORIGINAL, DEFAULT):
        whole, _, _ = extract_log_mels(path, front_end)
        computed = robustness._compute_log_mels(path, "0" * 64, {front_end: [1, 2]}, ())
        untouched = computed[front_end].astype(float)
        assert untouched.shape == (1, 2, *front_end.shape)
        # Resampling an excerpt instead of the whole track differs by rounding.
        assert np.abs(untouched[0] - whole).mean() < 0.02


def test_segments_come_from_the_middle_of_the_test_segments(corpus, classifier, monkeypatch):
    run = classifier("p", DEFAULT, loudness)
    many = run.segments.drop_duplicates("track_id")
    # Segment 4 is silent and therefore not in the table.
    run.segments = pd.concat([many.assign(segment=n, sounding=n / 6) for n in (6, 5, 3, 2, 1)])
    for n, middle in ((1, [3]), (2, [2, 3]), (3, [2, 3, 5]), (9, [1, 2, 3, 5, 6])):
        monkeypatch.setattr(robustness, "_N_SEGMENTS", n)
        tracks = robustness._test_tracks(run)
        assert [track["segment"] for track in tracks] == [middle] * 2
        assert [track["sounding"] for track in tracks] == [[m / 6 for m in middle]] * 2


def test_robustness_weights_segments_by_their_sound_as_predict_does(corpus, classifier):
    run = classifier("p", DEFAULT, lambda log_mel: -log_mel.mean() / 80)
    [track, _] = robustness._test_tracks(run)
    states = 1 + len(robustness.TRANSFORMATIONS)
    log_mels = np.broadcast_to([[[[-72.0]], [[-48.0]]]], (states, 2, *DEFAULT.shape))
    table = robustness._predict_track(run, track | {"sounding": [1.0, 0.25]}, log_mels)
    np.testing.assert_allclose(table["prob_after"], (0.9 + 0.6 / 4) / 1.25)


def test_excerpt_at_the_end_of_a_track_has_a_mirrored_margin():
    y = np.arange(200.0)[None]
    inner = robustness._excerpt(np.arange(400.0)[None], 100, 2)
    np.testing.assert_array_equal(inner[0], np.arange(95, 205))
    first, last = robustness._excerpt(y, 100, 1)[0], robustness._excerpt(y, 100, 2)[0]
    np.testing.assert_array_equal(first, [*range(5, 0, -1), *range(105)])
    np.testing.assert_array_equal(last, [*range(95, 200), *range(198, 193, -1)])


def test_log_mels_of_several_runs_are_computed_once(
    quick_transformations, corpus, classifier, monkeypatch
):
    computed = []
    original = robustness._log_mel
    monkeypatch.setattr(
        robustness, "_log_mel", lambda y, *rest: computed.append(rest) or original(y, *rest)
    )
    runs = [classifier("p", DEFAULT, loudness), classifier("q", DEFAULT, loudness, "ab")]
    monkeypatch.setattr(robustness, "_N_SEGMENTS", 1)
    measure(runs, corpus)
    assert len(computed) == 4 * 4  # four tracks, untouched and transformed in three ways
    assert [read_robustness(run)["path"].nunique() for run in runs] == [2, 4]
    assert (read_robustness(runs[0])["segments"] == 1).all()


def test_measurement_is_repeated_only_for_another_model_or_setting(
    quick_transformations, corpus, classifier, monkeypatch
):
    run = classifier("p", DEFAULT, lambda log_mel: 0.3)
    measure([run], corpus)
    first = read_robustness(run)
    before = os.stat(run.folder / ROBUSTNESS_FILE).st_mtime_ns
    run.probability = None  # a prediction would now raise a TypeError
    measure([run], corpus)
    assert os.stat(run.folder / ROBUSTNESS_FILE).st_mtime_ns == before
    with monkeypatch.context() as patch:
        patch.setattr(robustness, "_N_SEGMENTS", 1)
        with pytest.raises(TypeError):
            measure([run], corpus)
    run.card = {"uid": "2"}
    with pytest.raises(ModelError, match="genrecls robustness"):
        flip_table([run])
    assert robustness_tables.tested_runs([run]) == []
    run.probability = lambda log_mel: 0.9
    measure([run], corpus)
    assert set(read_robustness(run)["after"]) == {"rap"} != set(first["after"])
    assert [f.name for f in run.folder.iterdir()] == [ROBUSTNESS_FILE]


def test_an_interrupted_test_continues_to_the_same_result(
    quick_transformations, corpus, classifier, monkeypatch
):
    def interrupt(*arguments):
        if len(predicted) == 3:
            raise KeyboardInterrupt
        predicted.append(arguments)
        return predict(*arguments)

    predicted, predict = [], robustness._predict_track
    run = classifier("p", DEFAULT, loudness, "abc")
    with monkeypatch.context() as patch:
        patch.setattr(robustness, "_predict_track", interrupt)
        with pytest.raises(KeyboardInterrupt):
            measure([run], corpus)
    with pytest.raises(ModelError, match="no complete robustness.parquet"):
        flip_table([run])
    whole = classifier("q", DEFAULT, loudness, "abc")
    seen = []
    log_mels = robustness._compute_log_mels
    monkeypatch.setattr(
        robustness, "_compute_log_mels", lambda *call: seen.append(call[0]) or log_mels(*call)
    )
    measure([run], corpus)
    assert len(seen) == 6 - 3
    measure([whole], corpus)
    pd.testing.assert_frame_equal(read_robustness(run), read_robustness(whole))


def test_a_file_that_cannot_be_decoded_is_named_and_the_others_are_kept(
    quick_transformations, corpus, classifier, tmp_path
):
    music = Corpus.read(shutil.copytree(corpus.root, tmp_path / "noise"))
    partial, whole = classifier("p", DEFAULT, loudness), classifier("q", DEFAULT, loudness, "bc")
    file = music.file(partial.segments.query("split == 'test'")["path"].iloc[0])
    file.rename(file.with_suffix(".gone"))
    message = (
        "tracks that cannot be tested: 1; the results of the others are kept:\n"
        f"'{file}' cannot be used"
    )
    with pytest.raises(GenreclsError, match=re.escape(message)):
        measure([partial, whole], music)
    assert robustness_tables.tested_runs([partial, whole]) == [whole]
    file.with_suffix(".gone").rename(file)
    whole.probability = None  # a prediction would now raise a TypeError
    measure([partial, whole], music)
    assert read_robustness(partial)["path"].nunique() == 2


def test_noise_does_not_depend_on_processes(quick_transformations, corpus, classifier):
    tables = []
    for name, jobs in (("p", 1), ("q", 2)):
        run = classifier(name, ORIGINAL, lambda log_mel: (log_mel.mean() + 100) / 200, "ab")
        measure([run], corpus, jobs=jobs)
        tables.append(read_robustness(run)["prob_after"])
    assert (tables[0] == tables[1]).all()


def test_a_folder_that_cannot_be_written_is_refused_before_the_measurement(corpus, classifier):
    run = classifier("p", DEFAULT, None)
    run.folder.rmdir()
    run.folder.touch()
    with pytest.raises(GenreclsError, match="cannot be written .*get the right to write there"):
        measure([run], corpus)


def test_missing_damaged_and_foreign_results_raise_model_errors(corpus, classifier):
    run = classifier("p", DEFAULT, loudness)
    with pytest.raises(ModelError, match="genrecls robustness"):
        flip_rates([run])
    (run.folder / ROBUSTNESS_FILE).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="genrecls robustness"):
        flip_rates([run])
    run.segments["sha256"] = "f" * 64
    with pytest.raises(ModelError, match="is not in the corpus"):
        measure([run], corpus)
