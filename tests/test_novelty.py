"""Novelty, its threshold and its background, and the labels "not sure" and "none of these"."""

import dataclasses
import shutil
from unittest.mock import Mock

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import normalize

from genrecls import Corpus, FrontEnd, GenreClassifier, Recipe, train
from genrecls.classifier import Prediction
from genrecls.errors import AudioError, CorpusError, ModelError
from genrecls.evaluation.novelty import Novelty
from genrecls.training.embedding import embed_files
from genrecls.training.novelty import choose_threshold, make_sounds

SMALL = FrontEnd(n_mels=64, hop_length=4096)
FROZEN = Recipe.preset("default", "efficientnet_lite0_frozen")


def make_segments(n_groups, genres=("a", "b"), n_segments=4):
    rows = [
        {"genre": genre, "group": f"{genre}{i}", "track_id": f"{genre}{i}", "sounding": 1.0}
        for genre in genres
        for i in range(n_groups)
        for _ in range(n_segments)
    ]
    return pd.DataFrame(rows)


def make_embeddings(segments, rng, *, group_noise=0.1, noise=0.1):
    labels = pd.factorize(segments["genre"])[0]
    groups = rng.normal(0, group_noise, (segments["group"].nunique(), 8))
    x = np.eye(8)[labels] + groups[pd.factorize(segments["group"])[0]]
    return 7 * (x + rng.normal(0, noise, x.shape))


def test_novelty_is_the_distance_of_mahalanobis_from_the_nearest_genre(rng):
    segments = make_segments(5)
    x = make_embeddings(segments, rng)
    unit = normalize(x)
    labels = (segments["genre"] == "b").to_numpy().astype(int)
    means = np.stack([unit[labels == i].mean(axis=0) for i in (0, 1)])
    precision = LedoitWolf(assume_centered=True).fit(unit - means[labels]).precision_
    expected = [min(mahalanobis(row, mean, precision) for mean in means) / 3 for row in unit]
    found = Novelty.fit(x, segments, x[:0], 3.0).score(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_novelty_does_not_depend_on_the_length_of_embeddings(rng):
    segments = make_segments(3)
    x = make_embeddings(segments, rng)
    novelty = Novelty.fit(x, segments, x[:0], 1.0)
    np.testing.assert_allclose(novelty.score(5 * x), novelty.score(x))


def test_silent_segments_do_not_move_the_mean_of_a_genre(rng):
    segments = make_segments(3)
    segments["sounding"] = [1.0, 1.0, 1.0, 0.0] * 6
    x = make_embeddings(segments, rng)
    found = Novelty.fit(x, segments, x[:0], 1.0)
    heard = normalize(x)[(segments["genre"] == "a") & (segments["sounding"] > 0)].mean(axis=0)
    np.testing.assert_allclose(found.genres[0], heard @ found.whitening)


def test_sound_that_is_nearer_to_the_background_than_to_a_genre_is_novel(rng):
    segments = make_segments(5)
    x = make_embeddings(segments, rng)
    plain = Novelty.fit(x, segments, x[:0], 20.0)
    strange = np.eye(8)[[5]]
    assert plain.score(strange) < 1
    novelty = Novelty.fit(x, segments, strange, 20.0)
    # Beside the background, the novelty is at most ten times that at the threshold.
    np.testing.assert_allclose(novelty.score(strange), 10 * plain.score(strange))
    assert (novelty.score(0.9 * strange + 0.1 * x[:1] / 7) > 1).all()
    assert (novelty.score(x) < 1).all()


def test_novelty_of_equal_embeddings_is_finite():
    segments = make_segments(2)
    x = np.eye(8)[(segments["genre"] == "b").astype(int)]
    novelty = Novelty.fit(x, segments, x[:0], 1.0)
    assert np.isfinite(novelty.score(np.eye(8))).all()


def test_threshold_is_that_of_groups_that_are_left_out(rng):
    """The segments of a group are alike, so that a new group is farther away than a known one."""
    segments = make_segments(12)
    x = make_embeddings(segments, rng, group_noise=0.3, noise=0.02)
    threshold = choose_threshold(x, segments)
    known = Novelty.fit(x, segments, x[:0], threshold)
    assert known.score(x).max() < 0.9
    others = make_segments(100)
    new = make_embeddings(others, rng, group_noise=0.3, noise=0.02)
    tracks = pd.Series(known.score(new)).groupby(others["track_id"]).mean()
    assert 0.01 < (tracks > 1).mean() < 0.15


def test_threshold_needs_two_groups_of_each_genre(rng):
    segments = make_segments(1)
    with pytest.raises(CorpusError):
        choose_threshold(make_embeddings(segments, rng), segments)


def test_generated_sounds_are_loud_and_different():
    sounds = np.stack([*make_sounds(8000, 40_000)])
    assert sounds.dtype == np.float32
    np.testing.assert_allclose(abs(sounds).max(axis=1), 0.5, rtol=1e-6)
    alike = normalize(sounds) @ normalize(sounds).T - np.eye(len(sounds))
    assert abs(alike).max() < 0.98


# The corpus


@pytest.mark.parametrize("name", ["other", "Other", "OTHER_test"])
def test_folder_other_is_background(small_corpus, tmp_path, home, name, caplog):
    root = shutil.copytree(small_corpus, tmp_path / "music")
    plain = Corpus.read(root)
    assert plain.background == ()
    (root / name).mkdir()
    shutil.copy(next(root.glob("rap/*.wav")), root / name / "Someone - Song.wav")
    corpus = Corpus.read(root)
    assert corpus.genres == ["classique", "rap"]
    assert corpus.background == (root / name / "Someone - Song.wav",)
    pd.testing.assert_frame_equal(corpus.tracks, plain.tracks)
    assert "1 tracks of 'other' are background" in caplog.text


def test_background_that_cannot_be_read_is_left_out(small_corpus, tmp_path, home):
    root = shutil.copytree(small_corpus, tmp_path / "music")
    (root / "other").mkdir()
    (root / "other" / "gone.mp3").symlink_to("nowhere.mp3")
    shutil.copy(next(root.glob("rap/*.wav")), root / "other" / "Someone - Song.wav")
    corpus = Corpus.read(root)
    assert [file.name for file in corpus.background] == ["Someone - Song.wav"]
    assert corpus.left_out["path"].tolist() == ["other/gone.mp3"]


def test_background_that_is_deleted_later_is_an_audio_error(home):
    gone = home / "gone.mp3"
    [error] = embed_files(None, "uid", [gone], FrontEnd.preset("default"))
    assert isinstance(error, AudioError) and error.path == gone


def test_genre_other_in_a_table_is_background(small_corpus, tmp_path, home):
    files = sorted(small_corpus.glob("*/*.wav"))
    genres = ["other" if i == 3 else file.parent.name[:4] for i, file in enumerate(files)]
    table = tmp_path / "list.csv"
    pd.DataFrame({"path": files, "genre": genres}).to_csv(table, index=False)
    corpus = Corpus.read(table)
    assert corpus.background == (files[3],) and len(corpus.tracks) == len(files) - 1


@pytest.mark.parametrize("genre", ["rap", "other"])
def test_background_does_not_count_as_a_genre(small_corpus, tmp_path, home, genre):
    files = sorted(small_corpus.glob("rap/*.wav"))
    table = tmp_path / "list.csv"
    genres = ["other", *[genre] * (len(files) - 1)]
    pd.DataFrame({"path": files, "genre": genres}).to_csv(table, index=False)
    with pytest.raises(CorpusError, match=f"only one genre, '{genre}'.*'other' is background"):
        Corpus.read(table)


# Runs


@pytest.fixture(scope="module")
def run(small_corpus, tmp_path_factory):
    """Return a run of a corpus with a background of one file that is fit, and one that is not."""
    home = tmp_path_factory.mktemp("home")
    root = shutil.copytree(small_corpus, home / "music")
    (root / "other").mkdir()
    rng = np.random.default_rng(5)
    soundfile.write(root / "other" / "noise.wav", rng.uniform(-0.1, 0.1, 16 * 22050), 22050)
    soundfile.write(root / "other" / "short.wav", rng.uniform(-0.1, 0.1, 22050), 22050)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home))
        options = {"front_end": SMALL, "jobs": 1, "progress": False}
        yield train(root, FROZEN, **options)


def test_run_keeps_its_novelty(run, tmp_path):
    n_sounds = len([*make_sounds(8000, 8000)])
    assert run.novelty.background.shape == (n_sounds + 1, 112)
    assert run.card["novelty_threshold"] == run.novelty.threshold > 0
    rest = (run.segments["split"] != "test").to_numpy()
    expected = choose_threshold(run.embeddings[rest], run.segments[rest])
    assert run.novelty.threshold == pytest.approx(expected)  # the test has no part in it
    assert run.predictions["novelty"].gt(0).all()
    copy = run.save(tmp_path / "copy")
    x = np.random.default_rng(0).random((3, 112))
    np.testing.assert_array_equal(copy.novelty.score(x), run.novelty.score(x))


def test_prediction_has_the_novelty_of_the_saved_ones(run):
    track = run.predictions.query("split == 'test'").query("path == path.min()")
    prediction = run.predict(run.folder.parents[2] / "music" / track["path"].iloc[0])
    np.testing.assert_allclose(prediction.segments["novelty"], track["novelty"], rtol=0.01)
    expected = np.average(track["novelty"], weights=track["sounding"])
    assert prediction.novelty == pytest.approx(expected, rel=0.01)
    tracks = run.label_tracks(track)
    assert tracks["label"].tolist() == [prediction.label]
    [again] = run.predict_all([prediction.path], jobs=1, progress=False)
    assert again.novelty == pytest.approx(prediction.novelty)


def test_model_sees_each_segment_once(run, monkeypatch, rng):
    seen = []

    def count(model, x, *args, **options):
        seen.append((model.input_shape, len(x)))
        return predict(model, x, *args, **options)

    predict = keras.Model.predict_on_batch
    monkeypatch.setattr(keras.Model, "predict_on_batch", count)
    prediction = run.predict(rng.normal(0, 0.1, 31 * 8000).astype(np.float32), 8000, step_s=5)
    backbone, head = (sum(n for s, n in seen if len(s) == dims) for dims in (4, 2))
    assert backbone == head == len(prediction.segments) == 4


def test_sounds_without_a_genre_are_none_of_these(run):
    rng, t = np.random.default_rng(1), np.arange(16 * 22050) / 22050
    clicks = (t * 2 % 1 < 1e-4).astype(float)
    for y in (rng.normal(0, 0.1, len(t)), np.sin(2 * np.pi * 700 * t), clicks):
        assert run.predict(y.astype(np.float32), 22050).label == "none of these"


def test_background_is_a_part_of_what_decides_a_run(run, monkeypatch):
    monkeypatch.setenv("GENRECLS_HOME", str(run.folder.parents[2]))
    corpus = Corpus.read(run.folder.parents[2] / "music")
    options = {"front_end": SMALL, "jobs": 1, "progress": False, "folder": run.folder}
    monkeypatch.setattr("genrecls.training.run.fit", Mock(side_effect=KeyboardInterrupt))
    assert train(corpus, FROZEN, **options).card == run.card  # it is up to date
    fewer = dataclasses.replace(corpus, background=corpus.background[:1])
    with pytest.raises(KeyboardInterrupt):
        train(fewer, FROZEN, **options)


def test_run_without_its_novelty_is_damaged(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "novelty.npz").unlink()
    with pytest.raises(ModelError, match="novelty.npz' is damaged"):
        _ = GenreClassifier.load(folder).novelty


# Labels


@pytest.mark.parametrize(
    ("probability", "novelty", "label"),
    [
        (0.8, None, "a"),
        (0.8, 1.0, "a"),
        (0.8, 1.1, "none of these"),
        (0.7, None, "a"),
        (0.6, 0.9, "not sure"),
        (0.6, 1.1, "none of these"),
    ],
)
def test_label_of_a_prediction(probability, novelty, label):
    probabilities = {"a": probability, "b": 1 - probability}
    found = Prediction("x", "a", probabilities, pd.DataFrame(), SMALL, 0.7, novelty)
    assert found.label == label and found.genre == "a"
