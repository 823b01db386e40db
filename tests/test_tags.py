"""Tags are read from all common containers."""

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
