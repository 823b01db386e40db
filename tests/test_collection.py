"""What embeddings tell about a collection, on embeddings that are made by hand."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from genrecls import inspection
from genrecls.evaluation.calibration import add_predictions
from genrecls.evaluation.runs import Run
from genrecls.inspection import collection
from genrecls.report.collection import add_collection
from genrecls.report.document import Report

GENRES = ["a", "b", "c"]


def save_run(folder, embeddings, segments):
    """Save what the functions read of a run."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "embeddings.npy", embeddings)
    segments.to_parquet(folder / "segments.parquet")
    pd.DataFrame({"epoch": [0], "C": [10.0]}).to_parquet(folder / "history.parquet")
    genres = sorted(segments["genre"].unique())
    table = add_predictions(
        segments, np.full(((segments["split"] != "train").sum(), len(genres)), 0.5)
    )
    table.to_parquet(folder / "predictions.parquet")
    recipe = {"model": "musicnn", "backbone": "frozen", "head": "logistic"}
    return Run(folder, {"name": "x", "genres": genres, "recipe": recipe})


def make_segments(n_groups=5, n_segments=2):
    splits = ["test", "validation", *["train"] * n_groups]
    rows = [
        {"genre": genre, "track_id": f"{genre}{i}", "group": f"{genre}{i}", "split": splits[i]}
        | {"path": f"{genre}/{i}.mp3", "start_s": 15.0 * j, "sounding": 1.0}
        for genre in GENRES
        for i in range(n_groups)
        for j in range(n_segments)
    ]
    return pd.DataFrame(rows)


def make_embeddings(segments, rng, noise):
    labels = pd.factorize(segments["genre"])[0]
    return (np.eye(8)[labels] + rng.normal(0, noise, (len(segments), 8))).astype(np.float32)


@pytest.fixture(autouse=True)
def one_repeat(monkeypatch):
    monkeypatch.setattr(collection, "_REPEATS", 1)


@pytest.fixture
def run(tmp_path, rng):
    segments = make_segments()
    return save_run(tmp_path / "run", make_embeddings(segments, rng, 0.2), segments)


# The learning curve


def test_learning_curve_rises_with_the_number_of_groups(tmp_path, rng):
    segments = make_segments(n_groups=10)
    curve = inspection.learning_curve(
        save_run(tmp_path / "run", make_embeddings(segments, rng, 0.6), segments)
    )
    assert curve["groups"].tolist() == [1, 2, 4, 8]
    assert curve["value"].iloc[0] + 0.1 < curve["value"].iloc[-1] < 1
    assert (curve["low"] <= curve["value"]).all() and (curve["value"] <= curve["high"]).all()


@pytest.mark.parametrize(("n_groups", "sizes"), [(2, [1]), (3, [1, 2]), (5, [1, 2, 4])])
def test_learning_curve_ends_with_the_groups_outside_a_fold(tmp_path, rng, n_groups, sizes):
    segments = make_segments(n_groups)
    run = save_run(tmp_path / "run", make_embeddings(segments, rng, 0.1), segments)
    assert inspection.learning_curve(run)["groups"].tolist() == sizes


def test_learning_curve_knows_no_group_that_it_is_tested_on(tmp_path):
    """Each group is a cluster of its own; a head that was fitted on it would be right."""
    segments = make_segments()
    x = np.eye(15)[pd.factorize(segments["group"])[0]]
    curve = inspection.learning_curve(save_run(tmp_path / "run", x, segments))
    assert curve["value"].max() < 0.5


# Suspicious labels


def test_find_suspicious_labels_puts_wrong_labels_first(tmp_path, rng):
    segments = make_segments(n_groups=8)
    x = make_embeddings(segments, rng, 0.2)
    wrong = {"a1": "b", "b4": "c", "c0": "a"}
    segments["genre"] = segments["track_id"].map(wrong).fillna(segments["genre"])
    labels = inspection.find_suspicious_labels(save_run(tmp_path / "run", x, segments))
    assert len(labels) == 24 and labels["probability"].is_monotonic_increasing
    first = labels.head(3)
    assert dict(zip(first["track_id"], first["genre"], strict=True)) == wrong
    assert [t[0] for t in first["track_id"]] == first["predicted"].tolist()


def test_find_suspicious_labels_names_the_segment_that_fits_worst(tmp_path, rng):
    segments = make_segments(n_groups=6, n_segments=4)
    x = make_embeddings(segments, rng, 0.05)
    odd = (segments["track_id"] == "b2") & (segments["start_s"] == 30)
    x[odd] = make_embeddings(segments[segments["genre"] == "a"].head(1), rng, 0)
    labels = inspection.find_suspicious_labels(save_run(tmp_path / "run", x, segments))
    assert labels.iloc[0][["track_id", "start_s"]].tolist() == ["b2", 30.0]


# Neighbours


def test_nearest_segments_are_training_segments_of_different_tracks(run):
    nearest = inspection.nearest_segments(run, run.embeddings[:3], 4)
    assert nearest.groupby("query")["track_id"].nunique().tolist() == [4, 4, 4]
    train = set(run.segments.query("split == 'train'")["track_id"])
    assert set(nearest["track_id"]) <= train
    assert nearest.groupby("query")["similarity"].apply(lambda s: s.is_monotonic_decreasing).all()


def test_nearest_segments_finds_the_segment_itself_at_any_length_of_the_vector(run):
    row = run.segments.index[run.segments["split"] == "train"][5]
    [found] = inspection.nearest_segments(run, 7 * run.embeddings[[row]], 1).to_dict("records")
    assert found["similarity"] == pytest.approx(1)
    columns = ["track_id", "path", "genre", "start_s"]
    assert [found[c] for c in columns] == run.segments.loc[row, columns].tolist()


# The map


def test_embedding_map_is_reproducible_and_keeps_genres_together(run):
    tracks = inspection.embedding_map(run)
    pd.testing.assert_frame_equal(tracks, inspection.embedding_map(run))
    assert len(tracks) == 15
    points = tracks[["x", "y"]].to_numpy()
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    genres = tracks["genre"].to_numpy()
    assert (genres[distances.argmin(axis=1)] == genres).mean() > 0.8


@pytest.mark.parametrize("name", ["learning_curve", "find_suspicious_labels", "embedding_map"])
def test_run_without_embeddings_is_refused(run, name):
    (run.folder / "embeddings.npy").unlink()
    with pytest.raises(ValueError, match="'x' has no embeddings; train 'musicnn'"):
        getattr(inspection, name)(run)


# The report


def test_report_has_the_collection_of_runs_with_embeddings(run, tmp_path):
    report = Report("x", tmp_path / "reports")
    add_collection(report, [run])
    text = report.save().with_suffix(".md").read_text(encoding="utf-8")
    assert "## The collection" in text and "a/0.mp3" in text
    for name in ("embedding_map", "learning_curve", "suspicious_labels", "nearest_segments"):
        assert f"({name}.png)" in text
        assert len(pd.read_csv(report.folder / f"{name}.csv")) > 1
    (run.folder / "embeddings.npy").unlink()
    other = Report("y", tmp_path / "others")
    add_collection(other, [run])
    assert "collection" not in other.save().with_suffix(".md").read_text(encoding="utf-8")


def test_collection_needs_neither_model_nor_sound():
    code = "import sys, genrecls.inspection as i; i.learning_curve; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "genrecls.inspection.collection" in done.stdout.split(), done.stderr
    assert not {"tensorflow", "keras", "torch", "av", "soundfile"} & set(done.stdout.split())
