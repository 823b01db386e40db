"""The report of saved runs: one page that holds everything, and whether it is still true."""

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genrecls import FrontEnd, Recipe
from genrecls.errors import StaleReportError
from genrecls.evaluation.runs import FORMAT
from genrecls.features.excerpts import EXCERPT_MELS, N_MELS, excerpt_front_end
from genrecls.features.prepare import _folder
from genrecls.report import inputs
from genrecls.report.html import page
from genrecls.report.inputs import check_report
from genrecls.report.markdown import escape, markdown
from genrecls.report.write import write_report

PROJECT = Path(__file__).parents[1]
GENRES = ("classique", "jazz", "rap")
HOSTILE_NAME = 'genre/<script>alert(1)</script> & "Имя" 🎹|x.mp3'
DEFAULT = FrontEnd.preset("default")
pytestmark = pytest.mark.filterwarnings("ignore:Glyph 127929")  # few fonts have a keyboard


def save_run(home, name, *, split_by="artist", seed=0):
    """A run as training leaves it, without its model: 3 genres x 4 artists x 3 segments."""
    rng = np.random.default_rng(seed)
    rows = []
    for genre in GENRES:
        for artist, part in enumerate(("train", "validation", "test", "test")):
            path = HOSTILE_NAME if (genre, artist) == ("rap", 3) else f"{genre}/{artist} - x.mp3"
            track = f"{genre}{artist}"
            rows += [
                {"track_id": track, "path": path, "title": path, "artist": f"{genre} {artist}",
                 "genre": genre, "group": f"{genre} {artist}", "segment": i + 1, "sha256": track,
                 "start_s": 15.0 * i, "end_s": 15.0 * i + 15, "split": part, "silent": False}
                for i in range(3)
            ]  # fmt: skip
    segments = pd.DataFrame(rows)
    out = segments[segments["split"] != "train"].reset_index(drop=True)
    probabilities = rng.dirichlet([1, 1, 1], len(out))
    out[[f"prob_{genre}" for genre in GENRES]] = probabilities
    out["predicted"] = np.array(GENRES)[probabilities.argmax(axis=1)]
    out = out.assign(temperature=1.0, track_temperature=1.2)
    folder = home / "models" / "hand" / name
    folder.mkdir(parents=True)
    segments.to_parquet(folder / "segments.parquet")
    out.to_parquet(folder / "predictions.parquet")
    epochs = range(4)
    pd.DataFrame(
        {"epoch": epochs, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5,
         "time_s": 1.0}
    ).to_parquet(folder / "history.parquet")  # fmt: skip
    np.savez(
        folder / "first_layer.npz", path=np.array(HOSTILE_NAME), segment=np.array(1),
        log_mel=rng.uniform(-80, 0, DEFAULT.shape).astype(np.float16), maps=rng.random((2, 8, 9)),
    )  # fmt: skip
    card = {
        "format": FORMAT, "name": name, "uid": name, "corpus": "hand", "genres": list(GENRES),
        "front_end": DEFAULT.to_dict(), "temperature": 1.0, "track_temperature": 1.2,
        "recipe": dataclasses.asdict(Recipe.preset("default", "compact_cnn", split_by=split_by)),
        "corpus_hash": "same", "left_out": [], "notes": [], "created": "2026-01-01",
        "machine": "none", "versions": {"python": "3"}, "architecture": "compact_cnn",
        "parameters": 10, "training_time_s": 1.0, "validation_accuracy": 0.5, "weights": "random",
        "best_epoch": 3, "inference_ms_per_segment": 1.0,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project folder with its report."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home))
        fill(home)
        write_report("hand")
    return home


@pytest.fixture
def project(made, home):
    return shutil.copytree(made, home, dirs_exist_ok=True)


def fill(home):
    rng = np.random.default_rng(0)
    save_run(home, "compact_cnn-original", split_by="segment")
    save_run(home, "compact_cnn-default", seed=1)
    stored = _folder(DEFAULT)
    stored.mkdir(parents=True)
    for genre in GENRES:
        for artist in range(4):
            np.save(stored / f"{genre}{artist}.npy", rng.uniform(-80, 0, (3, *DEFAULT.shape)))
    arrays = {"stamp": np.array(""), "genres": np.array(GENRES)}
    for i, _ in enumerate(GENRES):
        arrays |= {f"path_{i}": np.array(HOSTILE_NAME), f"duration_s_{i}": np.array(45.0),
                   f"envelope_{i}": np.array([[-1.0, -0.5], [1.0, 0.5]]),
                   f"segment_{i}": rng.uniform(-80, 0, DEFAULT.shape)}  # fmt: skip
    for n in (EXCERPT_MELS, *N_MELS):
        arrays[f"mels_{n}"] = rng.uniform(-80, 0, (n, excerpt_front_end().shape[1]))
    (home / "data" / "gallery").mkdir()
    np.savez(home / "data" / "gallery" / "hand.npz", **arrays)


def test_the_page_holds_all_its_images_and_asks_for_nothing(project):
    text = (project / "reports" / "hand" / "report.html").read_text(encoding="utf-8")
    assert text == (project / "reports" / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]*)"', text)
    images = re.findall(r"!\[", (project / "reports" / "hand" / "report.md").read_text())
    assert len(sources) == len(images) > 10
    for source in sources:
        kind, _, data = source.partition("base64,")
        assert kind == "data:image/png;" and b64decode(data).startswith(b"\x89PNG")
    without = re.sub(r'src="[^"]*"', "", text)
    assert not re.search(r"https?://|<script|<link[^>]*stylesheet|@import|url\(", without)
    for heading in ("Comparison", "Scores", "Calibration", "Models", "Example tracks", "Versions"):
        assert re.search(rf"<h2[^>]*>{heading}", text) and f">{heading}</a>" in text
    for genre in GENRES:
        assert f"recall {genre}" in re.sub("<[^>]*>", "", text)


def test_every_figure_is_a_png_and_an_svg_and_every_table_csv_and_markdown(project):
    folder = project / "reports" / "hand"
    names = {file.name for file in folder.iterdir()}
    stems = {kind: {Path(n).stem for n in names if n.endswith(kind)}
             for kind in (".png", ".svg", ".csv", ".md")}  # fmt: skip
    assert stems[".png"] == stems[".svg"] and len(stems[".png"]) > 10
    assert stems[".md"] - {"report"} == stems[".csv"] and len(stems[".csv"]) > 8
    assert any(name.startswith("taggram_") for name in stems[".png"])
    again = {n: (folder / n).read_bytes() for n in names if n.endswith((".svg", ".png"))}
    write_report("hand")
    assert {n: (folder / n).read_bytes() for n in again} == again


def test_names_are_shown_as_they_are(project):
    text = (project / "reports" / "hand" / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    shown = re.sub("<wbr>", "", text)
    name = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;Имя&quot; 🎹|x"
    assert name in shown


@pytest.mark.parametrize(
    "name", ["<b>", "a|b", "![x](y.png)", "[x](http://y)", "`c`", "&amp;", "# x"]
)
def test_the_text_of_a_cell_survives_markdown_and_html(name, tmp_path):
    table = markdown(pd.DataFrame({"name": [name], "n": [1]}))
    text = page(f"# {escape(name)}\n\n{table}", tmp_path)
    cell = re.search(r"<td>(.*?)</td>", text, re.DOTALL)[1]
    assert "<a " not in cell and "<img" not in cell and "<b>" not in cell
    assert html.unescape(re.sub("<[^>]*>", "", cell)) == name


# Is it still true?


def test_a_fresh_report_is_up_to_date(project):
    assert check_report("hand") == project / "reports" / "hand" / "report.html"


def test_a_missing_report_says_how_to_make_it(home):
    with pytest.raises(StaleReportError, match="there is no report .*genrecls report hand"):
        check_report("hand")


def test_what_has_changed_is_named(project):
    runs = project / "models" / "hand"
    predictions = runs / "compact_cnn-original" / "predictions.parquet"
    before = predictions.read_bytes()
    pd.read_parquet(predictions).assign(predicted="jazz").to_parquet(predictions)
    with pytest.raises(StaleReportError, match=r"stale \(changed: .*seed/predictions.parquet\)"):
        check_report("hand")
    predictions.write_bytes(before)
    os.utime(predictions)  # another time, the same content
    check_report("hand")
    save_run(project, "another", seed=2)
    with pytest.raises(StaleReportError, match="new: models/hand/another/card.json"):
        check_report("hand")
    for file in (runs / "another").iterdir():
        file.unlink()
    check_report("hand")
    (runs / "compact_cnn-original" / "card.json").unlink()
    with pytest.raises(StaleReportError, match="gone: models/hand/compact_cnn-original/card.json"):
        check_report("hand")


@pytest.mark.parametrize("module", ["plots.py", "spectrogram.py"])
def test_another_program_makes_a_report_stale(module, project, monkeypatch):
    real = inputs.hash_file
    monkeypatch.setattr(inputs, "hash_file", lambda f: "other" if f.name == module else real(f))
    with pytest.raises(StaleReportError, match=f"changed: genrecls/{module}"):
        check_report("hand")


def test_the_command_checks_with_exit_codes_and_needs_neither_keras_nor_audio(project, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for module in ("tensorflow", "keras", "torch", "soundfile", "miniaudio", "av", "librosa"):
        (blocked / f"{module}.py").write_text("raise ImportError('blocked')")
    env = {**os.environ, "GENRECLS_HOME": str(project), "PYTHONPATH": str(blocked)}

    def genrecls(*words):
        return subprocess.run([sys.executable, "-m", "genrecls", *words], env=env, cwd=PROJECT,
                              capture_output=True, text=True)  # fmt: skip

    (project / "reports" / "hand" / "report.html").unlink()
    none = genrecls("report", "hand", "--check")
    assert none.returncode == 2 and none.stderr.startswith("genrecls: there is no report")
    made = genrecls("report", "hand")
    assert made.returncode == 0, made.stderr
    assert genrecls("report", "hand", "--check").stdout.startswith("up to date: ")
    save_run(project, "another", seed=2)
    stale = genrecls("report", "hand", "--check")
    assert stale.returncode == 2 and len(stale.stderr.splitlines()) == 1
    assert "is stale (new: " in stale.stderr


REPORTS = sorted(PROJECT.glob("reports/*/report.html"))


@pytest.mark.skipif(not REPORTS, reason="no report has been made in this checkout")
@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.parent.name)
def test_reports_that_lie_here_are_not_stale(report):
    assert check_report(report.parent.name) == report
