"""Files that break naive loaders, generated so that no test needs real recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 44100
STRANGE_NAME = "Имя с пробелами 🎹 & 'quotes', comma.wav"


def make_music(rng: np.random.Generator, seconds: float, rate: int = RATE) -> np.ndarray:
    """Make stereo music [shape=(n, 2)]: a new chord every half second over a drum."""
    beat = rate // 2
    t = np.arange(beat) / rate
    parts = []
    for _ in range(int(np.ceil(seconds * 2))):
        tones = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(110, min(3500, rate / 3), 5))
        drum = rng.standard_normal(beat) * np.exp(-25 * t)
        parts.append(np.stack([0.08 * tones + 0.1 * drum, 0.07 * tones + 0.1 * drum], axis=1))
    return np.concatenate(parts)[: round(seconds * rate)].astype(np.float32)


def encode(path: Path, y: np.ndarray, rate: int, codec: str, *, video: bool = False) -> None:
    """Write samples [shape=(n, 2)] with FFmpeg; the container follows from the name."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        if video:
            pictures = container.add_stream("mpeg4", rate=5, width=64, height=64, pix_fmt="yuv420p")
        data = np.ascontiguousarray(y.T)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, data.shape[1], size):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(data[:, start : start + size]), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if video:
            for i in range(5 * len(y) // rate):
                image = np.full((64, 64, 3), i % 256, np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(pictures.encode(None))


def make_hostile_files(folder: Path) -> Path:
    """Write all hostile files to a folder and return the folder."""
    rng = np.random.default_rng(7)
    y = make_music(rng, 30)
    short = y[: 15 * RATE]

    def write(name: str, samples: np.ndarray, rate: int = RATE, **options) -> Path:
        soundfile.write(folder / name, samples, rate, **options)
        return folder / name

    (folder / "empty.mp3").touch()
    (folder / "text.mp3").write_text("This is no sound. " * 400)
    (folder / "directory.mp3").mkdir()
    whole = write("whole.mp3", y, format="MP3").read_bytes()
    (folder / "truncated.mp3").write_bytes(whole[: len(whole) * 3 // 4])
    damaged = np.frombuffer(whole, np.uint8).copy()
    damaged[rng.integers(200, len(damaged), len(damaged) // 500)] = 0xFF
    (folder / "bitrot.mp3").write_bytes(damaged.tobytes())
    (folder / "whole.mp3").unlink()
    write("short_0.4s.wav", y[: round(0.4 * RATE)])
    write("exactly_15s.wav", short[:, 0])
    shutil.copyfile(folder / "exactly_15s.wav", folder / "copy_of_exactly_15s.wav")
    write("just_under_15s.wav", short[:-1, 0])
    write("same_music_other_codec.mp3", short[:, 0], format="MP3")
    write("silence.flac", np.zeros(30 * RATE, np.float32))
    write("dc_offset.flac", np.full(30 * RATE, 0.3, np.float32))
    bad = y.copy()
    bad[1000], bad[2000] = np.nan, np.inf
    write("nan_inf_float.wav", bad, subtype="FLOAT")
    write("mono_8k.wav", make_music(rng, 20, 8820)[:, 0], 8820)
    write("pcm24_96k.flac", make_music(rng, 16, 88200), 88200, subtype="PCM_24")
    write("six_channels.wav", np.repeat(make_music(rng, 20)[:, :1], 6, axis=1))
    write("clipped.flac", np.clip(8 * make_music(rng, 16), -0.99, 0.99))
    write("wrong_extension.mp3", make_music(rng, 16), format="FLAC")
    write(STRANGE_NAME, make_music(rng, 16))
    encode(folder / "aac.m4a", make_music(rng, 20), RATE, "aac")
    encode(folder / "opus.webm", make_music(rng, 20, 48000), 48000, "libopus")
    encode(folder / "aac_in_video.mp4", make_music(rng, 20), RATE, "aac", video=True)
    return folder
