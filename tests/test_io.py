import hashlib

import pytest

from genrecls._utils.io import hash_file, one_line, open_atomically, write_atomically


def test_write_atomically_replaces_a_file(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("a longer text")
    write_atomically(file, lambda stream: stream.write(b"new"))
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_write_leaves_the_former_file(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("before")

    def fail(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, fail)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_open_atomically_hides_a_file_until_it_is_complete(tmp_path):
    file = tmp_path / "x.txt"
    with open_atomically(file) as stream:
        stream.write(b"half")
        assert not file.exists()
    assert file.read_bytes() == b"half"


def test_hash_file_is_the_sha256_of_the_content(tmp_path):
    file = tmp_path / "x.bin"
    file.write_bytes(bytes(range(256)) * 1000)
    assert hash_file(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_control_characters_of_a_name_do_not_reach_a_terminal():
    assert one_line("a\x1b[31m\nb\x9b – é 🎹") == "a\\x1b[31m\\nb\\x9b – é 🎹"
