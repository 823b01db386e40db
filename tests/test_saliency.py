"""Saliency maps under the Keras backend in use, like ``tests/test_models.py``."""

import dataclasses
import functools

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import GENRES

from genrecls import Corpus, FrontEnd, GenreClassifier, build_musicnn, prepare
from genrecls.config import BACKBONES
from genrecls.features.extraction import extract_log_mels
from genrecls.inspection import saliency
from genrecls.models import BUILDERS, Image

DEFAULT = FrontEnd.preset("default")
WIDTH = 100  # frames, enough for every model
pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def run(bundle):
    return GenreClassifier.load(bundle)


@pytest.fixture(scope="module")
def segment(run, music):
    return extract_log_mels(music / "rap_test" / "rap 90 - Same Title.wav", run.front_end)[0][0]


def untrained(name):
    keras.utils.set_random_seed(0)
    if name == "musicnn":
        return build_musicnn((96, 938, 1), 4)
    options = {"weights": None} if name in BACKBONES else {}
    return BUILDERS[name]((128, WIDTH, 1), 4, image=Image.from_front_end(DEFAULT), **options)


def mark_if_slow(name):
    """Mark the models that take two minutes with PyTorch."""
    slow = keras.backend.backend() == "torch" and name in BACKBONES
    return pytest.param(name, marks=[pytest.mark.slow] if slow else [])


NETS = sorted(BUILDERS.keys() - {"efficientnet_lite0_frozen"})  # which is efficientnet_lite0


@pytest.mark.parametrize("name", [mark_if_slow(name) for name in NETS])
def test_maps_of_every_model_are_finite_and_depend_on_its_weights(name, segment, rng):
    model, segment = untrained(name), segment[:, :WIDTH]
    if name == "musicnn":
        segment = rng.normal(-20, 10, (96, 938))
    activations = saliency.first_layer_activations(model, segment)
    assert activations.ndim == 3
    assert np.isfinite(activations).all()
    coarse = functools.partial(saliency.occlusion, patches=(2, 3))
    # Grad-CAM of one genre may be all 0.
    methods = ((saliency.grad_cam, range(2)), (coarse, [0]))

    def draw():
        return [np.stack([method(model, segment, g) for g in genres]) for method, genres in methods]

    before = draw()
    # Copying the largest net would take as long as building it.
    model.set_weights([rng.permuted(w.ravel()).reshape(w.shape) for w in model.get_weights()])
    for maps, shuffled in zip(before, draw(), strict=True):
        assert maps.ndim == 3
        assert np.isfinite(maps).all()
        assert np.ptp(maps) > 0
        assert not np.allclose(maps, shuffled, rtol=0.1, atol=1e-3 * np.abs(maps).max())


def test_maps_of_musicnn_join_the_patches_of_a_segment(rng):
    model, segment = untrained("musicnn"), rng.normal(-20, 10, (96, 938))
    maps = saliency.first_layer_activations(model, segment)
    assert maps.shape == (204, 59, 5 * 187)
    segment[:, 2 * 187 : 3 * 187] += 10  # the third patch
    changed = np.abs(saliency.first_layer_activations(model, segment) - maps).max(axis=(0, 1))
    assert np.flatnonzero(changed).tolist() == [*range(2 * 187, 3 * 187)]


def test_sanity_check_of_a_trained_model_finds_no_high_correlation(run, segment, monkeypatch):
    randomize, checks = saliency._randomize_weights, []
    for seed in range(4):
        shuffled = randomize(run.model, seed)
        monkeypatch.setattr(saliency, "_randomize_weights", lambda *_, new=shuffled: new)
        checks.append(saliency.sanity_check(run.model, segment))
    table = pd.concat([t.set_index("map")["rank correlation"] for t in checks], axis=1)
    assert list(table.index) == ["Grad-CAM", "occlusion"]
    # The map of some random models is constant. Maps of the input alone would correlate.
    assert table.notna().any(axis=1).all()
    assert not (table.iloc[:, 0].abs() > 0.6).any()
    assert (table.abs().mean(axis=1) < 0.6).all()


def test_randomize_weights_shuffles_a_copy(run):
    before = run.model.get_weights()
    shuffled = saliency._randomize_weights(run.model, 0).get_weights()
    for weights, unchanged, other in zip(run.model.get_weights(), before, shuffled, strict=True):
        np.testing.assert_array_equal(weights, unchanged)
        np.testing.assert_array_equal(np.sort(weights, axis=None), np.sort(other, axis=None))
    assert any((a != b).any() for a, b in zip(before, shuffled, strict=True))


def test_grad_cam_of_a_model_with_mean_pooling_is_its_class_activation_map(run, segment):
    """Its weights are then those of the dense layer (Zhou et al. 2016) over the size of a map."""
    model = run.model
    pooled = keras.Model(model.inputs[0], model.get_layer("pool").input)
    maps = pooled.predict_on_batch(segment[None, ..., None].astype(np.float32))[0]
    kernel = model.get_layer("genre").get_weights()[0]
    for genre in range(len(GENRES)):
        expected = np.maximum(maps @ kernel[:, genre], 0) / (maps.shape[0] * maps.shape[1])
        np.testing.assert_allclose(saliency.grad_cam(model, segment, genre), expected, atol=1e-5)


def test_occlusion_finds_the_only_place_that_matters():
    inputs = keras.Input((8, 30, 1))
    x = keras.layers.Cropping2D(((2, 5), (10, 18)))(inputs)  # row 2, columns 10 and 11
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    model.layers[-1].set_weights([np.array([[0, 1], [0, 1]], float), np.zeros(2)])
    segment = np.zeros((8, 30))
    segment[2, 10:12] = 50
    falls = saliency.occlusion(model, segment, 1, patches=(8, 15))
    assert np.argwhere(falls).tolist() == [[2, 5]]
    # The probability is 1 with and without the patch; only the log odds change.
    assert falls[2, 5] == pytest.approx(100 - 2 * segment.mean(), rel=1e-4)
    assert (saliency.occlusion(model, segment, 0, patches=(8, 15)) == -falls).all()


def test_maps_explain_the_predicted_genre_by_default(run, segment):
    predicted = int(run.predict_log_mels(segment[None]).argmax())
    for method in saliency.SALIENCY_METHODS.values():
        default, chosen = method(run.model, segment), method(run.model, segment, predicted)
        np.testing.assert_array_equal(default, chosen)


def test_unsuitable_models_and_segments_are_refused(run):
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    dense = keras.Sequential(layers)
    with pytest.raises(ValueError, match="has no 2-D convolution"):
        saliency.first_layer_activations(dense, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="has no layer with height and width"):
        saliency.grad_cam(dense, np.zeros((4, 4)), 0)
    convolution = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 2)])
    for method in saliency.SALIENCY_METHODS.values():
        with pytest.raises(ValueError, match="does not end in a dense layer"):
            method(convolution, np.zeros((4, 4)), 0)
    for method in (saliency.first_layer_activations, *saliency.SALIENCY_METHODS.values()):
        for wrong in ((4, 4), (128,)):
            with pytest.raises(ValueError, match="takes segments of shape"):
                method(run.model, np.zeros(wrong))


def test_channel_segments_have_the_largest_and_smallest_mean_activations(run, music, monkeypatch):
    monkeypatch.setenv("GENRECLS_HOME", str(run.folder.parents[2]))
    features = prepare(Corpus.read(music), run.front_end, jobs=1, progress=False)
    segments = features.segments.assign(rank=0)  # a table of tracks may have any columns
    features = dataclasses.replace(features, segments=segments)
    table = saliency.channel_segments(run, features, n=2)
    assert table.groupby("channel").size().eq(4).all()
    assert {"path", "segment", "start_s", "genre", "split"} <= set(table)
    convolution = keras.Model(run.model.inputs[0], run.model.get_layer("conv_1").output)
    means = convolution.predict(features.log_mels(segments), verbose=0).mean(axis=(1, 2))
    for channel, rows in table.groupby("channel"):
        order = np.sort(means[:, channel - 1])
        activation = rows.set_index("rank").loc[[1, 2, -2, -1], "activation"]
        expected = [order[-1], order[-2], order[1], order[0]]
        np.testing.assert_allclose(activation, expected, atol=1e-4)
    original = dataclasses.replace(features, front_end=FrontEnd.preset("original"))
    with pytest.raises(ValueError, match="another front end"):
        saliency.channel_segments(run, original)
