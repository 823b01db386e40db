"""The corpus: reading of folders and tables, splits, folds and the leak check."""

import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls import Corpus, assign_splits, split_table
from genrecls.corpus.groups import merge_groups
from genrecls.corpus.splits import assign_folds, check_no_leak, split_hash
from genrecls.errors import CorpusError, LeakError


def make_files(root, *names):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"%d" % i)
    return root


def test_read_uses_folders_as_genres_and_test_folders_as_tests(tmp_path):
    make_files(
        tmp_path,
        "rap/MC - One.mp3",
        "rap/Crew/Two.wav",
        "rap_test/Three.ogg",
        "classique/Four.FLAC",
        "classique/cover.jpg",
        ".hidden/x.mp3",
    )
    tracks = Corpus.read(tmp_path).tracks.set_index("title")
    assert tracks["genre"].to_dict() == dict(One="rap", Two="rap", Three="rap", Four="classique")
    assert tracks["artist"].to_dict() == dict(One="MC", Two="Crew", Three="", Four="")
    assert tracks["split"].to_dict() == dict(One="train", Two="train", Three="test", Four="train")
    assert tracks["group"]["One"] == "artist:mc"
    assert tracks["group"]["Four"].startswith("track:")


def test_read_finds_artist_and_album_folders(tmp_path):
    make_files(
        tmp_path,
        "rap/MC/First/1 - One.mp3",
        "rap/MC/Second/Two.mp3",
        "rap/Crew/Three.mp3",
        "rap/MC - Four.mp3",
        "classique/Five.mp3",
    )
    tracks = Corpus.read(tmp_path).tracks.set_index("title")
    assert tracks["artist"].to_dict() == dict(One="MC", Two="MC", Three="Crew", Four="MC", Five="")
    assert tracks["album"].to_dict() == dict(One="First", Two="Second", Three="", Four="", Five="")
    assert (tracks["genre"] == "rap").sum() == 4
    # Two albums by the same artist are one group.
    assert tracks.loc[["One", "Two", "Four"], "group"].unique().tolist() == ["artist:mc"]


def test_read_groups_spellings_that_differ_in_case_and_spaces(tmp_path):
    make_files(
        tmp_path,
        "rap/MC  Six - a.mp3",
        "rap/mc six - b.mp3",
        "classique/É - c.mp3",
        "classique/é - d.mp3",
    )
    tracks = Corpus.read(tmp_path).tracks.set_index("title")
    assert tracks["group"]["a"] == tracks["group"]["b"] != tracks["group"]["c"]
    assert tracks["group"]["c"] == tracks["group"]["d"]
    assert tracks["artist"]["a"] != tracks["artist"]["b"]


def test_read_groups_by_album_and_then_track_without_artist(tmp_path):
    make_files(tmp_path, *"abcde")
    rows = ["a,x,MC,Hits", "b,x,,Hits", "c,y,,HITS", "d,y,,", "e,y,  ,"]
    (tmp_path / "tracks.csv").write_text("\n".join(["path,genre,artist,album", *rows]))
    tracks = Corpus.read(tmp_path).tracks.set_index("path")
    assert tracks["grouped_by"].tolist() == ["artist", "album", "album", "track", "track"]
    assert tracks["group"].tolist() == [
        "artist:mc",
        "album:hits",
        "album:hits",
        "track:d",
        "track:e",
    ]


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_read_takes_the_artist_from_tags_last(tmp_path, kind):
    make_files(tmp_path, "rap/MC/other.wav", "classique/untagged.wav")
    for i, name in enumerate(["rap/tagged", "rap/Somebody - Else", "rap/Folder/tagged"]):
        path = tmp_path / f"{name}.{kind}"
        path.parent.mkdir(exist_ok=True)
        with soundfile.SoundFile(path, "w", 22050, 1) as file:
            file.artist, file.album, file.title = "Émile Ünal", "Œuvres", "Named in the tags"
            file.write(np.zeros(4000 + 4000 * i))
    tracks = Corpus.read(tmp_path).tracks.set_index("path")
    artists = tracks["artist"].rename(lambda path: path.removesuffix(f".{kind}"))
    assert artists.to_dict() == {
        "rap/tagged": "Émile Ünal",
        "rap/Somebody - Else": "Somebody",
        "rap/Folder/tagged": "Folder",
        "rap/MC/other.wav": "MC",
        "classique/untagged.wav": "",
    }
    assert tracks.loc[f"rap/tagged.{kind}", ["album", "group", "grouped_by"]].tolist() == [
        "Œuvres",
        "artist:émile ünal",
        "artist",
    ]


def test_read_completes_a_table_from_tags(tmp_path):
    for i, name in enumerate(["a.flac", "b.flac", "c.flac"]):
        with soundfile.SoundFile(tmp_path / name, "w", 22050, 1) as file:
            if name != "c.flac":
                file.artist = "Tagged"
            file.album = "Tagged Album"
            file.write(np.zeros(100 + i))
    rows = ["a.flac,x,Given,", "b.flac,y,,Given Album", "c.flac,y,,"]
    (tmp_path / "tracks.csv").write_text("\n".join(["path,genre,artist,album", *rows]))
    tracks = Corpus.read(tmp_path).tracks
    assert tracks["artist"].tolist() == ["Given", "Tagged", ""]
    assert tracks["album"].tolist() == ["", "Given Album", "Tagged Album"]
    assert tracks["grouped_by"].tolist() == ["artist", "artist", "album"]


def test_read_keeps_other_columns_of_a_table(tmp_path, home):
    make_files(tmp_path, "a.mp3", "b, c 'd' 🎹.mp3")
    table = pd.DataFrame(
        {"path": ["a.mp3", "b, c 'd' 🎹.mp3"], "genre": ["x", "y"], "bpm": ["90", "120"]}
    )
    table.to_csv(tmp_path / "tracks.csv", index=False)
    corpus = Corpus.read(tmp_path)
    assert corpus.genres == ["x", "y"]
    assert corpus.tracks["bpm"].tolist() == ["90", "120"]
    assert corpus.tracks["path"].tolist() == table["path"].tolist()
    assert corpus.name == tmp_path.name == Corpus.corpus_name(tmp_path / "tracks.csv")


def test_read_does_not_report_files_that_the_table_uses(tmp_path, home):
    make_files(tmp_path, "music/a.mp3", "music/0fa3", "music/.hidden.mp3", "music/cover.jpg")
    table = "path,genre\nmusic/a.mp3,x\nmusic/0fa3,y\nmusic/.hidden.mp3,y"
    (tmp_path / "tracks.csv").write_text(table)
    assert Corpus.read(tmp_path).left_out["path"].tolist() == ["music/cover.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_read_shortens_absolute_paths_also_through_a_link(tmp_path, home):
    root = make_files(tmp_path / "music", "a.mp3", "b.mp3")
    (tmp_path / "link").symlink_to(root)
    (root / "tracks.csv").write_text(f"path,genre\n{root / 'a.mp3'},x\n{root / 'b.mp3'},y")
    for path in (root, tmp_path / "link"):
        assert Corpus.read(path).tracks["path"].tolist() == ["a.mp3", "b.mp3"]


def test_corpus_of_a_whole_disk_has_a_name(home):
    assert Corpus.corpus_name(home.anchor) == "music"


@pytest.mark.parametrize("name", ["genre", "macro", "not sure", "run", "transformation"])
def test_read_refuses_genres_with_another_meaning_in_tables(tmp_path, name):
    for genre in ("rap", name):
        (tmp_path / genre).mkdir()
        (tmp_path / genre / "a.wav").write_bytes(genre.encode())
    with pytest.raises(CorpusError, match=f"'{name}' has another meaning in tables; rename"):
        Corpus.read(tmp_path)


def test_read_refuses_a_folder_whose_name_begins_with_a_tilde_and_is_not_there(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(CorpusError, match="'~music'"):
        Corpus.read("~music")


def test_read_gives_equal_titles_different_ids(tmp_path):
    make_files(tmp_path, "rap/A/Intro.mp3", "rap/B/Intro.mp3", "classique/C/Intro.mp3")
    assert Corpus.read(tmp_path).tracks["track_id"].nunique() == 3


def test_read_ignores_track_numbers_before_the_title(tmp_path):
    make_files(tmp_path, "rap/01 - One.mp3", "rap/2. - MC - Two.mp3", "classique/C - Three.mp3")
    tracks = Corpus.read(tmp_path).tracks.set_index("title")
    assert tracks["artist"].to_dict() == {"One": "", "Two": "MC", "Three": "C"}


def test_read_groups_copies_of_a_file(tmp_path):
    make_files(tmp_path, "rap/a.mp3", "rap/b.mp3", "classique/c.mp3")
    (tmp_path / "rap/b.mp3").write_bytes((tmp_path / "rap/a.mp3").read_bytes())
    groups = Corpus.read(tmp_path).tracks.set_index("title")["group"]
    assert groups["a"] == groups["b"] != groups["c"]


def union_find(groups, same):
    """Unite rows that share a group or a key, pair by pair."""
    parent = list(range(len(groups)))
    for i in range(len(groups)):
        for j in range(i):
            if groups[i] == groups[j] or same[i] == same[j]:
                a, b = (next(p for p in walk(parent, x)) for x in (i, j))
                parent[a] = b
    roots = [next(p for p in walk(parent, i)) for i in range(len(groups))]
    return [min(g for g, r in zip(groups, roots, strict=True) if r == root) for root in roots]


def walk(parent, i):
    while parent[i] != i:
        i = parent[i]
    yield i


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40))
def test_merge_groups_agrees_with_a_simple_reference(rows):
    groups, same = [f"g{a:02}" for a, _ in rows], [f"s{b:02}" for _, b in rows]
    merged = merge_groups(pd.Series(groups), pd.Series(same))
    assert merged == union_find(groups, same)
    assert merge_groups(pd.Series(merged), pd.Series(same)) == merged


def test_corpus_name_includes_the_name_of_a_table(tmp_path, home):
    make_files(tmp_path, "a.mp3", "b.mp3")
    (tmp_path / "half.csv").write_text("path,genre\na.mp3,x\nb.mp3,y")
    corpus = Corpus.read(tmp_path / "half.csv")
    assert corpus.name == Corpus.corpus_name(tmp_path / "half.csv") == f"{tmp_path.name}-half"


def test_read_refuses_what_is_not_a_corpus(tmp_path):
    with pytest.raises(CorpusError, match="not a folder"):
        Corpus.read(tmp_path / "none")
    with pytest.raises(CorpusError, match="no audio files"):
        Corpus.read(tmp_path)
    with pytest.raises(CorpusError, match="one genre"):
        Corpus.read(make_files(tmp_path, "rap/a.mp3"))
    for text, why in [
        ("path\na", "no column .*add it"),
        ("path,genre\ngone.mp3,x", "row 2: path is 'gone.mp3', but there is no such file"),
        ("path,genre,split\nrap/a.mp3,x,later", "row 2: split is 'later', but must be"),
        ("path,genre\nrap/a.mp3,x\nrap/a.mp3,y", "row 3: path is 'rap/a.mp3', .* earlier"),
        ("path,genre\nrap,x", "no such file"),
        ("", "nor a table"),
        ("path,genre\n", "no rows"),
        ("path,genre,segment\nrap/a.mp3,x,1", "rename"),
        ("path,genre,recording\nrap/a.mp3,x,1", "rename"),
        ("path,genre\nrap/\udce9.mp3,x", "UTF-8"),
    ]:
        (tmp_path / "tracks.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(CorpusError, match=why):
            Corpus.read(tmp_path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_read_takes_tables_of_other_programs(tmp_path, separator):
    make_files(tmp_path, "a b.mp3", "rap/b.mp3", "rap/é.mp3", "d.mp3")
    rows = [
        ["", " PATH", "Genre ", "ARTIST", "Split", "BPM"],
        ["0", "./a b.mp3", "pop", '"X, ; Y"', "train_set", "90"],
        ["1", "rap\\b.mp3", "Rap", "", "TEST", "91"],
        [],
        ["2", "rap/../rap/e\u0301.mp3", "rap", "Z", "dev", "92"],
        ["3", str(tmp_path / "d.mp3"), "rap ", "Z", "", "93"],
    ]
    text = "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    (tmp_path / "tracks.csv").write_text(text, encoding="utf-8-sig", newline="")
    tracks = Corpus.read(tmp_path).tracks
    assert tracks["path"].tolist() == ["a b.mp3", "rap/b.mp3", "rap/é.mp3", "d.mp3"]
    assert tracks["genre"].tolist() == ["pop", "rap", "rap", "rap"]
    assert tracks["artist"].tolist() == ["X, ; Y", "", "Z", "Z"]
    assert tracks["split"].tolist() == ["train", "test", "validation", ""]
    assert tracks["BPM"].tolist() == ["90", "91", "92", "93"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path,genre\na.mp3,x\nb.mp3, \nc.mp3,", r"row 3 \(and 1 more rows\): genre is ' ', but"),
        ("path,genre\na.mp3,x\nb.mp3,NaN", "row 3: genre is 'NaN', but must name a genre"),
        ("path,genre\na.mp3,x,Artist", r"row 2 has 3 fields, but the table has 2 columns"),
        ("path,genre,artist\na.mp3,x", r"row 2 has 2 fields, but the table has 3 columns"),
        ("path,genre,\na.mp3,x,Artist", "row 1 has no name for the column 3"),
        ("path,genre,PATH\na.mp3,x,b.mp3", "several columns with the name .'path'."),
        ("path,genre,set\na.mp3,x,Train\nb.mp3,y,", "the column 'set' has splits; name it 'spl"),
        ("path genre\na.mp3 x", r"no column \['genre', 'path'\] in its first row \['path genre'\]"),
        ('path,genre\na.mp3,"x\nb.mp3,y', "row 3: unexpected end of data; check its quotes"),
        ("path,genre\na.mp3,x\n./a.mp3,y", "row 3: path is 'a.mp3', which an earlier row has"),
        ("path,genre\n,x", "row 2: path is '', but there is no such file"),
        ("path,genre\n" + "x" * 200_000, "row 2: field larger than field limit"),
    ],
)
def test_read_names_the_wrong_row_of_a_table(tmp_path, text, why):
    make_files(tmp_path, "a.mp3", "b.mp3", "c.mp3")
    (tmp_path / "tracks.csv").write_text(text)
    with pytest.raises(CorpusError, match=why):
        Corpus.read(tmp_path)


def test_read_prefers_a_tag_to_a_name_with_a_number(tmp_path):
    files = {
        "rap/01. Wrong - a.flac": "Tagged",
        "rap/50 Cent - b.flac": "Fifty",
        "rap/02 - Name - c.flac": "Unknown Artist",
        "rap/Name - d.flac": "Tagged",
        "pop/7 Names - e.flac": None,
        "pop/7 Names - f.flac": None,
        "pop/11 Others - g.flac": None,
        "pop/12 Others - h.flac": None,
    }
    for i, (name, artist) in enumerate(files.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with soundfile.SoundFile(tmp_path / name, "w", 22050, 1) as file:
            if artist:
                file.artist = artist
            file.write(np.zeros(100 + i))
    tracks = Corpus.read(tmp_path).tracks.set_index("path").loc[list(files)]
    expected = ["Tagged", "Fifty", "Name", "Name", "7 Names", "7 Names", "Others", "Others"]
    assert tracks["artist"].tolist() == expected
    assert tracks["group"].nunique() == 5


def make_segments(tracks):
    """Build a segments table from (genre, group, segments, split) per track."""
    rows = [
        dict(
            track_id=f"t{i}",
            path=f"{i}.mp3",
            genre=genre,
            group=group,
            sha256=f"s{i}",
            recording=f"r{i}",
            segment=segment + 1,
            split=split,
        )
        for i, (genre, group, segments, split) in enumerate(tracks)
        for segment in range(segments)
    ]
    return pd.DataFrame(rows)


#: (genre, artist, segments) of every track.
ANY_TRACKS = st.lists(
    st.tuples(st.sampled_from(["rap", "classique", "jazz"]), st.integers(0, 12), st.integers(1, 9)),
    min_size=6,
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(tracks=ANY_TRACKS, seed=st.integers(0, 5))
def test_assign_splits_by_artist_never_leaks(tracks, seed):
    segments = make_segments([(genre, f"{genre}{a}", n, "") for genre, a, n in tracks])
    if segments.groupby("genre")["group"].nunique().min() < 3:
        with pytest.raises(CorpusError, match="add"):
            assign_splits(segments, split_by="artist", random_seed=seed)
        return
    split = assign_splits(segments, split_by="artist", random_seed=seed)
    assert split.groupby("group")["split"].nunique().max() == 1
    assert split.groupby("genre")["split"].nunique().min() == 3
    assert len(split) == len(segments)


@settings(deadline=None, max_examples=60)
@given(
    tracks=ANY_TRACKS, seed=st.integers(0, 5), names=st.sampled_from(["train", "train validation"])
)
def test_assign_splits_keeps_tracks_for_training(tracks, seed, names):
    """Artists from 9 on are named for training or validation, the others are free."""
    named = {9 + i: name for i, name in enumerate(names.split())}
    rows = [(g, f"{g}{a}", n, named.get(a, "")) for g, a, n in tracks if g != "classique"]
    rows += [(g, f"{g}{a}", 3, name) for a, name in named.items() for g in ("rap", "jazz")]
    # One more track of a named artist, without a name.
    segments = make_segments([*rows, ("rap", "rap9", 2, "")])
    free = {(g, artist) for g, artist, _, name in rows if not name}
    fewest = min(sum(g == genre for g, _ in free) for genre in ("rap", "jazz"))
    if fewest < 3 - len(named):  # the test, and the validation unless it is named
        with pytest.raises(CorpusError):
            assign_splits(segments, split_by="artist", random_seed=seed)
        return
    split = assign_splits(segments, split_by="artist", random_seed=seed)["split"]
    for name in names.split():
        assert (split[segments["split"] == name] == name).all()
    assert split.groupby(segments["group"]).nunique().max() == 1
    assert split.groupby(segments["genre"]).nunique().min() == 3


def test_assign_splits_takes_test_and_validation_from_free_tracks():
    """A table that names 8 of 12 tracks for training."""
    tracks = [(g, f"{g}{i}", 1, "train" if i < 4 else "") for g in "ab" for i in range(6)]
    segments = make_segments(tracks)
    for seed in range(20):
        split = assign_splits(segments, split_by="artist", random_seed=seed)
        assert (split.loc[segments["split"] == "train", "split"] == "train").all()
        assert split["split"].value_counts().to_dict() == dict(train=8, test=2, validation=2)
    with pytest.raises(CorpusError, match="no track is named for the test"):
        assign_splits(segments.assign(split="train"), split_by="artist")
    with pytest.raises(CorpusError, match="every track is named for the test"):
        assign_splits(segments.assign(split="test"), split_by="artist")


def test_assign_splits_keeps_the_named_validation():
    splits = ["train"] * 3 + ["validation"] * 2 + ["test"] * 2
    segments = make_segments([(g, f"{g}{i}", 2, s) for g in "ab" for i, s in enumerate(splits)])
    for unit in ("artist", "track", "segment"):
        split = assign_splits(segments, split_by=unit)
        assert split["split"].tolist() == segments["split"].tolist()


@settings(deadline=None, max_examples=60)
@given(tracks=ANY_TRACKS, folds=st.integers(2, 6), seed=st.integers(0, 5), crossover=st.booleans())
def test_assign_folds_never_leaks(tracks, folds, seed, crossover):
    """With ``crossover`` the artists make music in every genre."""
    rows = [(genre, f"{'' if crossover else genre}{a}", n, "") for genre, a, n in tracks]
    segments = make_segments(rows).set_index(np.arange(sum(n for *_, n in tracks))[::-1])
    fewest = segments.groupby("genre")["group"].nunique().min()
    try:
        fold = assign_folds(segments, folds=folds, random_seed=seed)
    except CorpusError:
        assert crossover or fewest < 2
        return
    assert fold.index.equals(segments.index)
    assert fold.groupby(segments["group"]).nunique().max() == 1
    used = set(range(fold.max() + 1))
    assert 2 <= len(used) <= min(folds, fewest)
    assert set(fold) == used
    # Every genre is tested in every fold, so that it is in the training part of every other one.
    assert all(set(genre_fold) == used for _, genre_fold in fold.groupby(segments["genre"]))
    for i in used:
        check_no_leak(segments.assign(split=np.where(fold == i, "test", "train")))


def test_assign_folds_makes_fewer_folds_for_few_groups_but_at_least_2():
    many = [("a", f"a{i}", 4, "") for i in range(9)]
    assert (
        assign_folds(make_segments([*many, *[("b", f"b{i}", 4, "") for i in range(9)]])).max() == 4
    )
    assert (
        assign_folds(make_segments([*many, *[("b", f"b{i}", 4, "") for i in range(3)]])).max() == 2
    )
    with pytest.raises(
        CorpusError, match="genre 'b' has only one group .*add tracks from other groups"
    ):
        assign_folds(make_segments([*many, *[("b", "b0", 4, "")] * 5]))
    with pytest.raises(ValueError, match="folds must be 2 or more"):
        assign_folds(make_segments(many), folds=1)


def test_assign_folds_puts_other_groups_together_for_another_seed():
    """Scikit-learn shuffles only groups of equal size."""
    segments = make_segments([(g, f"{g}{i}", 3 + 4 * i, "") for g in "ab" for i in range(8)])
    pairs = set()
    for seed in range(3):
        fold = assign_folds(segments, folds=4, random_seed=seed).groupby(segments["group"]).first()
        pairs.add(np.equal.outer(fold.to_numpy(), fold.to_numpy()).tobytes())
    assert len(pairs) == 3


def test_assign_folds_depends_on_the_random_seed_alone():
    segments = make_segments([(g, f"{g}{i}", 3, "") for g in "ab" for i in range(12)])
    first = assign_folds(segments)
    assert assign_folds(segments).equals(first)
    others = [assign_folds(segments, random_seed=seed) for seed in (1, 2)]
    assert not first.equals(others[0])
    assert not others[0].equals(others[1])
    # Named test tracks are not treated differently.
    named = assign_folds(segments.assign(split=np.where(segments["group"] == "a1", "test", "")))
    assert named.equals(first)


def test_assign_splits_by_track_divides_artists_but_not_tracks():
    segments = make_segments([(g, f"{g}{i}", 3, "") for g in "ab" for i in range(5)] * 4)
    split = assign_splits(segments, split_by="track")
    assert split.groupby("track_id")["split"].nunique().max() == 1
    assert split.groupby("genre")["split"].nunique().min() == 3
    on_both = split[split["split"] != "test"].groupby("group")["split"].nunique()
    assert (on_both == 2).any()
    tested = split["split"] == "test"
    assert not set(split.loc[tested, "group"]) & set(split.loc[~tested, "group"])
    share = split["split"].value_counts(normalize=True)
    assert share["test"] == pytest.approx(0.2)
    assert 0.12 < share["validation"] < 0.2


def test_assign_splits_keeps_named_test_tracks():
    tracks = [(g, f"{g}{i}", 5, "train" if i < 5 else "test") for g in "ab" for i in range(7)]
    for method in ("artist", "track", "segment"):
        split = assign_splits(make_segments(tracks), split_by=method)
        assert set(split.loc[split["split"] == "test", "group"]) == {"a5", "a6", "b5", "b6"}


def test_assign_splits_by_segment_trains_on_80_percent_of_each_genre():
    tracks = [
        ("classique", "c", 115, "train"),
        ("rap", "r", 131, "train"),
        ("classique", "ct", 70, "test"),
        ("rap", "rt", 70, "test"),
    ]
    table = split_table(assign_splits(make_segments(tracks), split_by="segment"))
    assert table.index.tolist()[:3] == [("classique", s) for s in ("train", "validation", "test")]
    assert table["segments"].tolist() == [92, 23, 70, 104, 27, 70]


def test_check_no_leak_names_the_pair():
    shared_artist = make_segments([("a", "x", 1, "train"), ("a", "x", 1, "test")])
    with pytest.raises(LeakError, match=r"group \(x\) is in test and train: '1.mp3' and '0.mp3'"):
        check_no_leak(shared_artist)
    shared_file = make_segments([("a", "x", 1, "train"), ("b", "y", 1, "validation")])
    shared_file["sha256"] = "same"
    with pytest.raises(LeakError, match="file content"):
        check_no_leak(shared_file)
    check_no_leak(shared_file, leaky_validation=True)
    shared_sound = make_segments([("a", "x", 1, "train"), ("b", "y", 1, "test")])
    shared_sound["recording"] = "same"
    for leaky in (False, True):
        with pytest.raises(LeakError, match=r"recording .*: '1.mp3' and '0.mp3'. Move"):
            check_no_leak(shared_sound, leaky_validation=leaky)
    check_no_leak(shared_sound.assign(split="train"))


def test_assign_splits_refuses_an_artist_in_training_and_test():
    tracks = [(g, f"{g}{i}", 5, "train") for g in "ab" for i in range(5)]
    with pytest.raises(LeakError, match="a1"):
        assign_splits(
            make_segments([*tracks, ("a", "a1", 5, "test"), ("b", "z", 5, "test")]),
            split_by="artist",
        )


def test_assign_splits_names_a_genre_that_is_missing_from_a_split():
    tracks = [(g, f"{g}{i}", 5, "train") for g in "ab" for i in range(5)]
    for method in ("artist", "segment"):
        with pytest.raises(CorpusError, match="no track of genre 'b' is for .*test"):
            assign_splits(make_segments([*tracks, ("a", "z", 5, "test")]), split_by=method)


def test_assign_splits_refuses_too_few_groups():
    with pytest.raises(CorpusError, match="add tracks from other groups"):
        assign_splits(make_segments([("a", "x", 5, ""), ("b", "y", 5, "")]), split_by="artist")


def test_split_hash_depends_on_the_split_but_not_on_the_order():
    segments = assign_splits(
        make_segments([(g, f"{g}{i}", 5, "") for g in "ab" for i in range(5)]), split_by="artist"
    )
    shuffled = segments.sample(frac=1, random_state=np.random.RandomState(1))
    assert split_hash(shuffled) == split_hash(segments)
    segments.loc[0, "split"] = "test" if segments.loc[0, "split"] != "test" else "train"
    assert split_hash(shuffled) != split_hash(segments)


def test_read_makes_the_root_absolute(small_corpus, monkeypatch):
    monkeypatch.chdir(small_corpus.parent)
    corpus = Corpus.read(small_corpus.name)
    monkeypatch.chdir("/")
    assert corpus.file(corpus.tracks["path"].iloc[0]).is_file()
