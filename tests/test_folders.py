"""Folders: every file is used or accounted for, and folders of splits are understood."""

import os

import av
import pytest
from test_corpus import make_files
from typer.testing import CliRunner

from genrecls import Corpus
from genrecls._utils.io import hash_file
from genrecls.audio import _container
from genrecls.cli import app
from genrecls.corpus import find_audio_files, folders, summarize_left_out
from genrecls.errors import CorpusError


def problems(table):
    return dict(zip(table["path"], table["problem"], strict=True))


def test_endings_include_those_of_all_formats_of_the_decoder():
    extensions = set()
    for name in _container._FORMATS.split(","):
        extensions |= av.ContainerFormat(name, "r").extensions
    pictures_and_subtitles = {"avif", "heic", "heif", "mj2", "mks"}
    missing = {f".{e}" for e in extensions - pictures_and_subtitles} - folders.EXTENSIONS
    assert not missing
    others = "avi wmv flv m4v mpg 3gp ts ac3 mp2 aifc wv ape mpc tta w64 dsf amr opus mkv".split()
    assert {f".{e}" for e in others} <= folders.EXTENSIONS


def test_find_audio_files_accounts_for_every_file(tmp_path):
    files = ["a.mp3", "sub/b.FLAC", "sub/deep/c.wv"]
    others = {
        "cover.jpg": "not sound",
        "sub/notes": "not sound",
        ".a.mp3": "hidden",
        ".git": "hidden",
        "broken.mp3": "cannot be read",
        "pipe.mp3": "cannot be read",
    }
    make_files(tmp_path, *files, "cover.jpg", "sub/notes", ".a.mp3", ".git/d.mp3")
    (tmp_path / "broken.mp3").symlink_to("gone.mp3")
    os.mkfifo(tmp_path / "pipe.mp3")
    found, left_out = find_audio_files(tmp_path)
    assert found == [tmp_path / name for name in files]
    assert problems(left_out) == others
    lines = summarize_left_out(left_out)
    assert "not sound: 1 .jpg, 1 without an ending" in lines
    assert any("'broken.mp3' (a broken link)" in line for line in lines)


def test_find_audio_files_reads_linked_folders_once(tmp_path):
    make_files(tmp_path, "music/z/real/a.mp3", "elsewhere/b.mp3", "secret/c.mp3")
    root = tmp_path / "music"
    links = {
        "a_copy": root / "z/real",  # before the real folder in the order of names
        "other": tmp_path / "elsewhere",
        "other_again": tmp_path / "elsewhere",
        "z/real/loop": root / "z",
        "above": tmp_path,
        "self": root,
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "knot.mp3").symlink_to("knot.mp3")
    found, left_out = find_audio_files(root)
    assert [file.relative_to(root).as_posix() for file in found] == ["other/b.mp3", "z/real/a.mp3"]
    repeated = {"a_copy", "other_again", "z/real/loop", "above", "self"}
    expected = dict.fromkeys(repeated, "repeated folder") | {"knot.mp3": "cannot be read"}
    assert problems(left_out) == expected


def test_find_audio_files_leaves_out_names_that_are_not_utf8(tmp_path):
    make_files(tmp_path, "rap/a.mp3", "rap/b.mp3", "pop/c.mp3")
    for name in (b"rap/mod\x85.mp3", b"pop/caf\xe9"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(path) if b"." not in name else open(path, "wb").close()
    corpus = Corpus.read(tmp_path)
    assert len(corpus.tracks) == 3
    assert problems(corpus.left_out) == {
        "rap/mod\\x85.mp3": "cannot be read",
        "pop/caf\\xe9": "cannot be read",
    }
    assert corpus.left_out["detail"].str.contains("not valid UTF-8").all()


def test_names_need_a_locale_with_utf8(tmp_path, monkeypatch):
    make_files(tmp_path, "rap/a.mp3", "pop/b.mp3")
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    assert len(Corpus.read(tmp_path).tracks) == 2
    # Without UTF-8, é is read as two bytes that are no text.
    path = os.path.join(os.fsencode(tmp_path), b"rap/caf\xe9.mp3")
    open(path, "wb").close()
    with pytest.raises(CorpusError, match="the locale has the encoding ascii; set .*PYTHONUTF8=1"):
        Corpus.read(tmp_path)
    (tmp_path / "tracks.csv").write_text("path,genre\nrap/é.mp3,rap", encoding="utf-8")
    with pytest.raises(CorpusError, match="the locale has the encoding ascii"):
        Corpus.read(tmp_path)


@pytest.fixture
def forbidden(monkeypatch):
    """Refuse to read paths that contain the word "forbidden", also for the superuser."""

    def guard(function):
        def call(path, *args, **options):
            if "forbidden" in os.fspath(path):
                raise PermissionError(13, "Permission denied", path)
            return function(path, *args, **options)

        return call

    monkeypatch.setattr("os.scandir", guard(os.scandir))
    monkeypatch.setattr("genrecls.corpus.tracks.hash_file", guard(hash_file))


def test_read_leaves_out_what_cannot_be_read(tmp_path, home, forbidden, caplog):
    make_files(tmp_path / "m", "rap/a.mp3", "rap/forbidden.mp3", "pop/b.mp3", "pop/forbidden/c.mp3")
    corpus = Corpus.read(tmp_path / "m")
    assert corpus.tracks["path"].tolist() == ["pop/b.mp3", "rap/a.mp3"]
    assert set(corpus.left_out["path"]) == {"rap/forbidden.mp3", "pop/forbidden"}
    assert corpus.left_out["detail"].tolist() == ["Permission denied"] * 2
    assert "cannot be read: 'pop/forbidden' (Permission denied), 'rap/forb" in caplog.text
    make_files(tmp_path / "m", "jazz/forbidden.mp3")
    with pytest.raises(CorpusError, match="no track of genre 'jazz' can be read.*denied"):
        Corpus.read(tmp_path / "m")


def test_read_reads_a_file_again_that_could_not_be_read(tmp_path, home, monkeypatch):
    make_files(tmp_path / "m", "rap/a.mp3", "rap/forbidden.mp3", "pop/b.mp3")
    for file in (tmp_path / "m").rglob("*.mp3"):
        os.utime(file, (1, 1))
    with monkeypatch.context() as patch:
        patch.setattr("genrecls.corpus.tracks.hash_file", _fail_if_forbidden)
        assert len(Corpus.read(tmp_path / "m").tracks) == 2
    assert len(Corpus.read(tmp_path / "m").tracks) == 3


def _fail_if_forbidden(path):
    if "forbidden" in path.name:
        raise OSError(5, "Input/output error")
    return path.name


def test_read_accounts_for_what_is_beside_the_genres(tmp_path, caplog):
    make_files(tmp_path, "rap/a.mp3", "pop/b.mp3", "c.mp3", "list.txt", "artwork/d.jpg")
    (tmp_path / "empty").mkdir()
    corpus = Corpus.read(tmp_path)
    assert problems(corpus.left_out) == {
        "c.mp3": "outside the genre folders",
        "list.txt": "not sound",
        "artwork/d.jpg": "not sound",
        "artwork": "folder without sound",
        "empty": "folder without sound",
    }
    assert "outside the genre folders: 'c.mp3'" in caplog.text
    assert "not sound: 1 .jpg, 1 .txt" in caplog.text


def test_read_accounts_for_files_that_a_table_does_not_list(tmp_path):
    make_files(tmp_path, "a.mp3", "b.mp3", "sub/c.mp3", "cover.jpg")
    (tmp_path / "tracks.csv").write_text("path,genre\na.mp3,x\nb.mp3,y")
    expected = {"sub/c.mp3": "not in tracks.csv", "cover.jpg": "not sound"}
    assert problems(Corpus.read(tmp_path).left_out) == expected
    # Another table names a choice.
    (tmp_path / "tracks.csv").rename(tmp_path / "half.csv")
    assert Corpus.read(tmp_path / "half.csv").left_out.empty


def test_read_takes_folders_of_any_depth(tmp_path):
    deep = "/".join(["x" * 20] * 60)
    make_files(tmp_path, f"rap/{deep}/a.mp3", "pop/b.mp3")
    assert len(Corpus.read(tmp_path).tracks) == 2


@pytest.mark.parametrize(
    "names",
    [
        "train test val",
        "Training Testing Validation",
        "TRAIN Test dev",
        "01_train 02_test 03_val",
        "train_set test-set ValidationSet",
        "trainData testData devData",
        "Trainingsdaten Testdaten Validierung",
    ],
)
def test_read_takes_folders_of_splits_above_genres(tmp_path, names):
    splits = dict(zip(names.split(), ("train", "test", "validation"), strict=True))
    make_files(tmp_path, *(f"{name}/{g}/{g} {name}.mp3" for name in splits for g in ("rap", "pop")))
    corpus = Corpus.read(tmp_path)
    assert corpus.genres == ["pop", "rap"]
    folder = corpus.tracks["path"].str.split("/").str[0]
    assert corpus.tracks["split"].tolist() == folder.map(splits).tolist()


def test_read_warns_if_every_genre_has_the_same_artists(tmp_path, caplog):
    make_files(tmp_path, "fold1/rap/a.mp3", "fold1/pop/b.mp3", "fold2/rap/c.mp3", "fold2/pop/d.mp3")
    Corpus.read(tmp_path)
    assert "every genre has the same artists, pop, rap; if these are the genres" in caplog.text
    caplog.clear()
    make_files(tmp_path, "fold2/jazz/e.mp3")
    Corpus.read(tmp_path)
    assert "same artists" not in caplog.text


def test_read_refuses_folders_of_splits_beside_genres(tmp_path):
    make_files(tmp_path, "train/rap/a.mp3", "test/rap/b.mp3", "pop/c.mp3")
    with pytest.raises(CorpusError, match=r"splits \(test, train\) beside other folders \(pop\)"):
        Corpus.read(tmp_path)


def test_read_takes_folders_of_splits_in_genres_and_in_their_names(tmp_path):
    make_files(
        tmp_path,
        "rap/train/MC/a.mp3",
        "rap/Test/Crew - b.mp3",
        "Pop_TRAIN/c.mp3",
        "pop_Test/d.mp3",
        "pop-val/e.mp3",
        "Soul Train/f.mp3",
        "rap (test)/g.mp3",
        "pop.test/h.mp3",
        "test_pop/i.mp3",
    )
    tracks = Corpus.read(tmp_path).tracks.sort_values("title")
    named = ["train", "test", "train", "test", "validation", "", "test", "test", "test"]
    assert tracks["split"].tolist() == named
    genres = ["rap", "rap", "pop", "pop", "pop", "Soul Train", "rap", "pop", "pop"]
    assert tracks["genre"].tolist() == genres
    assert tracks["artist"].tolist() == ["MC", "Crew", *[""] * 7]


def test_read_finds_artists_in_folders_of_albums_and_discs(tmp_path):
    make_files(
        tmp_path,
        "pop/A - First/01 x.mp3",
        "pop/A - Second/CD1/01 y.mp3",
        "pop/CD 2/A - z.mp3",
        "pop/Compilations/Hits/A - v.mp3",
        "rap/A & B - w.mp3",
    )
    tracks = Corpus.read(tmp_path).tracks
    assert set(tracks["group"]) == {"artist:a"}
    assert tracks["album"].tolist() == ["First", "Second", "", "Hits", ""]


def test_read_leaves_folders_of_systems_out(tmp_path):
    make_files(tmp_path, "pop/a.mp3", "rap/b.mp3", "pop/@eaDir/c.mp4", "#recycle/d.mp3")
    corpus = Corpus.read(tmp_path)
    assert corpus.genres == ["pop", "rap"]
    assert problems(corpus.left_out) == {"#recycle": "hidden", "pop/@eaDir": "hidden"}


def test_read_takes_a_single_name_of_a_split_for_an_artist(tmp_path):
    make_files(tmp_path, "pop/Dev/a.mp3", "pop/Dev/b.mp3", "rap/MC/c.mp3")
    tracks = Corpus.read(tmp_path).tracks
    assert tracks["artist"].tolist() == ["Dev", "Dev", "MC"]
    assert set(tracks["split"]) == {""}


def test_read_takes_spellings_of_a_genre_for_one(tmp_path):
    names = (
        "Hip-Hop/a",
        "hip-hop/b",
        "hip-hop_test/c",
        "Chanson/d",
        "chanson/e",
        "chanso\u0301n/f",
    )
    make_files(tmp_path, *(f"{name}.mp3" for name in names))
    assert Corpus.read(tmp_path).genres == ["Chanson", "chansón", "hip-hop"]


def test_predict_names_what_is_left_out(bundle, tmp_path, home, small_corpus):
    song = next(small_corpus.rglob("*.wav")).read_bytes()
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "a.wav").write_bytes(song)
    with open(os.fsencode(tmp_path / "songs") + b"/\x85.wav", "wb") as file:
        file.write(song)
    (tmp_path / "songs" / "cover.jpg").touch()
    done = CliRunner().invoke(
        app, ["predict", str(tmp_path / "songs"), "--csv", "--run", str(bundle), "--jobs", "1"]
    )
    assert done.exit_code == 2
    assert len(done.stdout.splitlines()) == 2  # the head and a track
    assert "not sound: 1 .jpg" in done.stderr
    assert "cannot be read: '\\\\x85.wav' (its name is not valid UTF-8; rename it)" in done.stderr
