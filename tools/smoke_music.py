"""Write a small corpus to ``music/`` and read its sound and tags; for ``tools/smoke.py``."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

import genrecls
from genrecls.audio.tags import read_tags

RATE = 24000
SECONDS = 31
CODECS = {"flac": "flac", "opus": "libopus", "mp3": "libmp3lame", "m4a": "aac"}
FORMATS = {"flac": "s16", "opus": "flt", "mp3": "fltp", "m4a": "fltp"}


def chords(rng: np.random.Generator) -> np.ndarray:
    """Synthesize a new tone twice a second."""
    hz = rng.uniform(200, 900, 2 * SECONDS).repeat(RATE // 2)
    return 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / RATE)


def beats(rng: np.random.Generator) -> np.ndarray:
    """Synthesize bursts of noise."""
    t = np.arange(SECONDS * RATE) / RATE
    return 0.2 * np.exp(-12 * (t % rng.uniform(0.4, 0.6))) * rng.standard_normal(len(t))


def write(path: Path, y: np.ndarray, artist: str) -> None:
    """Encode samples in the format of the ending, with a tag."""
    kind = path.suffix[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (32767 * y).astype(np.int16) if FORMATS[kind] == "s16" else y.astype(np.float32)
    with av.open(path, "w") as file:
        file.metadata["artist"] = artist
        stream = file.add_stream(CODECS[kind], RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(values[None], format=FORMATS[kind], layout="mono")
        frame.sample_rate = RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    for synthesize in (chords, beats):
        for kind in CODECS:
            file, artist = Path("music", synthesize.__name__, f"{kind}.{kind}"), f"Bär {kind}"
            write(file, synthesize(rng), artist)
            y, rate = genrecls.load_audio(file)
            assert abs(len(y) / rate - SECONDS) < 0.2, (file, len(y), rate)
            assert read_tags(file) == {"artist": artist}, read_tags(file)
