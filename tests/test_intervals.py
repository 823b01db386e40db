"""Scores against scikit-learn, intervals against simulated corpora with known true scores."""

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
    format_p,
    group_weights,
    mcnemar,
    score_intervals,
)
from genrecls.evaluation.scores import LOSSES, scores

GENRES = {k: [f"genre{i}" for i in range(k)] for k in (2, 3, 10)}


def make_table(truth, probabilities, genres, **columns):
    """Make predictions from true genres (as numbers) and probabilities."""
    table = pd.DataFrame(probabilities, columns=probability_columns(genres))
    table.insert(0, "genre", np.array(genres)[truth])
    table.insert(1, "predicted", np.array(genres)[np.asarray(probabilities).argmax(axis=1)])
    return table.assign(**columns)


def random_table(seed, k, n=60, *, ties=True):
    """Make predictions little better than chance, with every genre and many equal probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % k)
    sure = np.full((n, k), 1.0) + 2 * np.eye(k)[truth]
    if ties:
        odds = 1 + rng.multinomial(8, sure / sure.sum(axis=1, keepdims=True))
    else:
        odds = rng.gamma(sure)
    return make_table(truth, odds / odds.sum(axis=1, keepdims=True), GENRES[k])


def by_scikit_learn(table, genres, weight=None):
    truth, predicted = table["genre"], table["predicted"]
    p = table[probability_columns(genres)].to_numpy()
    score = p[:, 1] if len(genres) == 2 else p
    options = {"sample_weight": weight}
    recalls = recall_score(truth, predicted, labels=genres, average=None, **options)
    return {
        "balanced accuracy": balanced_accuracy_score(truth, predicted, **options),
        "macro F1": f1_score(truth, predicted, labels=genres, average="macro", **options),
        "AUC": roc_auc_score(truth, score, multi_class="ovr", labels=genres, **options),
        "accuracy": accuracy_score(truth, predicted, **options),
        "NLL": log_loss(truth, p, labels=genres, **options),
        "Brier": sum(
            brier_score_loss(truth == genre, p[:, i], **options) for i, genre in enumerate(genres)
        ),
        **{f"recall {genre}": recalls[i] for i, genre in enumerate(genres)},
    }


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_scores_equal_those_of_scikit_learn(seed, k):
    table = random_table(seed, k)
    found = scores(table, GENRES[k])
    expected = by_scikit_learn(table, GENRES[k])
    assert set(found) == {*expected, "ECE"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_scores_with_weights_equal_scores_of_repeated_rows(seed, k):
    table = random_table(seed, k)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(table)))
    weights[:, table.groupby("genre").head(1).index] += 1  # every genre needs a weight
    found = scores(table, GENRES[k], weights.astype(float))
    for i, weight in enumerate(weights):
        repeated = scores(table.loc[table.index.repeat(weight)], GENRES[k])
        for name, value in by_scikit_learn(table, GENRES[k], weight).items():
            assert found[name][i] == pytest.approx(value), name
        for name, value in repeated.items():
            assert found[name][i] == pytest.approx(value[0]), name


def test_scores_ece_equals_a_plain_loop(rng):
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


def test_scores_of_a_genre_without_weight_are_nan():
    table = random_table(0, 3)
    weights = (table["genre"] != "genre1").to_numpy(float)[None]
    found = scores(table, GENRES[3], weights)
    assert np.isnan(found["recall genre1"])
    assert np.isnan(found["balanced accuracy"])
    assert np.isfinite([found["recall genre0"], found["accuracy"], found["NLL"]]).all()


def test_scores_auc_is_computed_within_folds():
    """Two models rank their own folds perfectly; one of them is more confident."""
    p = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    table = make_table([0, 0, 1, 0, 1, 1], np.stack([1 - p, p], axis=1), GENRES[2])
    assert scores(table, GENRES[2])["AUC"] == pytest.approx(8 / 9)
    folds = table.assign(fold=[0, 0, 0, 1, 1, 1])
    assert scores(folds, GENRES[2])["AUC"] == 1
    table = random_table(3, 3, 90).assign(fold=np.arange(90) % 4)
    parts = [by_scikit_learn(part, GENRES[3])["AUC"] for _, part in table.groupby("fold")]
    assert scores(table, GENRES[3])["AUC"] == pytest.approx(np.mean(parts))


def test_auc_counts_a_fold_as_often_as_its_only_artist_is_drawn():
    """In the first fold, half of the pairs are in order; in the second one, all are."""
    p = np.array([0.1, 0.9, 0.5, 0.1, 0.2, 0.5])
    table = make_table([0, 0, 1, 0, 0, 1], np.stack([1 - p, p], axis=1), GENRES[2])
    table["fold"] = [0, 0, 0, 1, 1, 1]
    weights = np.array([[1, 1, 3, 1, 1, 1]])
    of_rap, of_classical = (3 * 0.5 + 1) / 4, (0.5 + 1) / 2
    expected = (of_rap + of_classical) / 2
    assert scores(table, GENRES[2], weights)["AUC"] == pytest.approx(expected)
    assert scores(table, GENRES[2])["AUC"] == pytest.approx(0.75)


def test_scores_of_several_repeats_are_their_mean():
    tables = [random_table(seed, 3, 40 + 20 * seed).assign(repeat=seed) for seed in (0, 1)]
    both = scores(pd.concat(tables), GENRES[3])
    parts = [scores(table, GENRES[3]) for table in tables]
    for name, value in both.items():
        assert value == pytest.approx((parts[0][name] + parts[1][name]) / 2), name


def test_scores_apply_the_temperature_to_the_losses_only():
    table = random_table(0, 3, ties=False).assign(temperature=2.5)
    scaled = scores(table, GENRES[3])
    raw = scores(table.drop(columns="temperature"), GENRES[3])
    expected = scores(calibrated(table, GENRES[3]).drop(columns="temperature"), GENRES[3])
    for name, value in scaled.items():
        same_as = expected if name in LOSSES else raw
        assert value == same_as[name], name
    for name in LOSSES:
        assert scaled[name] != raw[name]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_scores_do_not_depend_on_the_names_of_genres(seed, k):
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


def make_groups(seed, k=3, groups=8, segments=5):
    """Make predictions on segments of ``groups`` groups per genre."""
    table = random_table(seed, k, k * groups * segments)
    member = table.groupby("genre").cumcount() % groups
    return table.assign(group=table["genre"] + "/" + member.astype(str))


def test_group_weights_keep_the_number_of_groups_of_each_genre():
    table = make_groups(0).query("group != 'genre1/7' and group != 'genre2/3'")
    weights = group_weights(table["genre"], table["group"], n=3000)
    genre_of = table.groupby("group")["genre"].first()
    drawn = weights.T.groupby(genre_of).sum().T
    np.testing.assert_allclose(drawn, np.tile([8, 7, 7], (3000, 1)))
    # All groups are equally probable, with the variance of a sample mean: 1, not 1 - 1 / n.
    np.testing.assert_allclose(weights.mean(), 1, atol=5 / 3000**0.5)
    np.testing.assert_allclose(weights.var(), 1, rtol=0.1)


def test_group_weights_draw_a_group_with_its_commonest_genre():
    genre = pd.Series(["a", "a", "b", "a", "b", "b"])
    group = pd.Series(["x", "x", "x", "y", "z", "z"])
    weights = group_weights(genre, group, n=200)
    assert weights.columns.tolist() == ["x", "y", "z"]
    assert (weights["x"] + weights["y"] == 2).all()
    assert (weights["z"] == 1).all()


def test_group_weights_depend_on_groups_and_seed_only():
    table = make_groups(0)
    first = group_weights(table["genre"], table["group"], n=50)
    shuffled = table.sample(frac=1, random_state=1)
    again = group_weights(shuffled["genre"], shuffled["group"], n=50)
    pd.testing.assert_frame_equal(first, again)
    other = group_weights(table["genre"], table["group"], n=50, random_seed=1)
    assert not first.equals(other)


def test_score_intervals_are_stretched_percentiles_of_resampled_scores(monkeypatch):
    table = make_groups(2).query("group < 'genre2/4'")  # 8, 8 and 4 groups
    found = score_intervals(table, GENRES[3], resamples=40)
    weights = group_weights(table["genre"], table["group"], n=40)
    drawn = pd.DataFrame(
        by_scikit_learn(table, GENRES[3], weight[table["group"]].to_numpy())
        for _, weight in weights.iterrows()
    )
    value = found["value"]
    assert value[drawn.columns].to_dict() == pytest.approx(by_scikit_learn(table, GENRES[3]))
    recalls = [f"recall {genre}" for genre in GENRES[3]]
    # Quantiles of Student's t for 7 and for 3 degrees of freedom, divided by that of the normal.
    factors = pd.Series(np.array([2.365, 2.365, 3.182]) / 1.960, recalls)
    low, high = drawn.quantile(0.025), drawn.quantile(0.975)
    widths = (high - low)[recalls]
    mean = np.linalg.norm(factors * widths) / np.linalg.norm(widths)
    for name in drawn.columns.drop("balanced accuracy"):
        factor = factors.get(name, mean)
        middle = value[name]
        ends = middle - factor * (middle - low[name]), middle + factor * (high[name] - middle)
        ends = np.clip(ends, 0, None if name in LOSSES else 1)
        assert found.loc[name, ["low", "high"]].tolist() == pytest.approx(ends, rel=1e-3), name
    distances = found.loc[recalls].eval("low = value - low\nhigh = high - value")
    below, above = (np.linalg.norm(distances[side]) / 3 for side in ("low", "high"))
    middle = value["balanced accuracy"]
    ends = found.loc["balanced accuracy", ["low", "high"]].tolist()
    assert ends == pytest.approx([middle - below, middle + above])
    monkeypatch.setattr(intervals, "_MAX_WEIGHTS", 7 * len(table))
    pd.testing.assert_frame_equal(score_intervals(table, GENRES[3], resamples=40), found)


def test_score_intervals_are_exact_if_all_predictions_are_right_or_wrong():
    genres, truth = GENRES[2], [0, 1] * 2 + [0] * 6
    for answer in (1, 0):
        given = np.eye(2)[truth] if answer else 1 - np.eye(2)[truth]
        table = make_table(truth, given, genres, group=list("abcdefghij"))
        found = score_intervals(table, genres, resamples=50)
        for name, n in {"recall genre0": 8, "recall genre1": 2}.items():
            exact = binomtest(answer * n, n).proportion_ci(method="exact")
            assert found.loc[name].tolist() == pytest.approx([answer, *exact]), name
        # The published intervals of 8 in 8 and 2 in 2 begin at 0.631 and 0.158.
        distance = np.array([1 - 0.631, 1 - 0.158])
        for name, weight in {"balanced accuracy": [0.5, 0.5], "accuracy": [0.8, 0.2]}.items():
            far = np.linalg.norm(distance * weight)
            ends = [1 - far, 1] if answer else [0, far]
            assert found.loc[name].tolist() == pytest.approx([answer, *ends], abs=5e-4), name
        ends = found.loc["balanced accuracy"].tolist()
        assert found.loc["AUC"].tolist() == found.loc["macro F1"].tolist() == ends
        assert found.loc["Brier"].tolist() == pytest.approx([2 - 2 * answer] * 3)


def test_score_intervals_of_single_groups_are_nearly_as_wide_as_possible():
    right = [1] * 7 + [0] * 3  # predictions in ten genres
    table = make_table(range(10), np.eye(10)[np.where(right, range(10), 0)], GENRES[10])
    found = score_intervals(table.assign(group=range(10)), GENRES[10], resamples=50)
    assert found.loc["recall genre1"].tolist() == pytest.approx([1, 0.025, 1])
    low, high = 0.7 - 7**0.5 * 0.0975, 0.7 + 3**0.5 * 0.0975
    for name in ("accuracy", "balanced accuracy"):
        assert found.loc[name].tolist() == pytest.approx([0.7, low, high])


def test_a_genre_without_errors_does_not_make_the_mean_certain(rng):
    """Four groups of a genre are often all right by chance, although their model errs in 10 %."""
    genres, truth, inside = GENRES[2], np.repeat([0, 1], [27, 4]), []
    expected = (0.95 + 0.9) / 2
    for seed in range(120):
        right = rng.random(31) < np.where(truth, 0.9, 0.95)
        p = np.eye(2)[np.where(right, truth, 1 - truth)]
        table = make_table(truth, p, genres, group=np.arange(31))
        found = score_intervals(table, genres, resamples=200, random_seed=seed, auc=False)
        low, high = found.loc["balanced accuracy", ["low", "high"]]
        inside.append(low <= expected <= high)
    assert np.mean(inside) > 0.9  # 0.6 if the interval of the bootstrap is kept


# -- coverage ----------------------------------------------------------------------------------

#: Share of the variance of the logits that all segments of a group have in common.
SHARED = 0.5
GROUPS, SEGMENTS, RESAMPLES = 12, 6, 200  # groups per genre: 36 in all
SCORES = ["balanced accuracy", "macro F1", "AUC", "NLL", "Brier"]


def simulate(rng, groups, segments, *, group_effect=None):
    """Simulate a corpus of three genres, and a model whose errors are correlated in a group."""
    genres = GENRES[3]
    truth = np.arange(3).repeat(groups)
    if group_effect is None:
        group_effect = rng.standard_normal((3 * groups, 3))
    segment_effect = rng.standard_normal((3 * groups, segments, 3))
    noise = SHARED**0.5 * group_effect[:, None] + (1 - SHARED) ** 0.5 * segment_effect
    logits = 1.5 * np.eye(3)[truth][:, None] + noise
    return make_table(
        truth.repeat(segments),
        softmax(logits, axis=2).reshape(-1, 3),
        genres,
        group=np.arange(3 * groups).repeat(segments),
    )


@pytest.fixture(scope="module")
def population():
    """Return the scores of the model on a corpus so large that chance has no influence."""
    return by_scikit_learn(simulate(np.random.default_rng(99), 30_000, 1), GENRES[3])


def measure_coverage(population, *, corpora, by, groups=GROUPS):
    rng = np.random.default_rng(7)
    inside = []
    for seed in range(corpora):
        corpus = simulate(rng, groups, SEGMENTS)
        if by == "segment":
            corpus["group"] = np.arange(len(corpus))
        found = score_intervals(corpus, GENRES[3], resamples=RESAMPLES, random_seed=seed)
        truth = pd.Series(population)[SCORES]
        inside.append(truth.between(found.loc[SCORES, "low"], found.loc[SCORES, "high"]))
    return pd.DataFrame(inside).mean()


@pytest.mark.parametrize("groups", [3, 4, 12])
def test_score_intervals_over_groups_cover_the_true_scores(population, groups):
    rates = measure_coverage(population, corpora=120, by="group", groups=groups)
    print(f"coverage of the 95 % intervals: {rates.round(3).to_dict()}")
    # With 120 corpora, ± 4 % are chance. If they are not stretched, intervals of the NLL cover 87 %
    # with three or four groups per genre.
    assert rates.between(0.9, 1).all() and rates.mean() < 0.995, rates.to_dict()


def test_score_intervals_over_segments_would_be_too_narrow(population):
    rates = measure_coverage(population, corpora=60, by="segment")
    print(f"coverage if segments were independent: {rates.round(3).to_dict()}")
    assert (rates < 0.85).all(), rates.to_dict()


# -- two models --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([2, 3, 10]))
def test_score_intervals_of_a_model_minus_itself_are_around_0(seed, k):
    table = make_groups(seed, k, groups=4, segments=3)
    found = score_intervals(table, GENRES[k], minus=table, resamples=50)
    assert (found["value"] == 0).all()
    np.testing.assert_allclose(found["low"], -found["high"])
    # The models agree on these groups, but on others they may differ as if they were independent.
    own = score_intervals(table, GENRES[k], resamples=50)
    one = np.hypot(own["value"] - own["low"], own["high"] - own["value"])
    recalls = [f"recall {genre}" for genre in GENRES[k]]
    np.testing.assert_allclose(found.loc[recalls, "high"], one[recalls].clip(upper=1))
    mean = np.linalg.norm(found.loc[recalls, "high"]) / k
    assert found.loc["balanced accuracy", "high"] == pytest.approx(mean)


def test_a_model_that_is_always_right_is_better_than_one_that_is_always_wrong():
    """The interval of a difference follows from those of the two models, which do not overlap."""
    genres, truth = GENRES[2], np.repeat([0, 1], 4)
    right, wrong = (
        make_table(truth, given, genres, group=range(8))
        for given in (np.eye(2)[truth], 1 - np.eye(2)[truth])
    )
    found = score_intervals(right, genres, minus=wrong, resamples=50)
    exact = 1 - 2**0.5 * 0.602  # the published interval of 4 in 4 begins at 0.398
    assert found.loc["recall genre0"].tolist() == pytest.approx([1, exact, 1], abs=1e-3)
    assert found.loc["balanced accuracy", "low"] == pytest.approx(1 - 0.602, abs=1e-3)


def test_score_intervals_of_a_difference_change_sign_with_the_order():
    first, second = make_groups(0), make_groups(1)
    there = score_intervals(first, GENRES[3], minus=second, resamples=100)
    back = score_intervals(second, GENRES[3], minus=first, resamples=100)
    one, two = scores(first, GENRES[3]), scores(second, GENRES[3])
    for name, value in there["value"].items():
        assert value == pytest.approx(one[name][0] - two[name][0])
    np.testing.assert_allclose(there["low"], -back["high"], atol=1e-12)


def test_paired_intervals_are_narrower_for_models_with_common_errors(rng):
    effect = rng.standard_normal((36, 3))
    first, second = (simulate(rng, 12, 6, group_effect=effect) for _ in range(2))
    paired = score_intervals(first, GENRES[3], minus=second, resamples=500)
    draws = []
    for table, seed in ((first, 1), (second, 2)):
        weights = group_weights(table["genre"], table["group"], n=500, random_seed=seed)
        draws.append(scores(table, GENRES[3], weights[table["group"]].to_numpy(float)))
    for name in SCORES:
        low, high = np.percentile(draws[0][name] - draws[1][name], [2.5, 97.5])
        width = paired.loc[name, "high"] - paired.loc[name, "low"]
        stretched = 2.201 / 1.960 * (high - low)  # Student's t for 11 degrees of freedom
        assert width < 0.85 * stretched, name


def test_paired_intervals_cover_a_true_difference_of_0():
    rng = np.random.default_rng(3)
    inside = []
    for seed in range(100):
        effect = rng.standard_normal((3 * GROUPS, 3))
        pair = [simulate(rng, GROUPS, SEGMENTS, group_effect=effect) for _ in range(2)]
        options = {"minus": pair[1], "resamples": 200, "random_seed": seed}
        found = score_intervals(pair[0], GENRES[3], **options)
        inside.append(found["low"].le(0) & found["high"].ge(0))
    rates = pd.DataFrame(inside).mean()[SCORES]
    print(f"coverage of the paired 95 % intervals: {rates.round(3).to_dict()}")
    assert rates.between(0.86, 0.99).all(), rates.to_dict()


def test_paired_intervals_compare_tables_with_different_rows():
    """Validation and test of a model have different rows, and not all groups are in both."""
    table = make_groups(0)
    validation = table[table["group"].str[-1].isin(list("0123"))]
    found = score_intervals(validation, GENRES[3], minus=table, resamples=200)
    assert found["low"].notna().all()
    assert (found["low"] <= found["high"]).all()
    assert found.loc["accuracy", "low"] < found.loc["accuracy", "high"]


def make_predictions(right, repeat=0):
    """Make right or wrong predictions on tracks 0, 1, ...."""
    predicted = np.where(right, "genre0", "genre1")
    return pd.DataFrame(
        {
            "track_id": range(len(predicted)),
            "group": range(len(predicted)),
            "genre": "genre0",
            "predicted": predicted,
            "repeat": repeat,
        }
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_the_exact_binomial_test_and_symmetric(pairs):
    first, second = (make_predictions([pair[i] for pair in pairs]) for i in (0, 1))
    b, c = sum(p == (True, False) for p in pairs), sum(p == (False, True) for p in pairs)
    tail = sum(comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    there, back = mcnemar(first, second), mcnemar(second, first)
    assert there == {"only first": b, "only second": c, "p": pytest.approx(min(1, 2 * tail))}
    assert back == {"only first": c, "only second": b, "p": there["p"]}


def test_mcnemar_of_8_to_0_is_significant():
    found = mcnemar(make_predictions([True] * 8 + [False]), make_predictions([False] * 9))
    assert found == {"only first": 8, "only second": 0, "p": pytest.approx(2 * 0.5**8)}


def test_mcnemar_exchanges_whole_groups():
    """Only one model is right, on all 11 tracks by 4 artists, so that p is 2 / 2**4."""
    first, second = make_predictions([True] * 11), make_predictions([False] * 11)
    artists = {"group": list("aaaabbbccdd")}
    found = mcnemar(first.assign(**artists), second.assign(**artists))
    assert found == {"only first": 11, "only second": 0, "p": pytest.approx(2 / 2**4)}


def test_mcnemar_depends_on_the_sizes_of_groups():
    """Of the 32 ways to exchange 5, 4, 1, 1 and -1 tracks, 8 have a sum of 10 or more, or -10."""
    first = make_predictions([True] * 11 + [False])
    second = make_predictions([False] * 11 + [True])
    artists = {"group": list("aaaaabbbbcde")}
    found = mcnemar(first.assign(**artists), second.assign(**artists))
    assert found == {"only first": 11, "only second": 1, "p": pytest.approx(8 / 32)}


def test_format_p_never_claims_0():
    assert [format_p(p) for p in (1.0, 0.0123, 0.001, 1e-5)] == ["1", "0.012", "0.001", "< 0.001"]


def test_mcnemar_counts_the_majority_of_repeats():
    rights = [[True, True, False, True], [True, False, False, False], [True, True, False, False]]
    ours = pd.concat([make_predictions(right, i) for i, right in enumerate(rights)])
    found = mcnemar(ours, make_predictions([True, False, True, True]))
    assert (found["only first"], found["only second"]) == (1, 2)


def test_mcnemar_refuses_different_tracks():
    with pytest.raises(ValueError, match="different tracks"):
        mcnemar(make_predictions([True] * 3), make_predictions([True] * 4))
