"""The page, in a headless browser: an upload, what is refused, ten at once, nothing kept."""

import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import GENRES, HOSTILE, RATE

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)}")

OFFLINE = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync".split()
)
PATIENCE_MS = 120_000
FILE = "#track input[type=file]"


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    """Address of the page and the folder that its uploads go to."""
    folder = tmp_path_factory.mktemp("uploads")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "genrecls", "serve", "--run", bundle, "--port", port,
               "--max-mb", 12, "--max-minutes", 1]  # fmt: skip
    process = subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    said = process.stdout.readline()
    assert f"http://127.0.0.1:{port}" in said, said + process.communicate()[0]
    yield f"http://127.0.0.1:{port}", folder
    process.terminate()
    rest, _ = process.communicate(timeout=30)
    # The player of a page that is being closed may still ask for the file that is deleted with it.
    gone = f"No such file or directory: '{folder}", f"File at path {folder}"
    assert all(any(words in one for words in gone) for one in rest.split("Traceback")[1:]), rest
    assert not uploads(folder)  # whatever was there goes with the command


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=OFFLINE)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, served):
    page = opened(browser, served)
    yield page
    page.context.close()


def opened(browser, served):
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.elsewhere = []
    page.on("request", lambda r: page.elsewhere.append(r.url)
            if not r.url.startswith((served[0], "data:", "blob:")) else None)  # fmt: skip
    page.goto(served[0])
    page.wait_for_selector(FILE, state="attached")
    return page


def answer(page):
    page.wait_for_selector("#prediction strong")
    return page.inner_text("#prediction strong")


@pytest.fixture
def song(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "Имя 🎹 & <b>bold.wav"
    soundfile.write(file, rng.normal(0, 0.1, 31 * RATE), RATE)
    return file


def uploads(folder):
    """What is left of them; Gradio leaves files of no bytes behind."""
    return [file.name for file in folder.rglob("*") if file.is_file() and file.stat().st_size]


def test_a_track_gets_player_taggram_prediction_and_maps(page, song, served, tmp_path):
    page.set_input_files(FILE, song)
    assert answer(page) in (*GENRES, "not sure")
    shares = page.inner_text("#prediction")
    assert all(genre in shares for genre in GENRES)
    for part in ("#taggram img", "#maps img"):
        page.wait_for_selector(part)
        width = page.evaluate(f"document.querySelector('{part}').naturalWidth")
        assert width > 500
    assert page.is_visible("#player")
    assert not page.elsewhere
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 30_000
    # Another segment, other maps.
    before = page.get_attribute("#maps img", "src")
    page.get_by_label("What the answer rests on").click()
    page.locator("[role=option][aria-selected=false]").first.click()
    page.wait_for_function(
        "old => (document.querySelector('#maps img') || {src: old}).src != old", arg=before
    )
    assert uploads(served[1])
    page.context.close()
    deadline = time.monotonic() + 20
    while uploads(served[1]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not uploads(served[1])


def test_what_cannot_be_used_gets_a_sentence(page, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "text.mp3").write_text("no sound")
    soundfile.write(tmp_path / "short.wav", rng.normal(0, 0.1, 4000), 8000)
    soundfile.write(tmp_path / "long.flac", rng.normal(0, 0.1, 80 * 8000), 8000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(20 * 8000), 8000)
    for name, why in (
        ("text.mp3", "cannot be used"),
        ("short.wav", "0.5 s of sound is shorter"),
        ("long.flac", "more than 1 minutes"),
        ("silent.wav", "silent"),
    ):
        page.reload()
        page.set_input_files(FILE, tmp_path / name)
        page.wait_for_selector("#prediction [role=alert]")
        said = page.inner_text("#prediction")
        assert why in said and f"'{name}'" in said and len(said.strip().splitlines()) == 1
        assert str(tmp_path) not in said and "genrecls-" not in said
        assert not page.is_visible("#player")


def test_what_is_too_large_is_refused(page, served, tmp_path):
    (tmp_path / "large.wav").write_bytes(b"x" * 13_000_000)
    page.set_input_files(FILE, tmp_path / "large.wav")
    page.wait_for_selector("text=/exceed|too large|maximum|size/i")
    assert not page.inner_text("#prediction").strip()
    assert not uploads(served[1])


def test_ten_at_once_all_get_an_answer(browser, served, song):
    pages = [opened(browser, served) for _ in range(10)]
    for page in pages:
        page.set_input_files(FILE, song)
    answers = [answer(page) for page in pages]
    assert len(set(answers)) == 1 and answers[0] in (*GENRES, "not sure")
    for page in pages:
        page.context.close()


def test_only_this_machine_can_reach_the_page(served):
    port = int(served[0].rsplit(":", 1)[1])
    with socket.socket() as other, pytest.raises(OSError):
        other.connect(("127.0.0.2", port))


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="needs the hostile files")
def test_every_hostile_file_gets_a_prediction_or_one_sentence(page):
    said = {}
    for file in sorted(HOSTILE.iterdir()):
        if file.is_file() and file.suffix != ".md":
            page.reload()
            page.set_input_files(FILE, file)
            said[file.name] = answer(page)
    assert len(said) == 21
    for name, text in said.items():
        assert "\n" not in text and "Traceback" not in text, (name, text)
    refused = {name for name, text in said.items() if text not in (*GENRES, "not sure")}
    assert refused == {
        "bitrot.mp3", "empty.mp3", "just_under_15s.wav", "nan_inf_float.wav", "short_0.4s.wav",
        "silence.flac", "text.mp3",
    }  # fmt: skip


def test_examples_stay_when_uploads_are_deleted_and_lie_in_their_corpus(
    bundle, music, tmp_path, monkeypatch
):
    from gradio.route_utils import delete_files_created_by_app

    from genrecls import GenreClassifier
    from genrecls.app import make_page

    (tmp_path / "data").mkdir()
    shutil.copytree(music, tmp_path / "data" / "music")
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    page = make_page(GenreClassifier.load(bundle), max_mb=1, max_minutes=1)
    examples = uploads(tmp_path / "uploads")
    assert len(examples) == len(GENRES)
    delete_files_created_by_app(page, age=-1)
    assert uploads(tmp_path / "uploads") == examples

    copy = shutil.copytree(bundle, tmp_path / "foreign")
    segments = pd.read_parquet(copy / "segments.parquet")
    (tmp_path / "secret").write_text("secret")
    segments["path"] = ["../../secret", str(tmp_path / "secret")] * (len(segments) // 2)
    segments.to_parquet(copy / "segments.parquet")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "others"))
    make_page(GenreClassifier.load(copy), max_mb=1, max_minutes=1)
    assert not (tmp_path / "others").exists() or not uploads(tmp_path / "others")
