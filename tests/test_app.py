"""The page: uploads in a headless browser, refusals, several visitors, deletion of all uploads."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import httpx
import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import GENRES, RATE
from gradio.route_utils import delete_files_created_by_app
from playwright.sync_api import sync_playwright

from genrecls import AudioError, FrontEnd, GenreClassifier, app, load_audio, plots
from genrecls.audio import decode
from genrecls.features.segments import step_samples
from genrecls.models import split_at

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
OFFLINE = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync".split()
)
PATIENCE_MS = 120_000
FILE = "#track input[type=file]"


def find_free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    """Serve the page; give its address and the folder for uploads."""
    folder, port = tmp_path_factory.mktemp("uploads"), find_free_port()
    options = f"--port {port} --max-mb 12 --max-minutes 1".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "genrecls", "serve", "--run", str(bundle), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    address = f"http://127.0.0.1:{port}"
    # Warnings about the model come before the address.
    assert any(address in line for line in iter(process.stdout.readline, ""))
    yield address, folder
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert "Traceback" not in output, output
    assert not list_uploads(folder)  # all uploads are deleted when the command ends


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=OFFLINE)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, served):
    page = open_page(browser, served)
    yield page
    page.context.close()


def open_page(browser, served):
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.elsewhere = []
    page.on(
        "request",
        lambda r: (
            page.elsewhere.append(r.url)
            if not r.url.startswith((served[0], "data:", "blob:"))
            else None
        ),
    )
    page.goto(served[0])
    page.wait_for_selector(FILE, state="attached")
    return page


def wait_for_label(page):
    selector = "#prediction h2, #prediction [role=alert]"
    page.wait_for_selector(selector)
    return page.inner_text(selector)


@pytest.fixture
def song(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "Имя 🎹 & <b>bold.wav"
    soundfile.write(file, rng.normal(0, 0.1, 31 * RATE), RATE)
    return file


def list_uploads(folder):
    """List the files that are left; Gradio keeps empty files until the command ends."""
    return [file.name for file in folder.rglob("*") if file.is_file() and file.stat().st_size]


def test_page_shows_prediction_player_taggram_and_maps(page, song, served, tmp_path, bundle):
    page.set_input_files(FILE, song)
    expected = GenreClassifier.load(bundle).predict(song)
    assert wait_for_label(page) == expected.label
    shares = plots.format_probabilities(expected.probabilities)
    assert shares in page.inner_text("#prediction")
    for part in ("#taggram img", "#maps img"):
        page.wait_for_selector(part)
        width = page.evaluate(f"document.querySelector('{part}').naturalWidth")
        assert width > 500
    assert page.is_visible("#player")
    assert not page.elsewhere
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 30_000
    # Another segment has other maps.
    before = page.get_attribute("#maps img", "src")
    page.get_by_label("Explain the segment").click()
    page.locator("[role=option][aria-selected=false]").first.click()
    page.wait_for_function(
        "old => (document.querySelector('#maps img') || {src: old}).src != old", arg=before
    )
    assert list_uploads(served[1])  # the fixture checks that they are deleted


def make_hostile_files(folder):
    """Write files that are damaged or unusual; return the expected message of each."""
    music = np.random.default_rng(0).normal(0, 0.1, 16 * 8000)
    (folder / "text.mp3").write_text("no sound")
    (folder / "empty.mp3").touch()
    for name, y, options in (
        ("exactly_15s.wav", music[: 15 * 8000], {}),
        ("long.flac", np.tile(music, 5), {}),
        ("silent.wav", np.zeros(20 * 8000), {}),
        ("six_channels.wav", np.repeat(music[:, None], 6, axis=1), {}),
        ("wrong_extension.mp3", music, {"format": "FLAC"}),
    ):
        soundfile.write(folder / name, y, 8000, **options)
    return {
        "text.mp3": "cannot be used",
        "empty.mp3": "cannot be used",
        "exactly_15s.wav": None,
        "long.flac": "1 minute",
        "silent.wav": "silent",
        "six_channels.wav": None,
        "wrong_extension.mp3": None,
    }


def test_page_answers_hostile_files(page, tmp_path):
    for name, reason in make_hostile_files(tmp_path).items():
        page.reload()
        page.set_input_files(FILE, tmp_path / name)
        label = wait_for_label(page)
        if reason is None:
            assert label in (*GENRES, "not sure")
            continue
        assert page.is_visible("#prediction [role=alert]"), name
        assert reason in label
        assert f"'{name}'" in label
        assert len(label.strip().splitlines()) == 1
        assert str(tmp_path) not in label
        assert "genrecls-" not in label
        assert not page.is_visible("#player")


def test_page_has_an_answer_to_every_damaged_file(bundle, hostile):
    classifier = GenreClassifier.load(bundle)
    noted = set()
    for file in hostile.iterdir():
        with contextlib.suppress(AudioError):
            prediction, [_, *notes] = app._predict(classifier, str(file), 1)
            assert prediction.label in (*GENRES, "not sure")
            assert all(note.startswith(repr(file.name)) for note in notes)
            noted |= {file.name for _ in notes}
    assert "truncated.mp3" in noted


@pytest.mark.parametrize(("segment_s", "step_s"), [(15, 3), (3, 3), (10, None), (2, None)])
def test_page_predicts_every_3_s_if_they_divide_the_segment(segment_s, step_s):
    classifier = Mock(front_end=FrontEnd(segment_s=segment_s))
    classifier.predict.return_value = Mock(probabilities={"rap": 1.0}, novelty=None)
    app._predict(classifier, "song.mp3", 1)
    assert classifier.predict.call_args.kwargs["step_s"] == step_s
    step_samples(classifier.front_end, step_s)  # would refuse another step


def test_page_refuses_long_sound_before_decoding_all_of_it(bundle, tmp_path, monkeypatch):
    """A file of a few kB can hold days of silence."""
    n_blocks = 0

    def count(block):
        nonlocal n_blocks
        n_blocks += 1
        return block

    monkeypatch.setattr(decode, "invert_cancelling", count)
    soundfile.write(tmp_path / "long.flac", np.zeros(600 * 8000), 8000)
    with pytest.raises(AudioError, match="more than 1 minute"):
        app._predict(GenreClassifier.load(bundle), str(tmp_path / "long.flac"), 1)
    assert n_blocks < 10


def test_page_refuses_a_file_that_is_too_large(page, served, tmp_path):
    (tmp_path / "large.wav").write_bytes(b"x" * 13_000_000)
    page.set_input_files(FILE, tmp_path / "large.wav")
    page.wait_for_selector("text=/exceed|too large|maximum|size/i")
    assert not page.inner_text("#prediction").strip()
    assert "large.wav" not in list_uploads(served[1])


def test_page_serves_several_visitors(browser, served, song):
    pages = [open_page(browser, served) for _ in range(4)]
    for page in pages:
        page.set_input_files(FILE, song)
    answers = [wait_for_label(page) for page in pages]
    assert len(set(answers)) == 1
    assert answers[0] in (*GENRES, "not sure")
    for page in pages:
        page.context.close()


def test_serve_listens_on_this_machine_only(served):
    port = int(served[0].rsplit(":", 1)[1])
    with socket.socket() as other, pytest.raises(OSError):
        other.connect(("127.0.0.2", port))


def test_uploads_are_deleted_by_schedule(bundle, tmp_path, monkeypatch):
    assert app._CHECK_EVERY_S + app._MAX_AGE_S <= 600
    monkeypatch.setattr(app, "_CHECK_EVERY_S", 1)
    monkeypatch.setattr(app, "_MAX_AGE_S", 1)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    page = app.make_page(GenreClassifier.load(bundle), max_mb=1, max_minutes=1)
    port = find_free_port()
    page.launch(server_name="127.0.0.1", server_port=port, quiet=True, prevent_thread_lock=True)
    try:
        files = {"files": ("song.wav", b"sound")}
        httpx.post(f"http://127.0.0.1:{port}/gradio_api/upload", files=files).raise_for_status()
        assert list_uploads(tmp_path) == ["song.wav"]
        deadline = time.monotonic() + 30
        while list_uploads(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not list_uploads(tmp_path)
    finally:
        page.close()


@pytest.fixture
def corpus_home(bundle, music, tmp_path, monkeypatch):
    """Make a project that contains the corpus of the run."""
    shutil.copytree(music, tmp_path / "data" / "music")
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path


def test_examples_are_not_deleted_with_uploads(bundle, corpus_home):
    page = app.make_page(GenreClassifier.load(bundle), max_mb=1, max_minutes=1)
    examples = list_uploads(corpus_home / "uploads")
    assert len(examples) == len(GENRES)
    delete_files_created_by_app(page, age=-1)
    assert list_uploads(corpus_home / "uploads") == examples


def test_examples_are_taken_from_the_corpus_folder_only(bundle, corpus_home):
    copy = shutil.copytree(bundle, corpus_home / "foreign")
    segments = pd.read_parquet(copy / "segments.parquet")
    secret = corpus_home / "secret"
    secret.write_text("secret")
    segments["path"] = ["../../secret", str(secret)] * (len(segments) // 2)
    segments.to_parquet(copy / "segments.parquet")
    app.make_page(GenreClassifier.load(copy), max_mb=1, max_minutes=1)
    assert not list_uploads(corpus_home / "uploads")


def test_page_compares_a_segment_with_the_most_similar_training_segment(
    bundle, corpus_home, monkeypatch, rng
):
    classifier = GenreClassifier.load(bundle)
    log_mel = rng.uniform(-80, 0, classifier.front_end.shape).astype(np.float16)
    assert app._compare(classifier, log_mel) == ("", None)  # it has no embedding

    inputs = keras.Input((*log_mel.shape, 1))
    x = keras.layers.AveragePooling2D((32, 323))(inputs)
    x = keras.layers.Flatten(name="embedding")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    embeddings = rng.normal(0, 1, (len(classifier.segments), 4))
    row = classifier.segments.query("split == 'train' and start_s == 15").index[1]
    embeddings[row] = split_at(model, "embedding")[0](log_mel[None, ..., None])
    monkeypatch.setattr(GenreClassifier, "model", model)
    monkeypatch.setattr(GenreClassifier, "embeddings", embeddings)
    text, (rate, sound) = app._compare(classifier, log_mel)
    segment = classifier.segments.loc[row]
    name = f"{segment['genre']}: {Path(segment['path']).stem}, from 15 s"
    assert text.startswith(f"<p>Most similar training segments: {name}; ")
    expected, _ = load_audio(corpus_home / "data" / "music" / segment["path"], start_s=15)
    np.testing.assert_array_equal(sound, expected[: 15 * rate])
    shutil.rmtree(corpus_home / "data" / "music")
    assert app._compare(classifier, log_mel) == (text, None)


@pytest.mark.parametrize("synthetic", [True, False])
def test_page_warns_about_synthetic_training_music(bundle, monkeypatch, synthetic):
    monkeypatch.setattr(GenreClassifier, "synthetic", synthetic, raising=False)
    page = app.make_page(GenreClassifier.load(bundle), max_mb=1, max_minutes=1)
    text = str(page.get_config_file()["components"])
    assert ("synthetic music only" in text) is synthetic


def test_page_escapes_names(bundle, monkeypatch):
    classifier = GenreClassifier.load(bundle)
    monkeypatch.setattr(GenreClassifier, "genres", ["<b>rap</b>", "a & b"])
    description = app._describe(classifier, 1, 1)
    assert "&lt;b&gt;rap&lt;/b&gt;, a &amp; b" in description
