"""Damaged files of 24 kinds: no error but AudioError, no hang, no memory without limit.

Every mutation follows from its number. To repeat one: python tests/test_fuzz.py FOLDER NUMBER
"""

import contextlib
import faulthandler
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from genrecls import AudioError, FrontEnd
from genrecls.audio import open_audio
from genrecls.audio.tags import read_tags
from genrecls.features.extraction import extract_log_mels

RATE = 24000
MAX_SECONDS, MAX_MB = 10, 1000
LIBSNDFILE = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "aiff": "PCM_24", "w64": "FLOAT"}
LIBSNDFILE |= {"au": "ULAW", "caf": "ALAC_16"}
FFMPEG = {
    "mp3": "mp3",
    "opus": "libopus",
    "m4a": "aac",
    "mov": "pcm_s16be",
    "3gp": "aac",
    "aac": "aac",
    "ac3": "ac3",
    "eac3": "eac3",
    "wv": "wavpack",
    "tta": "tta",
    "mka": "flac",
    "webm": "libopus",
    "avi": "pcm_s16le",
    "flv": "aac",
    "wma": "wmav2",
    "ts": "aac",
    "mpg": "mp2",
    "rm": "ac3",
    "voc": "pcm_u8",
    "sox": "pcm_s32le",
}
EXTREMES = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\1\0\0\0")


def write_intact_files(folder):
    """Write half a second of noise in every format."""
    y = np.random.default_rng(0).normal(0, 0.1, (RATE // 2, 2)).astype(np.float32)
    for ending, subtype in LIBSNDFILE.items():
        with soundfile.SoundFile(folder / f"x.{ending}", "w", RATE, 2, subtype) as file:
            if ending in ("flac", "ogg"):
                file.artist = "Artist"
            file.write(y)
    for ending, codec in FFMPEG.items():
        rate = RATE if ending not in ("rm", "ac3", "eac3", "flv", "mpg") else 48000
        with av.open(str(folder / f"x.{ending}"), "w") as container:
            container.metadata["artist"] = "Artist"
            stream = container.add_stream(codec, rate=rate, layout="stereo")
            stream.bit_rate = 128_000
            sound = av.AudioFrame.from_ndarray(y.reshape(1, -1), "flt", "stereo")
            sound.sample_rate, sound.pts = RATE, 0
            stream.codec_context.open(strict=False)
            convert = av.AudioResampler(stream.format.name, "stereo", rate, stream.frame_size)
            for frame in [*convert.resample(sound), *convert.resample(None), None]:
                container.mux(stream.encode(frame))


def mutate(rng, content):
    """Return damaged content: changed, extreme, missing, repeated or cut off bytes."""
    content = bytearray(content * rng.choice([1, 2], p=[0.8, 0.2]))  # some files are joined
    n = len(content)
    for _ in range(rng.integers(1, 5)):
        # Half of the damage is in the header, where it does most.
        place = int(rng.integers(rng.choice([300, n])))
        length = int(2 ** rng.uniform(0, 12))
        match rng.choice(
            ["flip", "extreme", "delete", "repeat", "cut"], p=[0.4, 0.3, 0.1, 0.1, 0.1]
        ):
            case "flip":
                content[place : place + 1] = rng.bytes(1)
            case "extreme":
                extreme = EXTREMES[rng.integers(len(EXTREMES))]
                content[place : place + len(extreme)] = extreme
            case "delete":
                del content[place : place + length]
            case "repeat":
                content[place:place] = content[place : place + length]
            case "cut":
                del content[max(place, 1) :]
    return bytes(content)


def check(folder, number):
    """Read a damaged file in all ways; raise whatever is not an AudioError."""
    rng = np.random.default_rng(number)
    intact = sorted(folder.glob("x.*"))
    source = intact[number % len(intact)]
    file = folder / f"damaged-{os.getpid()}{source.suffix}"
    file.write_bytes(mutate(rng, source.read_bytes()))
    assert isinstance(read_tags(file), dict)
    with contextlib.suppress(AudioError), open_audio(file) as audio:
        for block in audio:
            assert np.isfinite(block).all()
    if number % 5 == 0:
        with contextlib.suppress(AudioError):
            extract_log_mels(file, FrontEnd.preset("default"), pad=True)


def measure_peak_mb():
    """Return the largest memory of this process; ``ru_maxrss`` has that of its parent, too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000


def check_all(folder, numbers):
    """Check mutations one after the other; a signal ends the process if one of them hangs."""
    faulthandler.enable()
    for number in numbers:
        print(number, flush=True)
        signal.alarm(MAX_SECONDS)
        check(folder, number)
        signal.alarm(0)
        peak_mb = measure_peak_mb()
        assert peak_mb < MAX_MB, f"mutation {number} takes {peak_mb:.0f} MB"


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intact")
    write_intact_files(folder)
    return folder


def test_intact_files_have_tags_and_no_problems(intact):
    """Otherwise the mutations of a format would test nothing."""
    files = sorted(intact.glob("x.*"))
    assert len(files) >= 22
    tagged = {file.suffix for file in files if read_tags(file)}
    assert tagged >= {".flac", ".ogg", ".mp3", ".m4a", ".mka"}
    for file in files:
        with open_audio(file) as audio:
            n = sum(len(block) for block in audio)
        assert abs(n / audio.sample_rate - 0.5) < 0.1, file.name
        assert audio.problems == [], file.name


MANY = pytest.param(20_000, marks=[pytest.mark.fuzz, pytest.mark.slow])


@pytest.mark.parametrize("count", [300, MANY])
def test_damaged_files_raise_only_audio_errors(intact, count):
    command = [sys.executable, __file__, intact, "0", str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stdout.split()[-1:]
    assert done.returncode == 0, f"mutation {last}, exit code {done.returncode}:\n{done.stderr}"


if __name__ == "__main__":
    first = int(sys.argv[2])
    check_all(Path(sys.argv[1]), range(first, int((sys.argv[3:] or [first + 1])[0])))
