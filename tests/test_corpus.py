import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls import Corpus, assign_splits, split_table
from genrecls.corpus import CorpusError, LeakError, check_no_leak, split_hash


def make_files(root, *names):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"%d" % i)
    return root


def test_folders_are_genres_and_test_folders_their_test_tracks(tmp_path):
    make_files(tmp_path, "rap/MC - One.mp3", "rap/Crew/Two.wav", "rap_test/Three.ogg",
               "classique/Four.FLAC", "classique/cover.jpg", ".hidden/x.mp3")  # fmt: skip
    tracks = Corpus.read(tmp_path).tracks.set_index("title")
    assert tracks["genre"].to_dict() == dict(One="rap", Two="rap", Three="rap", Four="classique")
    assert tracks["artist"].to_dict() == dict(One="MC", Two="Crew", Three="", Four="")
    assert tracks["split"].to_dict() == dict(One="train", Two="train", Three="test", Four="train")
    assert tracks["group"]["One"] == "artist:MC" and tracks["group"]["Four"].startswith("track:")


def test_a_csv_names_tracks_and_its_other_columns_are_kept(tmp_path):
    make_files(tmp_path, "a.mp3", "b, c 'd' 🎹.mp3")
    table = pd.DataFrame(
        {"path": ["a.mp3", "b, c 'd' 🎹.mp3"], "genre": ["x", "y"], "bpm": ["90", "120"]}
    )
    table.to_csv(tmp_path / "tracks.csv", index=False)
    corpus = Corpus.read(tmp_path)
    assert corpus.genres == ["x", "y"] and corpus.tracks["bpm"].tolist() == ["90", "120"]
    assert corpus.tracks["path"].tolist() == table["path"].tolist()
    assert corpus.name == tmp_path.name == Corpus.name_of(tmp_path / "tracks.csv")


def test_equal_titles_are_two_tracks(tmp_path):
    make_files(tmp_path, "rap/A/Intro.mp3", "rap/B/Intro.mp3", "classique/C/Intro.mp3")
    assert Corpus.read(tmp_path).tracks["track_id"].nunique() == 3


def test_a_number_before_the_title_is_no_artist(tmp_path):
    make_files(tmp_path, "rap/01 - One.mp3", "rap/2. - MC - Two.mp3", "classique/C - Three.mp3")
    tracks = Corpus.read(tmp_path).tracks.set_index("title")
    assert tracks["artist"].to_dict() == {"One": "", "Two": "MC", "Three": "C"}


def test_copies_of_a_file_are_one_group(tmp_path):
    make_files(tmp_path, "rap/a.mp3", "rap/b.mp3", "classique/c.mp3")
    (tmp_path / "rap/b.mp3").write_bytes((tmp_path / "rap/a.mp3").read_bytes())
    groups = Corpus.read(tmp_path).tracks.set_index("title")["group"]
    assert groups["a"] == groups["b"] != groups["c"]


def test_a_table_of_another_name_is_another_corpus(tmp_path):
    make_files(tmp_path, "a.mp3", "b.mp3")
    (tmp_path / "half.csv").write_text("path,genre\na.mp3,x\nb.mp3,y")
    corpus = Corpus.read(tmp_path / "half.csv")
    assert corpus.name == Corpus.name_of(tmp_path / "half.csv") == f"{tmp_path.name}-half"


def test_what_is_no_corpus_says_why(tmp_path):
    with pytest.raises(CorpusError, match="no folder"):
        Corpus.read(tmp_path / "none")
    with pytest.raises(CorpusError, match="no audio files"):
        Corpus.read(tmp_path)
    with pytest.raises(CorpusError, match="one genre"):
        Corpus.read(make_files(tmp_path, "rap/a.mp3"))
    for text, why in [("path\na", "no column"), ("path,genre\ngone.mp3,x", "not there"),
                      ("path,genre,split\nrap/a.mp3,x,dev", "split is"),
                      ("path,genre\nrap/a.mp3,x\nrap/a.mp3,y", "twice"),
                      ("path,genre\nrap,x", "not there"), ("", "nor a table"),
                      ("path,genre\n", "no rows"),
                      ("path,genre,segment\nrap/a.mp3,x,1", "other names"),
                      ("path,genre\nrap/\udce9.mp3,x", "UTF-8")]:  # fmt: skip
        (tmp_path / "tracks.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(CorpusError, match=why):
            Corpus.read(tmp_path)


def segments_of(tracks):
    """A segments table from (genre, group, pieces, split) per track."""
    rows = [
        dict(track_id=f"t{i}", path=f"{i}.mp3", genre=genre, group=group, sha256=f"s{i}",
             segment=piece + 1, split=split)
        for i, (genre, group, pieces, split) in enumerate(tracks)
        for piece in range(pieces)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@settings(deadline=None, max_examples=60)
@given(
    tracks=st.lists(
        st.tuples(
            st.sampled_from(["rap", "classique", "jazz"]),
            st.integers(0, 12),
            st.integers(1, 9),
        ),
        min_size=6,
        max_size=40,
    ),
    seed=st.integers(0, 5),
)
def test_no_artist_split_of_any_corpus_leaks(tracks, seed):
    segments = segments_of([(genre, f"{genre}{a}", n, "") for genre, a, n in tracks])
    if segments.groupby("genre")["group"].nunique().min() < 3:
        with pytest.raises(CorpusError, match="add"):
            assign_splits(segments, method="artist", random_seed=seed)
        return
    split = assign_splits(segments, method="artist", random_seed=seed)
    assert split.groupby("group")["split"].nunique().max() == 1
    assert split.groupby("genre")["split"].nunique().min() == 3
    assert len(split) == len(segments)


def test_named_test_tracks_stay_the_test():
    tracks = [(g, f"{g}{i}", 5, "train" if i < 5 else "test") for g in "ab" for i in range(7)]
    for method in ("artist", "piece"):
        split = assign_splits(segments_of(tracks), method=method)
        assert set(split.loc[split["split"] == "test", "group"]) == {"a5", "a6", "b5", "b6"}


def test_piece_split_keeps_80_percent_of_each_genre_as_the_original_did():
    tracks = [("classique", "c", 115, "train"), ("rap", "r", 131, "train"),
              ("classique", "ct", 70, "test"), ("rap", "rt", 70, "test")]  # fmt: skip
    table = split_table(assign_splits(segments_of(tracks), method="piece"))
    pieces = table.xs("pieces", axis=1, level=1)
    assert pieces.loc["train"].tolist() == [92, 104]
    assert pieces.loc["validation"].tolist() == [23, 27]
    assert pieces.loc["test"].tolist() == [70, 70]


def test_a_leak_is_an_error_that_names_the_pair():
    shared_artist = segments_of([("a", "x", 1, "train"), ("a", "x", 1, "test")])
    with pytest.raises(LeakError, match=r"group \(x\) is in test and train: '1.mp3' and '0.mp3'"):
        check_no_leak(shared_artist)
    shared_file = segments_of([("a", "x", 1, "train"), ("b", "y", 1, "validation")])
    shared_file["sha256"] = "same"
    with pytest.raises(LeakError, match="file content"):
        check_no_leak(shared_file)
    check_no_leak(shared_file, leaky_validation=True)


def test_an_artist_on_both_given_sides_stops_the_split():
    tracks = [(g, f"{g}{i}", 5, "train") for g in "ab" for i in range(5)]
    with pytest.raises(LeakError, match="a1"):
        assign_splits(segments_of([*tracks, ("a", "a1", 5, "test"), ("b", "z", 5, "test")]),
                      method="artist")  # fmt: skip


def test_a_genre_that_is_not_on_every_side_is_named():
    tracks = [(g, f"{g}{i}", 5, "train") for g in "ab" for i in range(5)]
    for method in ("artist", "piece"):
        with pytest.raises(CorpusError, match="'b' has no tracks for .*test"):
            assign_splits(segments_of([*tracks, ("a", "z", 5, "test")]), method=method)


def test_too_few_artists_say_what_to_add():
    with pytest.raises(CorpusError, match="add tracks by others"):
        assign_splits(segments_of([("a", "x", 5, ""), ("b", "y", 5, "")]), method="artist")


def test_the_split_hash_changes_with_the_split_and_not_with_the_order():
    segments = assign_splits(
        segments_of([(g, f"{g}{i}", 5, "") for g in "ab" for i in range(5)]), method="artist"
    )
    shuffled = segments.sample(frac=1, random_state=np.random.RandomState(1))
    assert split_hash(shuffled) == split_hash(segments)
    segments.loc[0, "split"] = "test" if segments.loc[0, "split"] != "test" else "train"
    assert split_hash(shuffled) != split_hash(segments)
