import pickle
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import HOSTILE

from genrecls import AudioError, AudioWarning, load_audio
from genrecls.audio import decode as audio
from genrecls.audio.resample import resample

RATE = 44100


@pytest.fixture
def tone():
    t = np.arange(RATE * 2) / RATE
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_formats_of_libsndfile_decode_to_the_same_sound(tmp_path, tone, ending):
    file = tmp_path / f"tone.{ending}"
    soundfile.write(file, tone, RATE)
    y, rate = load_audio(file, mono=False)
    assert rate == RATE and y.dtype == np.float32 and y.shape[0] == 2
    assert abs(y.shape[1] - len(tone)) < RATE / 10
    assert np.sqrt(np.mean(y[0] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert np.abs(y[1]).max() < 0.02


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_flac_has_the_samples_that_libsndfile_reads(tmp_path, rng, monkeypatch, channels, subtype):
    monkeypatch.setattr(audio, "_BLOCK", 1 << 12)
    file = tmp_path / "noise.mp3"  # whatever the name says
    noise = rng.uniform(-1, 1, (10_007, channels))
    soundfile.write(file, noise, 37_001, format="FLAC", subtype=subtype)
    decoded = audio.decode(file)
    assert (decoded.decoder, decoded.sample_rate, decoded.refused) == ("miniaudio", 37_001, {})
    np.testing.assert_array_equal(decoded.samples.T, soundfile.read(file, always_2d=True)[0])


def test_damaged_flac_is_left_to_the_other_decoders(tmp_path, rng):
    file = tmp_path / "noise.flac"
    soundfile.write(file, rng.uniform(-1, 1, 10 * RATE), RATE)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    decoded = audio.decode(file)
    assert decoded.decoder == "PyAV" and decoded.samples.shape[1] > 9 * RATE
    assert set(decoded.refused) == {"miniaudio", "soundfile"}
    assert "of 441000 samples" in decoded.refused["miniaudio"]


def test_flac_that_states_no_length_or_is_large_is_left_to_the_other_decoders(
    tmp_path, rng, monkeypatch
):
    file = tmp_path / "noise.flac"
    soundfile.write(file, rng.uniform(-1, 1, RATE), RATE)
    content = bytearray(file.read_bytes())
    content[21] &= 0xF0  # the number of samples has 36 bits of the header
    content[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(content)
    piped = audio.decode(tmp_path / "piped.flac")
    assert piped.samples.shape == (1, RATE)
    assert piped.refused["miniaudio"] == "the header states no length"
    monkeypatch.setattr(audio, "_WHOLE_BYTES", 1000)
    assert audio.decode(file).decoder == "soundfile"


def test_an_interrupt_ends_the_decoding_of_flac(tmp_path, rng):
    file = tmp_path / "noise.flac"
    soundfile.write(file, rng.uniform(-1, 1, (60 * RATE, 2)), RATE)
    code = """if True:
        import os, signal, sys, threading
        from genrecls import audio, load_audio
        load_audio(sys.argv[1])  # everything is imported
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        for _ in range(100):
            load_audio(sys.argv[1])
    """
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert done.returncode and done.stderr.endswith("KeyboardInterrupt\n")
    assert "Exception ignored" not in done.stderr


def test_channels_that_change_on_the_way_become_those_of_the_start(tmp_path, tone):
    parts = {}
    for layout in ("stereo", "mono"):
        file = tmp_path / f"{layout}.aac"
        write_with_ffmpeg(file, tone, "aac", layout)
        parts[layout] = file.read_bytes()
    for first, then in (("stereo", "mono"), ("mono", "stereo")):
        file = tmp_path / f"{first}_{then}.aac"
        file.write_bytes(parts[first] + parts[then])
        decoded = audio.decode(file)
        assert decoded.samples.shape[0] == {"stereo": 2, "mono": 1}[first]
        assert decoded.samples.shape[1] / decoded.sample_rate == pytest.approx(4, abs=0.2)
        assert "the number of channels changes" in decoded.problems[0]
        end = decoded.samples[:, -decoded.sample_rate :]
        assert np.sqrt(np.mean(end[0] ** 2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.5)


def test_a_file_that_must_not_be_read_is_an_error_of_its_own(tmp_path, tone, monkeypatch):
    soundfile.write(tmp_path / "tone.wav", tone, RATE)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(audio, "open", refuse, raising=False)
    with pytest.raises(AudioError, match=r"Permission denied\). Check that you may read it"):
        load_audio(tmp_path / "tone.wav")


@pytest.mark.parametrize(
    ("ending", "codec"), [("m4a", "aac"), ("mp4", "aac"), ("webm", "libopus"), ("opus", "libopus")]
)
def test_formats_of_ffmpeg_decode_to_the_same_sound(tmp_path, tone, ending, codec):
    file = tmp_path / f"tone.{ending}"
    write_with_ffmpeg(file, tone, codec)
    y, rate = load_audio(file, sample_rate=RATE)
    assert rate == RATE and y.ndim == 1
    assert len(y) == pytest.approx(len(tone), abs=RATE / 10)
    assert np.sqrt(np.mean(y**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.05)


def write_with_ffmpeg(file, samples, codec, layout="stereo"):
    import av

    rate = 48000
    samples = resample(samples.T, RATE, rate)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        packed = np.ascontiguousarray(samples.T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="stereo")
        frame.rate = rate
        convert = av.AudioResampler(
            format=stream.format.name, layout=layout, rate=rate, frame_size=stream.frame_size
        )
        frames = [*convert.resample(frame), *convert.resample(None)]
        for part in [*frames, None]:
            container.mux(stream.encode(part))


def test_mono_is_the_mean_of_the_channels(tmp_path, tone):
    file = tmp_path / "tone.wav"
    soundfile.write(file, tone, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(file)[0], tone.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
def test_resampling_keeps_pitch_and_length(tmp_path, tone, rate):
    file = tmp_path / "tone.wav"
    soundfile.write(file, tone, RATE)
    y, got = load_audio(file, sample_rate=rate)
    assert got == rate
    assert len(y) == pytest.approx(2 * rate, abs=2)
    spectrum = np.abs(np.fft.rfft(y))
    assert np.argmax(spectrum) * rate / len(y) == pytest.approx(440, abs=1)


def test_samples_stay_within_full_scale(tmp_path):
    file = tmp_path / "loud.wav"
    square = np.sign(np.sin(2 * np.pi * 997 * np.arange(RATE) / RATE))
    soundfile.write(file, square, RATE)
    y, _ = load_audio(file, sample_rate=48000)
    assert np.abs(y).max() <= 1.0


def test_missing_empty_and_undecodable_files_say_what_to_do(tmp_path):
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("no music " * 500)
    (tmp_path / "folder.mp3").mkdir()
    for name, why in [("gone.mp3", "does not exist"), ("empty.mp3", "is empty"),
                      ("folder.mp3", "is a folder"), ("text.mp3", "PyAV")]:  # fmt: skip
        with pytest.raises(AudioError, match=why) as caught:
            load_audio(tmp_path / name)
        assert caught.value.path == tmp_path / name
        assert caught.value.advice and caught.value.reasons
    assert set(caught.value.reasons) == {"soundfile", "PyAV"}


def test_error_survives_the_way_from_a_worker_process(tmp_path):
    error = AudioError(tmp_path / "a.mp3", {"soundfile": "no"}, "Convert it.")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.reasons == error.reasons


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e5])
def test_values_that_are_no_sound_are_refused(tmp_path, tone, bad):
    tone[100:200] = bad
    soundfile.write(tmp_path / "bad.wav", tone, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite|full scale"):
        load_audio(tmp_path / "bad.wav")


@pytest.mark.parametrize("ending", ["mp3", "flac"])
def test_a_truncated_file_gives_what_decodes_and_a_warning(tmp_path, rng, ending):
    whole, half = tmp_path / f"whole.{ending}", tmp_path / f"half.{ending}"
    soundfile.write(whole, rng.normal(0, 0.1, (20 * RATE, 2)), RATE)
    content = whole.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    with pytest.warns(AudioWarning) as caught:
        y, _ = load_audio(half)
    assert any("promises 20.0 s" in str(w.message) for w in caught)
    assert 9 < len(y) / RATE < 11


def test_no_other_file_is_opened(tmp_path, tone, monkeypatch):
    soundfile.write(tmp_path / "secret.wav", tone, RATE)
    (tmp_path / "list.mp3").write_text("ffconcat version 1.0\nfile secret.wav\n")
    with pytest.raises(AudioError):
        load_audio(tmp_path / "list.mp3")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:x.m4a").write_text("not an address")
    with pytest.raises(AudioError, match="Invalid data"):
        load_audio("http:x.m4a")


def test_what_is_far_beyond_full_scale_is_cut_off_with_a_warning(tmp_path, tone):
    soundfile.write(tmp_path / "loud.wav", 6 * tone, RATE, subtype="FLOAT")
    with pytest.warns(AudioWarning, match="cut off"):
        assert np.abs(load_audio(tmp_path / "loud.wav")[0]).max() <= 1


def test_content_counts_and_not_the_name(tmp_path, tone):
    soundfile.write(tmp_path / "tone.flac", tone, RATE)
    (tmp_path / "tone.flac").rename(tmp_path / "Имя с пробелами 🎹 & 'quotes', comma.mp3")
    y, _ = load_audio(next(tmp_path.iterdir()))
    assert len(y) == len(tone)


REJECTED = {"empty.mp3", "text.mp3", "directory.mp3", "nan_inf_float.wav", "bitrot.mp3"}


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="the hostile files are not here")
@pytest.mark.filterwarnings("ignore::genrecls.errors.AudioWarning")
def test_hostile_files_load_or_are_refused():
    files = [file for file in HOSTILE.iterdir() if file.suffix != ".md"]
    assert {f.name for f in files} >= REJECTED
    for file in files:
        if file.name in REJECTED:
            with pytest.raises(AudioError):
                load_audio(file)
        else:
            y, rate = load_audio(file, sample_rate=44100)
            assert rate == 44100 and len(y) and np.isfinite(y).all() and np.abs(y).max() <= 1


def test_a_player_holds_the_part_of_the_track_that_was_asked_for(tmp_path):
    import io

    from genrecls.audio.player import player

    y = np.concatenate([np.zeros(5 * 22050), np.sin(np.arange(5 * 22050) / 10) / 2])
    soundfile.write(tmp_path / "a.wav", y, 22050)
    heard = player(tmp_path / "a.wav", start_s=4, duration_s=3)
    part, rate = soundfile.read(io.BytesIO(heard.data))
    assert len(part) / rate == pytest.approx(3, abs=0.1)
    loud = np.abs(part) > 0.1
    assert not loud[: int(0.9 * rate)].any() and loud[int(1.2 * rate) :].mean() > 0.8
    with pytest.raises(AudioError, match="ends after 10 s"):
        player(tmp_path / "a.wav", start_s=11)
