"""Track predictions and tables of scores by hand, and the choice of the best run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genrecls import FrontEnd, GenreClassifier, Recipe
from genrecls.errors import ModelError
from genrecls.evaluation.calibration import probability_columns
from genrecls.evaluation.intervals import format_interval
from genrecls.evaluation.runs import (
    CARD,
    FORMAT,
    Run,
    best_run,
    describe_groups,
    describe_test_tracks,
    find_best_run,
    is_synthetic,
    read_runs,
)
from genrecls.evaluation.scores import accuracy, aggregate_tracks, confusion_matrix, f1_scores
from genrecls.evaluation.tables import (
    comparison_table,
    example_track_ids,
    label_table,
    score_table,
    segment_table,
    split_table,
)

GENRES = ["classique", "rap"]


@pytest.fixture
def predictions():
    """Two tracks of equal title; one is right on the mean although most segments are wrong."""
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


def test_aggregate_tracks_averages_the_probabilities_of_segments(predictions):
    by_track = aggregate_tracks(predictions, GENRES).set_index("path")
    assert by_track["predicted"].tolist() == ["rap", "classique"]
    assert by_track.loc["x/Same.mp3", "prob_rap"] == pytest.approx(1.84 / 3)
    assert by_track["segments"].tolist() == [3, 2]
    assert by_track["wrong_segments"].tolist() == [2, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_aggregate_tracks_weights_segments_by_their_sound(predictions, dtype):
    columns = probability_columns(GENRES)
    predictions[columns] = predictions[columns].astype(dtype)
    by_track = aggregate_tracks(predictions.assign(sounding=[1, 1, 1, 0.2, 1]), GENRES)
    assert by_track["prob_rap"].tolist() == pytest.approx([1.84 / 3, (0.2 * 0.1 + 0.6) / 1.2])
    assert by_track["predicted"].tolist() == ["rap", "rap"]
    assert by_track["segments"].tolist() == [3, 2]
    mean = predictions.astype(dict.fromkeys(columns, float)).groupby("track_id", sort=False)
    for table in (predictions, predictions.assign(sounding=1.0)):
        found = aggregate_tracks(table, GENRES).set_index("track_id")[columns]
        pd.testing.assert_frame_equal(found, mean[columns].mean(), check_exact=True)


def test_scores_equal_those_counted_by_hand(predictions):
    # rap: 1 right, 1 false alarm, 2 missed; classique: 1 right, 2 false alarms, 1 missed
    assert accuracy(predictions) == pytest.approx(2 / 5)
    f1 = f1_scores(predictions, GENRES)
    assert f1["rap"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 2))
    assert f1["classique"] == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))
    assert f1["macro"] == pytest.approx((f1["rap"] + f1["classique"]) / 2)
    assert confusion_matrix(predictions, GENRES).to_numpy().tolist() == [[1, 1], [2, 1]]


def test_f1_scores_do_not_depend_on_the_names_of_genres(predictions):
    new = {"classique": "zeta", "rap": "alpha"}
    renamed = predictions.assign(
        genre=predictions["genre"].map(new), predicted=predictions["predicted"].map(new)
    )
    before, after = f1_scores(predictions, GENRES), f1_scores(renamed, ["alpha", "zeta"])
    assert after["alpha"] == before["rap"]
    assert after["zeta"] == before["classique"]


def test_aggregate_tracks_keeps_repeats_apart(predictions):
    again = predictions.assign(
        prob_rap=1 - predictions["prob_rap"], repeat=1, track_temperature=2.0
    )
    again["prob_classique"] = 1 - again["prob_rap"]
    both = pd.concat([predictions.assign(repeat=0, track_temperature=1.5), again])
    by_track = aggregate_tracks(both, GENRES)
    assert by_track["repeat"].tolist() == [0, 0, 1, 1]
    assert by_track["temperature"].tolist() == [1.5, 1.5, 2, 2]
    assert by_track["predicted"].tolist() == ["rap", "classique", "classique", "rap"]


def test_f1_scores_of_an_absent_genre_are_0(predictions):
    assert f1_scores(predictions, [*GENRES, "jazz"])["jazz"] == 0


def test_format_interval_signs_differences():
    assert format_interval(0.9, 0.85, 0.95) == "0.900 (0.85–0.95)"
    assert format_interval(0.1, -0.05, 0.2, signed=True) == "+0.100 (-0.05 to +0.20)"


# -- runs --------------------------------------------------------------------------------------


def write_run(folder: Path, *, right=2, confidence=0.8, model="cnn", created="2026-01-01", **card):
    """Write a run that predicts ``right`` of the two tracks of each genre and split correctly."""
    rows = []
    for split in ("train", "validation", "test"):
        for genre in GENRES:
            for i in range(2):
                name = f"{genre}-{split}-{i}"
                is_right = i < right
                predicted = genre if is_right else next(g for g in GENRES if g != genre)
                row = {"track_id": name, "path": f"{genre}/{name}.mp3", "title": name}
                row |= {"artist": name, "group": name, "genre": genre, "split": split}
                row |= {"predicted": predicted, "temperature": 1.0, "track_temperature": 1.0}
                row |= {
                    f"prob_{g}": confidence if g == predicted else 1 - confidence for g in GENRES
                }
                rows += [row | {"segment": segment} for segment in (1, 2)]
    table = pd.DataFrame(rows)
    folder.mkdir(parents=True)
    columns = {name: card.pop(name) for name in ("source", "grouped_by") if name in card}
    table.drop(columns=["predicted", *probability_columns(GENRES)]).assign(**columns).to_parquet(
        folder / "segments.parquet"
    )
    table[table["split"] != "train"].to_parquet(folder / "predictions.parquet")
    split_by = card.pop("split_by", "artist")
    values = {
        "format": FORMAT,
        "name": folder.name,
        "uid": folder.name,
        "corpus": folder.parent.name,
        "corpus_hash": "1",
        "created": created,
        "genres": GENRES,
        "front_end": FrontEnd.preset("default").to_dict(),
        "recipe": Recipe.preset("default", model, split_by=split_by).to_dict(),
        "temperature": 1.0,
        "track_temperature": 1.0,
        "min_confidence": 0.6,
        "architecture": model,
        "parameters": 10,
        "training_time_s": 1.0,
        "validation_accuracy": right / 2,
        "inference_ms_per_segment": 1.0,
        "synthetic": False,
        "weights": "random",
    }
    (folder / CARD).write_text(json.dumps(values | card))
    return Run.read(folder)


@pytest.fixture
def models(home):
    return home / "models"


def test_find_best_run_takes_the_highest_balanced_accuracy_then_the_lowest_loss(models):
    write_run(models / "new" / "a-wrong", right=1, confidence=0.99)
    write_run(models / "new" / "b-unsure", right=2, confidence=0.7)
    write_run(models / "new" / "c-sure", right=2, confidence=0.9)
    write_run(models / "new" / "d-sure", right=2, confidence=0.9)
    assert find_best_run().name == "c-sure"


def test_runs_are_chosen_by_the_validation_and_compared_on_the_test(models):
    for name, p in (("a", 0.1), ("b", 0.9)):
        run = write_run(models / "music" / name)
        table = run.predictions
        test = table["split"] == "test"
        for genre in GENRES:
            is_right = table.loc[test, "genre"] == genre
            table.loc[test, f"prob_{genre}"] = np.where(is_right, p, 1 - p)
        table.to_parquet(run.folder / "predictions.parquet")
    assert find_best_run().name == "a"
    rows = comparison_table(read_runs("music")).set_index("run")
    assert rows.loc[["a", "b"], "test tracks right"].tolist() == ["0 of 4", "4 of 4"]


def test_find_best_run_looks_at_the_newest_corpus_only(models):
    write_run(models / "old" / "good", created="2026-01-01")
    write_run(models / "new" / "bad", right=1, created="2026-01-02")
    assert find_best_run().name == "bad"


def test_find_best_run_takes_a_leaky_validation_only_if_there_is_no_other(models):
    write_run(models / "music" / "leaky", split_by="segment")
    assert find_best_run().name == "leaky"
    write_run(models / "music" / "honest", right=1)
    assert find_best_run().name == "honest"


def test_find_best_run_leaves_out_runs_of_a_corpus_that_has_changed(models, caplog):
    write_run(models / "music" / "before", corpus_hash="0")
    write_run(models / "music" / "after", right=1, created="2026-01-02")
    assert find_best_run().name == "after"
    assert "before is left out" in caplog.text


def test_find_best_run_ignores_damaged_runs_of_other_corpora(models, caplog):
    write_run(models / "music" / "good")
    write_run(models / "other" / "bad")
    (models / "other" / "bad" / CARD).write_text("{}")
    assert find_best_run().name == "good"
    assert "is not a card of genrecls" in caplog.text


def test_runs_of_an_earlier_version_are_left_out(models, caplog):
    """As they are left beside those that were trained again."""
    old = write_run(models / "music" / "old")
    (old.folder / CARD).write_text(json.dumps(old.card | {"format": FORMAT - 1}))
    with pytest.raises(ModelError, match="that can be used.*genrecls train"):
        read_runs("music")
    write_run(models / "music" / "new")
    caplog.clear()
    assert find_best_run().name == "new"
    assert [run.name for run in read_runs("music")] == ["new"]
    assert caplog.text.count("made by an earlier version") == 2


def test_read_runs_leaves_out_copies_of_a_run(models, caplog):
    run = write_run(models / "music" / "run")
    shutil.copytree(run.folder, models / "music" / "a-backup")
    assert [found.folder.name for found in read_runs("music")] == ["run"]
    assert f"a-backup is left out: its name is that of the run in {run.folder}" in caplog.text


def test_runs_of_an_empty_project_are_an_error_that_says_what_to_do(home):
    with pytest.raises(ModelError, match="genrecls train"):
        find_best_run()
    with pytest.raises(ModelError, match="no run to choose from"):
        best_run([])
    # Benchmarks keep their models in folders that begin with a dot.
    (home / "models" / "music" / ".ablation").mkdir(parents=True)
    (home / "models" / "music" / ".ablation" / CARD).write_text("{}")
    with pytest.raises(ModelError, match=r"other corpora: none.*genrecls train"):
        read_runs("music")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("genres", ["rap", "rap"]),
        ("genres", ["rap"]),
        ("genres", "rap"),
        ("genres", [1, 2]),
        ("corpus", "../../etc"),
        ("corpus", ".."),
        ("corpus", ""),
        ("corpus", None),
        ("uid", 1),
        ("temperature", 0),
        ("track_temperature", "hot"),
        ("min_confidence", None),
        ("min_confidence", 2),
        ("synthetic", "no"),
        ("novelty_threshold", -1),
        ("front_end", {"sample_rat": 1}),
        ("front_end", {"image_db": [-80, 0, 1]}),
        ("recipe", None),
    ],
)
def test_read_refuses_a_damaged_card_and_names_the_key(models, key, value):
    folder = write_run(models / "music" / "run").folder
    card = json.loads((folder / CARD).read_text()) | {key: value}
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=f"damaged: its {key} is"):
        Run.read(folder)


@pytest.mark.parametrize(
    ("version", "message"),
    [(FORMAT + 1, "a later version.*update"), (FORMAT - 1, "an earlier version.*train")],
)
def test_read_refuses_other_formats_with_advice(models, version, message):
    folder = write_run(models / "music" / "run").folder
    card = json.loads((folder / CARD).read_text()) | {"format": version}
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=message):
        Run.read(folder)


def test_read_runs_puts_small_models_and_the_original_split_first(models):
    write_run(models / "music" / "a-large", parameters=10**7)
    write_run(models / "music" / "b-default")
    write_run(models / "music" / "c-original", split_by="segment")
    assert [run.name for run in read_runs("music")] == ["c-original", "b-default", "a-large"]


@pytest.mark.parametrize(
    ("sources", "synthetic"),
    [
        (["Synthetic, by genrecls demo", "synthetic"], True),
        (["synthetic", "a real record"], False),
        (["synthetic", None], False),
        (None, False),
    ],
)
def test_corpus_is_synthetic_if_all_its_sources_are(sources, synthetic):
    columns = {} if sources is None else {"source": sources}
    assert is_synthetic(pd.DataFrame({"path": ["a", "b"], **columns})) is synthetic


# -- tables of runs ----------------------------------------------------------------------------


def test_comparison_table_compares_runs_with_the_majority(models):
    run = write_run(models / "music" / "run", right=1, split_by="segment")
    majority, row = comparison_table([run]).to_dict("records")
    assert majority["architecture"] == "always classique"
    assert majority["test tracks right"] == "2 of 4" == row["test tracks right"]
    assert majority["test F1"] == pytest.approx(1 / 3, abs=0.001)
    assert row["test F1"] == 0.5
    assert row["validation split"] == "by segment (leaky)"
    # Wilson's interval of 2 in 4, as published tables have it.
    assert row["share interval"] == "0.15–0.85"
    assert comparison_table([]).empty


def test_comparison_table_warns_of_different_test_tracks(models, caplog):
    runs = [write_run(models / "music" / name) for name in "abc"]
    comparison_table(runs)
    assert not caplog.records
    table = runs[1].predictions
    table[table["track_id"] != "rap-test-1"].to_parquet(runs[1].folder / "predictions.parquet")
    comparison_table(runs)
    assert caplog.messages == [describe_test_tracks(runs)]
    assert describe_test_tracks(runs).endswith("with each other: a, c; b.")


def test_score_table_has_a_row_per_split(models):
    table = score_table([write_run(models / "music" / "run", right=2)])
    assert table["split"].tolist() == ["validation", "test"]
    assert table["balanced accuracy"].tolist() == ["1.000 (0.40–1.00)"] * 2
    assert (table[["groups", "tracks", "segments"]] == [4, 4, 8]).all(axis=None)


def test_split_table_counts_segments_tracks_and_artists(models):
    table = split_table(write_run(models / "music" / "run").segments)
    assert table.index.tolist()[3:] == [("rap", s) for s in ("train", "validation", "test")]
    assert table.loc["rap", "test"].to_dict() == {"segments": 4, "tracks": 2, "artists": 2}


def test_groups_are_not_called_artists_if_artists_are_unknown(models):
    run = write_run(models / "music" / "run", grouped_by="track")
    assert "groups" in split_table(run.segments)
    assert comparison_table([run])["validation split"].tolist() == ["–", "by group"]
    assert describe_groups(run.segments).startswith("No artist is known: ")
    some = run.segments["track_id"] == run.segments["track_id"].iloc[0]
    mixed = run.segments.assign(grouped_by=np.where(some, "track", "artist"))
    n = mixed["track_id"].nunique()
    assert describe_groups(mixed).startswith(f"The artist of 1 of {n} tracks is unknown: ")
    assert describe_groups(run.segments.assign(grouped_by="artist")) == ""


def test_runs_that_are_not_above_chance_are_marked(models):
    runs = [write_run(models / "music" / str(n), right=n, split_by="artist") for n in (1, 2)]
    table = comparison_table(runs)
    assert table["above chance"].tolist() == ["no", "no", "yes"]
    assert [run.validation_score for run in runs] == [0.5, 1]
    assert [run.n_validation_tracks for run in runs] == [4, 4]


def test_load_warns_of_a_run_that_is_not_above_chance(models, monkeypatch, caplog):
    monkeypatch.setattr("genrecls.classifier.check_model_file", lambda file: None)
    GenreClassifier.load(write_run(models / "music" / "good").folder)
    assert not caplog.records
    GenreClassifier.load(write_run(models / "music" / "bad", right=1).folder)
    assert "over 4 validation tracks is 0.50; do not use it" in caplog.text


def test_label_table_counts_the_labels_of_test_tracks(models):
    for limit, counts in ((0.6, [2, 1, 0, 1]), (0.7, [0, 0, 3, 1])):
        options = {"right": 1, "confidence": 0.65, "min_confidence": limit}
        run = write_run(models / "music" / str(limit), **options)
        table = run.predictions
        novelty = np.where(table["track_id"] == "rap-test-1", 2.0, 0.5)
        table.assign(novelty=novelty).to_parquet(run.folder / "predictions.parquet")
        [row] = label_table([run]).to_dict("records")
        assert [row[name] for name in ("right", "wrong", "not sure", "none of these")] == counts
        assert row["sure from"] == limit


def test_example_tracks_are_the_most_and_least_probable(models):
    run = write_run(models / "music" / "run", right=1)
    table = run.predictions.set_index("track_id")
    for name, p in (("classique-test-0", 0.8), ("classique-test-1", 0.7), ("rap-test-0", 0.6),
                    ("rap-test-1", 0.9)):  # fmt: skip
        table.loc[name, ["prob_rap", "prob_classique"]] = p, 1 - p
    table.reset_index().to_parquet(run.folder / "predictions.parquet")
    assert list(example_track_ids(run).items()) == [
        ("easy rap", "rap-test-1"),
        ("hard", "classique-test-1"),
        ("hardest", "classique-test-0"),
    ]


def test_segment_table_has_the_columns_of_the_original(models):
    run = write_run(models / "music" / "run", right=1)
    table = segment_table([run], "rap-test-1")
    assert table["songname"].tolist() == ["rap-test-1.mp3_1", "rap-test-1.mp3_2"]
    assert table["y_test"].tolist() == [1, 1]
    assert table["y_run"].tolist() == [0, 0]
    assert table["rap_prob"].tolist() == [0.2, 0.2]
