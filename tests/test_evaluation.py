import numpy as np
import pandas as pd
import pytest

from genrecls.evaluation.scores import accuracy, aggregate_tracks, confusion_matrix, f1_scores

GENRES = ["classique", "rap"]


@pytest.fixture
def predictions():
    """Two tracks of equal title: one right on the mean although two of three segments are wrong."""
    table = pd.DataFrame(
        {
            "track_id": ["a"] * 3 + ["b"] * 2,
            "path": ["x/Same.mp3"] * 3 + ["y/Same.mp3"] * 2,
            "title": "Same",
            "artist": "",
            "genre": ["rap"] * 3 + ["classique"] * 2,
            "segment": [1, 2, 3, 1, 2],
            "prob_rap": [0.99, 0.45, 0.4, 0.1, 0.6],
        }
    )
    table["prob_classique"] = 1 - table["prob_rap"]
    table["predicted"] = np.where(table["prob_rap"] > 0.5, "rap", "classique")
    return table


def test_the_prediction_on_a_track_is_the_mean_of_its_segments(predictions):
    by_track = aggregate_tracks(predictions, GENRES).set_index("path")
    assert by_track["predicted"].tolist() == ["rap", "classique"]
    assert by_track.loc["x/Same.mp3", "prob_rap"] == pytest.approx(1.84 / 3)
    assert by_track["segments"].tolist() == [3, 2] and by_track["wrong_segments"].tolist() == [2, 1]


def test_scores_are_those_counted_by_hand(predictions):
    # rap: 1 right, 1 false alarm, 2 missed; classique: 1 right, 2 false alarms, 1 missed
    assert accuracy(predictions) == pytest.approx(2 / 5)
    f1 = f1_scores(predictions, GENRES)
    assert f1["rap"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 2))
    assert f1["classique"] == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))
    assert f1["macro"] == pytest.approx((f1["rap"] + f1["classique"]) / 2)
    assert confusion_matrix(predictions, GENRES).to_numpy().tolist() == [[1, 1], [2, 1]]


def test_renaming_a_genre_renames_and_nothing_else(predictions):
    new = {"classique": "zeta", "rap": "alpha"}
    renamed = predictions.assign(
        genre=predictions["genre"].map(new), predicted=predictions["predicted"].map(new)
    )
    before, after = f1_scores(predictions, GENRES), f1_scores(renamed, ["alpha", "zeta"])
    assert after["alpha"] == before["rap"] and after["zeta"] == before["classique"]


def test_repeats_of_a_track_are_judged_apart(predictions):
    again = predictions.assign(
        prob_rap=1 - predictions["prob_rap"], repeat=1, track_temperature=2.0
    )
    again["prob_classique"] = 1 - again["prob_rap"]
    both = pd.concat([predictions.assign(repeat=0, track_temperature=1.5), again])
    by_track = aggregate_tracks(both, GENRES)
    assert by_track["repeat"].tolist() == [0, 0, 1, 1]
    assert by_track["temperature"].tolist() == [1.5, 1.5, 2, 2]
    assert by_track["predicted"].tolist() == ["rap", "classique", "classique", "rap"]


def test_a_genre_never_seen_nor_predicted_scores_0(predictions):
    assert f1_scores(predictions, [*GENRES, "jazz"])["jazz"] == 0
