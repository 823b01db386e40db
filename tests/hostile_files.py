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


def encode(
    path: Path,
    y: np.ndarray,
    rate: int,
    codec: str,
    *,
    streams: int = 1,
    video: bool = False,
    start_s: int = 0,
    **options: str,
) -> None:
    """Write samples [shape=(n, 1 or 2)] with FFmpeg; the container follows from the name."""
    layout = ("mono", "stereo")[y.shape[1] - 1]
    with av.open(str(path), "w", options=options) as container:
        tracks = [container.add_stream(codec, rate=rate, layout=layout) for _ in range(streams)]
        if video:
            pictures = container.add_stream("mpeg4", rate=5, width=64, height=64, pix_fmt="yuv420p")
        for stream in tracks:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(y.T, np.float32), "fltp", layout
            )
            frame.sample_rate, frame.pts = rate, start_s * rate
            stream.codec_context.open(strict=False)
            convert = av.AudioResampler(stream.format.name, layout, rate, stream.frame_size)
            for part in [*convert.resample(frame), *convert.resample(None), None]:
                container.mux(stream.encode(part))
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


#: Seconds of sound in each file of :func:`make_fault_files`, or None, and a phrase to expect.
FAULTS = {
    "vbr_without_xing.mp3": (4, None),
    "concat_two.mp3": (8, None),
    "concat_two.flac": (8, None),
    "concat_two.m4a": (8, None),
    "concat_two.wav": (8, None),
    "concat_two.aiff": (8, None),
    "concat_two.webm": (8, None),
    "concat_two.ogg": (8, None),
    "concat_two.opus": (8, None),
    "concat_two.caf": (8, None),
    "concat_two.wma": (8, None),
    "concat_fragmented.mp4": (8, None),
    "bits_change.flac": (8, None),
    "chained_rates.ogg": (8, "sample rate changes"),
    "chained_channels.opus": (8, "number of channels changes"),
    "rate_changes.mp3": (8, "sample rate changes"),
    "rate_changes.aac": (8, "sample rate changes"),
    "radio_dump_with_icy_metadata.mp3": (4, "damaged packets were skipped"),
    "size_wrapped.wav": (1, "describes only 32044 of 128044 bytes"),
    "size_wrapped.aiff": (1, "describes only 32054 of 128054 bytes"),
    "size_halved.w64": (2, "describes only 64104 of 128104 bytes"),
    "truncated.w64": (2, "promises 128104 bytes, the file has 64104"),
    "other_chunk.w64": (4, None),
    "tag_behind.caf": (4, None),
    "tags_between.mp3": (8, None),
    "truncated.ogg": (3.2, "truncated: its last page is incomplete"),
    "truncated.caf": (2, "promises 4.0 s, 2.0 s can be decoded"),
    "number_too_large.aiff": (None, "header is damaged"),
    "starts_late.mkv": (4, None),
    "two_streams.m4a": (4, "other streams of sound that are not used: 1"),
    "headerless.wav": (None, "format is unknown"),
    "unknown_format_tag.wav": (None, "unknown codec"),
    "unknown_then_aac.mp4": (4, None),
    "rate_5_hz.wav": (None, "sample rate of 5 Hz is not plausible"),
    "out_of_phase.wav": (4, "channels cancel out in 4.0 s of 4.0 s"),
    "quiet_start.aac": (4, None),
}


def make_fault_files(folder: Path) -> Path:
    """Write files that used to be read wrongly, see ``FAULTS``, and return the folder."""
    rng, rate = np.random.default_rng(8), 16000
    y, slow = make_music(rng, 4, rate), make_music(rng, 4, 8000)
    quiet = np.concatenate([1e-4 * y[: len(y) // 2], y[len(y) // 2 :]])

    def make(ending: str, samples: np.ndarray = y, rate: int = rate, **options) -> bytes:
        file = folder / f"part.{ending}"
        codecs = dict.fromkeys(("aac", "m4a", "mp4", "mkv"), "aac") | {"wma": "mp3"}
        if codec := (codecs | dict.fromkeys(("opus", "webm"), "libopus")).get(ending):
            encode(file, samples, rate, codec, **options)
        else:
            soundfile.write(file, samples, rate, **options)
        content = file.read_bytes()
        file.unlink()
        return content

    def write(name: str, *parts: bytes) -> None:
        (folder / name).write_bytes(b"".join(parts))

    vbr = make("mp3", quiet, bitrate_mode="VARIABLE")
    write("vbr_without_xing.mp3", vbr[vbr.index(vbr[:2], 2) :])
    for ending in ("mp3", "flac", "m4a", "wav", "aiff", "webm", "ogg", "opus", "caf", "wma"):
        write(f"concat_two.{ending}", 2 * make(ending))
    write("concat_fragmented.mp4", 2 * make("mp4", movflags="frag_keyframe+empty_moov"))
    write("bits_change.flac", make("flac"), make("flac", subtype="PCM_24"))
    write("chained_rates.ogg", make("ogg"), make("ogg", slow, 8000))
    write("chained_channels.opus", make("opus"), make("opus", y[:, :1]))
    for ending in ("mp3", "aac"):
        write(f"rate_changes.{ending}", make(ending), make(ending, slow, 8000))
    stream = make("mp3", bitrate_mode="CONSTANT")
    title = b"\x02StreamTitle='A - B';".ljust(33, b"\0")
    blocks = (stream[i : i + 4000] for i in range(0, len(stream), 4000))
    write("radio_dump_with_icy_metadata.mp3", title.join(blocks))
    wave = make("wav", y[:, 0])
    write("size_wrapped.wav", wave[:40], (32_000).to_bytes(4, "little"), wave[44:])
    wrapped, large = (bytearray(make("aiff", y[:, 0])) for _ in range(2))
    wrapped[22:26], wrapped[42:46] = (16_000).to_bytes(4), (32_008).to_bytes(4)
    large[22:26] = b"\xff" * 4
    write("size_wrapped.aiff", wrapped)
    write("number_too_large.aiff", large)
    core = make("caf", y[:, 0])
    w64 = make("w64", y[:, 0])
    write("size_halved.w64", w64[:96], (64_024).to_bytes(8, "little"), w64[104:])
    write("truncated.w64", w64[:64_104])
    chunk = b"bext" + bytes(12) + (8_024).to_bytes(8, "little") + bytes(8_000)
    write("other_chunk.w64", w64[:16], (136_128).to_bytes(8, "little"), w64[24:], chunk)
    tag = b"APETAGEX" + 5_000 * b"\xff"
    write("tag_behind.caf", core, tag)
    ogg = make("ogg")
    write("truncated.ogg", ogg[: len(ogg) - 1000])
    write("tags_between.mp3", 2 * (make("mp3") + tag))
    write("truncated.caf", core[: len(core) - 64_000])
    write("starts_late.mkv", make("mkv", start_s=100))
    write("headerless.wav", np.repeat((y[:, 0] * 32767).astype("<i2"), 2).tobytes())
    write("unknown_format_tag.wav", wave[:20], b"\x34\x12", wave[22:])
    two = make("m4a", streams=2)
    write("two_streams.m4a", two)
    # FFmpeg knows the codec from either box.
    unknown = two.replace(b"mp4a", b"apac", 1).replace(b"esds", b"dapa", 1)
    write("unknown_then_aac.mp4", unknown)
    soundfile.write(folder / "rate_5_hz.wav", y[:, 0], 5)
    soundfile.write(folder / "out_of_phase.wav", y[:, :1] * [1, -1], rate)
    write("quiet_start.aac", make("aac", quiet))
    return folder
