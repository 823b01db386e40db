"""A trained model at work: files and samples, what it refuses, other processes, ONNX."""

import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import GENRES, HOSTILE, RATE

from genrecls import AudioError, AudioWarning, FrontEnd, GenreClassifier, load_audio
from genrecls.errors import ModelError
from genrecls.evaluation.runs import FORMAT
from genrecls.features.segments import non_overlapping
from genrecls.models import build_cnn


@pytest.fixture(scope="module")
def classifier(bundle):
    return GenreClassifier.load(bundle)


@pytest.fixture(scope="module")
def song(music):
    return music / "rap_test" / "rap 90 - Same Title.wav"


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the bundle that may be spoilt."""
    return shutil.copytree(bundle, tmp_path / "copy")


def probabilities(prediction):
    return np.array(list(prediction.probabilities.values()))


# What it takes


def test_samples_are_classified_as_the_file_they_come_from(classifier, song):
    of_file = classifier.predict(song)
    y, sr = load_audio(song)
    for samples in (y, np.stack([y, y]), y.astype(np.float64)):
        of_samples = classifier.predict(samples, sr)
        assert of_samples.path == "<array>"
        np.testing.assert_allclose(probabilities(of_samples), probabilities(of_file), atol=1e-3)
    assert list(of_file.probabilities) == [*GENRES]
    assert probabilities(of_file).sum() == pytest.approx(1)


def test_the_rate_of_the_samples_makes_no_difference(classifier, song):
    from genrecls import resample

    y, sr = load_audio(song)
    first = classifier.predict(y, sr)

    def change(samples, rate):
        other = classifier.predict(samples, rate)
        heard = other.log_mels[:2].astype(float)
        return np.abs(heard - first.log_mels).mean(), other

    for rate in (32000, 48000):
        in_db, other = change(resample(y, sr, rate), rate)
        assert in_db < 0.3
        np.testing.assert_allclose(probabilities(other), probabilities(first), atol=0.02)
    in_db, _ = change(y, 2 * sr // 3)  # what a forgotten rate does
    assert in_db > 1


@pytest.mark.parametrize(
    ("y", "rate", "why"),
    [
        (np.zeros(20 * RATE), None, "give sample_rate"),
        (np.zeros(20 * RATE, np.int16), RATE, "floats in .* not of int16"),
        (np.zeros((20 * RATE, 2)), RATE, r"shape \(n,\) or \(channels, n\)"),
        (np.zeros(0), RATE, "shape"),
        (np.full(20 * RATE, np.nan), RATE, "samples reach nan"),
        (np.full(20 * RATE, 32767.0), RATE, "samples reach 3.28e"),
    ],
)
def test_samples_that_are_no_sound_are_refused(classifier, y, rate, why):
    with pytest.raises(ValueError, match=why):
        classifier.predict(y, rate)


def test_samples_too_short_or_silent_are_refused_as_files_are(classifier, song):
    with pytest.raises(AudioError, match="1 s of sound is shorter"):
        classifier.predict(np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match="silent"):
        classifier.predict(np.zeros(16 * RATE), RATE)
    with pytest.raises(ValueError, match="knows its sample rate"):
        classifier.predict(song, RATE)
    with pytest.raises(TypeError, match="a path or a NumPy array, not list"):
        classifier.predict([0.0] * 20 * RATE, RATE)


def test_one_sample_less_than_a_segment_is_too_short_at_any_rate(classifier):
    y = np.random.default_rng(0).normal(0, 0.1, 15 * 44100)
    assert len(classifier.predict(y, 44100).segments) == 1
    with pytest.raises(AudioError, match="shorter than one segment"):
        classifier.predict(y[:-1], 44100)


def test_what_is_too_long_is_refused(classifier, song):
    with pytest.raises(AudioError, match="more than 0.5 minutes"):
        classifier.predict(song, max_duration_s=30)
    assert classifier.predict(song, max_duration_s=31).genre in GENRES


# What it says


def test_segments_overlap_as_asked_and_the_prediction_stays(classifier, song):
    plain = classifier.predict(song)
    fine = classifier.predict(song, step_s=3)
    assert plain.segments["start_s"].tolist() == [0, 15] == fine.segments["start_s"].tolist()[::5]
    np.testing.assert_allclose(np.diff(fine.segments["start_s"]), 3)
    np.testing.assert_allclose(fine.segments["end_s"] - fine.segments["start_s"], 15)
    assert fine.probabilities == pytest.approx(plain.probabilities, abs=1e-6)
    assert len(plain.log_mels) == len(fine.log_mels) == 2
    columns = [f"prob_{genre}" for genre in GENRES]
    every_fifth = fine.segments[columns].iloc[::5]
    np.testing.assert_allclose(every_fifth, plain.segments[columns], atol=1e-5)
    with pytest.raises(ValueError, match="no whole number of hops of 2 s; 1, 1.5, 3, 5, 7.5 s go"):
        classifier.predict(song, step_s=2)
    for step_s in (0, 0.01, 16, np.inf, np.nan):
        with pytest.raises(ValueError, match="a hop is from 0.1 to 15 s long"):
            classifier.predict(song, step_s=step_s)


@pytest.mark.parametrize("step_s", [0.1, 1.5, 15])
def test_in_a_day_of_sound_no_overlapping_segment_counts(step_s):
    starts = pd.DataFrame({"start_s": np.arange(0, 24 * 3600, step_s)})
    apart = non_overlapping(starts, FrontEnd.preset("default"))
    np.testing.assert_allclose(np.diff(starts["start_s"][apart]), 15)
    assert non_overlapping(starts.head(1), FrontEnd.preset("default")).all()


def test_an_overlapping_segment_is_the_sound_of_its_seconds(classifier, song):
    y, sr = load_audio(song)
    fine = classifier.predict(y, sr, step_s=7.5)
    alone = classifier.predict(y[round(7.5 * sr) : round(22.5 * sr)], sr)
    of_fine = fine.segments.set_index("start_s").loc[7.5, [f"prob_{genre}" for genre in GENRES]]
    of_alone = alone.segments[[f"prob_{genre}" for genre in GENRES]].iloc[0]
    np.testing.assert_allclose(of_fine.astype(float), of_alone.astype(float), atol=0.01)


def test_below_the_threshold_the_prediction_is_not_sure(classifier, song):
    sure = classifier.predict(song, min_confidence=0)
    assert sure.label == sure.genre == max(sure.probabilities, key=sure.probabilities.get)
    assert sure.probability == sure.probabilities[sure.genre]
    unsure = classifier.predict(song, min_confidence=1)
    assert unsure.label == "not sure" and unsure.genre == sure.genre
    [of_many] = classifier.predict_all([song], min_confidence=1, step_s=3, progress=False)
    assert of_many.label == "not sure" and len(of_many.segments) == 6
    with pytest.raises(ValueError, match="no log-mels"):
        of_many.plot()


# What it refuses to load


def spoil(card, **changes):
    values = json.loads(card.read_text()) | changes
    card.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": FORMAT + 1}, "later version of genrecls .* update genrecls"),
        ({"format": FORMAT - 1}, "earlier version of genrecls .* train the model again"),
        ({"format": None}, "no card of genrecls"),
        ({"genres": ["rap", "rap"]}, "damaged: its genres"),
        ({"genres": "rap"}, "damaged: its genres"),
        ({"temperature": -1}, "damaged: its temperature is -1"),
        ({"track_temperature": "hot"}, "damaged: its track_temperature"),
        ({"front_end": {"sample_rat": 1}}, "damaged: its front_end"),
        ({"recipe": None}, "damaged: its recipe"),
        ({"uid": None}, "damaged: its uid is None"),
        ({"corpus": "../../etc"}, "damaged: its corpus is '../../etc', which is no name"),
        ({"front_end": {"image_db": [-80, 0, 1]}}, "image_db goes from dark to bright"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_with_the_reason(copy, changes, why):
    spoil(copy / "card.json", **changes)
    with pytest.raises(ModelError, match=why):
        GenreClassifier.load(copy)


def test_a_folder_without_a_run_or_with_half_a_card_is_refused(copy, tmp_path):
    with pytest.raises(ModelError, match="no trained model"):
        GenreClassifier.load(tmp_path)
    text = (copy / "card.json").read_text()
    for wrong in (text[: len(text) // 2], "[]"):
        (copy / "card.json").write_text(wrong)
        with pytest.raises(ModelError, match=r"card.json"):
            GenreClassifier.load(copy)


def test_a_damaged_model_file_is_refused(copy):
    file = copy / "model.keras"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    directory = whole.index(b"PK\x01\x02")
    encrypted, packed = bytearray(whole), bytearray(whole)
    encrypted[directory + 8] |= 1
    packed[directory + 10] = packed[whole.index(b"PK\x03\x04") + 8] = 8
    for content in (whole[: len(whole) // 2], flipped, encrypted, packed, b"", b"no zip"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            GenreClassifier.load(copy)
    file.unlink()
    with pytest.raises(ModelError, match="missing"):
        GenreClassifier.load(copy)
    assert len(GenreClassifier.read(copy).predictions)  # the tables are still there


def test_a_model_of_anything_else_is_refused_before_it_could_run(copy, tmp_path):
    mark = tmp_path / "mark"
    inputs = keras.Input((128, 323, 1))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(copy / "model.keras")
    with pytest.raises(ModelError, match=r"refused: it holds 'keras.layers.Lambda'"):
        GenreClassifier.load(copy)
    for module, name in (("os", "system"), ("builtins", "function"), ("keras", "Dense.system")):
        rewrite_config(copy / "model.keras", {"module": module, "class_name": name,
                                              "config": f"touch {mark}"})  # fmt: skip
        with pytest.raises(ModelError, match=f"refused: it holds '{module}.{name}'"):
            GenreClassifier.load(copy)
    assert not mark.exists()


def test_a_configuration_that_nothing_can_be_made_of_is_refused(copy):
    with zipfile.ZipFile(copy / "model.keras") as archive:
        config = archive.read("config.json").decode()
    rewrite_config(copy / "model.keras", "[" * 100_000)
    with pytest.raises(ModelError, match="damaged"):
        GenreClassifier.load(copy)
    assert '"axis": -1' in config
    rewrite_config(copy / "model.keras", config.replace('"axis": -1', '"axis": 9'))
    with pytest.raises(ModelError, match="cannot be read"):
        _ = GenreClassifier.load(copy).model


def rewrite_config(file, config):
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["config.json"] = (config if isinstance(config, str) else json.dumps(config)).encode()
    with zipfile.ZipFile(file, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)


def test_a_model_that_is_not_the_one_of_its_card_is_refused(copy):
    build_cnn((40, 40, 3), 2).save(copy / "model.keras")
    with pytest.raises(ModelError, match=r"not the model of its card"):
        GenreClassifier.load(copy).predict(np.random.default_rng(0).normal(0, 0.1, 16 * RATE), RATE)


def test_weights_that_do_not_fit_are_refused(copy):
    rewritten = zipfile.ZipFile(copy / "model.keras").read("config.json").decode()
    rewrite_config(
        copy / "model.keras", json.loads(rewritten.replace('"filters": 16', '"filters": 17'))
    )
    with pytest.raises(ModelError, match="cannot be read"):
        _ = GenreClassifier.load(copy).model


# Other processes


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_another_process_says_the_same(classifier, bundle, song, backend):
    code = (
        "import genrecls, json, sys;"
        "run = genrecls.GenreClassifier.load(sys.argv[1]);"
        "print(json.dumps(run.predict(sys.argv[2]).probabilities))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(song)], capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    same = 0 if backend == keras.backend.backend() else 1e-5
    assert theirs == pytest.approx(classifier.predict(song).probabilities, rel=0, abs=same)


def test_the_onnx_export_says_the_same_without_keras(classifier, song, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    assert classifier.export_onnx(file) <= 1e-4
    session = onnxruntime.InferenceSession(file)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["genres"]) == [*GENRES]
    assert FrontEnd.from_dict(json.loads(told["front_end"])) == classifier.front_end
    log_mels = classifier.predict(song).log_mels.astype(np.float32)[..., None]
    [answers] = session.run(None, {session.get_inputs()[0].name: log_mels})
    np.testing.assert_allclose(answers, classifier.predict_log_mels(log_mels[..., 0]), atol=1e-4)


def test_an_export_that_differs_is_not_written(classifier, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("genrecls.models.serialization.EXPORT_TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="is not written"):
        classifier.export_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


# Hostile files


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="needs the hostile files")
def test_every_hostile_file_gets_a_prediction_or_one_sentence(classifier):
    refused = {}
    for file in sorted(HOSTILE.iterdir()):
        if file.suffix == ".md":
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AudioWarning)
                assert classifier.predict(file).label in (*GENRES, "not sure")
        except AudioError as error:
            refused[file.name] = str(error)
    assert set(refused) == {
        "bitrot.mp3", "directory.mp3", "empty.mp3", "just_under_15s.wav", "nan_inf_float.wav",
        "short_0.4s.wav", "silence.flac", "text.mp3",
    }  # fmt: skip
    assert not [why for why in refused.values() if "\n" in why or "Traceback" in why]
