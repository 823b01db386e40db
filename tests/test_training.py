"""Training and its runs; what depends on the Keras backend is marked to run under both."""

import dataclasses
import json
import os
import shutil
from unittest.mock import Mock

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile

from genrecls import (
    AudioError,
    AudioWarning,
    Corpus,
    FrontEnd,
    GenreClassifier,
    Recipe,
    build_cnn,
    build_compact_cnn,
    prepare,
    train,
)
from genrecls._utils import backend
from genrecls.corpus.splits import assign_folds, assign_splits, check_no_leak
from genrecls.errors import GenreclsError, LeakError, ModelError
from genrecls.evaluation.calibration import calibrated, fit_temperature
from genrecls.evaluation.scores import aggregate_tracks
from genrecls.models import Image
from genrecls.training import data, loop
from genrecls.training.data import Batches
from genrecls.training.loop import fit_model, learning_rate
from genrecls.training.outcome import fit_calibration, make_card
from genrecls.training.stages import Fitted, fit

SMALL = FrontEnd(n_mels=80, hop_length=4096)
QUICK = Recipe.preset("default", "cnn", epochs=4)
both_backends = pytest.mark.backend


def trained(corpus, folder, model=QUICK, name="cnn-default", **options):
    options = {"front_end": SMALL, "jobs": 1, "progress": False} | options
    return train(corpus, model, name=name, folder=folder, **options)


@pytest.fixture(scope="module")
def run(small_corpus, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home))
        yield trained(small_corpus, home / "models" / "small" / "cnn-default")


@pytest.fixture
def home(home, run):
    """A project folder with the log-mels of the run, but without the run."""
    (home / "data").symlink_to(run.folder.parents[2] / "data")
    return home


def test_train_describes_the_run_in_its_card(run):
    card = json.loads((run.folder / "card.json").read_text())
    assert card["genres"] == ["classique", "rap"]
    assert card["weights"] == "random"
    assert card["parameters"] == run.model.count_params()
    assert FrontEnd.from_dict(card["front_end"]) == SMALL == run.front_end
    assert Recipe.from_dict(card["recipe"]) == QUICK == run.recipe
    assert len(run.history) == 4
    assert card["training_time_s"] > 0
    assert card["inference_ms_per_segment"] > 0
    assert card["versions"]["keras"] == keras.__version__


def test_train_saves_segments_and_predictions_with_the_spine(run):
    check_no_leak(run.segments)
    held_out = run.segments[run.segments["split"] != "train"]
    predictions = run.predictions
    assert len(predictions) == len(held_out)
    assert set(predictions["split"]) == {"validation", "test"}
    for column in ("track_id", "path", "genre", "artist", "segment", "start_s", "end_s"):
        assert column in predictions
    probabilities = predictions[["prob_classique", "prob_rap"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@both_backends
def test_loaded_run_repeats_the_saved_predictions(run, small_corpus):
    again = GenreClassifier.load(run.folder)
    saved = again.predictions
    segments = calibrated(saved, run.genres)
    tracks = calibrated(aggregate_tracks(saved, run.genres), run.genres).set_index("path")
    for path, rows in segments.groupby("path"):
        prediction = again.predict(small_corpus / path)
        rows = rows.sort_values("segment")
        np.testing.assert_allclose(prediction.segments["prob_rap"], rows["prob_rap"], atol=1e-3)
        assert prediction.segments["predicted"].tolist() == rows["predicted"].tolist()
        track = tracks.loc[path]
        assert prediction.probabilities["rap"] == pytest.approx(track["prob_rap"], abs=1e-3)
        assert prediction.genre == track["predicted"]
        assert prediction.genre == max(prediction.probabilities, key=prediction.probabilities.get)


RUN_FILES = (
    "card.json history.parquet predictions.parquet segments.parquet first_layer.npz model.keras "
    "index.json"
).split()


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *((name, "cut") for name in RUN_FILES),
        *(("card.json", "emptied"), ("segments.parquet", "foreign"), ("model.keras", "folder")),
    ],
)
def test_train_repeats_a_run_with_a_damaged_file(
    run, small_corpus, tmp_path, monkeypatch, caplog, name, harm
):
    copy = shutil.copytree(run.folder, tmp_path / "x" / run.folder.name)
    assert trained(small_corpus, copy).card == run.card  # nothing is damaged so far
    damage(copy / name, harm)
    monkeypatch.setattr("genrecls.training.run.fit", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trained(small_corpus, copy)
    [record] = caplog.records
    assert f"{copy} is damaged" in record.getMessage()


@pytest.mark.parametrize("harm", ["emptied", "cut", "foreign"])
def test_damaged_tables_of_a_run_are_model_errors(run, tmp_path, harm):
    for name in ("history.parquet", "predictions.parquet", "segments.parquet", "first_layer.npz"):
        copy = shutil.copytree(run.folder, tmp_path / name)
        damage(copy / name, harm)
        with pytest.raises(ModelError, match=f"{name}' is damaged .*; train the model or copy"):
            getattr(GenreClassifier.load(copy), name.partition(".")[0])


def damage(file, harm):
    content = file.read_bytes()
    if harm == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"emptied": b"", "cut": content[:99], "foreign": b"PAR1 ?" * 50}[harm])


def test_train_fits_the_temperatures_to_the_validation(run):
    validation = run.predictions.query("split == 'validation'")
    expected = fit_temperature(validation, run.genres)
    assert run.temperature == run.card["temperature"] == expected
    assert (run.predictions["temperature"] == run.temperature).all()
    tracks = aggregate_tracks(validation, run.genres)
    expected = fit_temperature(tracks, run.genres)
    assert run.track_temperature == run.card["track_temperature"] == expected
    assert tracks["temperature"].unique().tolist() == [run.track_temperature]
    assert run.card["min_confidence"] == 0.6 and run.novelty is None


def test_calibration_uses_the_training_groups_out_of_fold():
    """Six validation tracks are right; of the twelve training tracks, three are wrong."""
    segments = pd.DataFrame({"genre": ["a", "b"] * 9, "track_id": range(18), "group": range(18)})
    segments = segments.assign(title="", artist="", path="", segment=1, sounding=1.0)
    segments["split"] = ["train"] * 12 + ["validation"] * 6
    sure = np.where(np.eye(2)[[0, 1] * 9] == 1, 0.97, 0.03)
    wrong = sure[:12].copy()
    wrong[[2, 5, 8]] = wrong[[2, 5, 8], ::-1]
    alone = Fitted(None, sure[12:], pd.DataFrame(), 0)
    calibration = fit_calibration(segments, alone, leaky=False)
    assert 0.5 < calibration["temperature"] == calibration["track_temperature"] < 1
    assert calibration["min_confidence"] == 0.6
    both = fit_calibration(segments, dataclasses.replace(alone, out_of_fold=wrong), leaky=False)
    assert both["temperature"] == both["track_temperature"] > 1.1
    assert both["min_confidence"] == 0.6
    worse = dataclasses.replace(alone, out_of_fold=wrong[:, ::-1])
    softer = fit_calibration(segments, worse, leaky=False)
    assert softer["temperature"] > both["temperature"]
    unscaled = {"temperature": 1, "track_temperature": 1, "min_confidence": 0.6}
    assert fit_calibration(segments, worse, leaky=True) == unscaled


def test_train_fits_no_temperature_to_a_leaky_validation(small_corpus, home):
    run = trained(small_corpus, home / "leaky", epochs=1, split_by="track")
    assert run.temperature == run.track_temperature == 1
    assert (run.predictions[["temperature", "track_temperature"]] == 1).all(axis=None)
    path = run.predictions["path"].iloc[-1]
    rows = run.predictions.query("path == @path").sort_values("segment")
    found = run.predict(small_corpus / path).segments["prob_rap"]
    np.testing.assert_allclose(found, rows["prob_rap"], atol=1e-4)


@both_backends
def test_predict_all_keeps_the_order_and_returns_errors_in_place(run, small_corpus, tmp_path):
    files = [small_corpus / path for path in run.predictions["path"].unique()]
    (tmp_path / "text.mp3").write_text("no sound")
    files.insert(1, tmp_path / "text.mp3")
    answers = list(run.predict_all(files, jobs=2, progress=False))
    assert isinstance(answers[1], AudioError)
    assert "text.mp3" in str(answers.pop(1))
    del files[1]
    assert [answer.path for answer in answers] == list(map(str, files))
    for answer, file in zip(answers, files, strict=True):
        alone = run.predict(file)
        assert (answer.genre, answer.probabilities) == (alone.genre, alone.probabilities)
        pd.testing.assert_frame_equal(answer.segments, alone.segments)
    with pytest.raises(AudioError, match="text.mp3"):
        run.predict(tmp_path / "text.mp3")
    assert list(run.predict_all([])) == []


def test_predict_all_warns_about_damaged_sound_from_all_processes(run, tmp_path, rng):
    loud = rng.normal(0, 0.1, 16 * 22050)
    loud[1000] = 3.0
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", loud, 22050, subtype="FLOAT")
    with pytest.warns(AudioWarning, match="cut off") as caught:
        list(run.predict_all([tmp_path / "a.wav", tmp_path / "b.wav"], jobs=2, progress=False))
    assert len([warning for warning in caught if warning.category is AudioWarning]) == 2


@both_backends
def test_loaded_runs_predict_the_same_bits(run, rng):
    x = rng.uniform(-80, 0, (3, *SMALL.shape)).astype(np.float32)
    twice = [GenreClassifier.load(run.folder).predict_log_mels(x) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


def test_train_loads_an_up_to_date_run_and_trains_what_has_changed(
    run, small_corpus, home, monkeypatch
):
    folder = shutil.copytree(run.folder, home / "run")
    created = trained(small_corpus, folder).card["created"]
    assert created == run.card["created"]
    changed = trained(small_corpus, folder, QUICK, epochs=1)
    assert changed.card["uid"] != run.card["uid"]
    assert len(changed.history) == 1
    assert not [f for f in home.iterdir() if f.name.startswith(".run")]
    monkeypatch.setattr("genrecls.training.run.fit", Mock(side_effect=KeyboardInterrupt))
    assert trained(small_corpus, folder, QUICK, epochs=1).card == changed.card
    other = dataclasses.replace(SMALL, n_mels=64)
    with pytest.raises(KeyboardInterrupt):
        trained(small_corpus, folder, QUICK, epochs=1, front_end=other)


def test_train_notices_a_renamed_track(run, small_corpus, tmp_path, home):
    corpus = shutil.copytree(small_corpus, tmp_path / "small")
    folder = shutil.copytree(run.folder, home / "run")
    assert trained(corpus, folder).card == run.card
    file = corpus / "rap_test" / "rap 90 - Same Title.wav"
    file.rename(file.with_name("rap 90 - New.wav"))
    again = trained(corpus, folder)
    assert "rap_test/rap 90 - New.wav" in set(again.predictions["path"])


def test_a_track_that_cannot_be_used_changes_only_the_card(
    run, small_corpus, tmp_path, home, monkeypatch
):
    """With the former hash of the corpus, the run would be left out beside later ones."""
    corpus = shutil.copytree(small_corpus, tmp_path / "small")
    folder = shutil.copytree(run.folder, home / "run")
    (corpus / "rap" / "rap 91 - Broken.wav").write_bytes(b"RIFF")
    monkeypatch.setattr("genrecls.training.run.fit", Mock(side_effect=KeyboardInterrupt))
    again = trained(corpus, folder)
    assert again.card["corpus_hash"] != run.card["corpus_hash"]
    assert [row["path"] for row in again.card["left_out"]] == ["rap/rap 91 - Broken.wav"]
    pd.testing.assert_frame_equal(again.predictions, run.predictions)
    (folder / "README.md").write_text("edited")  # it may change, and so may a copy
    copy = again.save(home / "copy")
    (copy.folder / "README.md").write_text("edited again")
    for path in (folder, copy.folder):
        assert trained(corpus, path).card == again.card


@both_backends
def test_train_repeats_split_and_history_by_the_seed(run, small_corpus, home):
    again = trained(small_corpus, home / "again")
    pd.testing.assert_frame_equal(again.segments, run.segments)
    values = again.history.drop(columns="time_s")
    pd.testing.assert_frame_equal(values, run.history.drop(columns="time_s"), check_exact=True)
    for a, b in zip(again.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("model", ["cnn", "compact_cnn"])
def test_fit_gives_the_same_from_disk_and_from_memory(model, small_corpus, home, monkeypatch):
    features = prepare(Corpus.read(small_corpus), SMALL, jobs=1, progress=False)
    segments = assign_splits(features.segments, split_by="artist", random_seed=0)
    # With a single batch, chance only decides which segment meets which dropout.
    recipe = Recipe.preset("default", model, epochs=3, batch_size=99, crop=None, mixup=0.0)
    from_memory = fit(features, segments, recipe, progress=False)
    monkeypatch.setattr(data, "_MAX_HELD_BYTES", 0)
    monkeypatch.delattr(Batches, "as_dataset")
    from_disk = fit(features, segments, recipe, progress=False)
    columns = ["val_loss"]
    np.testing.assert_allclose(from_disk.history[columns], from_memory.history[columns], rtol=1e-2)
    np.testing.assert_allclose(from_disk.probabilities, from_memory.probabilities, atol=1e-2)


def test_batches_have_every_segment_once_and_shuffle_every_epoch():
    segments = pd.DataFrame({"sha256": list("aabbbbb"), "segment": [1, 3, 1, 2, 3, 4, 5]})
    tracks = {"a": np.arange(4.0)[:, None], "b": 10 + np.arange(5.0)[:, None]}
    values = [0, 2, 10, 11, 12, 13, 14]
    weights = np.arange(7)
    plain = Batches(tracks.get, segments, 3, [weights])
    assert [len(x) for x, _ in (plain[i] for i in range(len(plain)))] == [3, 3, 1]
    assert np.concatenate([plain[i][0] for i in range(3)])[:, 0].tolist() == values
    shuffled = Batches(tracks.get, segments, 3, [weights], shuffle_seed=0)
    orders = []
    for _ in range(4):
        parts = [shuffled[i] for i in range(len(shuffled))]
        x, w = (np.concatenate(column) for column in zip(*parts, strict=True))
        assert sorted(x[:, 0]) == values
        np.testing.assert_array_equal(np.array(values)[w], x[:, 0])
        orders.append(tuple(x[:, 0]))
        shuffled.on_epoch_end()
    assert len(set(orders)) == 4


def softmax_of_flat(shape, n_classes):
    layers = [keras.Input(shape), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(n_classes, activation="softmax")])


@pytest.mark.parametrize("given", [None, ":16:8"])
def test_torch_may_compute_matrix_products_deterministically_on_a_gpu(given, monkeypatch):
    name = "CUBLAS_WORKSPACE_CONFIG"
    torch, seen = Mock(), []
    torch.use_deterministic_algorithms = lambda _: seen.append(os.environ[name])
    monkeypatch.setattr(backend, "_NAME", "torch")
    monkeypatch.setattr(backend, "_framework", torch)
    monkeypatch.setenv(name, given or "")
    if given is None:
        monkeypatch.delenv(name)
    backend.make_deterministic()
    assert seen == [given or ":4096:8"]


@both_backends
@pytest.mark.parametrize("held", [True, False])
def test_fit_model_weights_segments_by_their_sound(held, monkeypatch):
    """The same sound has two genres; a nearly silent segment hardly counts, a full one does."""
    if not held:
        monkeypatch.setattr(data, "_MAX_HELD_BYTES", 0)
    # The genres are in another order than the outputs, which are sorted by name.
    table = pd.DataFrame({"sha256": "a", "segment": 1, "genre": ["rap", "classique"] * 2})
    table["split"] = ["train"] * 2 + ["validation"] * 2
    sound = np.ones((1, 2, 3, 1), np.float32)
    options = {"crop": None, "mixup": 0.0, "patience": None, "epochs": 100, "learning_rate": 0.1}
    # Weights of classes make a genre with little sound as frequent as the other one.
    cases = [
        (False, [1, 1 / 15], 15 / 16),
        (False, [1, 1], 1 / 2),
        (True, [1, 1 / 15], 1 / 2),
    ]
    for balanced, sounding, share in cases if held else cases[:1]:  # from disk, a case takes 10 s
        recipe = Recipe.preset("default", "cnn", class_weights=balanced, **options)
        keras.utils.set_random_seed(0)
        model = softmax_of_flat((2, 3, 1), 2)
        weighted = table.assign(sounding=[*sounding, 1, 1 / 15])
        history = fit_model(model, {"a": sound}.get, weighted, recipe, progress=False)
        p = model.predict(sound, verbose=0)[0]
        assert p[1] == pytest.approx(share, abs=0.02)
        loss = -(np.log(p[1]) + np.log(p[0]) / 15) / 2
        assert history["val_loss"].iloc[-1] == pytest.approx(loss, rel=1e-3)


def test_balanced_weights_give_genres_the_same_sum_and_keep_the_total():
    segments = pd.DataFrame({"genre": list("aaaab"), "sounding": [1, 1, 0.5, 0.1, 0.4]})
    weights = data.balanced_weights(segments)
    np.testing.assert_allclose(weights[:4], segments["sounding"][:4] * (3 / (2 * 2.6)))
    assert weights[:4].sum() == pytest.approx(1.5) == weights[4]
    full = data.balanced_weights(segments.assign(sounding=1.0))
    assert full.tolist() == [5 / (2 * 4)] * 4 + [5 / 2]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a dataset of TensorFlow")
def test_endless_dataset_has_every_segment_with_its_targets_once_in_an_epoch():
    segments = pd.DataFrame({"sha256": "a", "segment": np.arange(7) + 1})
    tracks = {"a": np.arange(7.0)[:, None]}
    targets = [10 * np.arange(7), np.arange(7)]
    batches = Batches(tracks.get, segments, 3, targets, target_as_input=True, shuffle_seed=0)
    iterator = batches.as_dataset(endless=True).as_numpy_iterator()
    orders = []
    for _ in range(4):
        parts = [next(iterator) for _ in range(len(batches))]
        assert [len(weight) for *_, weight in parts] == [3, 3, 1]
        x = np.concatenate([x[:, 0] for (x, _), *_ in parts])
        assert sorted(x) == list(range(7))
        for arrays, factor in (
            ([target for (_, target), *_ in parts], 10),
            ([target for _, target, _ in parts], 10),
            ([weight for *_, weight in parts], 1),
        ):
            np.testing.assert_array_equal(np.concatenate(arrays), factor * x)
        orders.append(tuple(x))
    assert len(set(orders)) == 4
    plain = Batches(tracks.get, segments, 3).as_dataset()
    in_order = np.concatenate([x[:, 0] for (x,) in plain.as_numpy_iterator()])
    np.testing.assert_array_equal(in_order, tracks["a"][:, 0])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="held by TensorFlow only")
@pytest.mark.parametrize(
    ("build", "front_end"),
    [(build_cnn, FrontEnd.preset("original")), (build_compact_cnn, FrontEnd())],
)
def test_precomputed_images_leave_the_model_and_its_weights_the_same(build, front_end, rng):
    model = build((*front_end.shape, 1), 3, image=Image.from_front_end(front_end))
    log_mels = rng.uniform(-90, 20, (2, *front_end.shape, 1)).astype(np.float32)
    segments = pd.DataFrame({"sha256": "a", "segment": [1, 2]})
    classify, load = data.precompute_images(model, {"a": log_mels}.get, segments)
    assert load("a").shape == (2, *front_end.shape, 3)
    assert classify.count_params() == model.count_params()
    for _ in range(2):
        expected = model.predict_on_batch(log_mels)
        np.testing.assert_allclose(classify.predict_on_batch(load("a")), expected, atol=1e-5)
        classify.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
        classify.train_on_batch(load("a"), np.eye(3)[:2])
    assert np.abs(model.predict_on_batch(log_mels) - expected).max() > 1e-4


def test_live_plot_takes_a_twentieth_of_the_time_and_shows_the_last_epoch(monkeypatch):
    now, drawn = [0.0], []

    def draw(history, axes):
        now[0] += 0.2
        drawn.append(len(history))

    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr("genrecls.plots.results.history", draw)
    monkeypatch.setattr("IPython.display.display", Mock())
    plot = loop.live_plot()
    for epoch in range(100):
        now[0] += 0.3
        plot.on_epoch_end(epoch, {"loss": 1.0})
    plot.on_train_end()
    assert drawn[0] == 1
    assert drawn[-1] == 100
    assert 5 < len(drawn) < 10
    assert 0.2 * len(drawn) < 0.06 * now[0]


def test_live_plot_takes_the_row_of_a_logistic_regression(monkeypatch):
    """Its row has an epoch, which those of Keras do not have."""
    display = Mock()
    monkeypatch.setattr("IPython.display.display", display)
    plot = loop.live_plot()
    names = ("epoch", "stage", "loss", "accuracy", "val_loss", "val_accuracy")
    plot.on_epoch_end(0, dict.fromkeys(names, 0.5))
    plot.on_train_end()
    assert len(display.return_value.update.call_args[0][0].axes) == 2


def test_learning_rate_is_halved_at_every_tenth_epoch_epoch_0_included():
    recipe = Recipe.preset("original", "cnn")
    rates = [learning_rate(recipe, epoch) for epoch in (0, 9, 10, 149)]
    assert rates == [5e-4, 5e-4, 2.5e-4, 1e-3 / 2**15]


def test_learning_rate_rises_linearly_and_falls_along_half_a_cosine():
    recipe = Recipe(learning_rate=0.01, warm_up=4, epochs=16)
    rates = [learning_rate(recipe, epoch) for epoch in range(17)]
    assert rates[:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    # After a third of the fall, the cosine is at 3/4; after half of it, at 1/2.
    assert rates[8] == pytest.approx(0.0075)
    assert rates[10] == pytest.approx(0.005)
    assert (np.diff(rates[4:]) < 0).all()
    assert rates[15] > 0
    assert rates[16] == pytest.approx(0)


def test_learning_rate_is_constant_without_a_schedule():
    recipe = Recipe(learning_rate=0.01, warm_up=None)
    assert {learning_rate(recipe, epoch) for epoch in range(40)} == {0.01}


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_learning_rate_does_not_fall_in_a_training_as_long_as_the_warm_up(epochs):
    recipe = Recipe(learning_rate=0.01, warm_up=3, epochs=epochs)
    expected = [0.01 / 3, 0.02 / 3, 0.01][:epochs]
    assert [learning_rate(recipe, epoch) for epoch in range(epochs)] == pytest.approx(expected)


@both_backends
def test_history_has_the_rates_of_the_warm_up(run):
    assert run.history["learning_rate"].tolist() == pytest.approx([7.5e-5, 1.5e-4, 2.25e-4, 3e-4])


@pytest.fixture
def features(small_corpus, home):
    return prepare(Corpus.read(small_corpus), SMALL, jobs=1, progress=False)


@both_backends
def test_fit_without_a_validation_trains_to_the_last_epoch(features):
    fold = assign_folds(features.segments, folds=2)
    segments = features.segments.assign(split=np.where(fold == 0, "test", "train"))
    fitted = fit(features, segments, dataclasses.replace(QUICK, patience=1), progress=False)
    assert fitted.history["epoch"].tolist() == [0, 1, 2, 3]
    assert fitted.best_epoch == 3
    assert not any(column.startswith("val_") for column in fitted.history)
    assert fitted.probabilities.shape == ((fold == 0).sum(), 2)
    tested = features.log_mels(segments[segments["split"] == "test"])
    again = fitted.model.predict(tested, verbose=0)
    np.testing.assert_allclose(fitted.probabilities, again, atol=1e-5)


def test_fit_refuses_an_artist_on_both_sides(features):
    odd = features.segments["segment"] % 2 == 1
    segments = features.segments.assign(split=np.where(odd, "test", "train"))
    with pytest.raises(LeakError):
        fit(features, segments, QUICK, progress=False)


@both_backends
def test_train_restores_the_best_weights_after_early_stopping(small_corpus, home):
    recipe = dataclasses.replace(QUICK, epochs=40, patience=1, learning_rate=0.05)
    run = trained(small_corpus, home / "early", recipe)
    assert len(run.history) < 40
    assert run.card["best_epoch"] == run.history["val_loss"].argmin()
    validation = run.predictions.query("split == 'validation'")
    accuracy = (validation["predicted"] == validation["genre"]).mean()
    assert accuracy == pytest.approx(run.history["val_accuracy"].iloc[run.card["best_epoch"]])


def test_card_has_the_validation_accuracy_of_the_best_epoch(run, small_corpus, features):
    history = run.history.assign(val_accuracy=[0.1, 0.6, 0.9, 0.4])
    fitted = Fitted(run.model, np.empty(0), history, 1)
    corpus = Corpus.read(small_corpus)
    card = make_card(corpus, features, run.segments, QUICK, fitted)
    assert (card["best_epoch"], card["validation_accuracy"]) == (1, 0.6)


def test_train_takes_names_and_a_path_and_uses_the_preset(small_corpus, home):
    run = train(small_corpus, "compact_cnn", jobs=1, progress=False, epochs=1)
    assert run.folder == home / "models" / "small" / "compact_cnn-default-epochs-1"
    assert run.name == run.folder.name
    assert run.recipe == Recipe.preset("default", "compact_cnn", epochs=1)
    assert run.front_end == FrontEnd.preset("default")
    assert run.card["synthetic"] is False


def test_train_marks_a_corpus_of_synthetic_music(small_corpus, home):
    corpus = Corpus.read(small_corpus)
    corpus = dataclasses.replace(corpus, tracks=corpus.tracks.assign(source="Synthetic demo"))
    assert trained(corpus, home / "synthetic", epochs=1).card["synthetic"] is True


def build_own(input_shape, n_classes, units=4):
    inputs = keras.Input(input_shape)
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(x))


@both_backends
def test_train_takes_the_users_own_builder(small_corpus, home):
    """A model without a convolution is saved, loaded and not trained again."""
    options = {"front_end": SMALL, "jobs": 1, "progress": False, "epochs": 1}
    run = train(small_corpus, build_own, **options)
    assert run.name == "build_own-default-epochs-1-hop_length-4096-n_mels-80"
    assert run.recipe.model == "build_own"
    probabilities = run.predict_log_mels(np.zeros((1, *SMALL.shape)))
    assert probabilities.sum() == pytest.approx(1)
    assert len(run.first_layer[1]) == 0
    again = train(small_corpus, build_own, **options)
    assert again.card["created"] == run.card["created"]
    assert again.card["uid"] == run.card["uid"]

    def build_own_wider(input_shape, n_classes):
        return build_own(input_shape, n_classes, units=5)

    build_own_wider.__name__ = "build_own"
    wider = train(small_corpus, build_own_wider, **options)
    assert wider.folder == run.folder
    assert wider.card["uid"] != run.card["uid"]


def test_train_refuses_a_builder_with_the_name_of_a_model(small_corpus, home):
    def cnn(input_shape, n_classes):
        return build_own(input_shape, n_classes)

    with pytest.raises(ValueError, match="'cnn' is the name of a model of genrecls"):
        train(small_corpus, cnn)


def test_train_does_not_save_a_training_that_has_diverged(small_corpus, home):
    options = {"front_end": SMALL, "jobs": 1, "progress": False, "epochs": 1, "optimizer": "sgd"}
    with pytest.raises(ModelError, match="diverged.*lower learning_rate"):
        train(small_corpus, build_own, learning_rate=1e30, warm_up=None, **options)
    assert not list(home.glob("models/*/*"))


def test_train_does_not_replace_anything_but_a_run(small_corpus, home):
    (home / "mine").mkdir()
    (home / "mine" / "index.json").write_text("{}")  # as of a web site
    with pytest.raises(ModelError, match="contains other files; name a new or an empty folder"):
        train(small_corpus, "cnn", folder=home / "mine", progress=False)
    assert [path.name for path in (home / "mine").iterdir()] == ["index.json"]


def test_train_refuses_a_folder_that_cannot_be_written_before_the_training(
    small_corpus, home, monkeypatch
):
    (home / "file").touch()
    monkeypatch.setattr("genrecls.training.run.fit", None)  # calling it would fail
    with pytest.raises(GenreclsError, match="cannot be written .*get the right to write there"):
        trained(small_corpus, home / "file" / "run")


def test_train_writes_a_missing_model_card_again(run, small_corpus):
    text = (run.folder / "README.md").read_text(encoding="utf-8")
    assert f"# {run.name}\n" in text
    (run.folder / "README.md").unlink()
    trained(small_corpus, run.folder)
    assert (run.folder / "README.md").read_text(encoding="utf-8") == text
