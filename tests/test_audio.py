"""Decoding: all formats give the same sound, and damaged files a warning or an AudioError."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import threading

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecls import AudioError, AudioWarning, load_audio
from genrecls.audio import _container, play_audio
from genrecls.audio import decode as audio
from genrecls.audio.decode import decode, open_audio, stream_array
from genrecls.audio.resample import resample
from genrecls.audio.tags import read_tags

RATE = 44100
AAC = {"m4a": "aac", "mp4": "aac", "aac": "aac"}
CODECS = AAC | {"webm": "libopus", "opus": "libopus", "mp3": "mp3", "mka": "flac"}


@pytest.fixture
def tone():
    """Two seconds of a sine on the left channel and silence on the right one."""
    t = np.arange(RATE * 2) / RATE
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)


def write(file, y, rate=RATE, *, layout="stereo", streams=1, options=None):
    """Encode samples [shape=(n, 2)] with FFmpeg; the name ending decides the codec."""
    with av.open(str(file), "w", options=options or {}) as container:
        codec = CODECS[file.suffix[1:]]
        tracks = [container.add_stream(codec, rate=rate, layout=layout) for _ in range(streams)]
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(y, np.float32).reshape(1, -1), "flt", "stereo"
            )
            frame.rate = rate
            track.codec_context.open(strict=False)
            convert = av.AudioResampler(track.format.name, layout, rate, track.frame_size)
            for part in [*convert.resample(frame), *convert.resample(None), None]:
                container.mux(track.encode(part))
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
        assert (stream.sample_rate, stream.codec, stream.duration_s) == (RATE, "FLAC", 1)
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
    assert (stream.sample_rate, stream.duration_s, stream.problems) == (RATE, 2, [])


@pytest.mark.parametrize(
    ("y", "rate", "message"),
    [
        (np.zeros(100), None, "give sample_rate"),
        (np.zeros(0), RATE, "array of floats"),
        (np.zeros(100, np.int16), RATE, "not of int16"),
        (np.zeros((100, 2)), RATE, r"shape \(100, 2\)"),
        (np.full(100, np.nan), RATE, "samples reach nan"),
        (np.full(100, 32767.0), RATE, "samples reach 3.28e"),
    ],
)
def test_stream_array_refuses_arrays_that_are_not_sound(y, rate, message):
    with pytest.raises(ValueError, match=message):
        stream_array(y, rate)


# Files that change their parameters


@pytest.mark.parametrize("layouts", [("stereo", "mono"), ("mono", "stereo")])
def test_decode_converts_to_the_channels_at_the_start(tmp_path, tone, layouts):
    parts = [write(tmp_path / f"{layout}.aac", tone, layout=layout) for layout in layouts]
    decoded = decode(join(tmp_path / "joined.aac", *parts))
    assert len(decoded.samples) == {"stereo": 2, "mono": 1}[layouts[0]]
    assert seconds(decoded) == pytest.approx(4, abs=0.2)
    assert "the channels change" in decoded.problems[0]
    end = decoded.samples[0, -decoded.sample_rate :]
    assert np.sqrt(np.mean(end**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.5)


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


@pytest.mark.parametrize("ending", ["mp3", "flac", "ogg"])
def test_decode_reads_all_of_joined_files(tmp_path, rng, ending):
    parts = [tmp_path / f"{i}.{ending}" for i in range(2)]
    for part in parts:
        soundfile.write(part, rng.normal(0, 0.1, (3 * RATE, 2)), RATE)
    assert seconds(decode(join(tmp_path / f"joined.{ending}", *parts))) == pytest.approx(6, abs=0.1)


def test_decode_takes_the_first_stream_that_has_a_decoder(tmp_path, tone):
    file = write(tmp_path / "two.m4a", tone, streams=2)
    file.write_bytes(file.read_bytes().replace(b"mp4a", b"apac", 1))
    decoded = decode(file)
    assert decoded.codec == "AAC"
    assert seconds(decoded) == pytest.approx(2, abs=0.1)


# Damaged files


@pytest.mark.parametrize("ending", ["mp3", "flac", "aiff", "m4a"])
def test_load_audio_warns_of_truncated_files(tmp_path, rng, ending):
    file, y = tmp_path / f"half.{ending}", rng.normal(0, 0.1, (20 * RATE, 2))
    if ending in AAC:
        write(file, y, options={"movflags": "faststart"})
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
    with open_audio(file) as stream:
        assert stream.duration_s == 0
    assert len(load_audio(file)[0]) / RATE == pytest.approx(12, abs=0.1)


def test_decode_reads_a_variable_bit_rate_without_xing_header(tmp_path, rng):
    y = rng.normal(0, 0.1, (12 * RATE, 2))
    y[: 8 * RATE] = 0
    file = tmp_path / "vbr.mp3"
    soundfile.write(file, y, RATE, bitrate_mode="VARIABLE")
    content = file.read_bytes()
    second_frame = content.index(b"\xff\xfb", 4)
    assert b"Xing" in content[:second_frame]
    file.write_bytes(content[second_frame:])
    decoded = decode(file)
    assert seconds(decoded) == pytest.approx(12, abs=0.1)
    assert decoded.problems == ()


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


def test_decode_warns_of_a_wav_header_that_describes_less_than_half(tmp_path, tone):
    file = tmp_path / "above_4_gb.wav"
    soundfile.write(file, tone, RATE)
    content = bytearray(file.read_bytes())
    size = content.index(b"data") + 4
    content[size : size + 4] = (4 * 20_000).to_bytes(4, "little")
    file.write_bytes(content)
    [problem] = decode(file).problems
    assert problem.startswith("the header describes only 80000 of")


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


def test_load_audio_refuses_samples_without_a_header(tmp_path, tone):
    """FFmpeg would take them for the format of a game console."""
    (tmp_path / "raw.wav").write_bytes((20_000 * np.repeat(tone[:, :1], 2, 1)).astype("<i2"))
    with pytest.raises(AudioError):
        load_audio(tmp_path / "raw.wav")


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


@pytest.fixture(scope="module")
def short_files(tmp_path_factory):
    """Half a second of noise in every format, as bytes by name ending."""
    folder, y = tmp_path_factory.mktemp("short"), np.random.default_rng(0).normal(0, 0.1, (9000, 2))
    for ending in ("wav", "flac", "ogg", "aiff"):
        soundfile.write(folder / f"x.{ending}", y, 16000)
    for ending in ("mp3", "m4a", "aac", "webm"):
        write(folder / f"x.{ending}", y, 16000)
    return {file.suffix: file.read_bytes() for file in sorted(folder.iterdir())}


@settings(max_examples=150)
@given(st.data())
def test_damaged_files_raise_only_audio_errors(short_files, tmp_path_factory, data):
    ending = data.draw(st.sampled_from(sorted(short_files)))
    content = bytearray(short_files[ending])
    places = st.integers(0, 200) | st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=20)):
        content[place] = value
    file = tmp_path_factory.mktemp("damaged") / f"x{ending}"
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    assert isinstance(read_tags(file), dict)
    with contextlib.suppress(AudioError):
        assert np.isfinite(decode(file).samples).all()


def test_audio_error_can_be_pickled(tmp_path):
    error = AudioError(tmp_path / "a.mp3", {"FFmpeg": "no"}, "Convert it.")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.reasons == error.reasons


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
