"""Tags are read from all common containers."""

import os

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls.audio.tags import read_tags

RATE = 44100

TAGS = {"artist": " Ä & <b> ", "title": "Ünï 🎹"}


@pytest.mark.parametrize("ending", ["ogg", "flac", "mp3", "m4a"])
def test_read_tags_from_common_containers(tmp_path, rng, ending):
    file = tmp_path / f"x.{ending}"
    y = rng.normal(0, 0.1, (2, RATE)).astype(np.float32)
    if ending in ("ogg", "flac"):
        with soundfile.SoundFile(file, "w", RATE, 2) as out:
            out.artist, out.title = TAGS.values()
            out.write(y.T)
    else:
        with av.open(str(file), "w") as out:
            out.metadata.update(TAGS, album="")
            stream = out.add_stream({"mp3": "mp3", "m4a": "aac"}[ending], rate=RATE)
            sound = av.AudioFrame.from_ndarray(y, format="fltp", layout="stereo")
            sound.sample_rate = RATE
            for frame in (sound, None):
                out.mux(stream.encode(frame))
    assert read_tags(file) == {"artist": "Ä & <b>", "title": "Ünï 🎹"}


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """An OGG file with tags, joined to another one."""
    file = tmp_path_factory.mktemp("tagged") / "x.ogg"
    with soundfile.SoundFile(file, "w", RATE, 1) as out:
        out.artist = "Someone"
        out.write(np.random.default_rng(0).normal(0, 0.1, RATE // 4))
    file.write_bytes(2 * file.read_bytes())
    return file


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_read_tags_finds_none_in_random_bytes(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("garbage") / "x.mp3"
    file.write_bytes(content)
    assert read_tags(file) == {}
    assert read_tags(file.parent) == {}


@pytest.mark.parametrize("pyav", [18, 19])
def test_read_tags_replaces_bytes_that_are_not_utf_8(tmp_path, rng, monkeypatch, pyav):
    file = tmp_path / "x.flac"
    with soundfile.SoundFile(file, "w", RATE, 1) as out:
        out.artist = "Bjork"
        out.write(rng.normal(0, 0.1, RATE))
    file.write_bytes(file.read_bytes().replace(b"Bjork", b"Bj\xf6rk"))
    open_18 = av.open

    def open_19(file, mode, *, options):
        return open_18(file, mode, options=options, metadata_errors="surrogateescape")

    if pyav == 19:
        monkeypatch.setattr(av, "open", open_19)
    assert read_tags(file) == {"artist": "Bj\ufffdrk"}


def test_read_tags_ignores_every_error_of_the_libraries(tmp_path, rng, monkeypatch):
    """FFmpeg seeks to negative positions in some damaged files, which is an OSError."""
    file = tmp_path / "x.wav"
    soundfile.write(file, rng.normal(0, 0.1, RATE), RATE)
    for error in (OSError(22, "Invalid argument"), ValueError("no"), KeyError(1), MemoryError()):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(av, "open", fail)
        assert read_tags(file) == {}


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=80).filter(lambda name: not {0, ord("/")} & {*name}))
def test_read_tags_of_files_with_any_name(tagged, name):
    file = os.fsencode(tagged.parent) + b"/x" + name
    os.rename(tagged, file)
    try:
        assert read_tags(os.fsdecode(file)) == {"artist": "Someone"}
    finally:
        os.rename(file, tagged)
