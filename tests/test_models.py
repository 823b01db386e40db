"""Run under every Keras backend: ``KERAS_BACKEND=torch pytest tests/test_models.py``."""

import http.server
import threading

import keras
import numpy as np
import pytest

from genrecls import (
    FrontEnd,
    build_cnn,
    build_compact_cnn,
    build_inception_resnet_v2,
    first_layer_activations,
    mel_spectrogram,
    to_image,
)
from genrecls.models import (
    Picture,
    WeightsError,
    calibrate_batch_norm,
    find_imagenet_weights,
    split_trunk,
    weights,
)

SEED, DEFAULT = FrontEnd.preset("seed"), FrontEnd.preset("default")


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
    picture = rng.random((1, 128, 320, 3), np.float32)
    # Repeated four times the mean over time stays what it was, but for the edges.
    once, often = (model.predict_on_batch(np.tile(picture, (1, 1, n, 1))) for n in (1, 4))
    np.testing.assert_allclose(once, often, atol=0.02)


@pytest.mark.parametrize("build", [build_cnn, build_compact_cnn, build_inception_resnet_v2])
def test_other_inputs_and_numbers_of_genres(build, rng):
    model = build((96, 100, 3), 10)
    probabilities = model.predict_on_batch(rng.random((2, 96, 100, 3), np.float32))
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("front_end", [SEED, DEFAULT], ids=["seed", "default"])
def test_the_picture_layer_is_to_image(front_end, rng):
    y = rng.normal(0, 0.1, front_end.segment_samples)
    levels = mel_spectrogram(y, front_end)
    layer = Picture.of(front_end, (-1.0, 1.0))
    drawn = keras.ops.convert_to_numpy(layer(levels[None, ..., None]))[0]
    np.testing.assert_allclose(drawn, 2 * to_image(levels, front_end) - 1, atol=1e-5)


def test_a_model_with_a_picture_layer_keeps_its_parameters_and_survives_saving(tmp_path, rng):
    model = build_cnn((400, 162, 1), 2, picture=Picture.of(SEED))
    assert model.count_params() == 845_218
    x = rng.uniform(-5, 8, (2, 400, 162, 1)).astype(np.float32)
    before = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict_on_batch(x), before)


def test_trunk_and_head_are_the_model(rng):
    model = build_inception_resnet_v2((80, 96, 1), 3, picture=Picture.of(DEFAULT, (-1, 1)))
    trunk, head = split_trunk(model)
    x = rng.uniform(-80, 0, (2, 80, 96, 1)).astype(np.float32)
    in_steps = head.predict_on_batch(trunk.predict_on_batch(x))
    np.testing.assert_allclose(in_steps, model.predict_on_batch(x), atol=1e-4)
    trunk.trainable = False
    assert trainable(model) == trainable(head)


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


def test_first_layer_activations_of_the_seed_picture_are_80_by_33(rng):
    model = build_cnn((400, 162, 1), 2, picture=Picture.of(SEED))
    assert first_layer_activations(model, rng.random((400, 162))).shape == (10, 80, 33)


def test_activations_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="takes pieces of shape"):
        first_layer_activations(build_cnn((40, 30, 3), 2), np.zeros((30, 40, 3)))
    with pytest.raises(ValueError, match="no 2-D convolution"):
        first_layer_activations(
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), np.zeros(4)
        )


# Weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models" / weights.FILE


def test_a_file_with_wrong_content_is_refused_and_left_alone(cache):
    cache.write_bytes(b"not the weights")
    with pytest.raises(WeightsError, match=r"d19885ff4a710c122648d3b5c3b684e4.*left as it is"):
        build_inception_resnet_v2((80, 80, 3), 2, weights="imagenet")
    assert cache.read_bytes() == b"not the weights"


def test_a_verified_file_in_the_cache_of_keras_is_used(cache):
    cache.write_bytes(b"right")
    assert find_imagenet_weights(md5="7c4f29407893c334a6cb7a87bf045c0d") == cache


def test_weights_that_cannot_be_had_say_what_to_put_where(cache):
    with pytest.raises(WeightsError) as caught:
        find_imagenet_weights(url="http://127.0.0.1:9/none.h5")
    for part in (weights.FILE, weights.MD5, "219,055,592", "models/weights", "weights=None"):
        assert part in str(caught.value)


def test_a_missing_weights_path_says_so(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        build_inception_resnet_v2((80, 80, 3), 2, weights=tmp_path / "none.h5")


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "right.h5").write_bytes(b"right")
    (folder / "wrong.h5").write_bytes(b"garbage")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_a_download_is_verified(cache, server):
    md5 = "7c4f29407893c334a6cb7a87bf045c0d"
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        find_imagenet_weights(f"{server}/wrong.h5", md5)
    with pytest.raises(WeightsError, match="404"):
        find_imagenet_weights(f"{server}/none.h5", md5)
    file = find_imagenet_weights(f"{server}/right.h5", md5)
    assert file.read_bytes() == b"right" and file.name == weights.FILE
    assert find_imagenet_weights("http://127.0.0.1:9/gone.h5", md5) == file


def test_weights_of_a_path_are_loaded(tmp_path, inception):
    trunk = keras.applications.InceptionResNetV2(
        include_top=False, weights=None, input_shape=(80, 80, 3)
    )
    trunk.save_weights(tmp_path / "trunk.weights.h5")
    model = build_inception_resnet_v2((80, 80, 3), 2, weights=tmp_path / "trunk.weights.h5")
    ours, theirs = split_trunk(model)[0].get_weights()[0], trunk.get_weights()[0]
    np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(ours, inception.get_weights()[0])
