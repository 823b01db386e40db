"""Scores against scikit-learn, intervals against simulated corpora whose true scores are known."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from genrecls.evaluation import intervals
from genrecls.evaluation.calibration import calibrated, probability_columns
from genrecls.evaluation.intervals import (
    group_weights,
    mcnemar,
    paired_difference,
    score_intervals,
    wilson_interval,
)
from genrecls.evaluation.scores import LOSSES, scores

GENRES = {k: [f"genre{i}" for i in range(k)] for k in (2, 3, 10)}


def table_of(truth, probabilities, genres, **columns):
    """Predictions of true genres (as numbers) and probabilities."""
    table = pd.DataFrame(probabilities, columns=probability_columns(genres))
    table.insert(0, "genre", np.array(genres)[truth])
    table.insert(1, "predicted", np.array(genres)[np.asarray(probabilities).argmax(axis=1)])
    return table.assign(**columns)


def random_table(seed, k, n=60, *, ties=True):
    """Predictions little better than chance; every genre is there, many probabilities are equal."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % k)
    sure = np.full((n, k), 1.0) + 2 * np.eye(k)[truth]
    if ties:
        odds = 1 + rng.multinomial(8, sure / sure.sum(axis=1, keepdims=True))
    else:
        odds = rng.gamma(sure)
    return table_of(truth, odds / odds.sum(axis=1, keepdims=True), GENRES[k])


def by_scikit_learn(table, genres, weight=None):
    truth, said = table["genre"], table["predicted"]
    p = table[probability_columns(genres)].to_numpy()
    score = p[:, 1] if len(genres) == 2 else p
    options = {"sample_weight": weight}
    recalls = recall_score(truth, said, labels=genres, average=None, **options)
    return {
        "balanced accuracy": balanced_accuracy_score(truth, said, **options),
        "macro F1": f1_score(truth, said, labels=genres, average="macro", **options),
        "AUC": roc_auc_score(truth, score, multi_class="ovr", labels=genres, **options),
        "accuracy": accuracy_score(truth, said, **options),
        "NLL": log_loss(truth, p, labels=genres, **options),
        "Brier": sum(
            brier_score_loss(truth == genre, p[:, i], **options) for i, genre in enumerate(genres)
        ),
        **{f"recall {genre}": recalls[i] for i, genre in enumerate(genres)},
    }


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_scores_are_those_of_scikit_learn(seed, k):
    table = random_table(seed, k)
    found = scores(table, GENRES[k])
    expected = by_scikit_learn(table, GENRES[k])
    assert set(found) == {*expected, "ECE"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_a_weight_counts_a_row_so_many_times(seed, k):
    table = random_table(seed, k)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(table)))
    weights[:, table.groupby("genre").head(1).index] += 1  # or a genre could be gone
    found = scores(table, GENRES[k], weights.astype(float))
    for i, weight in enumerate(weights):
        repeated = scores(table.loc[table.index.repeat(weight)], GENRES[k])
        for name, value in by_scikit_learn(table, GENRES[k], weight).items():
            assert found[name][i] == pytest.approx(value), name
        for name, value in repeated.items():
            assert found[name][i] == pytest.approx(value[0]), name


def test_the_expected_calibration_error_is_that_of_a_plain_loop(rng):
    table = random_table(1, 3, 200, ties=False)
    weight = rng.integers(0, 4, len(table))
    p = table[probability_columns(GENRES[3])].to_numpy()
    expected = 0.0
    for low in np.arange(10) / 10:
        rows = [
            (p[i].max(), table["genre"][i] == table["predicted"][i], weight[i])
            for i in range(len(table))
            if low <= p[i].max() < low + 0.1
        ]
        surplus = sum(w * (confidence - right) for confidence, right, w in rows)
        expected += abs(surplus) / weight.sum()
    assert expected > 0.02
    found = scores(table, GENRES[3], weight[None].astype(float))
    assert found["ECE"] == pytest.approx(expected)


def test_a_genre_that_a_resample_lacks_has_no_recall():
    table = random_table(0, 3)
    weights = (table["genre"] != "genre1").to_numpy(float)[None]
    found = scores(table, GENRES[3], weights)
    assert np.isnan(found["recall genre1"]) and np.isnan(found["balanced accuracy"])
    assert np.isfinite([found["recall genre0"], found["accuracy"], found["NLL"]]).all()


def test_the_auc_is_taken_within_folds():
    """Two models that order their own fold without fault, one of them twice as sure."""
    p = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    table = table_of([0, 0, 1, 0, 1, 1], np.stack([1 - p, p], axis=1), GENRES[2])
    assert scores(table, GENRES[2])["AUC"] == pytest.approx(8 / 9)
    folds = table.assign(fold=[0, 0, 0, 1, 1, 1])
    assert scores(folds, GENRES[2])["AUC"] == 1
    table = random_table(3, 3, 90).assign(fold=np.arange(90) % 4)
    parts = [by_scikit_learn(part, GENRES[3])["AUC"] for _, part in table.groupby("fold")]
    assert scores(table, GENRES[3])["AUC"] == pytest.approx(np.mean(parts))


def test_scores_of_a_repeated_cross_validation_are_the_mean_over_repeats():
    tables = [random_table(seed, 3, 40 + 20 * seed).assign(repeat=seed) for seed in (0, 1)]
    both = scores(pd.concat(tables), GENRES[3])
    parts = [scores(table, GENRES[3]) for table in tables]
    for name, value in both.items():
        assert value == pytest.approx((parts[0][name] + parts[1][name]) / 2), name


def test_only_the_losses_see_the_temperature():
    table = random_table(0, 3, ties=False).assign(temperature=2.5)
    with_it = scores(table, GENRES[3])
    without = scores(table.drop(columns="temperature"), GENRES[3])
    done = scores(calibrated(table, GENRES[3]).drop(columns="temperature"), GENRES[3])
    for name, value in with_it.items():
        same_as = done if name in LOSSES else without
        assert value == same_as[name], name
    for name in LOSSES:
        assert with_it[name] != without[name]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_renaming_the_genres_renames_and_nothing_else(seed, k):
    table = random_table(seed, k, ties=False)
    table["group"] = np.arange(len(table)) // 2
    new = dict(zip(GENRES[k], np.random.default_rng(seed).permutation(GENRES[k]), strict=True))
    renamed = table.rename(columns={f"prob_{a}": f"prob_{b}" for a, b in new.items()})
    renamed["genre"], renamed["predicted"] = table["genre"].map(new), table["predicted"].map(new)
    before, after = scores(table, GENRES[k]), scores(renamed, GENRES[k])
    for name, value in before.items():
        kind, _, genre = name.partition(" genre")
        same = f"recall {new['genre' + genre]}" if kind == "recall" else name
        assert after[same] == pytest.approx(value), name


# -- resamples ---------------------------------------------------------------------------------


def groups_of(seed, k=3, groups=8, segments=5):
    """Segments of ``groups`` groups a genre."""
    table = random_table(seed, k, k * groups * segments)
    member = table.groupby("genre").cumcount() % groups
    return table.assign(group=table["genre"] + "/" + member.astype(str))


def test_a_resample_has_as_many_groups_of_each_genre_as_the_corpus():
    table = groups_of(0).query("group != 'genre1/7' and group != 'genre2/3'")
    weights = group_weights(table["genre"], table["group"], n=3000)
    genre_of = table.groupby("group")["genre"].first()
    drawn = weights.T.groupby(genre_of).sum().T
    np.testing.assert_allclose(drawn, np.tile([8, 7, 7], (3000, 1)))
    # Each as probable, and with the variance that the mean of a sample has: 1, not 1 - 1 / n.
    np.testing.assert_allclose(weights.mean(), 1, atol=5 / 3000**0.5)
    np.testing.assert_allclose(weights.var(), 1, rtol=0.1)


def test_a_group_in_two_genres_is_drawn_once_with_its_commonest():
    genre = pd.Series(["a", "a", "b", "a", "b", "b"])
    group = pd.Series(["x", "x", "x", "y", "z", "z"])
    weights = group_weights(genre, group, n=200)
    assert weights.columns.tolist() == ["x", "y", "z"]
    assert (weights["x"] + weights["y"] == 2).all() and (weights["z"] == 1).all()


def test_the_same_groups_and_seed_give_the_same_resamples():
    table = groups_of(0)
    first = group_weights(table["genre"], table["group"], n=50)
    shuffled = table.sample(frac=1, random_state=1)
    again = group_weights(shuffled["genre"], shuffled["group"], n=50)
    pd.testing.assert_frame_equal(first, again)
    other = group_weights(table["genre"], table["group"], n=50, random_seed=1)
    assert not first.equals(other)


def test_an_interval_is_that_of_the_scores_of_the_drawn_groups(monkeypatch):
    table = groups_of(2)
    found = score_intervals(table, GENRES[3], resamples=40)
    weights = group_weights(table["genre"], table["group"], n=40)
    drawn = [
        by_scikit_learn(table, GENRES[3], weight[table["group"]].to_numpy())
        for _, weight in weights.iterrows()
    ]
    for name, value in by_scikit_learn(table, GENRES[3]).items():
        low, high = np.percentile([d[name] for d in drawn], [2.5, 97.5])
        assert found.loc[name].tolist() == pytest.approx([value, low, high]), name
    monkeypatch.setattr(intervals, "_VALUES_AT_ONCE", 7 * len(table))
    pd.testing.assert_frame_equal(score_intervals(table, GENRES[3], resamples=40), found)


def test_where_no_resample_differs_the_interval_is_a_point():
    genres = GENRES[2]
    right = table_of([0, 1] * 5, np.eye(2)[[0, 1] * 5], genres, group=list("abcdefghij"))
    found = score_intervals(right, genres, resamples=50)
    assert (found.loc[["balanced accuracy", "macro F1", "AUC"]] == 1).all(axis=None)
    assert found.loc["Brier"].tolist() == [0, 0, 0]


# -- coverage ----------------------------------------------------------------------------------

#: Share of the variance of a model's evidence that all segments of a group have in common.
SHARED = 0.5
GROUPS, PIECES, RESAMPLES = 12, 6, 200  # groups a genre: 36 in all
SCORES = ["balanced accuracy", "macro F1", "AUC", "NLL", "Brier"]


def simulated(rng, groups, segments, *, group_effect=None):
    """A corpus of three genres and a model whose errors segments of one group share."""
    genres = GENRES[3]
    truth = np.arange(3).repeat(groups)
    if group_effect is None:
        group_effect = rng.standard_normal((3 * groups, 3))
    of_segment = rng.standard_normal((3 * groups, segments, 3))
    noise = SHARED**0.5 * group_effect[:, None] + (1 - SHARED) ** 0.5 * of_segment
    logits = 1.5 * np.eye(3)[truth][:, None] + noise
    return table_of(
        truth.repeat(segments),
        softmax(logits, axis=2).reshape(-1, 3),
        genres,
        group=np.arange(3 * groups).repeat(segments),
    )


@pytest.fixture(scope="module")
def population():
    """What the model scores on a corpus so large that chance plays no part."""
    return by_scikit_learn(simulated(np.random.default_rng(99), 30_000, 1), GENRES[3])


def covered(population, *, corpora, by):
    rng = np.random.default_rng(7)
    inside = []
    for seed in range(corpora):
        corpus = simulated(rng, GROUPS, PIECES)
        if by == "segment":
            corpus["group"] = np.arange(len(corpus))
        found = score_intervals(corpus, GENRES[3], resamples=RESAMPLES, random_seed=seed)
        truth = pd.Series(population)[SCORES]
        inside.append(truth.between(found.loc[SCORES, "low"], found.loc[SCORES, "high"]))
    return pd.DataFrame(inside).mean()


def test_intervals_by_groups_cover_the_truth_as_often_as_they_say(population):
    rates = covered(population, corpora=250, by="group")
    print(f"coverage of the 95 % intervals: {rates.round(3).to_dict()}")
    # Twelve groups a genre are few for a bootstrap: of many corpora it covers 93 %, and of 250
    # 93 % ± 1.6 %.
    assert rates.between(0.89, 0.985).all(), rates.to_dict()


def test_intervals_by_segments_would_not(population):
    rates = covered(population, corpora=60, by="segment")
    print(f"coverage if segments were independent: {rates.round(3).to_dict()}")
    assert (rates < 0.85).all(), rates.to_dict()


# -- two models --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_a_model_does_not_differ_from_itself(seed, k):
    table = groups_of(seed, k, groups=4, segments=3)
    found = paired_difference(table, table, GENRES[k], resamples=50)
    assert (found.fillna(0) == 0).all(axis=None)
    assert found["value"].notna().all() and found.loc["balanced accuracy"].tolist() == [0, 0, 0]


def test_the_difference_of_two_models_is_one_minus_the_other_and_changes_its_sign():
    first, second = groups_of(0), groups_of(1)
    there = paired_difference(first, second, GENRES[3], resamples=100)
    back = paired_difference(second, first, GENRES[3], resamples=100)
    one, two = scores(first, GENRES[3]), scores(second, GENRES[3])
    for name, value in there["value"].items():
        assert value == pytest.approx(one[name][0] - two[name][0])
    np.testing.assert_allclose(there["low"], -back["high"], atol=1e-12)


def test_of_models_that_fail_alike_the_paired_interval_is_narrower(rng):
    effect = rng.standard_normal((36, 3))
    first, second = (simulated(rng, 12, 6, group_effect=effect) for _ in range(2))
    paired = paired_difference(first, second, GENRES[3], resamples=500)
    draws = []
    for table, seed in ((first, 1), (second, 2)):
        weights = group_weights(table["genre"], table["group"], n=500, random_seed=seed)
        draws.append(scores(table, GENRES[3], weights[table["group"]].to_numpy(float)))
    for name in SCORES:
        low, high = np.percentile(draws[0][name] - draws[1][name], [2.5, 97.5])
        width = paired.loc[name, "high"] - paired.loc[name, "low"]
        assert width < 0.85 * (high - low), name


def test_paired_intervals_cover_a_true_difference_of_nothing():
    rng = np.random.default_rng(3)
    inside = []
    for seed in range(100):
        effect = rng.standard_normal((3 * GROUPS, 3))
        pair = [simulated(rng, GROUPS, PIECES, group_effect=effect) for _ in range(2)]
        found = paired_difference(*pair, GENRES[3], resamples=200, random_seed=seed)
        inside.append(found["low"].le(0) & found["high"].ge(0))
    rates = pd.DataFrame(inside).mean()[SCORES]
    print(f"coverage of the paired 95 % intervals: {rates.round(3).to_dict()}")
    assert rates.between(0.86, 0.99).all(), rates.to_dict()


def test_validation_and_test_of_one_model_are_compared_on_the_same_groups():
    """They have other rows, and not all groups are in both."""
    table = groups_of(0)
    validation = table[table["group"].str[-1].isin(list("0123"))]
    found = paired_difference(validation, table, GENRES[3], resamples=200)
    assert found["low"].notna().all() and (found["low"] <= found["high"]).all()
    assert found.loc["accuracy", "low"] < found.loc["accuracy", "high"]


def predictions_of(right, repeat=0):
    """Predictions on tracks 0, 1, ...: right or wrong."""
    said = np.where(right, "genre0", "genre1")
    return pd.DataFrame(
        {"track_id": range(len(said)), "genre": "genre0", "predicted": said, "repeat": repeat}
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_the_exact_binomial_and_symmetric(pairs):
    first, second = (predictions_of([pair[i] for pair in pairs]) for i in (0, 1))
    b, c = sum(p == (True, False) for p in pairs), sum(p == (False, True) for p in pairs)
    tail = sum(comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    there, back = mcnemar(first, second), mcnemar(second, first)
    assert there == {"only first": b, "only second": c, "p": pytest.approx(min(1, 2 * tail))}
    assert back == {"only first": c, "only second": b, "p": there["p"]}


def test_eight_to_none_is_hardly_chance():
    found = mcnemar(predictions_of([True] * 8 + [False]), predictions_of([False] * 9))
    assert found == {"only first": 8, "only second": 0, "p": pytest.approx(2 * 0.5**8)}


def test_of_several_repeats_the_majority_counts_for_mcnemar():
    rights = [[True, True, False, True], [True, False, False, False], [True, True, False, False]]
    ours = pd.concat([predictions_of(right, i) for i, right in enumerate(rights)])
    found = mcnemar(ours, predictions_of([True, False, True, True]))
    assert (found["only first"], found["only second"]) == (1, 2)


def test_models_of_other_tracks_cannot_be_compared():
    with pytest.raises(ValueError, match="same tracks"):
        mcnemar(predictions_of([True] * 3), predictions_of([True] * 4))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(119, 140, 0.78, 0.90), (9, 10, 0.60, 0.98), (0, 5, 0, 0.43)]
)
def test_wilson_interval_has_its_published_values(right, n, low, high):
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=0.006)


@settings(deadline=None)
@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_interval_is_that_of_scipy(n, share):
    right = round(share * n)
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high), abs=1e-6)
