"""The commands, one after the other, on a small corpus."""

import json
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import soundfile
from conftest import HOSTILE

RUNS = [
    f"{model}-epochs-2"
    for model in (
        "cnn-original",
        "cnn-default",
        "inception_resnet_v2-default",
        "efficientnet_lite0-default",
        "inception_resnet_v2-original",
        "compact_cnn-default",
    )
]
# Notebook 3 trains the same net from random weights.
OF_NOTEBOOK = "efficientnet_lite0-default-epochs-2-weights-random"
CROSSVAL = ["crossval", "--repeats", 1, "--model", "majority", "--model", "mfcc_svm"]
VERBS = (
    "run demo prepare audit train crossval robustness evaluate predict export serve report weights"
).split()


def genrecls(*words, home, **environment):
    """Run the command as a user would; returns the finished process."""
    env = {**os.environ, "GENRECLS_HOME": str(home), **environment}
    command = [sys.executable, "-m", "genrecls", *map(str, words)]
    return subprocess.run(command, env=env, cwd=home, capture_output=True, text=True)


@pytest.fixture(scope="module")
def project(small_corpus, tmp_path_factory):
    """A project folder in which everything has been run once, with few epochs."""
    home = tmp_path_factory.mktemp("project")
    for verb, *options in (
        ["prepare"],
        ["audit"],
        ["train", "--epochs", 2],
        CROSSVAL,
        ["robustness"],
        ["report"],
    ):
        done = genrecls(verb, small_corpus, *options, home=home)
        assert done.returncode == 0, done.stderr[-3000:]
    return home


def test_every_verb_has_help_with_an_example(tmp_path):
    for verb in VERBS:
        done = genrecls(verb, "--help", home=tmp_path)
        assert done.returncode == 0 and f"Example: genrecls {verb}" in done.stdout


def test_training_saves_a_run_per_model_and_preset(project):
    runs = {card.parent.name for card in project.glob("models/small/*/card.json")}
    assert runs == {*RUNS, OF_NOTEBOOK}


def test_evaluate_shows_the_originals_columns_first(project, small_corpus):
    done = genrecls("evaluate", small_corpus, home=project)
    first = [line.split("  ")[0] for line in done.stdout.splitlines()[:5]]
    assert first == ["architecture", "parameters", "training time (s)", "validation accuracy",
                     "test F1"]  # fmt: skip


def test_the_report_has_every_table_and_figure_of_the_original(project):
    made = {f.name for f in (project / "reports" / "small").iterdir()}
    for run in RUNS:
        assert {f"confusion_{run}.png", f"history_{run}.png", f"first_layer_{run}.png"} <= made
    assert {"comparison.csv", "comparison.md", "split_by_segment.csv", "split_by_artist.csv",
            "waveforms.png", "log_mel.png", "n_mels.png", "images.png",
            "report.md"} <= made  # fmt: skip
    assert {"audit.json", "audit.html", "audit_confounds.md", "cross_validation_tracks.md",
            "cross_validation_segments.md", "cross_validation.png", "paired.md", "calibration.md",
            "reliability.png", "leak.md", "leak.png", "robustness.md",
            "robustness.png"} <= made  # fmt: skip
    for kind in ("easy_", "hard_", "hardest_"):
        assert any(re.fullmatch(rf"example_\d_{kind}.*by_segment\.csv", name) for name in made)
    text = (project / "reports" / "small" / "report.md").read_text(encoding="utf-8")
    for image in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert image in made
    table = pd.read_csv(project / "reports" / "small" / "comparison.csv")
    weights = table.set_index("run")["weights"]
    assert weights.pop("efficientnet_lite0-default-epochs-2") == "imagenet"
    assert weights.tolist() == ["–", *["random"] * 6]
    assert table["architecture"].iloc[0].startswith("always ")
    assert table.loc[table["run"].str.contains("original"), "validation split"].str.contains(
        "leaky").all()  # fmt: skip


def test_the_report_needs_neither_audio_nor_tensorflow(project, small_corpus, tmp_path):
    for module in ("tensorflow", "keras", "torch", "soundfile", "miniaudio", "av"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('blocked')")
    done = genrecls("report", small_corpus, home=project, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_doing_it_again_trains_nothing(project, small_corpus):
    before = {f: f.stat().st_mtime_ns for f in project.glob("models/small/*/model.keras")}
    done = genrecls("train", small_corpus, "--epochs", 2, home=project)
    assert done.returncode == 0 and len(before) == len(RUNS) + 1
    assert {f: f.stat().st_mtime_ns for f in project.glob("models/small/*/model.keras")} == before


def test_predict_prints_segments_and_the_prediction(project, small_corpus):
    run = project / "models" / "small" / RUNS[1]
    file = small_corpus / "rap_test" / "rap 90 - Same Title.wav"
    plain = genrecls("predict", file, "--run", run, home=project)
    assert plain.returncode == 0 and "Prediction: " in plain.stdout
    answer = json.loads(genrecls("predict", file, "--run", run, "--json", home=project).stdout)
    assert len(answer) == 1 and len(answer[0]["segments"]) == 2
    assert sum(answer[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    csv = genrecls("predict", file, file, "--run", run, "--csv", home=project).stdout
    assert csv.splitlines()[0].startswith("path,segment,start_s,end_s,silent,prob_")
    assert len(csv.splitlines()) == 5
    folder = genrecls("predict", file.parent, "--run", run, "--json", home=project).stdout
    paths = [answer["path"] for answer in json.loads(folder)]
    assert paths == sorted(map(str, file.parent.iterdir())) and len(paths) == 2


def test_predict_draws_the_taggram_and_takes_a_hop_and_a_threshold(project, small_corpus, tmp_path):
    run = project / "models" / "small" / RUNS[1]
    file = small_corpus / "rap_test" / "rap 90 - Same Title.wav"
    done = genrecls("predict", file, "--run", run, "--plot", "t.svg", "--step", 3, home=project)
    assert done.returncode == 0, done.stderr
    assert (project / "t.svg").read_text(encoding="utf-8").startswith("<?xml")
    options = ["--step", 3, "--min-confidence", 1, "--json"]
    [answer] = json.loads(genrecls("predict", file, "--run", run, *options, home=project).stdout)
    assert answer["label"] == "not sure" and answer["genre"] in ("classique", "rap")
    assert len(answer["segments"]) == 6 and answer["min_confidence"] == 1
    for options, why in (
        (["--step", 2], "must divide the segment length"),
        (["--plot", "t.txt"], "must end in .png"),
        (["--plot", "none/t.png"], "no folder"),
        ([file, "--plot", "t.png"], "needs a single file"),
        (["--min-confidence", 2], "less than or equal to 1"),
    ):
        done = genrecls("predict", file, "--run", run, *options, home=project)
        assert done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr


def test_export_writes_onnx(project):
    pytest.importorskip("onnxruntime")
    run = project / "models" / "small" / RUNS[1]
    done = genrecls("export", "small.onnx", "--run", run, home=project)
    assert done.returncode == 0 and "within" in done.stdout, done.stderr
    assert (project / "small.onnx").stat().st_size > 1_000_000


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="needs the hostile files")
def test_hostile_files_get_a_prediction_or_one_line_and_an_exit_code(project):
    run = project / "models" / "small" / RUNS[1]
    for name, code in (("bitrot.mp3", 2), ("truncated.mp3", 0), ("directory.mp3", 2)):
        done = genrecls("predict", HOSTILE / name, "--run", run, home=project)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert done.returncode == code and len(lines) == (code == 2), (name, done.stderr)
        assert ("Prediction: " in done.stdout) == (code == 0)


def test_user_errors_are_one_line_and_exit_code_2(project, small_corpus, tmp_path):
    run = project / "models" / "small" / RUNS[1]
    text = tmp_path / "text.mp3"
    text.write_text("no sound")
    short = tmp_path / "short.wav"
    soundfile.write(short, [0.0] * 4000, 8000)
    for words, why in [
        (["predict", text, "--run", run], "cannot be used"),
        (["predict", short, "--run", run], "0.5 s"),
        (["predict", tmp_path / "gone.mp3", "--run", run], "does not exist"),
        (["predict", text, "--run", tmp_path], "no trained model"),
        (["predict", project / "models", "--run", run], "no sound files"),
        (["prepare", tmp_path / "none"], "folder"),
        (["prepare"], "genrecls demo"),
        (["evaluate", tmp_path], "genrecls train"),
        (
            [
                "train",
                small_corpus,
                "--model",
                "inception_resnet_v2",
                "--weights",
                "none.h5",
                "--preset",
                "default",
            ],
            "no weights file",
        ),
    ]:
        done = genrecls(*words, home=tmp_path)
        assert done.returncode == 2, (words, done.stderr)
        lines = [x for x in done.stderr.splitlines() if x.strip() and "log-mels: " not in x]
        assert len(lines) == 1 and lines[0].startswith("genrecls: ") and why in lines[0], lines
    for options in (["--model", "vgg"], ["--preset", "best"]):
        wrong = genrecls("train", small_corpus, *options, home=tmp_path)
        assert wrong.returncode == 2 and options[1] in wrong.stderr
        assert "Traceback" not in wrong.stderr


def test_bad_files_do_not_stop_the_preparation(small_corpus, tmp_path):
    corpus = tmp_path / "bad ones first"
    shutil.copytree(small_corpus, corpus)
    (corpus / "rap" / "._rap 0 - Same Title.wav").write_bytes(b"a note of the file system")
    (corpus / "rap" / "aaa.mp3").write_text("no sound")
    done = genrecls("prepare", corpus, "--preset", "default", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 tracks left out" in done.stdout and "aaa.mp3" in done.stdout


def test_crossval_prints_scores_with_intervals_and_refuses_unknown_models(project, small_corpus):
    done = genrecls(*CROSSVAL[:1], small_corpus, *CROSSVAL[1:], home=project)
    assert done.returncode == 0 and "balanced accuracy" in done.stdout
    assert re.search(r"mfcc_svm.*\n.*\d\.\d{3} \(\d\.\d\d–\d\.\d\d\)", done.stdout)
    wrong = genrecls("crossval", small_corpus, "--model", "oracle", home=project)
    assert wrong.returncode == 2 and "mfcc_svm" in wrong.stderr


def test_a_bad_file_does_not_hide_the_good_ones(project, small_corpus, tmp_path):
    run = project / "models" / "small" / RUNS[1]
    good = small_corpus / "rap_test" / "rap 90 - Same Title.wav"
    done = genrecls("predict", tmp_path / "gone.mp3", good, "--run", run, "--json", home=project)
    assert done.returncode == 2 and len(json.loads(done.stdout)) == 1


def test_help_comes_without_what_takes_long_to_import():
    code = """
import sys
from genrecls.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print(sorted({"pandas", "numpy", "keras", "tensorflow", "torch", "librosa"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "predict" in done.stdout and done.stdout.splitlines()[-1] == "[]"
