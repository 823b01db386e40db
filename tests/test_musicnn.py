"""musicnn, its head and the transformer, under the Keras backend in use.

The tests need the weights that ``make install`` fetches: ``genrecls weights fetch musicnn``.
"""

import dataclasses
import shutil
from pathlib import Path
from unittest.mock import Mock

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import copy_weights
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import normalize

from genrecls import (
    Corpus,
    Embedding,
    FrontEnd,
    Recipe,
    build_musicnn,
    cross_validate,
    mel_spectrogram,
    prepare,
    train,
)
from genrecls.errors import AudioError, WeightsError
from genrecls.models import split_at
from genrecls.models.weights import MUSICNN
from genrecls.training import backbone_outputs, embedding, head, stages

MUSICNN_FRONT_END = FrontEnd.preset("musicnn")
SMALL = FrontEnd(n_mels=64, hop_length=4096)
FROZEN = Recipe.preset("default", "efficientnet_lite0_frozen")
pytestmark = pytest.mark.backend


def log_mels():
    """Return the input of ``tools/musicnn_reference.py``."""
    levels = np.random.default_rng(0).uniform(-70, 25, (2, 96, 938))
    return (levels - abs(np.arange(96) - 48)[:, None] / 2).astype(np.float32)


def embeddings(model, x):
    return split_at(model, "embedding")[0].predict_on_batch(x[..., None])


@pytest.fixture(scope="module")
def prepared(small_corpus, tmp_path_factory):
    """A project folder with the log-mels of the corpus."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home := tmp_path_factory.mktemp("prepared")))
        prepare(Corpus.read(small_corpus), SMALL, jobs=1, progress=False)
    return home


@pytest.fixture
def home(home, prepared):
    shutil.copytree(prepared / "data", home / "data")
    return home


@pytest.fixture
def fetched(home):
    """A project with the weights of musicnn."""
    return copy_weights(home)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Return musicnn up to its embedding, with each of its weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(copy_weights(tmp_path_factory.mktemp("fetched"))))
        return {name: split_at(build_musicnn(weights=name), "embedding")[0] for name in MUSICNN}


@pytest.fixture
def features(small_corpus, home):
    return prepare(Corpus.read(small_corpus), SMALL, jobs=1, progress=False)


# The model


@pytest.mark.parametrize("weights", MUSICNN)
def test_musicnn_agrees_with_the_graph_of_its_authors(backbones, weights):
    with np.load(Path(__file__).with_name("musicnn_reference.npz")) as reference:
        expected = reference[weights]
    assert expected.std() > 0.5
    found = backbones[weights].predict_on_batch(log_mels()[..., None])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_musicnn_has_the_stated_parameters_and_head():
    model = build_musicnn(n_classes=2)
    assert model.count_params() == 782_431
    assert [layer.name for layer in model.layers[-3:]] == ["embedding", "unit_length", "genre"]
    probabilities = model.predict_on_batch(log_mels()[..., None])
    assert probabilities.shape == (2, 2)


def test_musicnn_averages_the_patches_of_a_segment():
    x, model = log_mels()[:1], build_musicnn()
    patches = build_musicnn((96, 187, 1))
    patches.set_weights(model.get_weights())
    parts = np.concatenate(np.split(x[..., :935], 5, axis=-1))
    expected = embeddings(patches, parts).mean(axis=0)
    np.testing.assert_allclose(embeddings(model, x)[0], expected, atol=1e-5)


def test_musicnn_refuses_other_log_mels_and_other_weights(fetched):
    for shape in ((128, 323, 1), (96, 186, 1)):
        with pytest.raises(ValueError, match="96 bands and at least 187 frames"):
            build_musicnn(shape)
    (fetched / "short.data").write_bytes(bytes(400))
    with pytest.raises(WeightsError, match="does not have the weights of 'musicnn'"):
        build_musicnn(weights=fetched / "short.data")
    with pytest.raises(WeightsError, match="no weights file at 'imagenet'"):
        build_musicnn(weights="imagenet")


def test_musicnn_names_the_command_that_fetches_its_weights(home, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(home))
    with pytest.raises(WeightsError, match="msd.data.* missing.*: genrecls weights fetch musicnn$"):
        build_musicnn(weights="msd")


def test_musicnn_hears_the_same_at_every_loudness(backbones, rng):
    y = rng.normal(0, 0.1, MUSICNN_FRONT_END.segment_samples) * np.linspace(0.1, 1, 240000)
    x = np.stack([mel_spectrogram(g * y, MUSICNN_FRONT_END) for g in (1, 0.1)])
    loud, soft = backbones["mtt"].predict_on_batch(x[..., None])
    np.testing.assert_allclose(loud, soft, atol=1e-3)


# The head


def make_segments(n_groups, n_segments=6, genres=("a", "b", "c")):
    rows = [
        {"genre": genre, "group": f"{genre}{i}", "track_id": f"{genre}{i}", "sounding": 1.0}
        for genre in genres
        for i in range(n_groups)
        for _ in range(n_segments)
    ]
    return pd.DataFrame(rows).assign(split="train")


def make_embeddings(segments, rng, noise=0.5):
    labels = pd.factorize(segments["genre"])[0]
    return 5 * (np.eye(8)[labels] + rng.normal(0, noise, (len(segments), 8))).astype(np.float32)


def build_head(n_classes):
    inputs = keras.Input((8,))
    x = keras.layers.UnitNormalization()(inputs)
    return keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(x))


@pytest.mark.parametrize("genres", [("a", "b"), ("a", "b", "c")])
def test_fit_head_gives_the_probabilities_of_the_regression(genres, rng):
    segments = make_segments(4, genres=genres)
    segments.loc[segments["group"].str.endswith("3"), "split"] = "validation"
    x = make_embeddings(segments, rng)
    model = build_head(len(genres))
    history, out_of_fold = head.fit_head(model, x, segments, FROZEN)
    row = history.loc[0]
    train = segments["split"] == "train"
    expected = LogisticRegression(C=row["C"], max_iter=1000)
    expected.fit(normalize(x[train]), segments["genre"][train])
    probabilities = model.predict_on_batch(x)
    np.testing.assert_allclose(probabilities, expected.predict_proba(normalize(x)), atol=1e-3)
    right = np.array(genres)[probabilities.argmax(axis=1)] == segments["genre"]
    assert row["accuracy"] == pytest.approx(right[train].mean())
    assert row["val_accuracy"] == pytest.approx(right[~train].mean())
    assert row["loss"] > 0 and row["val_loss"] > 0
    again = head.predict_out_of_fold(normalize(x[train]), segments[train], FROZEN, row["C"])
    np.testing.assert_allclose(out_of_fold, again, atol=1e-4)


def test_choose_c_regularizes_more_the_more_noise_there_is(rng):
    segments = make_segments(5)
    clear, noisy = (
        head.choose_c(normalize(make_embeddings(segments, rng, noise)), segments, FROZEN)[0]
        for noise in (0.02, 1.5)
    )
    assert clear > noisy


def test_choose_c_needs_no_second_group(rng):
    segments = make_segments(1)
    found = head.choose_c(make_embeddings(segments, rng), segments, FROZEN)
    assert found == (head._DEFAULT_C, None)


def test_predict_out_of_fold_does_not_know_the_group(rng):
    """Each group is a cluster of its own; a model that was fitted on it would be right."""
    segments = make_segments(2, genres=("a", "b"))
    x = np.eye(8)[pd.factorize(segments["group"])[0]]
    known = LogisticRegression(C=100).fit(x, segments["genre"]).predict_proba(x)
    unknown = head.predict_out_of_fold(x, segments, FROZEN, 100)
    labels = pd.factorize(segments["genre"])[0]
    rows = np.arange(len(x))
    assert known[rows, labels].min() > 0.9
    assert unknown[rows, labels].max() < 0.6


def test_head_weights_genres_and_silence(rng):
    segments = make_segments(3, genres=("a", "b"))
    x = np.tile([1.0, 0, 0, 0, 0, 0, 0, 0], (len(segments), 1))  # nothing to hear
    segments.loc[segments["genre"] == "a", "sounding"] = 0.25
    for balanced, share in ((True, 0.5), (False, 0.2)):
        recipe = dataclasses.replace(FROZEN, class_weights=balanced)
        probabilities = head.predict_out_of_fold(x, segments, recipe, 1.0)
        np.testing.assert_allclose(probabilities[:, 0], share, atol=0.02)


# Training


def test_frozen_model_is_fitted_once_and_saved_with_its_embeddings(small_corpus, home):
    options = {"front_end": SMALL, "jobs": 1, "progress": False}
    run = train(small_corpus, FROZEN, **options)
    assert run.name == "efficientnet_lite0_frozen-default-hop_length-4096-n_mels-64"
    assert len(run.history) == 1
    assert run.card["best_epoch"] == 0 and run.card["weights"] == "imagenet"
    assert run.embeddings.shape == (len(run.segments), 112)
    again = embeddings(run.model, prepare_log_mels(small_corpus, run.segments))
    np.testing.assert_allclose(run.embeddings, again, atol=1e-3)
    test = run.predictions.query("split == 'test'")
    found = run.predict_log_mels(prepare_log_mels(small_corpus, test))
    np.testing.assert_allclose(found, test[["prob_classique", "prob_rap"]], atol=1e-4)
    copy = run.save(home / "copy")
    np.testing.assert_array_equal(copy.embeddings, run.embeddings)


def prepare_log_mels(corpus, segments):
    features = prepare(Corpus.read(corpus), SMALL, jobs=1, progress=False)
    return features.log_mels(segments)[..., 0]


def test_cross_validation_embeds_every_track_once(features, small_corpus, monkeypatch):
    seen = []

    def count(model, x):
        seen.append(len(x))
        return predict_outputs(model, x)

    predict_outputs = backbone_outputs._predict
    monkeypatch.setattr(backbone_outputs, "_predict", count)
    monkeypatch.setattr("genrecls.training.cross_validation.prepare", lambda *_, **__: features)
    found = cross_validate(small_corpus, FROZEN, folds=2, repeats=1, jobs=1, progress=False)
    assert found["fold"].nunique() == 2
    assert found["run"].unique().tolist() == ["efficientnet_lite0_frozen-default"]
    assert sum(seen) == len(features.segments)


def test_callbacks_see_the_only_epoch(features, tmp_path):
    seen, log = [], tmp_path / "log.csv"
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs)),
        keras.callbacks.CSVLogger(log),
    ]
    segments = features.segments.assign(split="train")
    segments.loc[segments["group"].isin(segments.groupby("genre")["group"].first()), "split"] = (
        "test"
    )
    fitted = stages.fit(features, segments, FROZEN, progress=False, callbacks=callbacks)
    assert len(seen) == 1 and seen[0]["time_s"] > 0
    assert log.read_text().startswith("epoch,")
    assert fitted.embeddings.shape == (len(segments), 112)


@pytest.mark.slow
def test_musicnn_is_trained_saved_and_exported(small_corpus, fetched):
    run = train(small_corpus, "musicnn", jobs=1, progress=False)
    assert run.name == "musicnn-default"
    assert run.front_end == MUSICNN_FRONT_END
    tracks = sorted(small_corpus.glob("*_test/*.wav"))
    predictions = list(run.predict_all(tracks, jobs=1, progress=False))
    assert [p.genre for p in predictions] == [t.parent.name.removesuffix("_test") for t in tracks]
    assert predictions[0].segments.filter(regex="^prob_").shape == (2, 2)
    if keras.backend.backend() == "tensorflow":
        assert run.export_onnx(fetched / "musicnn.onnx") < 1e-4


# The transformer


@pytest.fixture(scope="module")
def transformer():
    """The transformer on a small front end, so that a test takes a second."""
    embedding._load.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "choose", lambda name: (FROZEN, SMALL, None))
        embedding._load("efficientnet_lite0_frozen", None)  # its cache keeps the net
    yield Embedding("efficientnet_lite0_frozen")
    embedding._load.cache_clear()


@pytest.fixture
def light(transformer, home):
    return transformer


def test_embedding_is_the_mean_over_segments_and_is_kept(light, small_corpus, monkeypatch):
    files = sorted(small_corpus.glob("*/*.wav"))
    found = light.transform(files)
    assert found.shape == (len(files), 112)
    features = prepare(Corpus.read(small_corpus), SMALL, jobs=1, progress=False)
    segments = features.segments.sort_values(["path", "segment"])
    parts = light.transform(features.log_mels(segments)[..., 0])
    assert parts.shape == (len(segments), 112)
    means = pd.DataFrame(parts).groupby(segments["path"].to_numpy()).mean()
    np.testing.assert_allclose(found, means, atol=1e-3)
    monkeypatch.setattr(embedding, "extract_log_mels", None)  # the cache has all of it
    np.testing.assert_array_equal(clone(light).transform([str(file) for file in files]), found)


def test_embedding_works_in_a_pipeline(light, small_corpus):
    tracks = Corpus.read(small_corpus).tracks
    paths = [small_corpus / path for path in tracks["path"]]
    model = make_pipeline(light, LogisticRegression())
    assert model.fit(paths, tracks["genre"]).score(paths, tracks["genre"]) == 1
    assert clone(model).get_params()["embedding__model"] == "efficientnet_lite0_frozen"


def test_embedding_leaves_silence_out(light, tmp_path, rng):
    noise, silence = rng.normal(0, 0.1, 15 * 8000), np.zeros(15 * 8000)
    sounds = {"noise": [noise], "both": [noise, silence], "none": [silence]}
    for name, parts in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", np.concatenate(parts), 8000)
    alone, both = light.transform([tmp_path / "noise.wav", tmp_path / "both.wav"])
    # The resampler spreads the end of the noise a little into the silence.
    np.testing.assert_allclose(alone, both, atol=0.05 * abs(alone).max())
    with pytest.raises(AudioError, match="all of it is silent"):
        light.transform([tmp_path / "none.wav"])


def test_embedding_takes_the_weights_that_are_named(monkeypatch):
    choose = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(embedding, "choose", choose)
    with pytest.raises(InterruptedError):
        Embedding("musicnn", weights="mtt").transform(["song.mp3"])
    choose.assert_called_once_with("musicnn", weights="mtt")


def test_embedding_refuses_models_without_one():
    with pytest.raises(ValueError, match="'compact_cnn' has no embedding"):
        Embedding("compact_cnn").transform(["song.mp3"])
