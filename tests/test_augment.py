import numpy as np
import pytest

from genrecls import Recipe
from genrecls.augment import AugmentedBatches, crop, mixup

RECIPE = Recipe.preset("default", "compact_cnn", batch_size=4, crop=20)


def data(rng, pieces=10, genres=3):
    log_mels = rng.uniform(-80, 0, (pieces, 8, 50, 1)).astype(np.float32)
    return log_mels, np.eye(genres)[rng.integers(genres, size=pieces)], rng.random(pieces)


def test_a_crop_is_a_stretch_of_every_piece(rng):
    log_mels, _, _ = data(rng)
    part = crop(log_mels, 20, rng)
    starts = [s for s in range(31) if np.array_equal(part, log_mels[:, :, s : s + 20])]
    assert len(starts) == 1
    assert crop(log_mels, 99, rng).shape == log_mels.shape


def test_mixup_mixes_power_and_targets_in_the_same_shares():
    loud, silent = np.zeros((1, 2, 3, 1), np.float32), np.full((1, 2, 3, 1), -100, np.float32)
    log_mels, targets = np.concatenate([loud, silent]), np.eye(2)
    rng = np.random.default_rng(3)  # exchanges the two
    mixed, shares = mixup(log_mels, targets, 1.0, rng)
    # Power 1 and next to none: the level of a mixture says what share of it is the loud piece.
    np.testing.assert_allclose(10 ** (mixed[:, 0, 0, 0] / 10), shares[:, 0], rtol=1e-4, atol=1e-6)
    assert 0 < shares[0, 0] < 1
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_the_piece_itself_keeps_the_larger_share(rng):
    log_mels, targets, _ = data(rng, pieces=200)
    _, shares = mixup(log_mels, targets, 0.5, rng)
    assert (shares[targets == 1] >= 0.5).all() and (shares[targets == 1] < 1).any()


def test_an_epoch_has_every_piece_once_with_its_weight_and_target(rng):
    log_mels, targets, weights = data(rng)
    plain = Recipe.preset("default", "compact_cnn", batch_size=4, crop=None, mixup=0.0)
    batches = AugmentedBatches(log_mels, targets, weights, plain)
    x, y, w = (np.concatenate(part) for part in zip(*(batches[i] for i in range(len(batches))),
                                                    strict=True))  # fmt: skip
    order = [int(np.flatnonzero((log_mels == piece).all(axis=(1, 2, 3)))[0]) for piece in x]
    assert sorted(order) == list(range(10)) and order != list(range(10))
    np.testing.assert_array_equal(y, targets[order])
    np.testing.assert_allclose(w, weights[order], rtol=1e-6)


def test_the_same_seed_draws_the_same_batches_and_epochs_differ(rng):
    sets = [AugmentedBatches(*data(np.random.default_rng(0)), RECIPE) for _ in range(2)]
    first = [batches[0][0] for batches in sets]
    np.testing.assert_array_equal(*first)
    assert first[0].shape == (4, 8, 20, 1)
    sets[0].on_epoch_end()
    assert not np.array_equal(sets[0][0][0], first[0])


def test_only_nets_that_take_any_length_are_trained_on_crops():
    with pytest.raises(ValueError, match="any length"):
        Recipe.preset("default", "cnn", crop=100)
    with pytest.raises(ValueError, match="mixup"):
        Recipe(mixup=2.0)
    with pytest.raises(ValueError, match="two plans"):
        Recipe(halve_every=3)
