"""Decoding: all formats give the same sound, and damaged files a warning or an AudioError."""

import errno
import io
import os
import pickle
import subprocess
import sys
import threading
from unittest.mock import patch

import av
import numpy as np
import pytest
import soundfile
from conftest import decode
from hostile_files import FAULTS, encode, make_fault_files
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls import AudioError, AudioWarning, load_audio
from genrecls.audio import _container, play_audio
from genrecls.audio import decode as audio
from genrecls.audio._container import open_container, raise_audio_error
from genrecls.audio.decode import open_audio, stream_array
from genrecls.audio.resample import resample

RATE = 44100
AAC = {"m4a": "aac", "mp4": "aac", "aac": "aac"}
BAD_RATES = (np.nan, np.inf, -np.inf, 0, -RATE, 5, 3999, 22050.5, 768_001, 10**12)
CODECS = AAC | {"webm": "libopus", "opus": "libopus", "mp3": "mp3", "mka": "flac"}


@pytest.fixture
def tone():
    """Two seconds of a sine on the left channel and silence on the right one."""
    t = np.arange(RATE * 2) / RATE
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)


def write(file, y, rate=RATE, **options):
    """Encode samples [shape=(n, 1 or 2)] with FFmpeg; the name ending decides the codec."""
    encode(file, y, rate, CODECS[file.suffix[1:]], **options)
    return file


def join(file, *parts):
    """Write the contents of other files one after the other."""
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    return file


def seconds(decoded):
    return decoded.samples.shape[1] / decoded.sample_rate


# Formats


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_load_audio_decodes_files_written_by_libsndfile(tmp_path, tone, ending):
    file = tmp_path / f"tone.{ending}"
    soundfile.write(file, tone, RATE)
    y, rate = load_audio(file, mono=False)
    assert rate == RATE
    assert y.dtype == np.float32
    assert y.shape == (2, len(tone))
    assert np.sqrt(np.mean(y[0] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert np.abs(y[1]).max() < 0.02


@pytest.mark.parametrize("ending", ["m4a", "mp4", "aac", "webm", "opus"])
def test_load_audio_decodes_files_written_by_ffmpeg(tmp_path, tone, ending):
    file = write(tmp_path / f"tone.{ending}", resample(tone.T, RATE, 48000).T, 48000)
    y, rate = load_audio(file, sample_rate=RATE)
    assert rate == RATE
    assert len(y) == pytest.approx(len(tone), abs=RATE / 10)
    assert np.sqrt(np.mean(y**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("ending", ["mp3", "ogg", "flac"])
def test_decode_agrees_with_libsndfile(tmp_path, rng, ending):
    file = tmp_path / f"noise.{ending}"
    soundfile.write(file, rng.normal(0, 0.1, (5 * RATE, 2)), RATE)
    samples = soundfile.read(file, dtype="float32", always_2d=True)[0]
    np.testing.assert_allclose(decode(file).samples.T, samples, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_decode_of_flac_is_exact(tmp_path, rng, monkeypatch, channels, subtype):
    monkeypatch.setattr(audio, "_BLOCK", 1 << 12)
    file = tmp_path / "noise.mp3"  # The content counts, not the name.
    noise = rng.uniform(-1, 1, (10_007, channels))
    soundfile.write(file, noise, 37_001, format="FLAC", subtype=subtype)
    decoded = decode(file)
    assert (decoded.codec, decoded.sample_rate, decoded.problems) == ("FLAC", 37_001, ())
    np.testing.assert_array_equal(decoded.samples.T, soundfile.read(file, always_2d=True)[0])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 9])
def test_decode_of_wav_is_exact(tmp_path, rng, subtype, channels):
    file = tmp_path / "noise.wav"
    soundfile.write(file, rng.uniform(-1, 1, (5000, channels)), 8000, subtype=subtype)
    expected = soundfile.read(file, dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(decode(file).samples.T, expected)


@pytest.mark.parametrize(
    ("ending", "codec"), [("wav", "PCM_S16LE"), ("mp3", "MP3"), ("ogg", "VORBIS"), ("m4a", "AAC")]
)
def test_decode_names_the_codec(tmp_path, tone, ending, codec):
    file = tmp_path / f"tone.{ending}"
    if ending in AAC:
        write(file, tone)
    else:
        soundfile.write(file, tone, RATE)
    assert decode(file).codec == codec


def test_load_audio_averages_the_channels(tmp_path, tone):
    file = tmp_path / "tone.wav"
    soundfile.write(file, tone, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(file)[0], tone.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
def test_load_audio_resamples_with_pitch_and_length_unchanged(tmp_path, tone, rate):
    file = tmp_path / "tone.wav"
    soundfile.write(file, tone, RATE)
    y, got = load_audio(file, sample_rate=rate)
    assert got == rate
    assert len(y) == pytest.approx(2 * rate, abs=2)
    spectrum = np.abs(np.fft.rfft(y))
    assert np.argmax(spectrum) * rate / len(y) == pytest.approx(440, abs=1)


def test_load_audio_keeps_samples_within_full_scale(tmp_path):
    file = tmp_path / "loud.wav"
    square = np.sign(np.sin(2 * np.pi * 997 * np.arange(RATE) / RATE))
    soundfile.write(file, square, RATE)
    y, _ = load_audio(file, sample_rate=48000)
    assert np.abs(y).max() <= 1.0


def test_load_audio_ignores_the_file_name(tmp_path, tone):
    soundfile.write(tmp_path / "tone.flac", tone, RATE)
    (tmp_path / "tone.flac").rename(tmp_path / "Имя с пробелами 🎹 & 'quotes', comma.mp3")
    y, _ = load_audio(next(tmp_path.iterdir()))
    assert len(y) == len(tone)


# Streams


@pytest.mark.parametrize("prefetch", [False, True])
def test_open_audio_gives_the_samples_in_blocks(tmp_path, rng, monkeypatch, prefetch):
    monkeypatch.setattr(audio, "_BLOCK", 1 << 12)
    file = tmp_path / "noise.flac"
    soundfile.write(file, rng.uniform(-1, 1, (RATE, 2)), RATE)
    with open_audio(file, prefetch=prefetch) as stream:
        assert (stream.sample_rate, stream.codec) == (RATE, "FLAC")
        blocks = list(stream)
    assert len(blocks) > 5
    np.testing.assert_array_equal(np.concatenate(blocks), soundfile.read(file)[0])


def test_open_audio_ends_its_thread_when_it_is_left_early(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(audio, "_BLOCK", 1 << 12)
    soundfile.write(tmp_path / "noise.flac", rng.uniform(-1, 1, (5 * RATE, 2)), RATE)
    before = threading.active_count()
    with open_audio(tmp_path / "noise.flac", prefetch=True) as stream:
        next(iter(stream))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_open_audio_passes_errors_of_the_caller_on(tmp_path, tone):
    soundfile.write(tmp_path / "tone.wav", tone, RATE)

    def fail():
        with open_audio(tmp_path / "tone.wav") as stream:
            for _ in stream:
                raise KeyError("not about the file")

    with pytest.raises(KeyError, match="not about the file"):
        fail()


def test_an_interrupt_ends_decoding(tmp_path, rng):
    file = tmp_path / "noise.flac"
    soundfile.write(file, rng.uniform(-1, 1, (60 * RATE, 2)), RATE)
    code = """if True:
        import os, signal, sys, threading
        from genrecls import load_audio
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell may ignore it
        load_audio(sys.argv[1])  # This imports everything.
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        for _ in range(100):
            load_audio(sys.argv[1])
    """
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert done.returncode
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert "Exception ignored" not in done.stderr


def test_stream_array_gives_one_clipped_block(tone):
    stream = stream_array(2 * tone.T, RATE)
    [block] = stream
    np.testing.assert_allclose(block, np.clip(2 * tone, -1, 1), atol=1e-6)
    assert (stream.sample_rate, stream.problems) == (RATE, [])


@pytest.mark.parametrize(
    ("y", "rate", "message"),
    [
        (np.zeros(100), None, "give sample_rate"),
        (np.zeros(100, np.int16), RATE, "not of int16"),
        (np.zeros((100, 2)), RATE, r"up to 64 channels, not of float64 and shape \(100, 2\)"),
        (np.zeros((2, 2, 100)), RATE, r"shape \(2, 2, 100\)"),
        (np.full(100, np.nan), RATE, "samples reach nan"),
        (np.full(100, np.inf), RATE, "samples reach inf"),
        (np.full(100, 32767.0), RATE, "samples reach 3.28e"),
        *[(np.zeros(100), rate, f"rate of {rate} Hz") for rate in BAD_RATES],
    ],
)
def test_stream_array_refuses_arrays_that_are_not_sound(y, rate, message):
    with pytest.raises(ValueError, match=message):
        stream_array(y, rate)


@pytest.mark.parametrize("shape", [(1, 1), (16, 3), (16, RATE), (64, 1)])
def test_stream_array_accepts_many_channels(rng, shape):
    y = rng.uniform(-1, 1, shape)
    np.testing.assert_allclose(np.concatenate([*stream_array(y, RATE)]).T, y, atol=1e-7)


def test_stream_array_splits_the_array_into_blocks(rng, monkeypatch):
    monkeypatch.setattr(audio, "_BLOCK", 1000)
    y = rng.uniform(-1, 1, (2, 2500))
    blocks = [*stream_array(y, float(RATE))]
    assert [len(block) for block in blocks] == [1000, 1000, 500]
    np.testing.assert_allclose(np.concatenate(blocks).T, y, atol=1e-7)


# Channels that cancel out


def music(rng, n=3 * RATE):
    return 0.3 * np.sin(np.cumsum(rng.uniform(0.02, 0.2, n // 100 + 1)).repeat(100)[:n]) + 0.01


@pytest.mark.parametrize(
    "gains",
    [(1, -1), (1, -0.9), (-0.5, 0.5), (0, 1, -1), (1, -1, 0, 0, 0, 0), (1, 1, -2), (0.3, -1, 0.7)],
)
def test_load_audio_inverts_channels_that_cancel_out(tmp_path, rng, gains):
    soundfile.write(tmp_path / "x.wav", music(rng)[:, None] * gains, RATE, subtype="FLOAT")
    with pytest.warns(AudioWarning, match=r"cancel out in 3.0 s of 3.0 s; .* inverted"):
        y, _ = load_audio(tmp_path / "x.wav")
    expected = np.abs(music(np.random.default_rng(0))) * np.abs(gains).mean()
    np.testing.assert_allclose(np.abs(y), expected, atol=1e-6)


@pytest.mark.parametrize(
    "gains",
    [(1, 1), (1, 0), (1, -0.5), (0, 0, 1, 0, 0, 0), (0.001, -0.001), (1,), (0.0, 0.0), (1, 1, -1)],
)
def test_load_audio_averages_channels_that_do_not_cancel_out(tmp_path, rng, gains):
    y = music(rng)
    soundfile.write(tmp_path / "x.wav", y[:, None] * gains, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "x.wav")[0], y * np.mean(gains), atol=1e-6)


def test_load_audio_averages_many_independent_channels(tmp_path, rng):
    y = rng.uniform(-1, 1, (RATE, 64)) * np.r_[1, np.full(63, 0.05)]
    soundfile.write(tmp_path / "x.wav", y, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "x.wav")[0], y.mean(axis=1), atol=1e-6)


def test_load_audio_has_no_seams_where_channels_cancel_out(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(audio, "_BLOCK", 1 << 12)
    y = music(rng)
    noise = 1e-4 * rng.standard_normal((len(y), 2))  # Now one channel is louder, now the other.
    soundfile.write(tmp_path / "x.wav", y[:, None] * [1, -1] + noise, RATE, subtype="FLOAT")
    with pytest.warns(AudioWarning, match="cancel out"):
        found, _ = load_audio(tmp_path / "x.wav")
    np.testing.assert_allclose(found, y, atol=1e-3)


def test_load_audio_inverts_only_the_part_that_cancels_out(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(audio, "_BLOCK", 1 << 12)
    y = music(rng)
    right = np.where(np.arange(len(y)) < RATE, -y, y)
    soundfile.write(tmp_path / "x.flac", np.stack([y, right], axis=1), RATE)
    with pytest.warns(AudioWarning, match=r"cancel out in (0.9|1.0) s of 3.0 s"):
        found, _ = load_audio(tmp_path / "x.flac")
    assert np.std(found[:RATE]) == pytest.approx(np.std(y[:RATE]), rel=0.1)
    np.testing.assert_allclose(found[RATE + 5000 :], y[RATE + 5000 :], atol=1e-3)


# Files that change their parameters


@pytest.mark.parametrize("channels", [(2, 1), (1, 2)])
def test_decode_converts_to_the_channels_at_the_start(tmp_path, tone, channels):
    sounds = {1: tone.mean(axis=1, keepdims=True), 2: tone}
    parts = [write(tmp_path / f"{n}.aac", sounds[n]) for n in channels]
    decoded = decode(join(tmp_path / "joined.aac", *parts))
    assert len(decoded.samples) == channels[0]
    assert seconds(decoded) == pytest.approx(4, abs=0.2)
    assert "the number of channels changes" in decoded.problems[0]
    end = decoded.samples[0, -decoded.sample_rate :]
    assert np.sqrt(np.mean(end**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.5)


def test_decode_inverts_channels_that_cancel_out_after_a_mono_file(tmp_path, rng):
    y = music(rng)
    for name, channels in {"a": [y], "b": [y, -y]}.items():
        soundfile.write(tmp_path / f"{name}.flac", np.stack(channels, axis=1), RATE)
    decoded = decode(join(tmp_path / "joined.flac", tmp_path / "a.flac", tmp_path / "b.flac"))
    np.testing.assert_allclose(decoded.samples[0, len(y) :], y, atol=1e-3)


@pytest.mark.parametrize("ending", ["aac", "mp3"])
def test_decode_converts_to_the_rate_at_the_start(tmp_path, tone, ending):
    rates = (RATE, 22050)
    parts = [
        write(tmp_path / f"{rate}.{ending}", resample(tone.T, RATE, rate).T, rate) for rate in rates
    ]
    decoded = decode(join(tmp_path / f"joined.{ending}", *parts))
    assert decoded.sample_rate == RATE
    assert seconds(decoded) == pytest.approx(4, abs=0.2)
    assert any("the sample rate changes" in problem for problem in decoded.problems)
    end = decoded.samples[0, -RATE:]
    spectrum = np.abs(np.fft.rfft(end))
    assert np.argmax(spectrum) * RATE / len(end) == pytest.approx(440, abs=2)


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return make_fault_files(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("name", FAULTS)
def test_decode_reads_all_of_a_file_or_tells_the_reason(faults, name):
    expected_s, phrase = FAULTS[name]
    if expected_s is None:
        with pytest.raises(AudioError, match=phrase):
            decode(faults / name)
        return
    decoded = decode(faults / name)
    rms = np.sqrt(np.mean(decoded.samples.mean(axis=0) ** 2))
    assert phrase in decoded.problems[0] if phrase else decoded.problems == ()
    assert rms > 0.05
    # Lossy encoders add silence, and damaged packets are missing.
    assert seconds(decoded) == pytest.approx(expected_s, abs=0.7 if "icy" in name else 0.35)


# Damaged files


@pytest.mark.parametrize("ending", ["mp3", "flac", "aiff", "m4a"])
def test_load_audio_warns_of_truncated_files(tmp_path, rng, ending):
    file, y = tmp_path / f"half.{ending}", rng.normal(0, 0.1, (20 * RATE, 2))
    if ending in AAC:
        write(file, y, movflags="faststart")
    else:
        soundfile.write(file, y, RATE)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.warns(AudioWarning) as caught:
        y, _ = load_audio(file)
    assert any("promises 20.0 s" in str(w.message) for w in caught)
    assert 9 < len(y) / RATE < 11


def test_load_audio_does_not_warn_where_the_header_states_no_duration(tmp_path, rng):
    """FFmpeg guesses a far too long duration from the bit rate of the silence at the start."""
    y = rng.normal(0, 0.1, (12 * RATE, 2))
    y[: 8 * RATE] = 0
    file = write(tmp_path / "quiet_start.aac", y)
    with av.open(str(file)) as container:
        assert container.duration / av.time_base > 20
    assert len(load_audio(file)[0]) / RATE == pytest.approx(12, abs=0.1)


def test_decode_reports_the_skipped_part_of_a_damaged_flac(tmp_path, rng):
    file = tmp_path / "noise.flac"
    soundfile.write(file, rng.uniform(-1, 1, 10 * RATE), RATE)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100_000] = bytes(100_000)
    file.write_bytes(content)
    decoded = decode(file)
    assert 7 < seconds(decoded) < 9.5
    assert any("promises 10.0 s" in problem for problem in decoded.problems)


def test_decode_keeps_what_precedes_damage_in_ogg(tmp_path, rng):
    file = tmp_path / "noise.ogg"
    soundfile.write(file, rng.normal(0, 0.1, (20 * RATE, 2)), RATE)
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    file.write_bytes(content)
    decoded = decode(file)
    assert 5 < seconds(decoded) < 15
    assert any("promises 20.0 s" in problem for problem in decoded.problems)


def test_decode_of_flac_without_a_stated_length(tmp_path, rng):
    file = tmp_path / "piped.flac"
    soundfile.write(file, rng.uniform(-1, 1, RATE), RATE)
    content = bytearray(file.read_bytes())
    content[21] &= 0xF0  # The number of samples has 36 bits of the header.
    content[22:26] = bytes(4)
    file.write_bytes(content)
    decoded = decode(file)
    assert decoded.samples.shape == (1, RATE)
    assert decoded.problems == ()


def change_sizes(file, riff, data):
    """Overwrite the sizes in the header of a WAV file."""
    content = bytearray(file.read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = riff.to_bytes(4, "little")
    content[place : place + 4] = data.to_bytes(4, "little")
    file.write_bytes(content)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_decode_does_not_warn_of_a_wav_header_from_a_pipe(tmp_path, tone, size):
    soundfile.write(tmp_path / "pipe.wav", tone, RATE)
    change_sizes(tmp_path / "pipe.wav", min(size + 36, 0xFFFFFFFF), size)
    decoded = decode(tmp_path / "pipe.wav")
    assert (decoded.samples.shape[1], decoded.problems) == (len(tone), ())


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_decode_warns_of_a_wav_header_that_describes_too_little(tmp_path, tone, share):
    soundfile.write(tmp_path / "wrong.wav", tone, RATE)
    n = round(share * len(tone)) * 4
    change_sizes(tmp_path / "wrong.wav", n + 36, n)
    [problem] = decode(tmp_path / "wrong.wav").problems
    assert problem.startswith(f"the header describes only {n + 44} of 352844 bytes")


def test_decode_does_not_warn_of_chunks_after_the_sound(tmp_path, tone):
    file = tmp_path / "x.wav"
    soundfile.write(file, tone, RATE)
    chunk = b"id3 " + (20_000).to_bytes(4, "little") + b"RIFF" * 5000
    file.write_bytes(file.read_bytes() + chunk)
    assert decode(file).problems == ()


def test_decode_warns_of_a_truncated_wav(tmp_path, tone):
    """FFmpeg takes the length from the size of the file."""
    file = tmp_path / "x.wav"
    soundfile.write(file, tone, RATE)
    file.write_bytes(file.read_bytes()[:200_000])
    assert decode(file).problems == ("the header promises 352844 bytes, the file has 200000",)


@pytest.mark.parametrize("position", range(60, 70))
def test_beginning_of_a_joined_file_is_found_across_blocks(tmp_path, monkeypatch, position):
    monkeypatch.setattr(_container, "_BLOCK_BYTES", 64)
    file = tmp_path / "joined.wav"
    file.write_bytes(bytes(position) + b"RIFF....WAVE" + bytes(300))
    assert _container.find_joined(file, "wav", 0, 0) == position
    assert _container.find_joined(file, "wav", 0, position + 1) is None


def test_decode_warns_of_a_truncated_joined_file(tmp_path, tone):
    soundfile.write(tmp_path / "x.aiff", tone, RATE)
    content = (tmp_path / "x.aiff").read_bytes()
    (tmp_path / "x.aiff").write_bytes(content + content[:100])
    decoded = decode(tmp_path / "x.aiff")
    assert seconds(decoded) == pytest.approx(2, abs=0.01)
    expected = f"the header at byte {len(content)} promises 2.0 s, 0.0 s can be decoded"
    assert decoded.problems == (expected,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e5])
def test_load_audio_refuses_values_that_are_not_sound(tmp_path, tone, bad):
    tone[100:200] = bad
    soundfile.write(tmp_path / "bad.wav", tone, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite|full scale"):
        load_audio(tmp_path / "bad.wav")


def test_load_audio_warns_of_audible_clipping(tmp_path, tone):
    soundfile.write(tmp_path / "loud.wav", 6 * tone, RATE, subtype="FLOAT")
    with pytest.warns(AudioWarning, match="cut off"):
        assert np.abs(load_audio(tmp_path / "loud.wav")[0]).max() <= 1


def test_load_audio_says_what_to_do_about_an_unusable_file(tmp_path):
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("no music " * 500)
    (tmp_path / "folder.mp3").mkdir()
    os.mkfifo(tmp_path / "pipe.mp3")
    soundfile.write(tmp_path / "rate.wav", np.zeros(64_000), 5)
    soundfile.write(tmp_path / "short.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "codec.wav", np.zeros(64_000), RATE)
    content = bytearray((tmp_path / "codec.wav").read_bytes())
    content[20:22] = b"\x34\x12"  # the format tag
    (tmp_path / "codec.wav").write_bytes(content)
    for name, reason in {
        "gone.mp3": "does not exist",
        "empty.mp3": "is empty",
        "folder.mp3": "is a folder",
        "pipe.mp3": "is a pipe",
        "rate.wav": "5 Hz is not plausible",
        "short.wav": "no audio in the file",
        "codec.wav": "unknown codec",
        "text.mp3": "FFmpeg: Invalid data",
    }.items():
        with pytest.raises(AudioError, match=reason) as caught:
            load_audio(tmp_path / name)
        assert caught.value.path == tmp_path / name
        assert caught.value.advice
    assert set(caught.value.reasons) == {"FFmpeg"}


def test_load_audio_says_that_a_file_may_not_be_read(tmp_path, tone, monkeypatch):
    soundfile.write(tmp_path / "tone.wav", tone, RATE)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_container, "open", refuse, raising=False)
    with pytest.raises(AudioError, match=r"Permission denied\). Check that you may read it"):
        load_audio(tmp_path / "tone.wav")


def test_load_audio_opens_no_other_file(tmp_path, tone, monkeypatch):
    soundfile.write(tmp_path / "secret.wav", tone, RATE)
    (tmp_path / "list.mp3").write_text("ffconcat version 1.0\nfile secret.wav\n")
    with pytest.raises(AudioError):
        load_audio(tmp_path / "list.mp3")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:x.m4a").write_text("not an address")
    with pytest.raises(AudioError, match="Invalid data"):
        load_audio("http:x.m4a")


def test_load_audio_works_with_pyav_19(tmp_path, tone, monkeypatch):
    """PyAV 19 has no argument metadata_errors."""
    open_18 = av.open

    def open_19(file, mode, *, options):
        return open_18(file, mode, options=options)

    soundfile.write(tmp_path / "tone.wav", tone, RATE)
    monkeypatch.setattr(av, "open", open_19)
    assert len(load_audio(tmp_path / "tone.wav")[0]) == len(tone)


# Names


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A file of two parts; FFmpeg opens them by the name of the file."""
    file = tmp_path_factory.mktemp("names") / "x.ogg"
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, RATE // 4), RATE)
    file.write_bytes(2 * file.read_bytes())
    return file


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=80).filter(lambda name: not {0, ord("/")} & {*name}))
def test_decode_and_its_errors_allow_any_name(joined, name):
    file = os.fsencode(joined.parent) + b"/x" + name
    os.rename(joined, file)
    try:
        assert seconds(decode(os.fsdecode(file))) == pytest.approx(0.5, abs=0.01)
    finally:
        os.rename(file, joined)
    with pytest.raises(AudioError, match="does not exist") as caught:
        decode(os.fsdecode(file))
    assert str(caught.value).isprintable()
    assert os.fsencode(caught.value.path) == file


def test_decode_works_in_a_locale_without_utf_8(joined):
    code = """if True:
        import os, sys
        from genrecls import AudioError, audio
        folder = sys.argv[1]
        for name in sorted(os.listdir(folder)):
            with audio.open_audio(f"{folder}/{name}") as stream:
                print(ascii(name), sum(map(len, stream)))
            try:
                audio.load_audio(f"{folder}/no {name}")
            except AudioError as error:
                print(error)
    """
    for name in ("é.ogg", "日本.ogg"):
        (joined.parent / name).write_bytes(joined.read_bytes())
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, joined.parent]
    done = subprocess.run(command, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("ascii").splitlines()
    assert len(lines) == 6
    assert len({line.split()[-1] for line in lines[::2]}) == 1
    assert all("does not exist" in line for line in lines[1::2])


def test_audio_error_can_be_pickled(tmp_path):
    error = AudioError(tmp_path / "a.mp3", {"FFmpeg": "no"}, "Convert it.")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.reasons == error.reasons


@pytest.mark.parametrize("mono", [True, False])
@pytest.mark.parametrize(("start_s", "duration_s"), [(0, 2), (2.9, 0.3), (3.5, 1), (7, 9), (0, 9)])
def test_load_audio_loads_a_part(tmp_path, rng, mono, start_s, duration_s):
    """Blocks have 3 s."""
    soundfile.write(tmp_path / "a.wav", rng.normal(0, 0.1, (8 * RATE, 2)), RATE)
    whole, _ = load_audio(tmp_path / "a.wav", mono=mono)
    part, _ = load_audio(tmp_path / "a.wav", mono=mono, start_s=start_s, duration_s=duration_s)
    start, n = round(start_s * RATE), round(duration_s * RATE)
    np.testing.assert_allclose(part, whole[..., start : start + n], atol=1e-7)


def test_play_audio_holds_the_requested_part(tmp_path):
    y = np.concatenate([np.zeros(5 * 22050), np.sin(np.arange(5 * 22050) / 10) / 2])
    soundfile.write(tmp_path / "a.wav", y, 22050)
    widget = play_audio(tmp_path / "a.wav", start_s=4, duration_s=3)
    part, rate = soundfile.read(io.BytesIO(widget.data))
    assert len(part) / rate == pytest.approx(3, abs=0.1)
    loud = np.abs(part) > 0.1
    assert not loud[: int(0.9 * rate)].any()
    assert loud[int(1.2 * rate) :].mean() > 0.8
    with pytest.raises(AudioError, match="ends after 10 s"):
        play_audio(tmp_path / "a.wav", start_s=11)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO])
def test_errors_of_the_machine_are_not_those_of_a_file(error):
    with pytest.raises(OSError, match="busy"), raise_audio_error("song.mp3"):
        raise OSError(error, "busy")


def test_thousands_of_broken_joined_files_are_given_up(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.zeros(44100), 44100)
    joined = (tmp_path / "one.wav").read_bytes() + b"RIFF\x24\0\0\0WAVE".ljust(64, b"x") * 3000
    (tmp_path / "joined.wav").write_bytes(joined)
    with (
        patch("genrecls.audio.decode.open_container", wraps=open_container) as opened,
        pytest.warns(AudioWarning, match="the rest of the file cannot be read"),
    ):
        y, _ = load_audio(tmp_path / "joined.wav")
    assert len(y) == 44100 and opened.call_count <= 101
