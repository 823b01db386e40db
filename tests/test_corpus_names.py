"""Names of corpora: one for each root."""

import json
import shutil
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from genrecls import Corpus
from genrecls._utils.names import claim_name, find_root

pytestmark = pytest.mark.usefixtures("home")


def make_roots(home, *names):
    roots = [home / name for name in names]
    for root in roots:
        root.mkdir(parents=True)
    return roots


def test_corpora_of_one_name_in_different_places_get_different_names(home, caplog):
    first, second, third = make_roots(home, "a/music", "b/music", "c/Music")
    names = [Corpus.corpus_name(root) for root in (first, second, third)]
    assert names == ["music", "music-2", "Music-3"]
    assert [r.getMessage() for r in caplog.records] == [
        f"{second}: the name 'music' is taken; results are kept as 'music-2'",
        f"{third}: the name 'Music' is taken; results are kept as 'Music-3'",
    ]
    caplog.clear()
    assert [Corpus.corpus_name(root) for root in (third, second, first)] == names[::-1]
    assert [find_root(name) for name in names] == [first, second, third]
    assert not caplog.records


def test_a_corpus_keeps_its_name_by_whatever_path_it_is_read(home, monkeypatch):
    [root] = make_roots(home, "a/music")
    (home / "link").symlink_to(root)
    (root / "tracks.csv").write_text("path,genre\n")
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(home))
    paths = [root, home / "link", "music", root / "tracks.csv", "~/a/music", "../a/music"]
    assert {Corpus.corpus_name(path) for path in paths} == {"music"}


def test_a_table_has_a_name_of_its_own(home):
    root, other = make_roots(home, "music", "music-half")
    (root / "half.csv").write_text("path,genre\n")
    assert Corpus.corpus_name(other) == "music-half"
    assert Corpus.corpus_name(root / "half.csv") == "music-half-2"


def test_a_corpus_that_was_moved_keeps_its_name(home, caplog):
    first, second = make_roots(home, "a/music", "b/music")
    assert [Corpus.corpus_name(root) for root in (first, second)] == ["music", "music-2"]
    first.rename(home / "a" / "other")
    (home / "a" / "other").rename(home / "music")
    assert Corpus.corpus_name(second) == "music-2"
    caplog.clear()
    assert Corpus.corpus_name(home / "music") == "music"
    # It may be another corpus, and the disk with the first one may be missing.
    assert f"takes the name 'music' and the results of {first}, which no longer" in caplog.text
    shutil.rmtree(second)
    assert Corpus.corpus_name(second) == "music-2"  # its results are still there
    assert find_root("music-2") is None


def test_names_stay_valid_when_the_project_is_copied(home, tmp_path, monkeypatch):
    project = tmp_path / "project"
    monkeypatch.setenv("GENRECLS_HOME", str(project))
    make_roots(project, "data/demo")
    assert Corpus.corpus_name(project / "data" / "demo") == "demo"
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path / "copy"))
    assert Corpus.corpus_name(tmp_path / "copy" / "data" / "demo") == "demo"


def test_a_missing_corpus_is_not_remembered(home):
    assert Corpus.corpus_name(home / "none" / "music") == "music"
    assert not (home / "models").exists()


@pytest.mark.parametrize("text", ["", '{"music": ', "[1]", '{"music": 5}', "\0"])
def test_a_damaged_table_is_made_again_with_one_warning(home, caplog, text):
    [root] = make_roots(home, "a/music")
    Corpus.corpus_name(root)
    table = home / "models" / "corpora.json"
    before = table.read_text()
    table.write_text(text)
    assert Corpus.corpus_name(root) == "music"
    assert table.read_text() == before
    [record] = caplog.records
    assert "corpora.json is damaged" in record.getMessage()


def test_a_table_that_cannot_be_read_is_kept(home, monkeypatch):
    [root] = make_roots(home, "a/music")
    Corpus.corpus_name(root)
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=PermissionError("not allowed")))
    with pytest.raises(PermissionError):
        Corpus.corpus_name(root)
    assert (home / "models" / "corpora.json").exists()


def test_names_are_not_kept_where_nothing_can_be_written(home):
    (home / "models").write_text("a file where the folder should be")
    [root] = make_roots(home, "music")
    assert Corpus.corpus_name(root) == "music"


def test_many_threads_get_different_names(home):
    roots, names = make_roots(home, *(f"{i}/music" for i in range(8))), []
    threads = [
        threading.Thread(target=lambda root=root: names.append(claim_name("music", root)))
        for root in roots
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == ["music", *(f"music-{i}" for i in range(2, 9))]
    assert set(json.loads((home / "models" / "corpora.json").read_text())) == set(names)
