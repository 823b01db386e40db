"""Run under every Keras backend, as ``tests/test_models.py``."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import write_corpus

from genrecls import Corpus, FrontEnd, GenreClassifier, Recipe, train
from genrecls.bundle import BundleError
from genrecls.corpus import check_no_leak
from genrecls.training import halving

SMALL = FrontEnd(n_mels=80, hop_length=4096)
QUICK = Recipe.preset("default", "cnn", epochs=4)


def trained(corpus, folder, recipe=QUICK, front_end=SMALL, name="cnn-default"):
    return train(
        Corpus.read(corpus), recipe, front_end, name=name, folder=folder, jobs=1, progress=False
    )


@pytest.fixture(scope="module")
def run(small_corpus, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home))
        yield trained(small_corpus, home / "models" / "small" / "cnn-default")


def test_the_card_says_what_the_run_is(run):
    card = json.loads((run.folder / "card.json").read_text())
    assert card["genres"] == ["classique", "rap"] and card["weights"] == "random"
    assert card["parameters"] == run.model.count_params()
    assert FrontEnd.from_dict(card["front_end"]) == SMALL == run.front_end
    assert Recipe.from_dict(card["recipe"]) == QUICK == run.recipe
    assert card["epochs"] == len(run.history) == 4
    assert card["training_time_s"] > 0 and card["inference_ms_per_piece"] > 0
    test = run.predictions.query("split == 'test'")
    assert card["metrics"]["test"]["accuracy"] == (test["predicted"] == test["genre"]).mean()
    assert set(card["metrics"]["validation"]["f1"]) == {"classique", "rap", "macro"}
    assert card["versions"]["keras"] == keras.__version__


def test_segments_and_predictions_carry_the_spine(run):
    check_no_leak(run.segments)
    held_out = run.segments[run.segments["split"] != "train"]
    predictions = run.predictions
    assert len(predictions) == len(held_out)
    assert set(predictions["split"]) == {"validation", "test"}
    for column in ("track_id", "path", "genre", "artist", "segment", "start_s", "end_s"):
        assert column in predictions
    probabilities = predictions[["prob_classique", "prob_rap"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_loaded_run_predicts_what_was_saved(run, small_corpus):
    again = GenreClassifier.load(run.folder)
    saved = again.predictions
    for path, rows in saved.groupby("path"):
        prediction = again.predict(small_corpus / path)
        np.testing.assert_allclose(
            prediction.pieces["prob_rap"], rows.sort_values("segment")["prob_rap"], atol=1e-4
        )
        assert prediction.probabilities["rap"] == pytest.approx(rows["prob_rap"].mean(), abs=1e-4)
        assert prediction.genre == max(prediction.probabilities, key=prediction.probabilities.get)


def test_identical_log_mels_give_identical_predictions_after_loading(run, rng):
    x = rng.uniform(-80, 0, (3, *SMALL.shape)).astype(np.float32)
    twice = [GenreClassifier.load(run.folder).predict_log_mels(x) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


def test_an_up_to_date_run_is_not_trained_again_and_a_changed_recipe_is(
    run, small_corpus, tmp_path, monkeypatch
):
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path))
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    created = trained(small_corpus, folder).card["created"]
    assert created == run.card["created"]
    changed = trained(small_corpus, folder, dataclasses.replace(QUICK, epochs=1))
    assert changed.card["uid"] != run.card["uid"] and len(changed.history) == 1
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".run")]


def test_a_renamed_track_is_not_reported_under_its_old_name(run, small_corpus, tmp_path, home):
    corpus = tmp_path / "small"
    shutil.copytree(small_corpus, corpus)
    folder = home / "run"
    trained(corpus, folder)
    file = corpus / "rap_test" / "rap 90 - Same Title.wav"
    file.rename(file.with_name("rap 90 - New.wav"))
    again = trained(corpus, folder)
    assert "rap_test/rap 90 - New.wav" in set(again.predictions["path"])


def test_the_same_seed_gives_the_same_split_and_history(run, small_corpus, home):
    again = trained(small_corpus, home / "again")
    pd.testing.assert_frame_equal(again.segments, run.segments)
    np.testing.assert_allclose(again.history["loss"], run.history["loss"], rtol=1e-3)


def test_seed_rate_is_halved_at_every_tenth_epoch_epoch_0_included():
    rate = halving(Recipe.preset("seed", "cnn"))
    assert [rate(e) for e in (0, 9, 10, 149)] == [5e-4, 5e-4, 2.5e-4, 1e-3 / 2**15]


def test_the_rate_in_force_is_in_the_history(small_corpus, home):
    recipe = Recipe.preset("seed", "cnn", epochs=11)
    history = trained(small_corpus, home / "seed", recipe).history
    assert history["learning_rate"].iloc[[0, 9, 10]].tolist() == pytest.approx([5e-4, 5e-4, 2.5e-4])


def test_early_stopping_restores_the_best_weights(small_corpus, home):
    recipe = dataclasses.replace(QUICK, epochs=40, patience=1, learning_rate=0.05)
    run = trained(small_corpus, home / "early", recipe)
    assert len(run.history) < 40
    assert run.card["best_epoch"] == run.history["val_loss"].argmin()
    validation = run.predictions.query("split == 'validation'")
    accuracy = (validation["predicted"] == validation["genre"]).mean()
    assert accuracy == pytest.approx(run.history["val_accuracy"].iloc[run.card["best_epoch"]])


def test_a_frozen_trunk_trains_the_head_alone_and_saves_the_whole_net(small_corpus, home):
    recipe = Recipe.preset("default", "inception_resnet_v2", epochs=8)
    run = trained(small_corpus, home / "inception", recipe, name="inception_resnet_v2-default")
    in_trunk = 54_336_736  # of keras.applications.InceptionResNetV2 without its top
    assert run.card["trained_parameters"] == run.card["parameters"] - in_trunk
    path = run.predictions["path"].iloc[0]
    rows = run.predictions.query("path == @path").sort_values("segment")
    prediction = run.predict(small_corpus / path)
    np.testing.assert_allclose(prediction.pieces["prob_rap"], rows["prob_rap"], atol=1e-4)
    assert run.first_layer[1].shape[0] == 32


def test_three_genres(tmp_path, home):
    corpus = write_corpus(tmp_path / "three", genres=("a", "b", "c"))
    run = trained(corpus, home / "three")
    assert run.genres == ["a", "b", "c"]
    assert run.predict_log_mels(np.zeros((1, *SMALL.shape))).shape == (1, 3)


def test_folders_that_are_no_run_are_refused(tmp_path):
    with pytest.raises(BundleError, match="no trained model"):
        GenreClassifier.load(tmp_path)
    (tmp_path / "card.json").write_text('{"format": 99}')
    with pytest.raises(BundleError, match="another version"):
        GenreClassifier.load(tmp_path)
    (tmp_path / "card.json").write_text("{half")
    with pytest.raises(BundleError, match="damaged"):
        GenreClassifier.load(tmp_path)
