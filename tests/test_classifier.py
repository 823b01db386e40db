"""A trained model in use: files, samples, refused inputs, other processes, ONNX."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import warnings
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import GENRES, RATE

from genrecls import AudioError, AudioWarning, FrontEnd, GenreClassifier, load_audio
from genrecls.errors import ModelError
from genrecls.evaluation.calibration import scale
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
    """A copy of the run, to be damaged."""
    return shutil.copytree(bundle, tmp_path / "copy")


def probabilities(prediction):
    return np.array(list(prediction.probabilities.values()))


# Inputs


def test_predict_gives_the_same_for_samples_and_their_file(classifier, song):
    file_prediction = classifier.predict(song)
    y, sr = load_audio(song)
    for samples in (y, np.stack([y, y]), y.astype(np.float64)):
        sample_prediction = classifier.predict(samples, sr)
        assert sample_prediction.path == "<array>"
        np.testing.assert_allclose(
            probabilities(sample_prediction), probabilities(file_prediction), atol=1e-3
        )
    assert list(file_prediction.probabilities) == [*GENRES]
    assert probabilities(file_prediction).sum() == pytest.approx(1)


def test_predict_does_not_depend_on_the_rate_of_the_samples(classifier, song):
    from genrecls import resample

    y, sr = load_audio(song)
    first = classifier.predict(y, sr)

    def change(samples, rate):
        other = classifier.predict(samples, rate)
        log_mels = other.log_mels[:2].astype(float)
        return np.abs(log_mels - first.log_mels).mean(), other

    for rate in (32000, 48000):
        in_db, other = change(resample(y, sr, rate), rate)
        assert in_db < 0.3
        np.testing.assert_allclose(probabilities(other), probabilities(first), atol=0.02)
    in_db, _ = change(y, 2 * sr // 3)  # as if a rate had been forgotten
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
def test_predict_refuses_arrays_that_are_not_audio(classifier, y, rate, why):
    with pytest.raises(ValueError, match=why):
        classifier.predict(y, rate)


def test_predict_refuses_short_and_silent_samples(classifier, song):
    with pytest.raises(AudioError, match="1 s of sound is shorter"):
        classifier.predict(np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match="silent"):
        classifier.predict(np.zeros(16 * RATE), RATE)
    with pytest.raises(ValueError, match="a file has its own sample rate"):
        classifier.predict(song, RATE)
    with pytest.raises(TypeError, match="must be a path or a NumPy array, not list"):
        classifier.predict([0.0] * 20 * RATE, RATE)


def test_predict_refuses_one_sample_less_than_a_segment(classifier):
    y = np.random.default_rng(0).normal(0, 0.1, 15 * 44100)
    assert len(classifier.predict(y, 44100).segments) == 1
    with pytest.raises(AudioError, match="shorter than one segment"):
        classifier.predict(y[:-1], 44100)


def test_predict_refuses_longer_tracks_than_allowed(classifier, song):
    with pytest.raises(AudioError, match="more than 0.5 minutes"):
        classifier.predict(song, max_duration_s=30)
    assert classifier.predict(song, max_duration_s=31).genre in GENRES


# Predictions


def test_predict_weights_segments_by_their_sound(classifier, song, monkeypatch):
    """Fifteen seconds of music count more than one second at the end of silence."""
    y, sr = load_audio(song)
    y = np.concatenate([y[: 15 * sr], np.zeros(14 * sr), y[-sr:]])
    raw = np.array([[0.55, 0.2, 0.25], [0.0, 0.0, 1.0]], np.float32)
    monkeypatch.setattr(GenreClassifier, "_apply", lambda *_: (raw, None))
    prediction = classifier.predict(y, sr)
    sounding = prediction.segments["sounding"]
    assert sounding.tolist() == [1, pytest.approx(1 / 15, abs=0.01)]
    assert prediction.segments["predicted"].tolist() == ["classique", "rap"]
    assert prediction.genre == "classique"
    mean = (sounding.to_numpy() @ raw) / sounding.sum()
    expected = scale(mean, classifier.track_temperature)
    np.testing.assert_allclose(probabilities(prediction), expected, rtol=1e-5)
    keeps = {**classifier.card["front_end"], "skip_silence": False}
    original = GenreClassifier(classifier.folder, {**classifier.card, "front_end": keeps})
    assert original.predict(y, sr).genre == "rap"  # the original counts all segments equally


def test_predict_with_a_step_overlaps_segments_and_keeps_the_prediction(classifier, song):
    plain = classifier.predict(song)
    fine = classifier.predict(song, step_s=3)
    assert plain.segments["start_s"].tolist() == [0, 15] == fine.segments["start_s"].tolist()[::5]
    np.testing.assert_allclose(np.diff(fine.segments["start_s"]), 3)
    np.testing.assert_allclose(fine.segments["end_s"] - fine.segments["start_s"], 15)
    assert fine.probabilities == pytest.approx(plain.probabilities, abs=1e-6)
    assert len(plain.log_mels) == len(fine.log_mels) == 2
    longer = np.tile(load_audio(song)[0], 2)[: 40 * 22050]
    assert len(classifier.predict(longer, 22050, step_s=3).log_mels) == 3  # from 0, 15 and 24 s
    columns = [f"prob_{genre}" for genre in GENRES]
    every_fifth = fine.segments[columns].iloc[::5]
    np.testing.assert_allclose(every_fifth, plain.segments[columns], atol=1e-5)
    with pytest.raises(ValueError, match="whole number"):
        classifier.predict(song, step_s=2)
    for step_s in (0, 0.01, 16, np.inf, np.nan):
        with pytest.raises(ValueError, match="from 0.1 to 15 s"):
            classifier.predict(song, step_s=step_s)


@pytest.mark.parametrize("step_s", [0.1, 1.5, 15])
def test_non_overlapping_selects_whole_segments_in_a_day_of_sound(step_s):
    starts = pd.DataFrame({"start_s": np.arange(0, 24 * 3600, step_s)})
    apart = non_overlapping(starts, FrontEnd.preset("default"))
    np.testing.assert_allclose(np.diff(starts["start_s"][apart]), 15)
    assert non_overlapping(starts.head(1), FrontEnd.preset("default")).all()


def test_predict_gives_an_overlapping_segment_its_own_seconds(classifier, song):
    y, sr = load_audio(song)
    fine = classifier.predict(y, sr, step_s=7.5)
    alone = classifier.predict(y[round(7.5 * sr) : round(22.5 * sr)], sr)
    overlapping = fine.segments.set_index("start_s").loc[7.5, [f"prob_{genre}" for genre in GENRES]]
    separate = alone.segments[[f"prob_{genre}" for genre in GENRES]].iloc[0]
    np.testing.assert_allclose(overlapping.astype(float), separate.astype(float), atol=0.01)


def test_predict_all_predicts_tracks_of_many_segments_like_predict(classifier, song, monkeypatch):
    expected = classifier.predict(song, step_s=1)
    monkeypatch.setattr("genrecls.classifier._MAX_SEGMENTS", 3)
    [found] = classifier.predict_all([song], step_s=1, jobs=1, progress=False)
    pd.testing.assert_frame_equal(found.segments, expected.segments)
    assert found.probabilities == expected.probabilities


def test_predict_all_needs_no_more_memory_for_long_tracks(classifier, rng, tmp_path):
    peaks = []
    for minutes in (4, 12):
        file = tmp_path / f"{minutes}.wav"
        soundfile.write(file, rng.normal(0, 0.1, minutes * 60 * 8000), 8000)
        tracemalloc.start()
        [prediction] = classifier.predict_all([file], step_s=3, jobs=1, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(prediction.segments) == minutes * 20 - 4
    assert peaks[1] < 1.2 * peaks[0]


def test_label_is_not_sure_below_min_confidence(classifier, song):
    sure = classifier.predict(song, min_confidence=0)
    assert sure.label == sure.genre == max(sure.probabilities, key=sure.probabilities.get)
    assert sure.probability == sure.probabilities[sure.genre]
    unsure = classifier.predict(song, min_confidence=1)
    assert unsure.label == "not sure"
    assert unsure.genre == sure.genre
    [prediction] = classifier.predict_all([song], min_confidence=1, step_s=3, progress=False)
    assert prediction.label == "not sure"
    assert len(prediction.segments) == 6
    with pytest.raises(ValueError, match="no log-mels"):
        prediction.plot()


# Runs that are refused


def test_load_refuses_a_folder_without_a_run_or_with_half_a_card(copy, tmp_path):
    with pytest.raises(ModelError, match="no trained model"):
        GenreClassifier.load(tmp_path)
    text = (copy / "card.json").read_text()
    for wrong in (text[: len(text) // 2], "[]"):
        (copy / "card.json").write_text(wrong)
        with pytest.raises(ModelError, match=r"card.json"):
            GenreClassifier.load(copy)


def test_load_refuses_a_damaged_model_file(copy):
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
    file.write_bytes(whole)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("assets/x.py", "")
    with pytest.raises(ModelError, match="is not a Keras model: it holds"):
        GenreClassifier.load(copy)
    file.unlink()
    with pytest.raises(ModelError, match="missing"):
        GenreClassifier.load(copy)
    assert len(GenreClassifier.read(copy).predictions)  # the tables are still there


def test_load_refuses_a_model_with_code(copy):
    inputs = keras.Input((128, 323, 1))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(copy / "model.keras")
    with pytest.raises(ModelError, match=r"refused: it holds 'keras.layers.Lambda'"):
        GenreClassifier.load(copy)


def describe(module, name, **others):
    return {"module": module, "class_name": name, "config": {}, "registered_name": None, **others}


@pytest.mark.parametrize(
    "described",
    [
        describe("os", "system"),
        describe("builtins", "function", config="eval"),
        describe("keras", "Dense.system"),
        describe("keras.src.layers.core.lambda_layer", "Lambda"),
        describe("keras.layers", "TFSMLayer", config={"filepath": "saved"}),
        describe("keras.layers", "TorchModuleWrapper"),
        describe("keras_hub.models", "Backbone", registered_name="keras_hub>Backbone"),
        describe("os", "system", registered_name="genrecls>system"),
        describe("keras", "__lambda__", config={"value": ["code", None, None]}),
        describe("os", "__typespec__", spec_name="system"),
    ],
    ids=lambda described: f"{described['module']}.{described['class_name']}",
)
@pytest.mark.parametrize("place", ["model", "activation"])
def test_load_refuses_a_model_with_foreign_objects(copy, described, place):
    config = described
    if place == "activation":
        with zipfile.ZipFile(copy / "model.keras") as archive:
            text = archive.read("config.json").decode()
        assert '"softmax"' in text
        config = text.replace('"softmax"', json.dumps(described))
    rewrite_config(copy / "model.keras", config)
    name = f"{described['module']}.{described['class_name']}"
    with pytest.raises(ModelError, match=f"refused: it holds '{name}'"):
        GenreClassifier.load(copy)


@pytest.mark.parametrize(
    "described",
    [
        describe("keras.utils", "get_file"),
        describe("keras.utils", "function", config="get_file", registered_name="get_file"),
        describe("keras.src.utils.file_utils", "os"),
        describe("genrecls.models", "Unknown", registered_name="genrecls>Unknown"),
        describe("keras.layers", "StringLookup", config={"vocabulary": "/etc/passwd"}),
    ],
    ids=lambda described: f"{described['module']}.{described['class_name']}",
)
def test_model_refuses_other_functions_of_keras(copy, described):
    rewrite_config(copy / "model.keras", described)
    with pytest.raises(ModelError, match=r"cannot be read"):
        _ = GenreClassifier.load(copy).model


def test_load_executes_nothing(copy, tmp_path):
    mark = tmp_path / "mark"
    rewrite_config(copy / "model.keras", describe("os", "system", config=f"touch {mark}"))
    with pytest.raises(ModelError, match=r"refused: it holds 'os.system'"):
        _ = GenreClassifier.load(copy).model
    assert not mark.exists()


def test_load_refuses_a_configuration_that_keras_cannot_use(copy):
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


def test_model_refuses_another_model_than_that_of_its_card(copy):
    build_cnn((40, 40, 3), 2).save(copy / "model.keras")
    with pytest.raises(ModelError, match=r"not the model of its card"):
        GenreClassifier.load(copy).predict(np.random.default_rng(0).normal(0, 0.1, 16 * RATE), RATE)


def test_model_refuses_weights_of_other_shapes(copy):
    rewritten = zipfile.ZipFile(copy / "model.keras").read("config.json").decode()
    rewrite_config(
        copy / "model.keras", json.loads(rewritten.replace('"filters": 16', '"filters": 17'))
    )
    with pytest.raises(ModelError, match="cannot be read"):
        _ = GenreClassifier.load(copy).model


# Saving


def test_save_writes_the_same_run_to_another_folder(classifier, song, tmp_path):
    saved = classifier.save(tmp_path / "other" / "run")
    assert saved.folder == tmp_path / "other" / "run"
    assert saved.card == classifier.card
    for table in ("history", "segments", "predictions"):
        pd.testing.assert_frame_equal(getattr(saved, table), getattr(classifier, table))
    for ours, theirs in zip(saved.first_layer, classifier.first_layer, strict=True):
        np.testing.assert_equal(ours, theirs)
    assert saved.predict(song).probabilities == classifier.predict(song).probabilities
    assert sorted(p.name for p in saved.folder.parent.iterdir()) == ["run"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_save_does_not_replace_anything_but_a_run(classifier, tmp_path, kind):
    if kind == "folder":
        (tmp_path / "mine").mkdir()
    kept = tmp_path / "mine" / "thesis.txt" if kind == "folder" else tmp_path / "mine"
    kept.write_text("mine")
    with pytest.raises(ModelError, match="'.*mine' contains other files"):
        classifier.save(tmp_path / "mine")
    assert kept.read_text() == "mine"
    kept.unlink()
    assert classifier.save(tmp_path / "mine").card == classifier.card  # now it is empty or gone


def test_files_may_have_names_that_begin_with_a_tilde(classifier, song, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~old").mkdir()
    shutil.copy(song, "~old/song.wav")
    [prediction] = classifier.predict_all(["~old/song.wav"], jobs=1, progress=False)
    assert prediction.probabilities == classifier.predict(song).probabilities


def test_save_replaces_the_run_in_its_own_folder(copy, song):
    run = GenreClassifier.load(copy)
    before = run.predict(song).probabilities
    saved = run.save(copy)
    assert saved.predict(song).probabilities == before
    assert len(saved.predictions) == len(run.predictions)


# Other processes


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_predict_gives_the_same_in_another_process_and_backend(classifier, bundle, song, backend):
    code = (
        "import genrecls, json, sys;"
        "run = genrecls.GenreClassifier.load(sys.argv[1]);"
        "print(json.dumps(run.predict(sys.argv[2]).probabilities))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(song)],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    same = 0 if backend == keras.backend.backend() else 1e-5
    assert theirs == pytest.approx(classifier.predict(song).probabilities, rel=0, abs=same)


def test_export_onnx_gives_the_same_without_keras(classifier, song, tmp_path):
    import onnxruntime

    file = tmp_path / "model.onnx"
    assert classifier.export_onnx(file) <= 1e-4
    session = onnxruntime.InferenceSession(file)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["genres"]) == [*GENRES]
    for key in ("name", "temperature", "track_temperature", "min_confidence"):
        assert json.loads(metadata[key]) == classifier.card[key]
    assert FrontEnd.from_dict(json.loads(metadata["front_end"])) == classifier.front_end
    log_mels = classifier.predict(song).log_mels.astype(np.float32)[..., None]
    [probabilities] = session.run(None, {session.get_inputs()[0].name: log_mels})
    np.testing.assert_allclose(
        probabilities, classifier.predict_log_mels(log_mels[..., 0]), atol=1e-4
    )


def test_export_onnx_writes_no_file_that_differs(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("genrecls.models.serialization.EXPORT_TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="is not written"):
        classifier.export_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_import_of_the_classifier_does_not_load_keras():
    code = (
        "import sys, genrecls.classifier; print({'keras', 'tensorflow', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


# Hostile files


def test_predict_gives_hostile_files_a_label_or_one_sentence(classifier, hostile):
    refused = {}
    for file in sorted(hostile.iterdir()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AudioWarning)
                assert classifier.predict(file).label in (*GENRES, "not sure")
        except AudioError as error:
            refused[file.name] = str(error)
    assert {*refused} - {"bitrot.mp3"} == {
        "directory.mp3",
        "empty.mp3",
        "just_under_15s.wav",
        "nan_inf_float.wav",
        "short_0.4s.wav",
        "silence.flac",
        "text.mp3",
    }
    assert not [reason for reason in refused.values() if "\n" in reason or "Traceback" in reason]
