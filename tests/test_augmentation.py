"""Augmentation, on any Keras backend, as ``tests/test_models.py``."""

import keras
import numpy as np
import pandas as pd
import pytest

from genrecls import FrontEnd, Recipe, build_cnn, build_compact_cnn
from genrecls.models import Image
from genrecls.training.augmentation import AugmentedModel, _draw, mixup, random_crop
from genrecls.training.loop import fit_model

AUGMENTED = dict(crop=40, mixup=0.5, warm_up=None)
RECIPE = Recipe.preset("default", "compact_cnn", **AUGMENTED)
pytestmark = pytest.mark.backend


def log_mels(rng, segments=12, bands=8, frames=50):
    return rng.uniform(-80, 0, (segments, bands, frames, 1)).astype(np.float32)


def seeded(seed=0):
    return keras.random.SeedGenerator(seed)


def arrays(values):
    return [keras.ops.convert_to_numpy(value) for value in values]


class Inner(keras.Model):
    """Return the log-mels that it gets, as the inner model of an augmented one."""

    def call(self, log_mels):
        return log_mels


def augment(changes, inputs, seed=0, training=True, calls=1):
    """Return the log-mels and targets of some calls of an augmented model."""
    recipe = Recipe.preset("default", "compact_cnn", **CHANGES | changes, random_seed=seed)
    model = AugmentedModel(Inner(), recipe)
    return [arrays(model(list(inputs), training=training)) for _ in range(calls)]


CHANGES = {"crop": None, "mixup": 0.0}
EVERY_CHANGE = pytest.mark.parametrize("change", [{"crop": 20}, {"mixup": 0.5}], ids=str)


@EVERY_CHANGE
def test_augmented_model_changes_nothing_outside_training(change, rng):
    inputs = log_mels(rng), np.eye(12, dtype=np.float32)
    for training in (False, None):
        [same] = augment(change, inputs, training=training)
        for before, after in zip(inputs, same, strict=True):
            np.testing.assert_array_equal(after, before)


@EVERY_CHANGE
def test_augmented_model_draws_by_its_seed_and_differs_from_call_to_call(change, rng):
    inputs = log_mels(rng), np.eye(12, dtype=np.float32)
    (drawn, _), (other, _) = augment(change, inputs, seed=3, calls=2)
    np.testing.assert_array_equal(augment(change, inputs, seed=3)[0][0], drawn)
    assert not np.array_equal(other, drawn)
    assert not np.array_equal(augment(change, inputs, seed=4)[0][0], drawn)


def test_augmented_model_gives_each_change_its_own_draws():
    model = AugmentedModel(Inner(), RECIPE)
    numbers = [
        float(keras.ops.convert_to_numpy(_draw(1, 1.0, seed)).item())
        for seed in model.seeds
        for _ in range(20)
    ]
    assert len(set(numbers)) == 2 * 20


def test_random_crop_cuts_the_same_stretch_of_every_segment(rng):
    segments = log_mels(rng)
    starts = set()
    seed = seeded()
    for _ in range(30):
        part = keras.ops.convert_to_numpy(random_crop(segments, 48, seed))
        found = [s for s in range(3) if np.array_equal(part, segments[:, :, s : s + 48])]
        assert len(found) == 1
        starts.update(found)
    assert starts == {0, 1, 2}
    np.testing.assert_array_equal(random_crop(segments, 99, seed), segments)


def test_mixup_mixes_power_and_targets_in_the_same_shares(rng):
    segments = log_mels(rng)
    # With one genre per segment, the targets show which segments were mixed in which shares.
    mixed, shares = arrays(mixup(segments, np.eye(12, dtype=np.float32), 0.8, seeded()))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert (np.diag(shares) >= 0.2 - 1e-6).all()
    assert np.diag(shares).min() < 0.5
    assert (np.count_nonzero(shares, axis=1) <= 2).all()
    others = shares * (1 - np.eye(12))
    assert (np.count_nonzero(others, axis=0) <= 1).all()
    power = np.einsum("ij,jbtc->ibtc", shares.astype(float), 10 ** (segments.astype(float) / 10))
    np.testing.assert_allclose(mixed, 10 * np.log10(power), atol=1e-3)


def test_mixup_of_sound_and_silence_is_finite():
    levels = np.repeat([-160.0, 60.0], 50).astype(np.float32)
    targets = np.eye(100, dtype=np.float32)
    mixed, _ = arrays(mixup(levels[:, None, None, None], targets, 1.0, seeded()))
    assert np.isfinite(mixed).all()
    assert mixed.min() >= -160.01
    assert mixed.max() <= 60.01


# Models


def build(recipe=RECIPE, shape=(32, 64, 1), genres=3):
    builders = {"cnn": build_cnn, "compact_cnn": build_compact_cnn}
    return builders[recipe.model](shape, genres, image=Image.from_front_end(FrontEnd()))


def test_augmented_model_compares_with_the_mixed_targets_and_weights_the_segments(rng):
    x, y = log_mels(rng), np.eye(3, dtype=np.float32)[rng.integers(3, size=12)]
    weights = rng.uniform(0, 3, 12).astype(np.float32)
    inputs = keras.Input((8, 50, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 80)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(flat))
    recipe = Recipe.preset("default", "cnn", mixup=1.0)
    twin, augmented = (AugmentedModel(model, recipe) for _ in range(2))
    augmented.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    p, mixed = (keras.ops.convert_to_numpy(out) for out in twin([x, y], training=True))
    found = augmented.train_on_batch([x, y], y, sample_weight=weights, return_dict=True)
    expected = np.mean(weights * -np.sum(mixed * np.log(p), axis=1))
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["accuracy"] == pytest.approx((p.argmax(axis=1) == mixed.argmax(axis=1)).mean())
    assert np.abs(mixed - y).max() > 0


def fitted(recipe, rng, shape=(32, 64, 1), segments=22):
    """Return a small model, its history and its validation; the last batch is smaller."""
    keras.utils.set_random_seed(recipe.random_seed)
    x, labels = log_mels(rng, segments, *shape[:2]), np.arange(segments) % 3
    model = build(recipe, shape)
    table = pd.DataFrame({"sha256": "a", "segment": np.arange(segments) + 1, "genre": labels})
    table["sounding"] = 1.0
    table["split"] = ["validation"] * 7 + ["train"] * (segments - 7)
    history = fit_model(model, {"a": x}.get, table, recipe, progress=False)
    return model, history, (x[:7], labels[:7])


def loss_and_accuracy(model, x, labels):
    """Evaluate a model without augmentation."""
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    return model.evaluate(x, np.eye(3)[labels], verbose=0)


@pytest.mark.parametrize("name", ["compact_cnn", "cnn"])
def test_fit_model_validates_and_saves_without_augmentation(name, rng, tmp_path):
    crop = {"crop": None} if name == "cnn" else {}
    recipe = Recipe.preset("default", name, **AUGMENTED | crop, epochs=2, batch_size=4)
    model, history, (x, labels) = fitted(recipe, rng)
    assert set(history) == {
        *("epoch", "accuracy", "loss", "learning_rate", "val_accuracy", "val_loss")
    }
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    np.testing.assert_array_equal(again.predict_on_batch(x), model.predict_on_batch(x))
    last = history[["val_loss", "val_accuracy"]].iloc[-1]
    assert loss_and_accuracy(model, x, labels) == pytest.approx(list(last), rel=1e-4)


def test_fit_model_updates_the_batch_norm_of_an_augmented_model():
    recipe = Recipe.preset("default", "compact_cnn", **AUGMENTED, epochs=1)
    model, _, _ = fitted(recipe, np.random.default_rng(0))
    mean = keras.ops.convert_to_numpy(model.get_layer("batch_norm_1").moving_mean)
    assert np.abs(mean).max() > 0


def test_fit_model_restores_the_best_weights_of_an_augmented_model(rng):
    recipe = Recipe.preset(
        "default", "compact_cnn", **AUGMENTED, epochs=30, patience=2, learning_rate=0.01
    )
    model, history, (x, labels) = fitted(recipe, rng)
    assert len(history) < 30
    best = history["val_loss"].min()
    assert history["val_loss"].iloc[-1] > best
    assert loss_and_accuracy(model, x, labels)[0] == pytest.approx(best, rel=1e-4)


def test_fit_model_repeats_an_augmented_training_by_its_seed():
    recipes = [
        Recipe.preset("default", "compact_cnn", **AUGMENTED, epochs=2, random_seed=seed)
        for seed in (5, 5, 6)
    ]
    a, b, c = (fitted(r, np.random.default_rng(0))[1]["loss"].to_numpy() for r in recipes)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    assert not np.allclose(a, c, rtol=1e-2)


def test_recipe_refuses_impossible_augmentation():
    with pytest.raises(ValueError, match="any length"):
        Recipe.preset("default", "cnn", crop=100)
    with pytest.raises(ValueError, match="exclude each other"):
        Recipe(halve_every=3)
