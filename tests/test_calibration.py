"""Temperatures change confidence but no prediction, and are found again by fitting."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from genrecls.evaluation.calibration import (
    BINS,
    calibrated,
    choose_min_confidence,
    confidence_bins,
    fit_temperature,
    probability_columns,
    reliability,
    scale,
)
from genrecls.evaluation.scores import aggregate_tracks

TEMPERATURES = st.floats(0.05, 20)


@st.composite
def outputs(draw, dtype=None, limit=120):
    """Draw rows of a softmax, up to certainty in single precision."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 10)))
    logits = draw(arrays(np.float32, shape, elements=st.floats(-limit, limit, width=32)))
    dtype = dtype or draw(st.sampled_from([np.float32, np.float64]))
    return softmax(logits.astype(float), axis=1).astype(dtype)


def predictions_of(probabilities, **columns):
    genres = [f"genre{i}" for i in range(probabilities.shape[1])]
    table = pd.DataFrame(probabilities, columns=probability_columns(genres))
    table["genre"] = genres[0]
    table["predicted"] = np.array(genres)[probabilities.argmax(axis=1)]
    return table.assign(**columns), genres


@settings(deadline=None)
@given(p=outputs(np.float32), temperature=TEMPERATURES)
def test_scale_keeps_the_prediction_of_a_segment(p, temperature):
    scaled = scale(p, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-12)
    assert (scaled >= 0).all()
    assert np.isfinite(scaled).all()
    np.testing.assert_array_equal(scaled.argmax(axis=1), p.argmax(axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.05, 0.3, 1, 20])
def test_scale_keeps_the_order_of_certain_outputs(dtype, temperature):
    p = np.array([[1, 0, 0], [0, 0, 1], [1 - 1e-7, 1e-7, 0], [0.5, 0, 0.5]], dtype)
    scaled = scale(p, temperature)
    np.testing.assert_array_equal(scaled.argmax(axis=1), [0, 2, 0, 0])
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert scaled[3, 0] == scaled[3, 2]


@settings(deadline=None)
@given(p=outputs(), temperature=TEMPERATURES)
def test_calibrated_keeps_the_prediction_of_a_track(p, temperature):
    """The mean over the segments comes first, then the temperature."""
    columns = {"track_id": np.arange(len(p)) // 3, "track_temperature": temperature}
    table, genres = predictions_of(p, **columns)
    by_track = aggregate_tracks(table, genres)
    after = calibrated(by_track, genres)[probability_columns(genres)].to_numpy()
    predicted = by_track["predicted"].map(genres.index).to_numpy()
    # Means that differ only by rounding may become equal, but never change their order.
    np.testing.assert_allclose(
        after[np.arange(len(after)), predicted], after.max(axis=1), rtol=1e-12
    )


@settings(deadline=None)
@given(p=outputs(np.float64, limit=6), a=st.floats(0.5, 2), b=st.floats(0.5, 2))
def test_scale_by_1_is_the_identity_and_temperatures_multiply(p, a, b):
    assert p.min() > 1e-7  # above the clip
    np.testing.assert_allclose(scale(p, 1), p, rtol=1e-9)
    if scale(p, a).min() > 1e-7:
        np.testing.assert_allclose(scale(scale(p, a), b), scale(p, a * b), rtol=1e-9)


@settings(deadline=None)
@given(p=outputs(np.float64), temperature=st.floats(1, 20))
def test_scale_softens_above_1_and_sharpens_below(p, temperature):
    confidence = scale(p, 1).max(axis=1)
    assert (scale(p, temperature).max(axis=1) <= confidence + 1e-12).all()
    assert (scale(p, 1 / temperature).max(axis=1) >= confidence - 1e-12).all()


def test_calibrated_uses_the_temperature_of_each_row():
    p = softmax(np.random.default_rng(0).normal(size=(5, 3)), axis=1)
    temperatures = np.array([0.1, 0.5, 1, 2, 10])
    table, genres = predictions_of(p, temperature=temperatures)
    found = calibrated(table, genres)[probability_columns(genres)].to_numpy()
    for row, raw, temperature in zip(found, p, temperatures, strict=True):
        np.testing.assert_allclose(row, raw ** (1 / temperature) / (raw ** (1 / temperature)).sum())


# -- fitting -----------------------------------------------------------------------------------


def fit(p, labels, groups):
    table, genres = predictions_of(p, group=groups)
    return fit_temperature(table.assign(genre=np.array(genres)[labels]), genres)


def nll(p, labels):
    return -np.log(p[np.arange(len(p)), labels]).mean()


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_fit_temperature_finds_a_known_temperature(k, true, rng):
    """The labels are labels with the probabilities that the true temperature gives."""
    logits = rng.normal(0, 2, (20_000, k))
    right = softmax(logits / true, axis=1)
    labels = (right.cumsum(axis=1) < rng.random((len(right), 1))).sum(axis=1)
    found = fit(softmax(logits, axis=1), labels, np.arange(len(labels)))
    assert found == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("right", [True, False])
def test_fit_temperature_changes_more_with_more_groups(right):
    """The segments of a group are no independent observations."""
    p = np.tile([0.8, 0.2], (60, 1))
    labels = np.full(60, 0 if right else 1)
    found = [fit(p, labels, np.arange(60) % n) for n in (1, 3, 10, 60)]
    assert found[0] == 1  # It could help no other group.
    assert found == sorted(found, reverse=right)
    assert len({round(temperature, 2) for temperature in found}) == 4


@settings(deadline=None)
@given(p=outputs(np.float64, limit=4), seed=st.integers(0, 99), n=st.integers(1, 500))
def test_fit_temperature_gains_more_likelihood_than_the_prior_costs(p, seed, n):
    labels = np.random.default_rng(seed).integers(0, p.shape[1], len(p))
    temperature = fit(p, labels, np.arange(len(p)) % n)
    gain = nll(p, labels) - nll(scale(p, temperature), labels)
    assert gain * min(n, len(p)) >= (np.log(temperature) / 0.35) ** 2 / 2 - 1e-6


def test_fit_temperature_keeps_what_helps_no_other_group():
    """One group is wrong, with certainty; whichever is left out, the others say the opposite."""
    p = np.tile([0.95, 0.05], (8, 1))
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 1])
    assert fit(p, labels, np.arange(8)) == 1
    assert fit(p, labels, np.arange(8) // 7) == 1
    labels[:4] = 1
    assert fit(p, labels, np.arange(8)) > 1.5


def test_fit_temperature_without_predictions_is_1():
    table, genres = predictions_of(np.empty((0, 2)), group=[])
    assert fit_temperature(table, genres) == 1


@pytest.mark.parametrize(("k", "lowest"), [(2, 0.6), (3, 0.467), (10, 0.28)])
def test_min_confidence_of_few_groups_depends_on_the_number_of_genres(k, lowest):
    table, genres = predictions_of(np.full((9, k), 1 / k), group=range(9))
    assert choose_min_confidence(table, genres) == lowest


def test_min_confidence_is_where_four_in_five_are_right():
    confidence = np.linspace(0.9, 0.7, 20)
    table, genres = predictions_of(np.stack([confidence, 1 - confidence], axis=1), group=range(20))
    assert choose_min_confidence(table, genres) == 0.6
    # Of the first fifteen, three are wrong; of more, too many are.
    table.loc[[2, 7, 14, *range(15, 20)], "genre"] = genres[1]
    assert choose_min_confidence(table, genres) == pytest.approx(confidence[14])
    assert choose_min_confidence(table.assign(genre=genres[1]), genres) == 1


def test_min_confidence_counts_equal_probabilities_together():
    table, genres = predictions_of(np.full((20, 2), [0.999, 0.001]), group=range(20))
    table.loc[12:, "genre"] = genres[1]  # a net that is always sure, and right in 12 of 20
    assert choose_min_confidence(table, genres) == 1


# -- reliability -------------------------------------------------------------------------------


def test_reliability_of_a_calibrated_model_is_on_the_diagonal(rng):
    p = rng.dirichlet([1, 1, 1], 40_000)
    table, genres = predictions_of(p)
    labels = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1)
    found = reliability(table.assign(genre=np.array(genres)[labels]), genres)
    off = (found["accuracy"] - found["confidence"]).abs()
    assert (off < 4 * 0.5 / found["n"] ** 0.5).all()
    assert found["n"].sum() == len(p)
    # The confidence in one of three genres is at least a third.
    assert found.index.tolist() == [3, 4, 5, 6, 7, 8, 9]


@settings(deadline=None)
@given(p=outputs(), seed=st.integers(0, 99))
def test_reliability_counts_every_segment_in_its_bin(p, seed):
    table, genres = predictions_of(p)
    table["genre"] = np.random.default_rng(seed).choice(genres, len(p))
    found = reliability(table.set_index(np.arange(len(p))[::-1]), genres)
    assert found["n"].sum() == len(p)
    rights = (found["accuracy"] * found["n"]).sum()
    assert rights == pytest.approx((table["predicted"] == table["genre"]).sum())
    assert (found.index / BINS <= found["confidence"] + 1e-6).all()
    assert (found["confidence"] <= (found.index + 1) / BINS + 1e-6).all()


def test_confidence_bins_put_certainty_into_the_last_bin():
    assert confidence_bins([0.0, 0.0999, 0.1, 0.95, 1.0]).tolist() == [0, 0, 1, 9, 9]
