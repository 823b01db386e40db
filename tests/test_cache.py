import os
import shutil
import threading
import time

import pytest

from genrecls._utils import cache
from genrecls._utils.paths import find_project
from genrecls.errors import GenreclsError

pytestmark = pytest.mark.usefixtures("home")


def write_entry(path, text="text", **values):
    with cache.new(path) as (folder, meta):
        (folder / "a.txt").write_text(text)
        (folder / "b.bin").write_bytes(bytes(1000))
        meta.update(values)


@pytest.fixture
def path():
    """Return the folder of an entry that exists."""
    path = cache.entry("tags", "key")
    write_entry(path, value=[1, "zwei"])
    return path


# Entries


def test_entry_is_a_folder_of_its_kind_and_version(home, monkeypatch):
    monkeypatch.setitem(cache.VERSIONS, "tags", 7)
    assert cache.entry("tags", "key") == home / "data" / "tags-7" / "key"
    with pytest.raises(KeyError):
        cache.entry("unknown", "key")


def test_entries_outside_a_project_are_in_the_cache_of_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv("GENRECLS_HOME")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.chdir(tmp_path)
    assert tmp_path / "cache" / "genrecls" in cache.entry("tags", "key").parents


def test_project_is_found_from_a_folder_in_it(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "a").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.delenv("GENRECLS_HOME")
    monkeypatch.chdir(tmp_path / "notebooks" / "a")
    assert find_project() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("GENRECLS_HOME", "~/p")
    assert find_project() == tmp_path / "p"


def test_load_returns_the_metadata_of_a_complete_entry(path, caplog):
    assert cache.load(path) == {"value": [1, "zwei"]}
    assert (path / "a.txt").read_text() == "text"
    assert not caplog.records


def test_load_returns_none_without_a_warning_if_there_is_no_entry(caplog):
    assert cache.load(cache.entry("tags", "other")) is None
    assert not caplog.records


def test_load_accepts_files_with_another_time_and_the_same_content(path):
    os.utime(path / "b.bin", (1, 1))
    assert cache.load(path) is not None


HARMS = {
    "cut": lambda path: os.truncate(path / "b.bin", 500),
    "changed": lambda path: (path / "b.bin").write_bytes(bytes(999) + b"1"),
    "emptied": lambda path: (path / "a.txt").write_text(""),
    "gone": lambda path: (path / "a.txt").unlink(),
    "no index": lambda path: (path / "index.json").unlink(),
    "half an index": lambda path: os.truncate(path / "index.json", 20),
    "another index": lambda path: (path / "index.json").write_text('["files", "meta"]'),
    "an empty index": lambda path: (path / "index.json").write_text("{}"),
    "an index without files": lambda path: (path / "index.json").write_text(
        '{"meta": {}, "files": {}}'
    ),
    "an index that is no text": lambda path: (path / "index.json").write_bytes(b"\xff" * 99),
    "another entry": lambda path: copy_entry(path.with_name("other"), path),
    "a folder in place of a file": lambda path: (
        (path / "a.txt").unlink(),
        (path / "a.txt").mkdir(),
    ),
    "a file in place of the entry": lambda path: (shutil.rmtree(path), path.write_text("")),
    "an empty folder": lambda path: (shutil.rmtree(path), path.mkdir()),
}


def copy_entry(source, target):
    """Put a complete entry in the place of another one."""
    write_entry(source)
    shutil.rmtree(target)
    shutil.copytree(source, target)


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_load_treats_damaged_entries_as_missing_and_warns_once(path, harm, caplog):
    other = cache.entry("tags", "second")
    write_entry(other)
    harm(path)
    (other / "b.bin").unlink()
    assert cache.load(path) is cache.load(path) is cache.load(other) is None
    [record] = caplog.records
    assert record.getMessage().startswith(f"{path} is damaged; ")


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_new_replaces_a_damaged_entry(path, harm):
    harm(path)
    write_entry(path, "new")
    assert cache.load(path) == {}
    assert (path / "a.txt").read_text() == "new"


def test_new_replaces_an_intact_entry_when_it_is_told_to(path):
    with cache.new(path, replace=True) as (folder, meta):
        (folder / "c.txt").write_text("text")
        meta["new"] = True
    assert cache.load(path) == {"new": True}
    assert {file.name for file in path.iterdir()} == {"c.txt", "index.json"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_entry_that_cannot_be_replaced_stays(path, monkeypatch, error):
    def fail_at_the_second(*names):
        if names[1] == path:
            monkeypatch.undo()
            raise error("busy")
        return rename(*names)

    rename = os.replace
    monkeypatch.setattr(os, "replace", fail_at_the_second)
    failure = pytest.raises((GenreclsError, KeyboardInterrupt), match="busy")
    with failure, cache.new(path, replace=True) as (folder, _):
        (folder / "c.txt").write_text("text")
    assert cache.load(path) == {"value": [1, "zwei"]}
    assert list(path.parent.iterdir()) == [path]


def test_new_says_what_to_do_where_nothing_can_be_written(home):
    (home / "data").write_text("a file where the folder should be")
    with pytest.raises(GenreclsError, match=r"cannot be written .*; .* set GENRECLS_HOME"):
        write_entry(cache.entry("tags", "key"))


def test_new_shows_an_entry_when_it_is_complete():
    path = cache.entry("tags", "key")
    with cache.new(path) as (folder, _):
        (folder / "a.txt").write_text("half")
        assert not path.exists()
        assert cache.load(path) is None
    assert cache.load(path) == {}


def test_new_leaves_nothing_after_an_error():
    path = cache.entry("tags", "key")

    def fail():
        with cache.new(path) as (folder, _):
            (folder / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(path.parent.iterdir())


def test_new_keeps_the_entry_of_a_faster_process():
    path = cache.entry("tags", "key")
    with cache.new(path) as (folder, _):
        (folder / "a.txt").write_text("slow")
        write_entry(path, "fast", who="fast")
    assert cache.load(path) == {"who": "fast"}
    assert (path / "a.txt").read_text() == "fast"
    assert list(path.parent.iterdir()) == [path]


def test_many_threads_may_write_the_same_entry():
    path = cache.entry("tags", "key")
    threads = [threading.Thread(target=write_entry, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.load(path) == {}
    assert list(path.parent.iterdir()) == [path]


def test_remove_leftovers_deletes_old_temporary_folders_alone(path):
    old, new = path.with_name(".old.1"), path.with_name(".new.1")
    for folder in (old, new):
        folder.mkdir()
        (folder / "a.txt").write_text("half")
    os.utime(old, (1, 1))
    cache.remove_leftovers("tags")
    assert sorted(path.parent.iterdir()) == sorted([path, new])


# Values of files


@pytest.fixture
def files(home, monkeypatch):
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    files = [home / f"{name}.txt" for name in "ab"]
    for file in files:
        file.write_text(file.stem)
    time.sleep(0.02)  # one tick of the clock of the file system
    return files


def memoize(files, kind="tags"):
    """Return the values of files, and the names of those that were read for it."""
    read = []

    def compute(file):
        read.append(file.name)
        return file.read_text()

    return cache.memoize(kind, compute, files), sorted(read)


def test_memoize_does_not_read_unchanged_files_again(files):
    assert memoize(files) == (["a", "b"], ["a.txt", "b.txt"])
    assert memoize([files[1], files[0], files[1]]) == (["b", "a", "b"], [])
    assert memoize(files, "quality") == (["a", "b"], ["a.txt", "b.txt"])


def test_memoize_forgets_the_values_of_another_version(files, monkeypatch):
    memoize(files)
    monkeypatch.setitem(cache.VERSIONS, "tags", 99)
    assert memoize(files)[1] == ["a.txt", "b.txt"]


def test_memoize_keeps_the_finished_values_of_an_interrupted_call(files):
    def compute(file):
        if file == files[1]:
            raise KeyboardInterrupt
        return "a"

    with pytest.raises(KeyboardInterrupt):
        cache.memoize("tags", compute, files)
    assert memoize(files) == (["a", "b"], ["b.txt"])


@pytest.mark.parametrize("content", ["longer", "c"])
@pytest.mark.parametrize("keep_time", [True, False])
def test_memoize_notices_another_content_of_any_size_and_time(files, content, keep_time):
    memoize(files)
    before = files[0].stat()
    files[0].write_text(content)
    if keep_time:
        os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert memoize(files) == ([content, "b"], ["a.txt"])


def test_memoize_notices_files_that_change_places(files, home):
    memoize(files)
    files[0].rename(home / "c.txt")
    files[1].rename(files[0])
    (home / "c.txt").rename(files[1])
    assert memoize(files) == (["b", "a"], ["a.txt", "b.txt"])


def test_memoize_does_not_trust_a_file_that_was_just_written(files, monkeypatch):
    monkeypatch.setattr(cache, "_SETTLED_NS", 10**10)
    memoize(files)
    assert memoize(files) == (["a", "b"], ["a.txt", "b.txt"])


MEMOS = {
    "emptied": lambda memo: memo.write_text(""),
    "cut": lambda memo: memo.write_text(memo.read_text()[:-3]),
    "a list": lambda memo: memo.write_text("[1]"),
    "nothing": lambda memo: memo.write_text("null"),
    "of another kind": lambda memo: memo.write_text(memo.read_text().replace("tags-", "quality-")),
    "with other values": lambda memo: memo.write_text('{"tags-1": {"a.txt": 5}}'),
    "no text": lambda memo: memo.write_bytes(b"\xff" * 99),
    "a folder": lambda memo: (memo.unlink(), memo.mkdir()),
}


@pytest.mark.parametrize("harm", MEMOS.values(), ids=MEMOS)
def test_memoize_makes_a_damaged_memo_again_with_one_warning(files, harm, caplog):
    memoize(files)
    memo = cache.entry("tags", "known.json")
    text = memo.read_text()
    harm(memo)
    assert memoize(files) == (["a", "b"], ["a.txt", "b.txt"])
    assert memoize(files) == (["a", "b"], [])
    assert memo.read_text() == text
    [record] = caplog.records
    assert record.getMessage().startswith(f"{memo} is damaged; ")


def test_memoize_raises_an_error_for_a_missing_file(home):
    with pytest.raises(FileNotFoundError, match="none"):
        memoize([home / "none.txt"])
