import json
import os
import time

import pytest

from genrecls._utils.io import memoize, write_atomically


@pytest.fixture
def files(home, monkeypatch):
    monkeypatch.setattr("genrecls._utils.io._SETTLED_NS", 0)
    (home / "data").mkdir()
    made = [home / f"{name}.txt" for name in "ab"]
    for file in made:
        file.write_text(file.stem)
    time.sleep(0.02)  # a tick of the clock of the file system
    return made


def asked_of(files, what="content"):
    """What comes back, and which files were looked at for it."""
    asked = []

    def content(file):
        asked.append(file.name)
        return file.read_text()

    return memoize(what, content, files), asked


def test_files_that_have_not_changed_are_not_read_again(files):
    assert asked_of(files) == (["a", "b"], ["a.txt", "b.txt"])
    assert asked_of([files[1], files[0], files[1]]) == (["b", "a", "b"], [])
    assert asked_of(files, "other") == (["a", "b"], ["a.txt", "b.txt"])


@pytest.mark.parametrize("new", ["longer", "c"])
@pytest.mark.parametrize("keep_time", [True, False])
def test_another_content_is_a_change_whatever_its_size_and_time(files, new, keep_time):
    asked_of(files)
    before = files[0].stat()
    files[0].write_text(new)
    if keep_time:
        os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert asked_of(files) == ([new, "b"], ["a.txt"])


def test_files_that_change_places_are_read_again(files, home):
    asked_of(files)
    files[0].rename(home / "c.txt")
    files[1].rename(files[0])
    (home / "c.txt").rename(files[1])
    assert asked_of(files) == (["b", "a"], ["a.txt", "b.txt"])


def test_a_file_that_was_just_written_is_not_trusted(files, monkeypatch):
    monkeypatch.setattr("genrecls._utils.io._SETTLED_NS", 10**10)
    asked_of(files)
    assert asked_of(files) == (["a", "b"], ["a.txt", "b.txt"])


def test_without_a_project_nothing_is_written(files, home, monkeypatch):
    (home / "elsewhere").mkdir()
    monkeypatch.setenv("GENRECLS_HOME", str(home / "elsewhere"))
    asked_of(files)
    assert not list((home / "elsewhere").iterdir())
    assert asked_of(files)[1] == ["a.txt", "b.txt"]


def test_a_damaged_memory_is_made_again(files, home):
    asked_of(files)
    [memory] = (home / "data").iterdir()
    for harm in (memory.read_text()[:-3], "[]", "[1]", "null"):
        memory.write_text(harm)
        assert asked_of(files) == (["a", "b"], ["a.txt", "b.txt"])
    assert set(json.loads(memory.read_text())) == {str(file) for file in files}


def test_a_missing_file_is_an_error(files, home):
    with pytest.raises(FileNotFoundError, match="none"):
        asked_of([home / "none.txt"])


def test_an_interrupted_write_leaves_nothing_under_the_final_name(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x.npy", fail)
    assert not list(tmp_path.iterdir())
