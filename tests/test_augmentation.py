"""Run under every Keras backend, as ``tests/test_models.py``."""

import keras
import numpy as np
import pandas as pd
import pytest

from genrecls import FrontEnd, Recipe, build_cnn, build_compact_cnn
from genrecls.models import Image
from genrecls.training.augmentation import (
    FrequencyMask,
    Gain,
    Mixup,
    RandomCrop,
    TimeMask,
    TimeShift,
    augmented_model,
)
from genrecls.training.loop import fit_model

EVERYTHING = dict(
    crop=40, mixup=0.5, time_mask=5, frequency_mask=4, gain_db=3.0, time_shift=True, warm_up=None
)
ALL = Recipe.preset("default", "compact_cnn", **EVERYTHING)
LAYERS = {
    "shift": lambda **seed: TimeShift(**seed),
    "crop": lambda **seed: RandomCrop(20, **seed),
    "gain": lambda **seed: Gain(6.0, **seed),
    "mixup": lambda **seed: Mixup(0.5, **seed),
    "time": lambda **seed: TimeMask(9, **seed),
    "frequency": lambda **seed: FrequencyMask(3, **seed),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


def log_mels(rng, segments=12, bands=8, frames=50):
    return rng.uniform(-80, 0, (segments, bands, frames, 1)).astype(np.float32)


def changed(layer, *inputs, training=True):
    """What a layer makes of log-mels (and targets), as a list of arrays."""
    out = layer(list(inputs) if isinstance(layer, Mixup) else inputs[0], training=training)
    return [keras.ops.convert_to_numpy(o) for o in (out if isinstance(out, list) else [out])]


@EVERY_LAYER
def test_nothing_is_changed_out_of_training(name, rng):
    inputs = log_mels(rng), np.eye(12, dtype=np.float32)
    for training in (False, None):
        same = changed(LAYERS[name](random_seed=0), *inputs, training=training)
        for before, after in zip(inputs, same, strict=False):
            np.testing.assert_array_equal(after, before)


@EVERY_LAYER
def test_a_seed_tells_what_is_drawn_and_every_call_draws_anew(name, rng):
    inputs = log_mels(rng), np.eye(12, dtype=np.float32)
    first, second = LAYERS[name](random_seed=3), LAYERS[name](random_seed=3)
    again = keras.layers.deserialize(keras.layers.serialize(first))
    assert type(again) is type(first) and again.get_config() == first.get_config()
    drawn = changed(first, *inputs)[0]
    np.testing.assert_array_equal(changed(second, *inputs)[0], drawn)
    np.testing.assert_array_equal(changed(again, *inputs)[0], drawn)
    assert not np.array_equal(changed(first, *inputs)[0], drawn)
    assert not np.array_equal(changed(LAYERS[name](random_seed=4), *inputs)[0], drawn)


def test_a_time_shift_is_a_rotation_of_every_segment(rng):
    segments = log_mels(rng, segments=30)
    (out,) = changed(TimeShift(random_seed=0), segments)
    shifts = [
        [s for s in range(50) if np.array_equal(np.roll(segment, s, axis=1), rotated)]
        for segment, rotated in zip(segments, out, strict=True)
    ]
    assert all(len(found) == 1 for found in shifts)
    assert len({found[0] for found in shifts}) > 10


def test_a_crop_is_the_same_stretch_of_every_segment(rng):
    segments = log_mels(rng)
    starts = set()
    layer = RandomCrop(48, random_seed=0)
    for _ in range(30):
        (part,) = changed(layer, segments)
        found = [s for s in range(3) if np.array_equal(part, segments[:, :, s : s + 48])]
        assert len(found) == 1
        starts.update(found)
    assert starts == {0, 1, 2}
    np.testing.assert_array_equal(changed(RandomCrop(99), segments)[0], segments)


def test_a_gain_is_one_number_a_segment(rng):
    segments = log_mels(rng, segments=200)
    (out,) = changed(Gain(6.0, random_seed=0), segments)
    gains = (out - segments).reshape(200, -1)
    np.testing.assert_allclose(gains, gains[:, :1].repeat(400, axis=1), atol=1e-4)
    assert -6 <= gains.min() < -5 and 5 < gains.max() <= 6


@pytest.mark.parametrize("layer, axis", [(TimeMask, 2), (FrequencyMask, 1)])
def test_a_mask_hides_neighbours_as_the_quietest_of_the_segment(layer, axis, rng):
    segments = log_mels(rng, segments=300)
    (out,) = changed(layer(3, random_seed=0), segments)
    quietest = segments.min(axis=(1, 2, 3), keepdims=True)
    hidden = (out != segments) | (segments == quietest)
    np.testing.assert_array_equal(out, np.where(hidden, quietest, segments))
    masked = hidden.all(axis=(3 - axis, 3))
    widths = masked.sum(axis=1)
    assert set(widths) == {0, 1, 2, 3}
    assert np.bincount(widths).min() > 50 and np.bincount(widths).max() < 100
    # A run has one beginning, and there are some at both ends.
    beginnings = masked & ~np.roll(masked, 1, axis=1)
    beginnings[:, 0] = masked[:, 0]
    assert (beginnings.sum(axis=1) == (widths > 0)).all()
    assert masked[:, 0].any() and masked[:, -1].any()
    # Apart from the mask, only the quietest itself is as quiet.
    assert (hidden & ~np.expand_dims(masked, (3 - axis, 3))).sum() <= 300


@pytest.mark.parametrize("layer, axis", [(TimeMask, 2), (FrequencyMask, 1)])
def test_a_mask_may_be_longer_than_the_segment(layer, axis, rng):
    segments = log_mels(rng, segments=100, bands=2, frames=2)
    (out,) = changed(layer(1000, random_seed=0), segments)
    quietest = segments.min(axis=(1, 2, 3), keepdims=True)
    widths = (out == quietest).all(axis=(3 - axis, 3)).sum(axis=1)
    assert set(widths) == {0, 1, 2}


def test_mixup_mixes_power_and_targets_in_the_same_shares(rng):
    segments = log_mels(rng)
    # With a genre for each segment, the targets tell who was mixed with whom, and how much of it.
    to_mono, shares = changed(Mixup(0.8, random_seed=0), segments, np.eye(12, dtype=np.float32))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert (np.diag(shares) >= 0.2 - 1e-6).all() and np.diag(shares).min() < 0.5
    assert (np.count_nonzero(shares, axis=1) <= 2).all()
    others = shares * (1 - np.eye(12))
    assert (np.count_nonzero(others, axis=0) <= 1).all()
    power = np.einsum("ij,jbtc->ibtc", shares.astype(float), 10 ** (segments.astype(float) / 10))
    np.testing.assert_allclose(to_mono, 10 * np.log10(power), atol=1e-3)


def test_mixup_of_sound_and_silence_is_finite():
    levels = np.repeat([-160.0, 60.0], 50).astype(np.float32)
    to_mono, _ = changed(Mixup(1.0, random_seed=0), levels[:, None, None, None], np.eye(100))
    assert np.isfinite(to_mono).all() and to_mono.min() >= -160.01 and to_mono.max() <= 60.01


# Models


def small_net(recipe=ALL, shape=(32, 64, 1), genres=3):
    build = {"cnn": build_cnn, "compact_cnn": build_compact_cnn}[recipe.model]
    return build(shape, genres, image=Image.of(FrontEnd()))


def layers_of(model, kind):
    return [layer for layer in model.layers if type(layer).__module__ == kind.__module__]


def test_a_recipe_asks_for_its_layers_alone_and_the_masks_come_last():
    in_order = ["TimeShift", "RandomCrop", "Gain", "Mixup", "TimeMask", "FrequencyMask"]
    model = augmented_model(small_net(), ALL)
    assert [type(layer).__name__ for layer in layers_of(model, Gain)] == in_order
    gain = Recipe.preset("default", "cnn", gain_db=3.0)
    assert [layer.db for layer in layers_of(augmented_model(small_net(), gain), Gain)] == [3.0]


def test_no_two_layers_of_a_model_draw_the_same(rng):
    layers = layers_of(augmented_model(small_net(), ALL), Gain)
    drawn = [
        float(keras.ops.convert_to_numpy(layer.draw(1, 1.0)).item())
        for layer in layers
        for _ in range(20)
    ]
    assert len(set(drawn)) == 6 * 20


def test_loss_and_accuracy_are_those_of_the_mixed_targets_with_the_weights_of_the_segments(rng):
    x, y = log_mels(rng), np.eye(3, dtype=np.float32)[rng.integers(3, size=12)]
    weights = rng.uniform(0, 3, 12).astype(np.float32)
    inputs = keras.Input((8, 50, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 80)(inputs))
    net = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(flat))
    recipe = Recipe.preset("default", "cnn", mixup=1.0, gain_db=6.0, time_mask=10)
    twin, model = (augmented_model(net, recipe) for _ in range(2))
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    p, to_mono = (keras.ops.convert_to_numpy(out) for out in twin([x, y], training=True))
    found = model.train_on_batch([x, y], y, sample_weight=weights, return_dict=True)
    expected = np.mean(weights * -np.sum(to_mono * np.log(p), axis=1))
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["accuracy"] == pytest.approx((p.argmax(axis=1) == to_mono.argmax(axis=1)).mean())
    assert np.abs(to_mono - y).max() > 0


def fitted(recipe, rng, shape=(32, 64, 1), segments=22):
    """A small net, its history, and the validation, of batches that do not come out even."""
    keras.utils.set_random_seed(recipe.random_seed)
    x, labels = log_mels(rng, segments, *shape[:2]), np.arange(segments) % 3
    net = small_net(recipe, shape)
    segments = pd.DataFrame(
        {"sha256": "a", "segment": np.arange(segments) + 1, "genre": labels,
         "split": ["validation"] * 7 + ["train"] * (segments - 7)}
    )  # fmt: skip
    history = fit_model(net, {"a": x}.get, segments, recipe, progress=False, callbacks=[])
    return net, history, (x[:7], labels[:7])


def loss_and_accuracy(net, x, labels):
    """What a net says of segments by itself, without augmentation."""
    net.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    return net.evaluate(x, np.eye(3)[labels], verbose=0)


@pytest.mark.parametrize("model", ["compact_cnn", "cnn"])
def test_validation_and_the_saved_net_are_without_augmentation(model, rng, tmp_path):
    crop = {"crop": None} if model == "cnn" else {}
    recipe = Recipe.preset("default", model, **EVERYTHING | crop, epochs=2, batch_size=4)
    net, history, (x, labels) = fitted(recipe, rng)
    assert list(history) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras", safe_mode=True)
    assert not layers_of(again, Gain)
    np.testing.assert_array_equal(again.predict_on_batch(x), net.predict_on_batch(x))
    last = history[["val_loss", "val_accuracy"]].iloc[-1]
    assert loss_and_accuracy(net, x, labels) == pytest.approx(list(last), rel=1e-4)


def test_a_net_behind_augmentation_is_in_training():
    recipe = Recipe.preset("default", "compact_cnn", **EVERYTHING, epochs=1)
    net, _, _ = fitted(recipe, np.random.default_rng(0))
    mean = keras.ops.convert_to_numpy(net.get_layer("batch_norm_1").moving_mean)
    assert np.abs(mean).max() > 0


def test_the_best_weights_are_restored_into_the_net(rng):
    recipe = Recipe.preset(
        "default", "compact_cnn", **EVERYTHING, epochs=30, patience=2, learning_rate=0.01
    )
    net, history, (x, labels) = fitted(recipe, rng)
    assert len(history) < 30
    best = history["val_loss"].min()
    assert history["val_loss"].iloc[-1] > best
    assert loss_and_accuracy(net, x, labels)[0] == pytest.approx(best, rel=1e-4)


def test_the_same_seed_gives_the_same_training():
    recipes = [
        Recipe.preset("default", "compact_cnn", **EVERYTHING, epochs=2, random_seed=seed)
        for seed in (5, 5, 6)
    ]
    a, b, c = (fitted(r, np.random.default_rng(0))[1]["loss"].to_numpy() for r in recipes)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    assert not np.allclose(a, c, rtol=1e-2)


def test_only_nets_that_take_any_length_are_trained_on_crops():
    with pytest.raises(ValueError, match="any length"):
        Recipe.preset("default", "cnn", crop=100)
    with pytest.raises(ValueError, match="mixup"):
        Recipe(mixup=2.0)
    with pytest.raises(ValueError, match="two plans"):
        Recipe(halve_every=3)
