"""Maps of what an answer rests on. Run under every Keras backend, as ``tests/test_models.py``."""

import functools

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import GENRES

from genrecls import Corpus, FrontEnd, GenreClassifier, prepare
from genrecls.config import BACKBONES
from genrecls.features.extraction import track_log_mels
from genrecls.inspection import saliency
from genrecls.models import BUILDERS, Image

DEFAULT = FrontEnd.preset("default")


@pytest.fixture(scope="module")
def run(bundle):
    return GenreClassifier.load(bundle)


@pytest.fixture(scope="module")
def segment(run, music):
    return track_log_mels(music / "rap_test" / "rap 90 - Same Title.wav", run.front_end)[0][0]


def untrained(name):
    options = {"weights": None} if name in BACKBONES else {}
    keras.utils.set_random_seed(0)
    return BUILDERS[name]((128, 323, 1), 4, image=Image.of(DEFAULT), **options)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_maps_of_every_net_cover_the_segment_and_change_with_its_weights(name, segment):
    if keras.backend.backend() == "torch" and name in BACKBONES:
        pytest.skip("takes two minutes with PyTorch; it passed on 2026-11-24")
    model = untrained(name)
    activations = saliency.first_layer_activations(model, segment)
    assert activations.ndim == 3 and np.isfinite(activations).all()
    coarse = functools.partial(saliency.occlusion, patches=(2, 3))
    genres = range(2 if name == "inception_resnet_v2" else 4)  # Grad-CAM of one may be all 0
    for map_of in (saliency.grad_cam, coarse):
        found, other = (
            np.stack([map_of(m, segment, genre) for genre in genres])
            for m in (model, saliency.randomize_weights(model))
        )
        assert found.ndim == 3 and np.isfinite(found).all() and np.ptp(found) > 0
        assert not np.allclose(found, other, rtol=0.1, atol=1e-3 * np.abs(found).max())


def test_the_maps_of_a_trained_net_are_not_those_of_a_random_one(run, segment):
    found = [saliency.sanity_check(run.model, segment, random_seed=seed) for seed in range(4)]
    table = pd.concat([t.set_index("map")["rank correlation"] for t in found], axis=1)
    assert list(table.index) == ["Grad-CAM", "occlusion"]
    # Some random net has nothing to say for the genre. Two images of the input alone would agree.
    assert table.notna().any(axis=1).all()
    assert not (table.iloc[:, 0].abs() > 0.6).any()
    assert (table.abs().mean(axis=1) < 0.6).all()
    before = run.model.get_weights()
    saliency.randomize_weights(run.model)
    for ours, theirs in zip(run.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_grad_cam_of_a_net_that_ends_in_a_mean_is_the_class_activation_map(run, segment):
    """There its weights are those of the dense layer (Zhou et al. 2016), over the size of a map."""
    model = run.model
    maps_of = keras.Model(model.inputs[0], model.get_layer("pool").input)
    maps = maps_of.predict_on_batch(segment[None, ..., None].astype(np.float32))[0]
    kernel = model.get_layer("genre").get_weights()[0]
    for genre in range(len(GENRES)):
        by_hand = np.maximum(maps @ kernel[:, genre], 0) / (maps.shape[0] * maps.shape[1])
        np.testing.assert_allclose(saliency.grad_cam(model, segment, genre), by_hand, atol=1e-5)


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
    # The probability is 1 with and without; its logarithm of the odds knows.
    assert falls[2, 5] == pytest.approx(100 - 2 * segment.mean(), rel=1e-4)
    assert (saliency.occlusion(model, segment, 0, patches=(8, 15)) == -falls).all()


def test_maps_are_of_the_predicted_genre_unless_another_is_asked_for(run, segment):
    predicted = int(run.predict_log_mels(segment[None]).argmax())
    for map_of in saliency.SALIENCY_METHODS.values():
        np.testing.assert_array_equal(map_of(run.model, segment), map_of(run.model, segment, predicted))


def test_a_model_without_maps_or_of_another_shape_is_refused(run):
    dense = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
                              keras.layers.Dense(2)])  # fmt: skip
    with pytest.raises(ValueError, match="has no maps"):
        saliency.grad_cam(dense, np.zeros((4, 4)), 0)
    convolution = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 2)])
    for map_of in saliency.SALIENCY_METHODS.values():
        with pytest.raises(ValueError, match="no dense layer at its end"):
            map_of(convolution, np.zeros((4, 4)), 0)
        with pytest.raises(ValueError, match="takes segments of shape"):
            map_of(run.model, np.zeros((4, 4)))


def test_strongest_and_weakest_segments_are_those_with_the_largest_and_smallest_maps(
    run, music, home
):
    features = prepare(Corpus.read(music), run.front_end, jobs=1, progress=False)
    table = saliency.channel_segments(run, features, n=2)
    assert table.groupby("channel").size().eq(4).all()
    assert {"path", "segment", "start_s", "genre", "split"} <= set(table)
    segments = features.segments
    model = run.model
    means = np.array(
        [saliency.first_layer_activations(model, m).mean(axis=(1, 2))
         for m in features.log_mels(segments)]
    )  # fmt: skip
    for channel, rows in table.groupby("channel"):
        order = np.sort(means[:, channel - 1])
        np.testing.assert_allclose(
            rows.set_index("rank").loc[[1, 2, -2, -1], "activation"],
            [order[-1], order[-2], order[1], order[0]], atol=1e-4,
        )  # fmt: skip
    seed = prepare(Corpus.read(music), FrontEnd.preset("original"), jobs=1, progress=False)
    with pytest.raises(ValueError, match="another front end"):
        saliency.channel_segments(run, seed)
