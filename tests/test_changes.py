"""Changes of a corpus after the training."""

import shutil

import pytest
import soundfile

from genrecls import Corpus
from genrecls.corpus import describe_changes
from genrecls.corpus.splits import split_hash
from genrecls.evaluation.runs import Run


@pytest.fixture
def corpus(small_corpus, tmp_path):
    return shutil.copytree(small_corpus, tmp_path / "music" / "small")


@pytest.fixture
def run(corpus, home):
    """Return a run whose tables are those of the corpus."""
    read = Corpus.read(corpus)
    left_out = "classique/classique 0 - Same Title.wav"
    read.tracks[read.tracks["path"] != left_out].to_parquet(home / "segments.parquet")
    card = {"corpus": read.name, "corpus_hash": split_hash(read.tracks)}
    return Run(home, card | {"left_out": [{"path": left_out, "reason": "short"}]})


def test_an_unchanged_corpus_has_no_changes(corpus, run):
    assert describe_changes(run) == ""


CHANGES = {
    "1 added": lambda c: shutil.copy(c / "rap/rap 0 - Same Title.wav", c / "rap/new - a.wav"),
    "1 removed": lambda c: (c / "rap/rap 0 - Same Title.wav").unlink(),
    "1 added, 1 removed": lambda c: (c / "classique/classique 0 - Same Title.wav").rename(
        c / "rap/classique 0 - Same Title.wav"
    ),
    "1 with another content": lambda c: soundfile.write(
        c / "rap/rap 1 - Same Title.wav", [0.0] * 9000, 8000
    ),
}


@pytest.mark.parametrize("changes", CHANGES)
def test_changes_of_a_corpus_are_counted(corpus, run, changes):
    CHANGES[changes](corpus)
    assert describe_changes(run) == (
        f"The corpus 'small' has changed since its models were trained (tracks: {changes}). "
        "Train them again."
    )


def test_a_track_that_is_still_unreadable_is_not_removed(corpus, run):
    (corpus / "rap" / "broken.wav").symlink_to("nowhere.wav")
    run.card["left_out"].append(
        {"path": "rap/broken.wav", "reason": "'rap/broken.wav' cannot be read: gone"}
    )
    (corpus / "rap/rap 0 - Same Title.wav").unlink()
    assert "(tracks: 1 removed)" in describe_changes(run)


def test_tracks_of_another_genre_are_counted(corpus, home, run):
    table = Corpus.read(corpus).tracks[["path", "genre", "artist", "title", "split"]]
    table.loc[table["artist"] == "rap 2", "genre"] = "classique"
    table.to_csv(corpus / "tracks.csv", index=False)
    assert "(tracks: 1 of another genre)" in describe_changes(run)


def test_other_artists_are_a_change(corpus, run):
    table = Corpus.read(corpus).tracks[["path", "genre", "artist", "title", "split"]]
    table.assign(artist=table["artist"] + "x").to_csv(corpus / "tracks.csv", index=False)
    assert "(tracks: other artists, albums, titles or splits)" in describe_changes(run)


def test_a_corpus_that_cannot_be_read_any_more_is_named(corpus, run):
    shutil.rmtree(corpus / "rap")
    shutil.rmtree(corpus / "rap_test")
    assert "The corpus 'small' cannot be read any more: " in describe_changes(run)


def test_a_corpus_that_is_gone_has_no_changes(corpus, run):
    shutil.rmtree(corpus)
    assert describe_changes(run) == ""
