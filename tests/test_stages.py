"""Training in stages; what depends on the Keras backend is marked to run under both."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from unittest.mock import Mock

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import build_tiny, write_corpus
from filelock import FileLock

from genrecls import Corpus, FrontEnd, Recipe, build_efficientnet_lite0, prepare, train
from genrecls.corpus.splits import assign_splits
from genrecls.models import BUILDERS, backbone_end, split_at
from genrecls.training import backbone_outputs, stages
from genrecls.training.stages import fit

SMALL = FrontEnd(n_mels=80, hop_length=4096)
PRETRAINED = Recipe.preset(
    "default",
    "efficientnet_lite0",
    epochs=3,
    fine_tune_after="block_14",
    fine_tune_epochs=2,
    patience=None,
)
RANDOM = dataclasses.replace(PRETRAINED, weights=None)
OUTPUTS = "data/backbone_outputs-*/*/outputs.npy"
pytestmark = pytest.mark.usefixtures("home")
both_backends = pytest.mark.backend


@pytest.fixture(scope="module")
def features(small_corpus, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(tmp_path_factory.mktemp("features")))
        return prepare(Corpus.read(small_corpus), SMALL, jobs=1, progress=False)


@pytest.fixture(scope="module")
def net():
    return build_efficientnet_lite0((64, 64, 3), 3)


@pytest.fixture(scope="module")
def reference(features, tmp_path_factory):
    """Return what runs without an interruption give."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(tmp_path_factory.mktemp("reference")))
        return {recipe: fitted(features, recipe) for recipe in (PRETRAINED, RANDOM)}


@pytest.fixture
def tiny(monkeypatch):
    """Train a tiny net, where a test is not about the net."""
    monkeypatch.setitem(BUILDERS, "efficientnet_lite0", build_tiny)


@pytest.fixture(scope="module")
def tiny_reference(features, tmp_path_factory):
    """Return what runs of the tiny net without an interruption give."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(tmp_path_factory.mktemp("tiny")))
        patch.setitem(BUILDERS, "efficientnet_lite0", build_tiny)
        return {recipe: fitted(features, recipe) for recipe in (PRETRAINED, RANDOM)}


def fitted(features, recipe, **options):
    segments = assign_splits(features.segments, split_by="artist")
    return fit(features, segments, recipe, progress=False, **options)


def held_out(features):
    segments = assign_splits(features.segments, split_by="artist")
    return features.log_mels(segments[segments["split"] != "train"])


def weights_of(model, *names):
    return {name: [w.copy() for w in model.get_layer(name).get_weights()] for name in names}


@both_backends
def test_split_at_gives_parts_that_are_the_model(net, rng):
    backbone, head = split_at(net, backbone_end(net))
    lower, upper = split_at(backbone, "block_12")
    assert lower.output.shape == upper.input.shape == (None, 2, 2, 192)
    assert backbone.output.shape == head.input.shape == (None, 2, 2, 1280)
    x = rng.random((2, 64, 64, 3), np.float32)
    in_steps = keras.ops.convert_to_numpy(head(upper(lower(x))))
    np.testing.assert_allclose(in_steps, net.predict_on_batch(x), atol=1e-5)
    assert upper.layers[-1] is net.get_layer("head_relu")


def test_split_at_refuses_an_unknown_layer(net):
    with pytest.raises(ValueError, match="no layer 'no_such_layer'"):
        split_at(net, "no_such_layer")


def test_split_at_refuses_a_cut_that_layers_pass_by(net):
    # Block 12 adds its input to what comes out here.
    with pytest.raises(ValueError, match="a connection bypasses this layer"):
        split_at(net, "block_12_expand_relu")


@both_backends
@pytest.mark.parametrize("recipe", [PRETRAINED, RANDOM], ids=["imagenet", "random"])
def test_fit_in_stages_gives_a_whole_model_with_the_same_predictions(
    features, reference, recipe, tmp_path
):
    found = reference[recipe]
    assert found.history["stage"].tolist() == [1, 1, 1, 2, 2]
    assert found.history["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert found.history["time_s"].is_monotonic_increasing
    found.model.save(tmp_path / "whole.keras")
    whole = keras.saving.load_model(tmp_path / "whole.keras", safe_mode=True, compile=False)
    x = held_out(features)
    np.testing.assert_allclose(whole.predict(x, verbose=0), found.probabilities, atol=1e-4)


@both_backends
def test_stage_2_trains_the_upper_blocks_but_not_their_batch_norm(features, reference):
    frozen = ("stem_conv", "block_14_expand_conv", "block_15_depthwise_norm", "head_norm")
    trained = ("block_15_depthwise_conv", "head_conv")
    before = build_efficientnet_lite0((*SMALL.shape, 3), 2, weights="imagenet")
    after = reference[PRETRAINED].model
    first = fitted(features, dataclasses.replace(PRETRAINED, fine_tune_after=None)).model
    for name in (*frozen, *trained):
        ours, theirs = after.get_layer(name).get_weights(), before.get_layer(name).get_weights()
        assert len(ours) > 0
        same = all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert same == (name in frozen), name
        only_head = first.get_layer(name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(only_head, theirs, strict=True)), name


def test_outputs_of_a_pretrained_backbone_are_computed_once(tiny, features, home, monkeypatch):
    fitted(features, PRETRAINED)
    files = sorted(home.glob(OUTPUTS))
    tracks = features.segments["sha256"].nunique()
    assert len(files) == 2 * tracks
    times = [file.stat().st_mtime_ns for file in files]

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(backbone_outputs, "_predict", refuse)
    fitted(features, dataclasses.replace(PRETRAINED, random_seed=1, epochs=1, head="flatten"))
    assert [file.stat().st_mtime_ns for file in files] == times
    with pytest.raises(AssertionError, match="computed again"):
        fitted(features, dataclasses.replace(PRETRAINED, fine_tune_after="block_10"))
    with pytest.raises(AssertionError, match="computed again"):
        fitted(features, dataclasses.replace(PRETRAINED, input_range=(0.0, 1.0)))
    with pytest.raises(AssertionError, match="computed again"):
        fitted(features, RANDOM)


def test_outputs_are_computed_in_batches_that_hold_no_whole_tracks(home, rng):
    lengths = {"a": 3, "b": 8, "c": 21}
    tracks = {name: rng.normal(size=(n, 4, 5, 1)) for name, n in lengths.items()}
    complete = []

    def load(name):
        complete.append((name, len(list(home.glob(OUTPUTS)))))
        return tracks[name]

    model = Mock(predict_on_batch=Mock(side_effect=lambda x: x.mean(axis=(1, 2))))
    outputs = backbone_outputs.cache_outputs(model, load, "uid", [*lengths], progress=False)
    assert ("c", 1) in complete  # the first track is complete before the third one is read
    batches = [call.args[0] for call in model.predict_on_batch.call_args_list]
    assert [batch.shape for batch in batches] == [(8, 4, 5, 1)] * 4
    for name, track in tracks.items():
        np.testing.assert_allclose(outputs(name), track.mean(axis=(1, 2)), rtol=1e-5)


@both_backends
def test_random_backbone_gets_batch_norm_statistics_of_its_data(reference):
    norm = reference[RANDOM].model.get_layer("stem_norm")
    mean, variance = map(keras.ops.convert_to_numpy, (norm.moving_mean, norm.moving_variance))
    assert (mean != 0).all()  # the initial values are 0 and 1
    assert (variance != 1).all()
    assert np.isfinite(variance).all()


def test_random_backbone_gets_statistics_of_training_segments_only(features, monkeypatch):
    seen = []
    given = Mock(front_end=SMALL, log_mels=lambda rows: seen.extend(rows["split"]))
    # The batches are computed as they are used.
    monkeypatch.setattr(backbone_outputs, "calibrate_batch_norm", lambda _, batches: [*batches])
    segments = assign_splits(features.segments, split_by="artist")
    backbone_outputs.calibrate_backbone(Mock(), given, segments, RANDOM)
    assert set(seen) == {"train"}


def test_two_runs_on_one_random_backbone_wait_for_each_other(tiny, features, home, tiny_reference):
    found = []

    def run(epochs):
        found.append(fitted(features, dataclasses.replace(RANDOM, epochs=epochs)).probabilities)

    fitted(features, dataclasses.replace(RANDOM, epochs=1))
    assert not list(home.glob(OUTPUTS))  # those of a random backbone are deleted
    lock = next(home.glob("data/backbone_outputs-*/*.lock"))
    waiting = threading.Thread(target=run, args=(RANDOM.epochs,))
    with FileLock(lock):
        waiting.start()
        waiting.join(timeout=5)
        assert waiting.is_alive()
        assert not list(home.glob(OUTPUTS))
    waiting.join()
    np.testing.assert_allclose(found[0], tiny_reference[RANDOM].probabilities, atol=1e-5)


def test_other_pretrained_weights_have_other_outputs(tiny, features, home, tmp_path):
    backbone = split_at(build_tiny((*SMALL.shape, 3), 2), "block_15")[0]
    backbone.save_weights(tmp_path / "mine.weights.h5")
    for weights in ("imagenet", str(tmp_path / "mine.weights.h5")):
        recipe = dataclasses.replace(PRETRAINED, weights=weights, fine_tune_after=None)
        fitted(features, recipe)
    tracks = features.segments["sha256"].nunique()
    assert len(list(home.glob(OUTPUTS))) == 2 * tracks


@both_backends
def test_a_worse_second_stage_is_undone(tiny, features):
    recipe = dataclasses.replace(PRETRAINED, patience=5, epochs=5)
    only_first = fitted(features, dataclasses.replace(recipe, fine_tune_after=None))
    spoilt = fitted(features, dataclasses.replace(recipe, fine_tune_rate=100.0))
    assert spoilt.history["stage"].tolist() == [1] * 5 + [2] * 2
    assert spoilt.best_epoch == only_first.best_epoch < 5
    np.testing.assert_allclose(spoilt.probabilities, only_first.probabilities, atol=1e-4)
    again = spoilt.model.predict(held_out(features), verbose=0)
    np.testing.assert_allclose(spoilt.probabilities, again, atol=1e-4)


class Killed(BaseException):
    """An interruption that the package does not catch."""


@pytest.mark.parametrize(
    ("where", "recipe"),
    [
        ("upper", RANDOM),
        ("stage 2", RANDOM),
        ("stage 2", PRETRAINED),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.weights),
)
def test_an_interrupted_run_continues_to_the_same_result(
    tiny, features, recipe, where, tiny_reference, monkeypatch, home
):
    predict = backbone_outputs._predict

    def killed_before_the_upper_blocks(model, x):
        if model.name == "above":
            raise Killed
        return predict(model, x)

    class Kill(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1
            if where == "stage 2" and self.epochs == 4:
                raise Killed

    with monkeypatch.context() as patch:
        if where == "upper":
            patch.setattr(backbone_outputs, "_predict", killed_before_the_upper_blocks)
        with pytest.raises(Killed):
            fitted(features, recipe, callbacks=[Kill()])
    left = {file: file.stat().st_mtime_ns for file in home.glob(OUTPUTS)}
    assert len(left) >= 2
    assert not list(home.glob("data/backbone_outputs-*/.*"))
    kept = []

    def keep_state(model, load, segments):
        kept.append({file: file.stat().st_mtime_ns for file in left})
        return predict_held_out(model, load, segments)

    predict_held_out = stages.predict_held_out
    monkeypatch.setattr(stages, "predict_held_out", keep_state)
    again = fitted(features, recipe)
    assert kept == [left]  # finished outputs are not computed again
    expected = tiny_reference[recipe].probabilities
    np.testing.assert_allclose(again.probabilities, expected, atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_process_continues_to_the_same_result(
    small_corpus, tiny_reference, home, tmp_path
):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, dataclasses\n"
        f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_stages import BUILDERS, RANDOM, SMALL, build_tiny\n"
        "from genrecls import train\n"
        "BUILDERS['efficientnet_lite0'] = build_tiny\n"
        f"train({str(small_corpus)!r}, RANDOM, front_end=SMALL, name='run', jobs=1,\n"
        "      progress=False)\n"
    )

    command = [sys.executable, str(script)]
    process = subprocess.Popen(command)
    while process.poll() is None and len(list(home.glob(OUTPUTS))) < 4:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(home.glob("models/*/run/card.json"))
    subprocess.run(command, check=True)
    found = pd.read_parquet(next(home.glob("models/*/run/predictions.parquet")))
    expected = tiny_reference[RANDOM].probabilities
    np.testing.assert_allclose(found[["prob_classique", "prob_rap"]], expected, atol=1e-5)


@pytest.mark.slow
def test_three_genres_in_two_stages(tmp_path):
    genres = ("a", "b", "c")
    corpus = write_corpus(tmp_path / "three", genres=genres, artists=2, seconds=16.0)
    options = {"front_end": SMALL, "jobs": 1, "progress": False}
    run = train(corpus, PRETRAINED, name="three", **options)
    assert run.genres == list(genres)
    assert run.card["weights"] == "imagenet"
    assert run.first_layer[1].shape[0] == 32
    some = run.predictions.head(4)
    again = run.predict_log_mels(
        prepare(corpus, SMALL, jobs=1, progress=False).log_mels(some)[..., 0]
    )
    np.testing.assert_allclose(again, some[[f"prob_{g}" for g in genres]], atol=1e-4)
