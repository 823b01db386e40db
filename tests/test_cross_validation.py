"""Cross-validation with models that are as quick as they are simple, and with one small net."""

import dataclasses
import json
import re
import shutil
import zlib
from unittest.mock import Mock

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, write_corpus

from genrecls import Corpus, FrontEnd, Recipe, audit, cross_validate, prepare
from genrecls._utils import cache
from genrecls.corpus.splits import assign_folds
from genrecls.errors import CorpusError, GenreclsError, ModelError
from genrecls.evaluation.calibration import fit_temperature, probability_columns
from genrecls.evaluation.runs import read_predictions
from genrecls.evaluation.scores import LOSSES, aggregate_tracks
from genrecls.evaluation.tables import (
    calibration_table,
    cross_validated_scores,
    leak_summary,
    leak_table,
    paired_table,
    summary_table,
)
from genrecls.training import baselines, cross_validation
from genrecls.training.cross_validation import Candidate, network_candidate

SMALL = FrontEnd(n_mels=80, hop_length=4096, segment_s=5.0)
PROBABILITIES = ["prob_classique", "prob_rap"]


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Two genres; of ``rap`` one artist has two tracks and one recording has two names."""
    root = write_corpus(tmp_path_factory.mktemp("music") / "small", seconds=11.0)
    rap = root / "rap"
    (rap / "rap 1 - Same Title.wav").rename(rap / "rap 0 - Other.wav")
    soundfile.write(rap / "Pirate - Copy.ogg", soundfile.read(rap / "rap 2 - Same Title.wav")[0],
                    RATE)  # fmt: skip
    return root


@pytest.fixture(scope="module")
def prepared(music, tmp_path_factory):
    """Return a project folder with the log-mels of the corpus."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("prepared")
        patch.setenv("GENRECLS_HOME", str(home))
        prepare(Corpus.read(music), SMALL, jobs=1, progress=False)
    return home


@pytest.fixture
def corpus(home, prepared, music):
    (home / "data").symlink_to(prepared / "data")
    return Corpus.read(music)


class Guess:
    """A model that favours the true genre, with noise by its seed and the segment.

    It keeps the tables that it was given. Its predictions do not depend on the order of the calls.
    """

    def __init__(self, *, fail_at=None, change=None):
        self.given, self.seeds, self.fail_at, self.change = [], [], fail_at, change

    def __call__(self, features, segments, random_seed):
        if len(self.given) == self.fail_at:
            raise KeyboardInterrupt
        self.given.append(segments)
        self.seeds.append(random_seed)
        held_out = segments[segments["split"] != "train"]
        genres = sorted(segments["genre"].unique())
        odds = []
        for row in held_out.itertuples():
            key = [random_seed, zlib.crc32(row.path.encode()), row.segment]
            lean = 1.0 * (np.array(genres) == row.genre)
            odds.append(np.exp(lean + np.random.default_rng(key).normal(size=len(genres))))
        p = np.array(odds)
        if self.change is not None and len(self.given) - 1 == self.change:
            p = 1 / p
        return p / p.sum(axis=1, keepdims=True)


def model_of(fit_predict, name="guess", **settings):
    return Candidate(name, SMALL, fit_predict, settings)


def validated(corpus, model, **options):
    options = {"folds": 4, "repeats": 2, "jobs": 1, "progress": False} | options
    return cross_validate(corpus, model, **options)


def folds_of(segments, repeat):
    return assign_folds(segments, folds=4, random_seed=repeat)


# -- training and test sides ----------------------------------------------------------


def test_every_segment_is_tested_once_in_each_repeat(corpus):
    guess = Guess()
    found = validated(corpus, model_of(guess), repeats=3)
    segments = guess.given[0]
    assert len(found) == 3 * len(segments)
    assert (found["split"] == "test").all()
    assert not found.duplicated(["repeat", "track_id", "segment"]).any()
    assert found.groupby("repeat").size().tolist() == [len(segments)] * 3
    assert guess.seeds == [0] * 4 + [1] * 4 + [2] * 4
    # Tracks that the corpus names for the test are trained on like all others.
    assert found["path"].str.contains("_test/").any()
    for _, held_out in found.groupby(["repeat", "fold"]):
        assert set(held_out["genre"]) == {"classique", "rap"}
    folds = found.drop_duplicates(["repeat", "track_id"]).pivot(
        index="track_id", columns="repeat", values="fold"
    )
    assert not folds[0].equals(folds[1])
    assert not folds[1].equals(folds[2])


def test_no_model_is_trained_on_a_group_recording_or_file_of_its_test(corpus):
    guess = Guess()
    found = validated(corpus, model_of(guess))
    assert len(guess.given) == 8
    for segments in guess.given:
        train, test = (segments[segments["split"] == side] for side in ("train", "test"))
        assert len(train) + len(test) == len(segments)
        for column in ("group", "recording", "sha256", "track_id"):
            assert not set(train[column]) & set(test[column])
    # The corpus has an artist with two tracks, and a copy under another name.
    copies = found[found["path"].isin(["rap/Pirate - Copy.ogg", "rap/rap 2 - Same Title.wav"])]
    assert copies["track_id"].nunique() == 2
    assert copies["artist"].nunique() == 2
    assert copies["recording"].nunique() == copies["group"].nunique() == 1
    assert (copies.groupby("repeat")["fold"].nunique() == 1).all()
    assert found.query("genre == 'rap'").groupby("group")["track_id"].nunique().max() == 2


def test_probabilities_are_beside_their_segments(corpus):
    guess = Guess()
    found = validated(corpus, model_of(guess))
    again = Guess()
    for (repeat, fold), rows in found.groupby(["repeat", "fold"]):
        given = guess.given[4 * repeat + fold]
        expected = again(None, given, repeat)
        np.testing.assert_allclose(rows[PROBABILITIES], expected)
        held_out = given[given["split"] == "test"]
        for column in ("path", "segment", "genre"):
            assert rows[column].tolist() == held_out[column].tolist()
        names = np.array(["classique", "rap"])[expected.argmax(axis=1)]
        assert rows["predicted"].tolist() == names.tolist()


def test_number_of_folds_is_limited_by_the_smallest_genre(corpus, home):
    found = validated(corpus, model_of(Guess()), folds=5, repeats=1)
    assert found.query("genre == 'classique'")["group"].nunique() == 5
    assert found.query("genre == 'rap'")["group"].nunique() == 4
    assert found["fold"].nunique() == 4
    assert (found.groupby("fold")["genre"].nunique() == 2).all()
    card = json.loads((home / "models/small/cross_validation/guess/card.json").read_text())
    assert (card["folds"], card["folds_used"]) == (5, 4)


def test_cross_validate_refuses_a_genre_with_one_artist(music, home, prepared, tmp_path):
    (home / "data").symlink_to(prepared / "data")
    root = tmp_path / "small"
    shutil.copytree(music / "classique", root / "classique")
    (root / "rap").mkdir()
    shutil.copy(music / "rap" / "rap 0 - Same Title.wav", root / "rap")
    shutil.copy(music / "rap" / "rap 0 - Other.wav", root / "rap")
    with pytest.raises(CorpusError, match="genre 'rap' has only one group"):
        validated(Corpus.read(root), model_of(Guess()))


# -- on disk -----------------------------------------------------------------------------------


def test_an_interrupted_cross_validation_continues(corpus, home, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        validated(corpus, model_of(Guess(fail_at=2)))
    with pytest.raises(ModelError):
        read_predictions("small")
    rest = Guess()
    resumed = validated(corpus, model_of(rest))
    assert len(rest.given) == 8 - 2
    folder = home / "models/small/cross_validation/guess"
    files = {"card.json", "index.json", "predictions.parquet"}
    assert {f.name for f in folder.iterdir()} == files
    assert not list(home.glob("data/cross_validation-*/*"))
    other_home = home / "elsewhere"
    other_home.mkdir()
    (other_home / "data").symlink_to(home / "data")
    monkeypatch.setenv("GENRECLS_HOME", str(other_home))
    whole = Guess()
    pd.testing.assert_frame_equal(resumed, validated(corpus, model_of(whole)))
    assert len(whole.given) == 8


def test_a_faster_process_may_finish_and_delete_the_folds(corpus):
    class Slow(Guess):
        def __call__(self, *arguments):
            if len(self.given) == 5:  # now the other process does all the rest
                self.faster = validated(corpus, model_of(Guess()))
            return super().__call__(*arguments)

    slow = Slow()
    pd.testing.assert_frame_equal(validated(corpus, model_of(slow)), slow.faster)
    assert len(slow.given) == 8


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(corpus, home):
    (home / "models" / "small").touch()
    guess = Guess()
    with pytest.raises(GenreclsError, match="cannot be written .*get the right to write there"):
        validated(corpus, model_of(guess))
    assert not guess.given


def test_a_finished_cross_validation_is_read(corpus):
    first = validated(corpus, model_of(Guess()))
    again = validated(corpus, model_of(Guess(fail_at=0)))
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize("name", ["card.json", "predictions.parquet", "index.json"])
def test_a_damaged_cross_validation_is_left_out_and_made_again(corpus, home, caplog, name):
    first = validated(corpus, model_of(Guess()))
    folder = home / "models/small/cross_validation/guess"
    (folder / name).write_text("")
    with pytest.raises(ModelError, match="run 'genrecls crossval'"):
        read_predictions("small")
    pd.testing.assert_frame_equal(first, validated(corpus, model_of(Guess())))
    assert len(read_predictions("small")[0])
    [record] = caplog.records
    assert f"{folder} is damaged" in record.getMessage()


def test_a_damaged_fold_is_predicted_again_with_one_warning(corpus, home, caplog):
    for fail_at in (2, 1):  # the second time, one of two folds is damaged
        with pytest.raises(KeyboardInterrupt):
            validated(corpus, model_of(Guess(fail_at=fail_at)))
        folds = sorted(home.glob("data/cross_validation-*/*"))
        assert len(folds) == 2
        (folds[0] / "predictions.parquet").write_text("")
    rest = Guess()
    validated(corpus, model_of(rest))
    assert len(rest.given) == 8 - 1
    [record] = caplog.records
    assert "is damaged; it is computed again" in record.getMessage()


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (model_of(None, width=2), {}),
        (dataclasses.replace(model_of(None, width=1), front_end=dataclasses.replace(
            SMALL, floor_db=-70.0)), {}),
        (model_of(None, width=1), {"folds": 3}),
        (model_of(None, width=1), {"repeats": 1}),
    ],
    ids=["setting", "front end", "folds", "repeats"],
)  # fmt: skip
def test_a_changed_setting_is_computed_again(corpus, model, options):
    validated(corpus, model_of(Guess(), width=1))
    guess = Guess()
    validated(corpus, dataclasses.replace(model, fit_predict=guess), **options)
    assert len(guess.given) == options.get("folds", 4) * options.get("repeats", 2)


def test_changed_sound_is_computed_again(corpus, music, tmp_path):
    before = validated(corpus, model_of(Guess()))
    root = tmp_path / "small"
    shutil.copytree(music, root)
    file = root / "rap" / "rap 0 - Other.wav"
    soundfile.write(file, 0.5 * soundfile.read(file)[0], RATE)
    guess = Guess()
    after = validated(Corpus.read(root), model_of(guess))
    assert len(guess.given) == 8
    assert set(after["sha256"]) != set(before["sha256"])


def test_read_predictions_returns_one_table(corpus, home):
    runs = [
        validated(corpus, model_of(Guess(), "first")),
        validated(corpus, model_of(Guess(), "second", width=3)),
        validated(corpus, model_of(Guess(), "first"), split_by="segment"),
    ]
    table, cards = read_predictions("small")
    assert set(cards) == {"first", "second", "first-by-segment"} == set(table["run"])
    assert len(table) == sum(map(len, runs))
    assert cards["second"]["model"] == {"width": 3}
    assert cards["second"]["split_by"] is None
    assert cards["first-by-segment"]["name"] == "first"
    assert cards["first-by-segment"]["split_by"] == "segment"
    assert FrontEnd.from_dict(cards["first"]["front_end"]) == SMALL
    assert cards["first"]["genres"] == ["classique", "rap"]
    assert cards["first"]["repeats"] == 2
    for run in runs:
        of_run = table[table["run"] == run["run"].iloc[0]].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_run[run.columns], run)


def test_results_of_another_version_are_left_out_until_they_are_made_again(
    corpus, caplog, monkeypatch
):
    validated(corpus, model_of(Guess(), "old"))
    monkeypatch.setitem(cache.VERSIONS, "cross_validation", 99)
    with pytest.raises(ModelError, match="run 'genrecls crossval'"):
        read_predictions("small")
    validated(corpus, model_of(Guess(), "new"))
    assert set(read_predictions("small")[1]) == {"new"}
    assert "old is left out: it was made by another version" in caplog.text
    validated(corpus, model_of(Guess(), "old"))
    assert set(read_predictions("small")[1]) == {"new", "old"}


def test_a_card_is_written_again_without_predicting_again(corpus, home):
    """As one without a version, or after a change of tracks that cannot be used."""
    first = validated(corpus, model_of(Guess()))
    file = home / "models/small/cross_validation/guess/card.json"
    card = json.loads(file.read_text())
    with cache.new(file.parent, replace=True) as (folder, meta):
        meta["uid"] = card["uid"]
        (folder / file.name).write_text(json.dumps(card | {"version": None, "corpus_hash": ""}))
        first.to_parquet(folder / "predictions.parquet")
    again = validated(corpus, model_of(Guess(fail_at=0)))
    pd.testing.assert_frame_equal(first, again)
    assert json.loads(file.read_text()) == card
    assert len(read_predictions("small")[0]) == len(first)


def test_read_predictions_refuses_a_corpus_without_cross_validation(home):
    with pytest.raises(ModelError, match="no model of 'small' has been cross-validated"):
        read_predictions("small")


# -- validation, temperature -------------------------------------------------------------------


@pytest.mark.parametrize("by", ["segment", "track", "artist"])
def test_split_by_holds_a_validation_out_of_the_training_side(corpus, by):
    plain = validated(corpus, model_of(Guess()))
    guess = Guess()
    found = validated(corpus, model_of(guess), split_by=by)
    assert set(found["run"]) == {f"guess-by-{by}"}
    assert set(found["split"]) == {"validation", "test"}
    test = found[found["split"] == "test"].reset_index(drop=True)
    columns = ["path", "segment", "repeat", "fold", "predicted", *PROBABILITIES]
    pd.testing.assert_frame_equal(test[columns], plain[columns])
    shared = {"track_id": 0, "group": 0}
    for segments in guess.given:
        sides = dict(iter(segments.groupby("split")))
        assert set(sides) == {"train", "validation", "test"}
        assert set(sides["validation"]["genre"]) == {"classique", "rap"}
        heard = pd.concat([sides["train"], sides["validation"]])
        assert not set(sides["test"]["group"]) & set(heard["group"])
        for column in shared:
            on_both = set(sides["train"][column]) & set(sides["validation"][column])
            shared[column] += bool(on_both)
    assert (shared["track_id"] > 0) == (by == "segment")
    assert (shared["group"] > 0) == (by in ("segment", "track"))


def test_temperature_of_a_fold_is_fitted_to_the_tests_of_the_others(corpus):
    found = validated(corpus, model_of(Guess()))
    for (repeat, fold), rows in found.groupby(["repeat", "fold"]):
        others = found[(found["repeat"] == repeat) & (found["fold"] != fold)]
        expected = fit_temperature(others, corpus.genres)
        assert rows["temperature"].unique().tolist() == pytest.approx([expected])
        tracks = others.groupby(["track_id", "genre", "group"])[PROBABILITIES].mean().reset_index()
        expected = fit_temperature(tracks, corpus.genres)
        assert rows["track_temperature"].unique().tolist() == pytest.approx([expected])
        by_track = aggregate_tracks(rows, corpus.genres)
        assert by_track["temperature"].unique().tolist() == pytest.approx([expected])


@pytest.mark.parametrize("split_by", [None, "segment"])
def test_predictions_of_a_fold_do_not_change_its_temperature(corpus, split_by):
    first = validated(corpus, model_of(Guess(), n=1), split_by=split_by)
    changed = model_of(Guess(change=2), n=2)  # the third fold of the first repeat
    second = validated(corpus, changed, split_by=split_by)
    other = first[PROBABILITIES].ne(second[PROBABILITIES]).any(axis=1)
    assert set(map(tuple, first.loc[other, ["repeat", "fold"]].to_numpy())) == {(0, 2)}
    t1, t2 = (t.groupby(["repeat", "fold"])["temperature"].first() for t in (first, second))
    same = t1.index[t1 == t2].tolist()
    assert same == [(0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]


# -- real models -------------------------------------------------------------------------------


def test_baselines_weight_segments_by_their_sound(rng):
    """Each of two sounds also has the other genre, in more segments, which are nearly silent."""
    rows = [("a", "classique", 1.0)] * 5 + [("a", "rap", 0.01)] * 20
    rows += [("b", "rap", 1.0)] * 4 + [("b", "classique", 0.01)] * 20
    table = pd.DataFrame(rows, columns=["track_id", "genre", "sounding"]).assign(split="train")
    test = pd.DataFrame({"track_id": ["a", "b"], "genre": "rap", "sounding": 1.0, "split": "test"})
    table = pd.concat([table, test], ignore_index=True)
    log_mels = rng.normal(-40, 1, (len(table), 40, 30, 1))
    log_mels[table["track_id"] == "b"] += np.linspace(0, 20, 40)[:, None, None]
    features = Mock(log_mels=lambda segments: log_mels[segments.index])
    number = pd.Series({"a": 0.0, "b": 1.0})
    for model in (baselines.mfcc_svm(SMALL), baselines.one_number("n", number, SMALL)):
        by_sound = model.fit_predict(features, table, 0).argmax(axis=1)
        by_count = model.fit_predict(features, table.assign(sounding=1.0), 0).argmax(axis=1)
        assert by_sound.tolist() == [0, 1]
        assert by_count.tolist() == [1, 0]
    shares = baselines.majority(SMALL).fit_predict(features, table, 0)
    np.testing.assert_allclose(shares, [[5.2 / 9.4, 4.2 / 9.4]] * 2)


def test_mfcc_svm_loads_a_batch_of_log_mels_at_once(rng, monkeypatch):
    monkeypatch.setattr(baselines, "_BATCH", 7)
    table = pd.DataFrame({"genre": ["a", "b"] * 20, "sounding": 1.0})
    table["split"] = np.repeat(["train", "test"], 20)
    log_mels = rng.normal(-40, 10, (40, 40, 31, 1)).astype(np.float32)
    features = Mock(log_mels=Mock(side_effect=lambda batch: log_mels[batch.index]))
    by_batches = baselines.mfcc_svm(SMALL).fit_predict(features, table, 0)
    assert [len(call.args[0]) for call in features.log_mels.call_args_list] == [7] * 5 + [5]
    monkeypatch.setattr(baselines, "_BATCH", 40)
    at_once = baselines.mfcc_svm(SMALL).fit_predict(features, table, 0)
    np.testing.assert_array_equal(by_batches, at_once)


@pytest.mark.parametrize("kind", ["telling", "constant", "names"])
def test_one_number_separates_tracks_by_their_number_alone(corpus, kind):
    tracks = corpus.tracks.set_index("track_id")
    is_rap = tracks["genre"] == "rap"
    values = {
        "telling": is_rap * 2.0 + np.linspace(0, 1, len(tracks)),
        "constant": pd.Series(1.0, tracks.index),
        "names": is_rap.map({True: "MP3", False: "FLAC"}),
    }[kind]
    found = validated(corpus, baselines.one_number(kind, values, SMALL), repeats=1)
    assert set(found["run"]) == {f"{kind}-alone"}
    if kind == "constant":
        assert (found[PROBABILITIES] == 0.5).all(axis=None)
    else:
        assert (found["predicted"] == found["genre"]).mean() > 0.9


FOR_NETS = dataclasses.replace(SMALL, segment_s=10.0)


@pytest.mark.parametrize("split_by", [None, "segment"])
def test_network_is_trained_for_every_fold(corpus, split_by):
    """The cross-validation decides how a validation is held out, not the recipe."""
    model = network_candidate("cnn-default", Recipe(epochs=1), FOR_NETS)
    found = validated(corpus, model, folds=2, repeats=1, split_by=split_by)
    assert set(found["split"]) == ({"test", "validation"} if split_by else {"test"})
    np.testing.assert_allclose(found[PROBABILITIES].sum(axis=1), 1, atol=1e-5)
    test = found[found["split"] == "test"]
    assert not test.duplicated(["track_id", "segment"]).any()
    assert test["fold"].nunique() == 2


def test_network_gets_the_seed_of_the_repeat(corpus, monkeypatch):
    seen = []

    def fit(features, segments, recipe, **_):
        seen.append(recipe.random_seed)
        return Mock(probabilities=Guess()(features, segments, recipe.random_seed))

    monkeypatch.setattr(baselines, "fit", fit)
    recipe = Recipe(random_seed=7)
    validated(corpus, network_candidate("cnn", recipe, SMALL), folds=2, repeats=3)
    assert len(seen) == 6
    assert len(set(seen)) == 3
    assert seen[::2] == seen[1::2]


# -- the front door ----------------------------------------------------------------------------


def test_cross_validate_takes_a_path_and_several_models(small_corpus, home):
    options = {"folds": 2, "repeats": 1, "jobs": 1, "progress": False}
    models = ["majority", "mfcc_svm", model_of(Guess())]
    found = cross_validate(small_corpus, models, **options)
    assert found["run"].unique().tolist() == ["majority", "mfcc_svm", "guess"]
    assert found.groupby("run")["track_id"].nunique().nunique() == 1
    alone = cross_validate(small_corpus, "mfcc_svm", **options)
    of_svm = found[found["run"] == "mfcc_svm"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, of_svm)
    with pytest.raises(ValueError, match="no model to cross-validate"):
        cross_validate(small_corpus, [])
    with pytest.raises(ValueError, match="same name; give each its own: majority, majority"):
        cross_validate(small_corpus, ["majority", "majority"], **options)
    with pytest.raises(ValueError, match="there is no model 'forest'.* choose from"):
        cross_validate(small_corpus, "forest", **options)


@pytest.mark.parametrize(
    ("model", "preset", "name", "front_end"),
    [
        ("majority", "original", "majority", "original"),
        ("compact_cnn", "default", "compact_cnn-default", "default"),
        ("cnn", "original", "cnn-original", "original"),
        ("cnn-original", "default", "cnn-original", "original"),
        ("efficientnet_lite0-default-weights-random", "default", None, "default"),
        (Recipe(epochs=3), "default", "cnn-default-epochs-3", "default"),
    ],
)
def test_find_candidate_takes_names_presets_and_recipes(corpus, model, preset, name, front_end):
    candidate = cross_validation._find_candidate(model, corpus, preset)
    assert candidate.name == (name or model)
    assert candidate.front_end == FrontEnd.preset(front_end)


def test_find_candidate_finds_the_best_number_of_the_audit(corpus):
    options = {"jobs": 1, "progress": False}
    candidate = cross_validation._find_candidate("one_number", corpus, "default", **options)
    best = audit(corpus, **options).confounds["confound"].iloc[0]
    assert candidate.name == f"{best}-alone"


def test_find_candidate_identifies_the_users_own_builder(corpus):
    def candidate(units):
        def own(input_shape, n_classes):
            inputs = keras.Input(input_shape)
            x = keras.layers.GlobalAveragePooling2D()(inputs)
            x = keras.layers.Dense(units)(x)
            outputs = keras.layers.Dense(n_classes, activation="softmax")(x)
            return keras.Model(inputs, outputs)

        return cross_validation._find_candidate(own, corpus, "default")

    small, again, wide = candidate(3), candidate(3), candidate(4)
    assert small.name == wide.name == "own-default"
    assert small.settings == again.settings != wide.settings


# -- from predictions to tables ----------------------------------------------------------------


def test_tables_take_more_than_two_genres(tmp_path, home):
    k, genres = 5, [f"genre {letter}" for letter in "abcde"]
    root = write_corpus(tmp_path / "many", genres=genres, artists=2, seconds=5.1)
    corpus = Corpus.read(root)
    guess = model_of(Guess())
    validated(corpus, guess, folds=2)
    validated(corpus, guess, folds=2, split_by="artist")
    validated(corpus, baselines.majority(SMALL), folds=2)
    validated(corpus, baselines.mfcc_svm(SMALL), folds=2)
    predictions, cards = read_predictions("many")
    tidy = cross_validated_scores(predictions, genres)
    runs = {"guess", "guess-by-artist", "majority", "mfcc_svm"}
    assert set(tidy["run"]) == runs
    assert set(tidy["score"]) == {"balanced accuracy", "macro F1", "AUC", "accuracy", *LOSSES,
                                  *(f"recall {genre}" for genre in genres)}  # fmt: skip
    assert (tidy[["groups", "tracks", "segments"]] == 4 * k).all(axis=None)
    assert (tidy["fewest groups"] == 4).all()
    assert (tidy["repeats"] == 2).all()
    assert (tidy["low"] <= tidy["high"]).all()
    # Saying always the same is right once in k.
    one_in_k = tidy.query("run == 'majority' and score == 'balanced accuracy'")["value"]
    assert one_in_k.tolist() == pytest.approx([1 / k, 1 / k])
    for level in ("track", "segment"):
        headline = summary_table(tidy, level)
        assert headline["run"].iloc[0] == "majority"
        assert set(headline["run"]) == runs
        assert headline.query("run == 'majority'")["AUC"].str.startswith("0.500").all()
        assert not set(LOSSES) & set(headline)
        assert headline["macro F1"].str.fullmatch(r"\d\.\d{3} \(\d\.\d\d–\d\.\d\d\)").all()
    paired = paired_table(predictions, genres, against="guess").set_index("guess minus")
    assert set(paired.index) == runs - {"guess"}
    same = paired.loc["guess-by-artist"]
    # Models that agree on these groups may differ on others.
    ends = re.fullmatch(r"\+0\.000 \(-(.+) to \+(.+)\)", same["balanced accuracy, tracks"])
    assert float(ends[1]) == float(ends[2]) > 0.1
    assert same["McNemar p"] == "1"
    assert same["only guess right"] == 0
    assert paired.loc["majority", "balanced accuracy, tracks"].startswith("+")
    calibration = calibration_table(predictions, genres)
    assert len(calibration) == 8
    assert (calibration["tracks"] == 4 * k).all()
    certain = calibration.query("run == 'majority'")
    assert certain["NLL before"].tolist() == pytest.approx([np.log(k)] * 2, abs=0.001)
    leaks = leak_table(predictions, cards)
    assert leaks["model"].unique().tolist() == ["guess"]
    assert len(leaks) == 1
    assert (leaks["validation"] - leaks["test"]).tolist() == pytest.approx(leaks["optimism"])
    assert (leaks["optimism low"] <= leaks["optimism high"]).all()
    headline = leak_summary(leaks)
    assert headline["validation by"].tolist() == ["artist"]
    assert (
        headline["optimism"].str.fullmatch(r"[+-]\d\.\d{3} \([+-]\d\.\d\d to [+-]\d\.\d\d\)").all()
    )


def test_paired_table_compares_common_tracks_only(corpus):
    """As if each of two front ends left out a silent track that the other one uses."""
    first = validated(corpus, model_of(Guess()))
    a, b, *_ = first["track_id"].unique()
    tables = {"x": first[first["track_id"] != a], "y": first[first["track_id"] != b]}
    predictions = pd.concat([table.assign(run=run) for run, table in tables.items()])
    [row] = paired_table(predictions, corpus.genres, against="x").to_dict("records")
    assert row["tracks"] == first["track_id"].nunique() - 2
    assert row["macro F1, segments"].startswith("+0.000")
    assert row["McNemar p"] == "1"


def test_leak_table_shows_the_optimism_of_a_leaky_validation(corpus):
    """A model that recognizes the tracks of its training and guesses all others."""

    def remember(features, segments, random_seed):
        train = segments[segments["split"] == "train"]
        held_out = segments[segments["split"] != "train"]
        known = held_out["track_id"].isin(train["track_id"])
        right = (held_out["genre"] == "rap").to_numpy(float)
        p = np.where(known, 0.05 + 0.9 * right, 0.6)
        return np.stack([1 - p, p], axis=1)

    for by in ("segment", "track", "artist"):
        validated(corpus, model_of(remember, "memory"), split_by=by)
    table = leak_table(*read_predictions("small"))
    assert table["validation by"].tolist() == ["segment", "track", "artist"]
    optimism = table.set_index("validation by")["optimism"]
    assert optimism["segment"] > 0.25
    assert abs(optimism["artist"]) < 0.2
    segment = table.set_index("validation by").loc["segment"]
    assert segment["optimism low"] > 0
    assert segment["test"] == pytest.approx(0.5, abs=0.1)


def test_optimism_does_not_come_from_other_shares_of_the_genres(corpus):
    """A model that always predicts one genre cannot profit from a leak."""
    always = model_of(
        lambda _, segments, __: np.tile([0.9, 0.1], (sum(segments["split"] != "train"), 1)),
        "always",
    )
    validated(corpus, always, split_by="artist")
    [row] = leak_table(*read_predictions("small")).to_dict("records")
    assert row["validation"] == row["test"] == 0.5
    assert row["optimism"] == 0


def test_leak_table_is_empty_without_a_validation(corpus):
    validated(corpus, model_of(Guess()))
    assert leak_table(*read_predictions("small")).empty


def test_calibration_improves_the_losses_of_many_segments():
    """A model that is too confident; the temperatures come from the other folds."""
    rng = np.random.default_rng(0)
    genres = ["a", "b", "c"]
    logits = rng.normal(size=(3000, 3)) * 1.5
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure = right**3 / (right**3).sum(axis=1, keepdims=True)
    labels = (right.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)
    table = pd.DataFrame(sure, columns=probability_columns(genres)).assign(
        genre=np.array(genres)[labels], predicted=np.array(genres)[sure.argmax(axis=1)],
        run="x", split="test", repeat=0, fold=np.arange(3000) % 5, segment=1,
        track_id=np.arange(3000), path="p", title="", artist="", group=np.arange(3000),
    )  # fmt: skip
    table = cross_validation.fit_temperatures(table, genres)
    np.testing.assert_allclose(table["temperature"], 3, rtol=0.1)
    row = calibration_table(table, genres).query("level == 'segment'").iloc[0]
    for name in LOSSES:
        assert row[f"{name} after"] < row[f"{name} before"]
    assert row["ECE after"] < 0.03


def test_summary_states_the_repeats_of_each_run_if_they_differ(corpus):
    once = validated(corpus, baselines.majority(SMALL), repeats=1)
    twice = validated(corpus, model_of(Guess()), repeats=2)
    scores = cross_validated_scores(pd.concat([once, twice]), corpus.genres)
    table = summary_table(scores, "track").set_index("run")
    assert table["repeats"].to_dict() == {"majority": 1, "guess": 2}
    assert "repeats" not in summary_table(cross_validated_scores(twice, corpus.genres), "track")


def test_comparison_candidates_are_the_baselines_and_the_networks(corpus):
    models = baselines.comparison_candidates(corpus, jobs=1, progress=False)
    number, *rest = models
    assert number.endswith("-alone")
    assert rest == ["majority", "mfcc_svm", "cnn-original", "cnn-default", "compact_cnn-default",
                    "inception_resnet_v2-default", "efficientnet_lite0-default",
                    "efficientnet_lite0-default-weights-random",
                    "efficientnet_lite0_frozen-default", "musicnn-default",
                    "musicnn-default-weights-mtt", "musicnn-default-weights-random"]  # fmt: skip
    assert models["musicnn-default"].front_end == FrontEnd.preset("musicnn")
    assert models["cnn-original"].front_end == FrontEnd.preset("original")


def test_read_predictions_leaves_out_runs_before_a_change_of_the_corpus(tmp_path, home, caplog):
    root = write_corpus(tmp_path / "music", artists=2, seconds=5.1)
    validated(Corpus.read(root), baselines.majority(SMALL), folds=2)
    next((root / "rap").glob("*.wav")).unlink()
    validated(Corpus.read(root), baselines.mfcc_svm(SMALL), folds=2)
    predictions, cards = read_predictions("music")
    assert set(cards) == set(predictions["run"]) == {"mfcc_svm"}
    assert "majority is left out" in caplog.text
