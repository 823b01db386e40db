"""The report, the audit page and the model card, from saved tables."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from matplotlib import pyplot as plt

from genrecls import FrontEnd, Recipe
from genrecls.evaluation.runs import FORMAT, Run
from genrecls.evaluation.scores import aggregate_tracks
from genrecls.report import sections
from genrecls.report.document import Report, read_table
from genrecls.report.model_card import model_card, write_model_card
from genrecls.report.write import write_audit, write_report

GENRES = ("classique", "jazz", "rap")
HOSTILE_NAME = 'genre/<script>alert(1)</script> & "Имя" 🎹|x.mp3'
DEFAULT = FrontEnd.preset("default")
pytestmark = pytest.mark.filterwarnings("ignore:Glyph 127929")  # Few fonts have a keyboard.


def save_run(home, name, *, split_by="artist", seed=0):
    """Save a run without its model: 3 genres x 4 artists x 3 segments."""
    rng = np.random.default_rng(seed)
    rows = []
    for genre in GENRES:
        for artist, split in enumerate(("train", "validation", "test", "test")):
            path = HOSTILE_NAME if (genre, artist) == ("rap", 3) else f"{genre}/{artist} - x.mp3"
            track = {"track_id": f"{genre}{artist}", "path": path, "title": path, "genre": genre}
            track |= {"artist": f"{genre} {artist}", "group": f"{genre} {artist}", "split": split}
            track |= {"sha256": f"{genre}{artist}", "sounding": 1.0}
            rows += [
                {**track, "segment": i + 1, "start_s": 15.0 * i, "end_s": 15.0 * i + 15}
                for i in range(3)
            ]
    segments = pd.DataFrame(rows)
    predictions = segments[segments["split"] != "train"].reset_index(drop=True)
    probabilities = rng.dirichlet([1, 1, 1], len(predictions))
    predictions[[f"prob_{genre}" for genre in GENRES]] = probabilities
    predictions["predicted"] = np.array(GENRES)[probabilities.argmax(axis=1)]
    predictions = predictions.assign(temperature=1.0, track_temperature=1.2)
    folder = home / "models" / "hand" / name
    folder.mkdir(parents=True)
    segments.to_parquet(folder / "segments.parquet")
    predictions.to_parquet(folder / "predictions.parquet")
    values = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "time_s": 1.0}
    pd.DataFrame({"epoch": range(4), **values}).to_parquet(folder / "history.parquet")
    log_mel = rng.uniform(-80, 0, DEFAULT.shape).astype(np.float16)
    layer = {"path": np.array(HOSTILE_NAME), "segment": np.array(1), "log_mel": log_mel}
    np.savez(folder / "first_layer.npz", **layer, maps=rng.random((12, 8, 9)))
    recipe = Recipe.preset("default", "compact_cnn", split_by=split_by)
    card = {
        "format": FORMAT,
        "name": name,
        "uid": name,
        "corpus": "hand",
        "corpus_hash": "same",
        "genres": list(GENRES),
        "front_end": DEFAULT.to_dict(),
        "recipe": dataclasses.asdict(recipe),
        "temperature": 1.0,
        "track_temperature": 1.2,
        "min_confidence": 0.6,
        "novelty_threshold": None,
        "left_out": [],
        "notes": [{"path": HOSTILE_NAME, "note": "half of it is silent"}],
        "created": "2026-01-01",
        "machine": "none",
        "versions": {"python": "3", "genrecls": "0"},
        "architecture": "compact_cnn",
        "parameters": 10,
        "training_time_s": 1.0,
        "validation_accuracy": 0.5,
        "synthetic": False,
        "weights": "random",
        "best_epoch": 3,
        "inference_ms_per_segment": 1.0,
    }
    (folder / "card.json").write_text(json.dumps(card))
    return Run.read(folder)


def make_log_mels(front_end, sha256):
    return np.random.default_rng(len(sha256)).uniform(-80, 0, (3, *front_end.shape))


def write_audit_hash(folder, corpus_hash):
    (folder / "audit.json").write_text(json.dumps({"corpus_hash": corpus_hash}))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a project folder with the report of two runs and an audit."""
    home = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home))
        patch.setattr(sections, "stored_log_mels", make_log_mels)
        save_run(home, "compact_cnn-original", split_by="segment")
        save_run(home, "compact_cnn-default", seed=1)
        (home / "reports" / "hand").mkdir(parents=True)
        for name, values in {"genres": GENRES, "problems": []}.items():
            table = pd.DataFrame({"genre": values, **{"x" * 40 + str(i): "" for i in range(4)}})
            table.to_csv(home / "reports" / "hand" / f"audit_{name}.csv", index=False)
        write_audit_hash(home / "reports" / "hand", "same")
        write_report("hand")
        yield home


def test_report_embeds_every_figure_in_one_page(project):
    folder = project / "reports" / "hand"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page == (project / "reports" / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r"!\[", (folder / "report.md").read_text(encoding="utf-8"))
    n_examples = len(list(folder.glob("example_*.csv")))
    assert 3 <= n_examples <= 5
    assert page.count('src="data:image/webp;base64,') == len(figures) == 3 * 2 + n_examples + 1 + 1
    for genre in GENRES:
        assert f"recall {genre}" in re.sub("<[^>]*>", "", page)


def test_report_has_the_sections_that_there_are_results_for(project):
    text = (project / "reports" / "hand" / "report.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == [
        "Summary",
        "Comparison",
        "Splits",
        "Scores",
        "Calibration",
        "Audit",
        "Looking at the sound",
        "Models",
        "Example tracks",
        "Test tracks",
        "Tracks left out, and tracks used with a warning",
        "Versions",
    ]
    assert "### Problems\n\nNone.\n" in text
    assert re.search(r"\| genre \|.*\n.*\n\| classique \|", text)


def test_report_names_runs_with_different_test_tracks(home, tmp_path):
    runs = [save_run(home, name) for name in ("one", "other")]
    table = runs[1].predictions
    table[table["track_id"] != "rap3"].to_parquet(runs[1].folder / "predictions.parquet")
    report = Report("x", tmp_path / "x")
    sections.add_overview(report, runs)
    text = report.save().with_suffix(".md").read_text(encoding="utf-8")
    assert "can be compared with each other: one; other." in text


def test_report_begins_with_a_warning_if_the_corpus_has_changed(home, monkeypatch, caplog):
    save_run(home, "compact_cnn-default")
    monkeypatch.setattr("genrecls.report.write.SECTIONS", ())
    monkeypatch.setattr("genrecls.report.write.describe_changes", lambda run: "*It* has changed.")
    text = write_report("hand").with_suffix(".md").read_text()
    assert "**&#42;It&#42; has changed.**" in text
    assert caplog.messages == ["*It* has changed."]


@pytest.mark.parametrize("n", [1, 3])
def test_report_shows_the_second_segment_of_a_training_track(home, tmp_path, monkeypatch, n):
    def load(front_end, sha256):
        assert sha256.endswith("0")  # the artist of the training tracks
        return np.arange(-n, 0.0)[:, None, None] + np.zeros(front_end.shape)

    figures = {}
    monkeypatch.setattr(sections, "stored_log_mels", load)
    monkeypatch.setattr(Report, "figure", lambda self, name, figure, _: figures.update(x=figure))
    sections.add_spectrograms(Report("x", tmp_path), [save_run(home, "compact_cnn-default")])
    panels = [ax for ax in figures["x"].axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == [f"{genre}: 0 - x" for genre in GENRES]
    assert {ax.images[0].get_array().max() for ax in panels} == {-n + (n > 1)}
    plt.close(figures["x"])


def test_report_saves_figures_and_tables_in_two_formats_each(project):
    names = [file.name for file in (project / "reports" / "hand").iterdir()]
    stems = {
        kind: {Path(name).stem for name in names if name.endswith(kind)}
        for kind in (".png", ".svg", ".csv", ".md")
    }
    assert stems[".png"] == stems[".svg"]
    assert len(stems[".png"]) > 10
    assert stems[".md"] - {"report"} == stems[".csv"]
    assert len(stems[".csv"]) > 8
    assert any(name.startswith("taggram_") for name in stems[".png"])


def test_report_is_the_same_when_written_again_and_keeps_the_callers_style(project):
    folder, style = project / "reports" / "hand", dict(plt.rcParams)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    write_report("hand")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert dict(plt.rcParams) == style


def test_report_shows_names_as_they_are(project):
    text = (project / "reports" / "hand" / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    name = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;Имя&quot; 🎹|x"
    assert name in re.sub("<wbr>", "", text)


def test_report_loads_neither_tensorflow_nor_an_audio_decoder(home):
    save_run(home, "compact_cnn-default")
    code = """
import sys
import numpy as np
from genrecls.report import sections
from genrecls.report.write import write_report
sections.stored_log_mels = lambda front_end, sha256: np.zeros((3, *front_end.shape))
print(write_report("hand"))
print({"tensorflow", "keras", "torch", "av", "soundfile", "librosa"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(home / "reports" / "hand" / "report.html"), "set()"]


# The document


def test_document_is_what_was_added(tmp_path):
    plt.close("all")
    report = Report("A *title*", tmp_path / "reports" / "x")
    report.section("Part")
    report.text("Some `code`.")
    report.table("a table", pd.DataFrame({"n": [1, 2]}), "Numbers:")
    report.table("hidden", pd.DataFrame({"n": [3]}), shown=False)
    report.figure("a figure", plt.figure(), "Nothing")
    page = report.save()
    assert page == tmp_path / "reports" / "x" / "report.html"
    assert page.with_suffix(".md").read_text() == (
        "# A &#42;title&#42;\n\n## Part\n\nSome `code`.\n\nNumbers:\n\n"
        "| n |\n| ---: |\n| 1 |\n| 2 |\n\n![Nothing](a_figure.png)\n\n*Nothing*\n"
    )
    assert (page.parent / "a_table.csv").read_text() == "n\n1\n2\n"
    assert (page.parent / "hidden.md").is_file()
    assert not plt.get_fignums()


def test_transfer_is_shown_for_models_with_pretrained_and_random_weights(tmp_path, home):
    run = save_run(home, "compact_cnn-default")
    test = run.predictions.query("split == 'test'").assign(repeat=0, fold=0)
    perfect = test.assign(predicted=test["genre"])
    for genre in GENRES:
        perfect[f"prob_{genre}"] = (test["genre"] == genre).astype(float)
    runs = {"net": perfect, "net-weights-random": test, "other": test}
    predictions = pd.concat([table.assign(run=name) for name, table in runs.items()])
    report = Report("x", tmp_path)
    sections.add_transfer(report, predictions[predictions["run"] != "net"], GENRES)
    assert not (tmp_path / "transfer.csv").exists()
    sections.add_transfer(report, predictions, GENRES)
    table = pd.read_csv(tmp_path / "transfer.csv")
    assert table["run"].tolist() == ["net"]
    assert table["minus"].tolist() == ["net-weights-random"]
    assert table["macro F1, segments"].iloc[0].startswith("+")


# The audit page


def test_audit_page_shows_names_as_they_are_and_gaps_as_dashes(tmp_path):
    tables = {
        "duplicates": pd.DataFrame({"a": [HOSTILE_NAME, None], "rate": [0.25, np.nan]}),
        "problems": pd.DataFrame({"path": []}),
    }
    warnings = ("<b>Loud</b>",)
    found = SimpleNamespace(corpus="<i>", warnings=warnings, tables=tables, to_json=lambda: "{}")
    page = write_audit(found, tmp_path / "reports" / "x")
    text = page.read_text(encoding="utf-8").replace("<wbr>", "")
    assert page.name == "audit.html"
    assert (page.parent / "audit.json").read_text() == "{}"
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; " in text
    assert "<script>" not in text
    assert "<li>&lt;b&gt;Loud&lt;/b&gt;</li>" in text
    assert "corpus &lt;i&gt;</title>" in text
    assert '<h2 id="problems">Problems</h2>\n<p>None.</p>' in text
    assert ">rate</th>" in text
    saved = (page.parent / "audit_duplicates.md").read_text(encoding="utf-8")
    assert saved.splitlines()[3] == "| – | – |"
    assert "| 0.25 |" in saved
    assert pd.read_csv(page.parent / "audit_duplicates.csv")["a"][0] == HOSTILE_NAME


# The summary


def test_summary_is_five_sentences_from_the_numbers(project):
    text = (project / "reports" / "hand" / "report.md").read_text(encoding="utf-8")
    summary = text.partition("## Summary\n\n")[2].partition("\n\n## ")[0]
    assert len(re.findall(r"[.](?:\s|$)", summary)) == 5
    assert summary.startswith("- Of 2 models, compact_cnn-default has the highest")
    run = Run.read(project / "models" / "hand" / "compact_cnn-default")
    tracks = aggregate_tracks(run.predictions.query("split == 'test'"), run.genres)
    right = (tracks["predicted"] == tracks["genre"]).sum()
    assert f"It predicts {right} of 6 test tracks correctly" in summary
    assert "the test has 2 artists in the genre classique" in summary
    chance = "the model is no better than chance on its 3 validation tracks"
    assert (chance in summary) != run.above_chance


def test_summary_counts_the_only_test_track_of_a_genre(home, tmp_path):
    run = save_run(home, "compact_cnn-default")
    test = run.predictions.query("track_id in ['classique2', 'jazz2', 'rap2']")
    wrong = test.assign(predicted=test["genre"].map({"classique": "rap"}).fillna(test["genre"]))
    for genre in GENRES:
        wrong[f"prob_{genre}"] = (wrong["predicted"] == genre).astype(float)
    validation = run.predictions.query("split == 'validation'")
    pd.concat([validation, wrong]).to_parquet(run.folder / "predictions.parquet")
    report = Report("x", tmp_path / "x")
    sections.add_summary(report, [run])
    text = report.save().with_suffix(".md").read_text(encoding="utf-8")
    assert "weakest at classique, where it is right about 0 of 1" in text


def test_report_and_card_do_not_speak_of_artists_that_are_unknown(home, tmp_path):
    run = save_run(home, "compact_cnn-default")
    for name in ("segments", "predictions"):
        table = getattr(run, name).assign(grouped_by="track")
        table.to_parquet(run.folder / f"{name}.parquet")
    report = Report("x", tmp_path / "x")
    for add_section in (sections.add_summary, sections.add_overview):
        add_section(report, [run])
    for text in (model_card(run), report.save().with_suffix(".md").read_text()):
        once = "o artist is known: tracks by one artist may be on both sides of a split"
        assert once in text
        assert "artist" not in re.sub(once + "|reports? |artists, albums", "", text)


def write_cross_validation(monkeypatch, run, corpus_hash):
    """Let the validation and test of a run be its cross-validation."""
    table = run.predictions.assign(run=run.name, split="test", repeat=0, fold=0)
    card = {"split_by": None, "corpus_hash": corpus_hash, "genres": run.genres}
    found = table, {run.name: card}
    monkeypatch.setattr(sections, "read_predictions", lambda corpus_name: found)


@pytest.mark.parametrize(("corpus_hash", "is_shown"), [("same", True), ("other", False)])
def test_summary_has_the_cross_validation_of_the_same_corpus(
    home, tmp_path, monkeypatch, corpus_hash, is_shown
):
    run = save_run(home, "compact_cnn-default")
    write_cross_validation(monkeypatch, run, corpus_hash)
    report = Report("x", tmp_path / "x")
    sections.add_summary(report, [run])
    text = report.save().with_suffix(".md").read_text(encoding="utf-8")
    assert ("Cross-validated on all tracks, it has" in text) == is_shown
    assert ("It has not been cross-validated" in text) != is_shown


def test_summary_warns_of_strong_confounds_only(home):
    run = save_run(home, "compact_cnn-default")
    report = Report("x", home / "reports" / "hand")
    test = run.predictions.query("split == 'test'")
    for auc, is_named in ((0.74, False), (0.76, True)):
        table = pd.DataFrame({"confound": ["codec"], "auc alone": [auc]})
        table.to_csv(report.folder / "audit_confounds.csv", index=False)
        write_audit_hash(report.folder, "same")
        caveats = sections._find_caveats(report, run, test)
        assert any(caveat.startswith("codec alone") for caveat in caveats) == is_named
    write_audit_hash(report.folder, "other")
    assert not any("codec" in caveat for caveat in sections._find_caveats(report, run, test))


@pytest.mark.parametrize("saved", ['{"corpus_hash": "other"}', '{"corpus": "hand"}', "{", None])
def test_report_leaves_out_the_audit_of_other_tracks(home, tmp_path, saved):
    report = Report("x", tmp_path / "x")
    pd.DataFrame({"genre": GENRES}).to_csv(report.folder / "audit_genres.csv", index=False)
    if saved:
        (report.folder / "audit.json").write_text(saved)
    sections.add_audit(report, [save_run(home, "compact_cnn-default")])
    text = report.save().with_suffix(".md").read_text(encoding="utf-8")
    assert "Run `genrecls audit` again." in text and "classique" not in text
    assert not (report.folder / "audit_genres.md").exists()  # with the date of today


def test_summary_does_not_warn_of_predictions_that_never_change(home, monkeypatch):
    run = save_run(home, "compact_cnn-default")
    test = run.predictions.query("split == 'test'")
    monkeypatch.setattr(sections, "tested_runs", list)
    for flips in (0, 1):
        row = {"genre": sections.ALL_GENRES, "flips": flips, "n": 6, "transformation": "gain"}
        monkeypatch.setattr(sections, "flip_rates", lambda runs, row=row: pd.DataFrame([row]))
        caveats = sections._find_caveats(Report("x", home / "x"), run, test)
        assert any("of 6 predictions change" in caveat for caveat in caveats) == bool(flips)


def test_report_has_no_figure_of_a_first_layer_without_a_convolution(home, tmp_path):
    run = save_run(home, "compact_cnn-default")
    saved = dict(np.load(run.folder / "first_layer.npz"))
    np.savez(run.folder / "first_layer.npz", **saved | {"maps": saved["maps"][:0]})
    report = Report("x", tmp_path / "x")
    sections.add_models(report, [run])
    text = report.save().with_suffix(".md").read_text(encoding="utf-8")
    assert "confusion_" in text and "first_layer" not in text


# The model card


def test_model_card_has_the_scores_and_limits_of_its_run(home):
    run = save_run(home, "compact_cnn-default")
    write_model_card(run)
    text = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "---\n\n# compact_cnn-default\n\nA compact_cnn with 10 parameters" in text
    test = run.predictions.query("split == 'test'")
    accuracy = (test["predicted"] == test["genre"]).mean()
    assert f"segments ({len(test)})" in text
    assert re.search(rf"^\| accuracy \| .* \| {accuracy:.3f} \(", text, re.MULTILINE)
    assert "shares no artist with training" in text
    assert "used with a warning: 1." in text
    assert "The test set has 2 artists of the genre classique. With so few" in text
    assert "leaks" not in text
    assert "synthetic" not in text
    assert "codec" not in text


def test_model_card_warns_of_a_leak_and_of_the_original_front_end(home):
    run = save_run(home, "compact_cnn-original", split_by="segment")
    original = run.card | {"front_end": FrontEnd.preset("original").to_dict()}
    text = model_card(dataclasses.replace(run, card=original))
    for limit in ("leaks: segments of a track", "by their loudness", "by their codec"):
        assert limit in text
    by_track = run.card | {"recipe": run.card["recipe"] | {"split_by": "track"}}
    assert "leaks: tracks of one artist" in model_card(dataclasses.replace(run, card=by_track))


def test_model_card_escapes_names(home):
    run = save_run(home, "compact_cnn-default")
    hostile = dataclasses.replace(run, card=run.card | {"corpus": 'a"b*Имя*<i>'})
    text = model_card(hostile)
    assert 'the corpus *a"b&#42;Имя&#42;&#60;i&#62;*' in text
    assert "<i>" not in text


@pytest.mark.parametrize("name", ["demo", 'a"b: #\\ *Имя*<i>🎹', "a\x7fb\n- c"])
def test_model_card_has_a_header_that_the_hub_reads(home, name):
    run = save_run(home, "compact_cnn-default")
    data = ModelCard(model_card(dataclasses.replace(run, card=run.card | {"corpus": name}))).data
    assert (data.library_name, data.license, data.model_name) == ("keras", "unknown", run.name)
    assert {result.dataset_name for result in data.eval_results} == {name}
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert values.keys() == {"balanced_accuracy", "f1", "accuracy"}
    shown = re.search(r"^\| accuracy \| ([\d.]+) \(", model_card(run), re.MULTILINE)[1]
    assert f"{values['accuracy']:.3f}" == shown


def test_tables_of_a_report_keep_odd_names(tmp_path):
    report = Report("A title", tmp_path)
    report.table("t", pd.DataFrame({"genre": ["NA", "a\rb"], "n": [1.5, None]}))
    table = read_table(tmp_path / "t.csv")
    assert table["genre"].tolist() == ["NA", "a\\rb"]
    assert table["n"].isna().tolist() == [False, True]


def test_a_very_high_figure_is_made_smaller_in_the_page(tmp_path):
    report = Report("A title", tmp_path)
    report.figure("f", plt.figure(figsize=(1, 200)), "Many genres")
    assert "image/webp" in report.save().read_text(encoding="utf-8")
