"""The commands, one after the other, on a small corpus."""

import csv
import inspect
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pandas as pd
import pytest
import soundfile
from conftest import build_tiny, copy_weights
from typer.testing import CliRunner

import genrecls
from genrecls import AudioError, AudioWarning, GenreClassifier, load_audio
from genrecls._utils.backend import check_backend
from genrecls.cli import app, data, experiments, main, use
from genrecls.config import recipe, run_name
from genrecls.errors import ModelError, WeightsError
from genrecls.inspection.robustness import TRANSFORMATIONS
from genrecls.models import BUILDERS
from genrecls.report.document import Report

EPOCHS = ["--epochs", 2]
TRAIN = [
    ["train", "--model", "cnn", *EPOCHS],
    ["train", "--model", "compact_cnn", "--preset", "default", *EPOCHS],
    ["train", "--model", "efficientnet_lite0", "--preset", "default", *EPOCHS],
    ["train", "--model", "inception_resnet_v2", "--preset", "original", *EPOCHS],
]
CROSSVAL = ["crossval", "--repeats", 1, "--model", "majority", "--model", "mfcc_svm"]
LEAK = ["crossval", "--repeats", 1, "--model", "mfcc_svm", "--split-by", "all"]
STEPS = [
    ["prepare"],
    ["audit"],
    *TRAIN,
    CROSSVAL,
    LEAK,
    ["robustness", "--model", "cnn-default-epochs-2", "--model", "compact_cnn-default-epochs-2"],
]
TESTED = ["cnn-default-epochs-2", "compact_cnn-default-epochs-2"]
RUNS = [
    *TESTED,
    "cnn-original-epochs-2",
    "efficientnet_lite0-default-epochs-2",
    "inception_resnet_v2-original-epochs-2",
]
LOGISTIC = {"efficientnet_lite0_frozen-default", "musicnn-default"}  # They have no epochs.
COMMANDS = (
    "run demo prepare audit train crossval robustness evaluate report predict export serve weights"
).split()


def start(*words, home, **environment):
    """Run the command in a new process, as a user does."""
    env = {**os.environ, "GENRECLS_HOME": str(home), **environment}
    command = [sys.executable, "-m", "genrecls", *map(str, words)]
    return subprocess.run(command, env=env, cwd=home, capture_output=True, text=True)


def invoke(*words):
    """Run the command in this process, where TensorFlow is imported only once."""
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


@pytest.fixture
def run_main(monkeypatch, capfd):
    """Return a function that runs the whole program, with its handling of errors, in this process.

    The changes of the program to logging and warnings are undone.
    """

    def run_main(*words, home):
        capfd.readouterr()
        with warnings.catch_warnings(), monkeypatch.context() as patch:
            warnings.simplefilter("default", AudioWarning)
            patch.setattr(logging.getLogger(), "handlers", [])
            patch.setattr(sys, "unraisablehook", sys.unraisablehook)
            patch.setattr(sys, "argv", ["genrecls", *map(str, words)])
            patch.setenv("GENRECLS_HOME", str(home))
            patch.chdir(home)
            with pytest.raises(SystemExit) as end:
                main()
        return SimpleNamespace(**capfd.readouterr()._asdict(), code=end.value.code)

    return run_main


def shorten_second_stage(patch):
    patch.setitem(recipe._RECIPES["default"]["efficientnet_lite0"], "fine_tune_epochs", 1)


@pytest.fixture(scope="module")
def project(short_corpus, tmp_path_factory):
    """Return a project folder in which every step has been run once, with few epochs.

    Two networks are tiny, and the robustness is tested with few transformations. The report is
    written where neither TensorFlow nor a decoder of audio can be imported.
    """
    home = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRECLS_HOME", str(home))
        for name in ("efficientnet_lite0", "inception_resnet_v2"):
            patch.setitem(BUILDERS, name, partial(build_tiny, name=name))
        shorten_second_stage(patch)
        quick = {name: TRANSFORMATIONS[name] for name in ("gain −6 dB", "mono", "tempo +6 %")}
        patch.setattr("genrecls.inspection.robustness.TRANSFORMATIONS", quick)
        for command, *options in STEPS:
            done = invoke(command, short_corpus, *options)
            assert done.exit_code == 0, done.output[-3000:]
    blocked = tmp_path_factory.mktemp("blocked")
    for module in ("tensorflow", "keras", "torch", "soundfile", "miniaudio", "av"):
        (blocked / f"{module}.py").write_text("raise ImportError('blocked')")
    path = os.pathsep.join([str(blocked), os.environ.get("PYTHONPATH", "")])
    done = start("report", short_corpus, home=home, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def run(project):
    """Return the folder of a trained model."""
    return project / "models" / "small" / "cnn-default-epochs-2"


@pytest.fixture
def file(small_corpus):
    """Return a track of 31 s."""
    return small_corpus / "rap_test" / "rap 90 - Same Title.wav"


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert f"Example: genrecls {command}" in done.output


def test_help_shows_whole_summaries():
    lines = invoke("--help").output.partition("Commands:")[2].splitlines()
    summaries = {line.split()[0]: line for line in lines if line.strip()}
    assert list(summaries) == COMMANDS
    del summaries["weights"]
    assert [line for line in summaries.values() if not re.search(r"[^.]\.$", line)] == []


def test_help_imports_nothing_that_takes_long():
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
    assert "predict" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


# The steps that commands call


def record_calls(monkeypatch, *functions):
    """Replace functions; return a list that will have the name and the arguments of each call."""
    calls = []

    def replace(function):
        def record(*args, **kwargs):
            arguments = inspect.signature(function).bind(*args, **kwargs).arguments
            calls.append((function.__name__, arguments))

        monkeypatch.setattr(f"{function.__module__}.{function.__name__}", record)

    for function in functions:
        replace(function)
    return calls


@pytest.fixture
def calls(monkeypatch):
    """Return the list of the steps that are called; none of them is done."""
    e = experiments
    steps = [e.train, e.crossval, e.robustness, e.evaluate, e.report]
    monkeypatch.setattr("genrecls.cli.experiments.find_weights", lambda *_: None)
    return record_calls(monkeypatch, data.demo, data.prepare, data.audit, *steps)


def test_run_calls_every_step_in_order(calls, short_corpus):
    done = invoke("run", short_corpus, "--jobs", 2)
    assert done.exit_code == 0
    steps = f"prepare audit {6 * 'train '}crossval robustness evaluate report".split()
    assert [name for name, _ in calls] == steps
    assert {arguments["corpus"] for _, arguments in calls} == {short_corpus}
    assert [arguments.get("jobs") for _, arguments in calls] == [*[2] * 10, None, None]
    arguments = dict(calls)  # of the last training
    trained = {f"{a['model']}-{a['preset']}" for name, a in calls if name == "train"}
    assert arguments["crossval"]["repeats"] == 1
    assert set(arguments["crossval"]["model"]) - {"majority", "mfcc_svm"} <= trained
    trained |= {"cnn-original", "cnn-default"}
    assert set(arguments["robustness"]["model"]) < trained
    left_out = done.output.partition("Left out")[2].splitlines()[1:]
    assert len(left_out) == 5
    assert all(line.startswith("  genrecls ") and str(short_corpus) in line for line in left_out)


def test_run_without_a_corpus_makes_the_demo_first(calls):
    assert invoke("run").exit_code == 0
    assert [name for name, _ in calls[:2]] == ["demo", "prepare"]
    assert {arguments.get("corpus") for _, arguments in calls} == {None}


def test_run_notices_missing_weights_before_the_first_step(calls, monkeypatch):
    find = Mock(side_effect=WeightsError("missing"))
    monkeypatch.setattr("genrecls.cli.experiments.find_weights", find)
    with pytest.raises(WeightsError):
        invoke("run")
    assert calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model compact_cnn --preset original", "no recipe for compact_cnn"),
        ("--model cnn --weights imagenet", "cnn has no backbone"),
    ],
)
def test_train_refuses_options_that_a_model_does_not_have(short_corpus, home, options, message):
    done = invoke("train", short_corpus, *options.split())
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


@pytest.mark.parametrize("command", ["crossval", "robustness"])
def test_a_model_that_is_named_twice_is_tested_once(short_corpus, home, monkeypatch, command):
    tested = Mock(side_effect=InterruptedError)
    monkeypatch.setattr("genrecls.cross_validate", tested)
    monkeypatch.setattr("genrecls.measure_robustness", tested)
    saved = SimpleNamespace(name="majority", folder=home)
    monkeypatch.setattr(experiments.evaluation, "read_runs", lambda name: [saved])
    monkeypatch.setattr("genrecls.GenreClassifier.load", lambda folder: folder)
    options = ["--folds", 3] if command == "crossval" else []
    with pytest.raises(InterruptedError):
        invoke(command, short_corpus, *["--model", "majority"] * 2, *options)
    models = next(a for a in tested.call_args.args if isinstance(a, list))
    assert len(models) == 1
    assert tested.call_args.kwargs.get("folds") == (3 if options else None)


def test_demo_and_prepare_pass_their_options_on(short_corpus, home, monkeypatch):
    make = Mock(side_effect=lambda out, jobs: out)
    monkeypatch.setattr("genrecls.make_demo", make)
    assert f"{home / 'x'}" in invoke("demo", "--out", home / "x", "--jobs", 3).stdout
    make.assert_called_once_with(home / "x", jobs=3)
    prepare = Mock(side_effect=InterruptedError)
    monkeypatch.setattr("genrecls.prepare", prepare)
    for options, strict in ([], False), (["--strict"], True):
        with pytest.raises(InterruptedError):
            invoke("prepare", short_corpus, *options)
        assert prepare.call_args.kwargs["strict"] is strict


def test_train_trains_every_model_of_every_preset(short_corpus, home, monkeypatch):
    names, weights = [], []

    def train(corpus, recipe, *, preset, jobs):
        names.append(run_name(preset, recipe))
        weights.append(recipe.weights)
        card = {"validation_accuracy": 0.5, "training_time_s": 1}
        return SimpleNamespace(name=names[-1], card=card, folder=home)

    monkeypatch.setattr("genrecls.train", train)
    copy_weights(home)
    assert invoke("train", short_corpus, *EPOCHS).exit_code == 0
    assert set(names) == {*RUNS, "inception_resnet_v2-default-epochs-2", *LOGISTIC}
    assert len(names) == 8
    names.clear()
    options = ["--weights", "imagenet", "--full", "--preset", "default"]
    monkeypatch.setattr("genrecls.cli.experiments.find_weights", lambda *_: None)
    assert invoke("train", short_corpus, *options).exit_code == 0
    whole = "efficientnet_lite0-default-backbone-trained-learning_rate-0.0001"
    assert set(names) >= {whole, *LOGISTIC}
    assert invoke("train", short_corpus, "--weights", "mtt").exit_code == 2
    assert invoke("train", short_corpus, "--model", "musicnn", "--weights", "mtt", "--preset",
                  "default").exit_code == 0  # fmt: skip
    assert names[-1] == "musicnn-default-weights-mtt"
    random = ["--model", "efficientnet_lite0", "--preset", "default", "--weights", "random"]
    assert invoke("train", short_corpus, *random).exit_code == 0
    assert names[-1] == "efficientnet_lite0-default-weights-random"
    assert weights[-1] is None


# Results of the steps


def test_train_saves_a_run_per_model_and_preset(project):
    runs = {card.parent.name for card in project.glob("models/small/*/card.json")}
    assert runs == set(RUNS)


def test_train_again_trains_nothing(project, short_corpus, monkeypatch):
    monkeypatch.setenv("GENRECLS_HOME", str(project))
    shorten_second_stage(monkeypatch)

    def times():
        return {f: f.stat().st_mtime_ns for f in project.glob("models/small/*/model.keras")}

    before = times()
    assert len(before) == len(RUNS)
    for command, *options in TRAIN:
        assert invoke(command, short_corpus, *options).exit_code == 0
    assert times() == before


def test_evaluate_shows_a_run_in_each_line(project, short_corpus, monkeypatch):
    monkeypatch.setenv("GENRECLS_HOME", str(project))
    head, majority, *lines = invoke("evaluate", short_corpus).stdout.splitlines()
    names = "run validation accuracy above chance test F1 F1 interval"
    assert head.split() == names.split()
    assert majority.split()[0] == "always"
    assert {line.split()[0] for line in lines} == set(RUNS)


def test_evaluate_warns_that_the_corpus_has_changed(project, short_corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("GENRECLS_HOME", str(project))
    assert invoke("evaluate", short_corpus).stderr == ""
    changed = shutil.copytree(short_corpus, tmp_path / "small")
    (changed / "rap" / "rap 0 - Same Title.wav").unlink()
    monkeypatch.setattr("genrecls.corpus.changes.find_root", lambda name: changed)
    done = invoke("evaluate", short_corpus)
    assert done.stdout.split()[0] == "run"
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert done.stderr == (
        "genrecls: The corpus 'small' has changed since its models were trained (tracks: 1 "
        "removed). Train them again.\n"
    )


def test_evaluate_does_not_show_another_corpus_of_the_same_name(project, tmp_path, run_main):
    (tmp_path / "small").mkdir()
    done = run_main("evaluate", tmp_path / "small", home=project)
    assert done.code == 2
    assert re.search(r"no trained models of a corpus 'small-\d'", done.err)


REPORT_FILES = set(
    "comparison.csv comparison.md split_by_segment.csv split_by_artist.csv "
    "images.png report.md audit.json audit.html audit_confounds.md "
    "cross_validation_tracks.md cross_validation_segments.md cross_validation.png paired.md "
    "calibration.md reliability.png leak.md leak.png robustness.md robustness.png".split()
)


def test_report_has_every_table_and_figure_of_the_original(project):
    folder = project / "reports" / "small"
    files = {file.name for file in folder.iterdir()}
    for run in RUNS:
        assert {f"{kind}_{run}.png" for kind in ("confusion", "history", "first_layer")} <= files
    assert files >= REPORT_FILES
    for kind in ("hard", "hardest"):  # no track is easy for a model that is always wrong
        assert any(re.fullmatch(rf"example_\d_{kind}\.csv", name) for name in files)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert set(re.findall(r"!\[.*?\]\((.*?)\)", text)) <= files


def test_robustness_tests_the_chosen_runs_and_the_report_names_the_others(
    project, short_corpus, monkeypatch
):
    folder = project / "reports" / "small"
    assert set(pd.read_csv(folder / "robustness.csv")["run"]) == set(TESTED)
    text = (folder / "report.md").read_text(encoding="utf-8")
    [others] = re.findall(r"^Not tested: (.*?)\. ", text, re.MULTILINE)
    assert set(others.split(", ")) == set(RUNS) - set(TESTED)
    monkeypatch.setenv("GENRECLS_HOME", str(project))
    wrong = invoke("robustness", short_corpus, "--model", "oracle")
    assert wrong.exit_code == 2
    assert "cnn-default-epochs-2" in wrong.output


def test_report_compares_weights_and_splits(project):
    table = pd.read_csv(project / "reports" / "small" / "comparison.csv")
    weights = table.set_index("run")["weights"]
    assert weights.pop("efficientnet_lite0-default-epochs-2") == "imagenet"
    assert weights.tolist() == ["–", *["random"] * 4]
    assert table["architecture"].iloc[0].startswith("always ")
    original = table[table["run"].str.contains("original")]
    assert original["validation split"].str.contains("leaky").all()


def test_crossval_prints_scores_with_intervals_and_refuses_unknown_models(
    project, short_corpus, monkeypatch
):
    monkeypatch.setenv("GENRECLS_HOME", str(project))
    done = invoke(CROSSVAL[0], short_corpus, *CROSSVAL[1:])
    assert done.exit_code == 0
    assert "balanced accuracy" in done.output
    assert re.search(r"mfcc_svm \d\.\d{3} \(\d\.\d\d–\d\.\d\d\)", done.output)
    wrong = invoke("crossval", short_corpus, "--model", "oracle")
    assert wrong.exit_code == 2
    assert "mfcc_svm" in wrong.output


# Use of a trained model


def test_predict_prints_a_line_for_each_track(project, run, file, tmp_path):
    plain = start("predict", file.parent, "--run", run, "--jobs", 1, home=project)
    assert plain.returncode == 0
    lines = plain.stdout.splitlines()[2:]
    genre = "(classique|rap)"
    for path, line in zip(sorted(file.parent.iterdir()), lines, strict=True):
        answer = rf" +({genre}|not sure) +{genre} 0\.\d\d, {genre} 0\.\d\d"
        assert re.fullmatch(re.escape(str(path)) + answer, line)
    [row] = json.loads(invoke("predict", file, "--run", run, "--json").stdout)
    assert len(row["segments"]) == 2
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    segments = tmp_path / "segments.csv"
    options = ["--run", run, "--csv", "--segments", segments, "--jobs", 1]
    head, *rows = invoke("predict", file, file, *options).stdout.splitlines()
    assert head == "path,label,genre,probability,second_genre,second_probability,novelty"
    [first, second] = csv.DictReader([head, *rows])
    assert first == second
    assert float(first["probability"]) == pytest.approx(
        row["probabilities"][row["genre"]], abs=1e-4
    )
    assert {first["genre"], first["second_genre"]} == {"classique", "rap"}
    head, *rows = segments.read_text().splitlines()
    assert head.startswith("path,segment,start_s,end_s,sounding,prob_")
    assert len(rows) == 4


def test_predict_takes_folders(run, file):
    done = invoke("predict", file.parent, "--run", run, "--json", "--jobs", 1)
    paths = [row["path"] for row in json.loads(done.stdout)]
    assert paths == sorted(map(str, file.parent.iterdir()))
    assert len(paths) == 2


def test_predict_draws_a_plot_and_takes_a_step_and_a_threshold(run, file, tmp_path):
    plot = tmp_path / "t.svg"
    options = ["--plot", plot, "--step", 3, "--min-confidence", 1, "--json"]
    [row] = json.loads(invoke("predict", file, "--run", run, *options).stdout)
    assert plot.read_text(encoding="utf-8").startswith("<?xml")
    assert row["label"] == "not sure"
    assert row["genre"] in ("classique", "rap")
    assert len(row["segments"]) == 6
    assert row["min_confidence"] == 1
    assert row["novelty"] is None  # a compact CNN has no embedding


def test_predict_prints_json_if_a_file_that_it_should_plot_is_no_sound(run, tmp_path):
    (tmp_path / "text.mp3").write_text("no sound")
    options = ["--plot", tmp_path / "t.png", "--json"]
    done = invoke("predict", tmp_path / "text.mp3", "--run", run, *options)
    assert done.exit_code == 2
    assert json.loads(done.stdout) == []
    assert "text.mp3" in done.stderr
    assert not (tmp_path / "t.png").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--step", 2], "must divide the segment length"),
        (["--plot", "t.txt"], "must end in .png, .svg or .pdf, not '.txt'"),
        (["--segments", "song.mp3"], "must end in .csv, not '.mp3'"),
        (["--plot", "none/t.png"], "no folder"),
        (["other.wav", "--plot", "t.png"], "needs a single file"),
        (["--min-confidence", 2], "less than or equal to 1"),
        (["--json", "--csv"], "exclude each other"),
    ],
)
def test_predict_refuses_wrong_options(project, run, file, monkeypatch, options, reason):
    monkeypatch.chdir(project)
    done = invoke("predict", file, "--run", run, *options)
    assert done.exit_code == 2
    assert reason in done.output


def test_predict_takes_the_best_validated_run_and_notes_synthetic_music(
    project, file, home, run_main
):
    for name in ("cnn-original-epochs-2", "cnn-default-epochs-2"):  # the first one leaks
        run = home / "models" / "small" / name
        shutil.copytree(project / "models" / "small" / name, run)
        card = json.loads((run / "card.json").read_text(encoding="utf-8"))
        text = json.dumps(card | {"synthetic": True})
        (run / "card.json").write_text(text, encoding="utf-8")
    done = run_main("predict", file, home=home)
    assert done.code == 0, done.err
    assert done.out.startswith(f"Model: {run}\n")
    [line] = done.err.splitlines()
    assert line.startswith(f"genrecls: {run.name} was trained on synthetic music only")


def test_predict_continues_after_a_bad_file(run, file, tmp_path):
    options = ["--run", run, "--json", "--jobs", 1]
    done = invoke("predict", tmp_path / "gone.mp3", file, *options)
    assert done.exit_code == 2
    assert len(json.loads(done.stdout)) == 1
    assert "gone.mp3" in done.stderr


def test_predict_prints_valid_output_until_it_is_interrupted(run, file, monkeypatch):
    def predict_one(self, paths, **_):
        yield AudioError("gone.mp3", {"file": "does not exist"}, "Check the path.")
        yield self.predict(paths[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(GenreClassifier, "predict_all", predict_one)
    done = invoke("predict", file, file, "--run", run, "--json")
    assert done.exit_code != 0
    [row] = json.loads(done.stdout)
    assert row["path"] == str(file)
    assert "gone.mp3" in done.stderr
    rows = invoke("predict", file, file, "--run", run, "--csv").stdout.splitlines()
    assert len(rows) == 2


NAMES = ["é 音.wav", 'a "b", c.wav', "a\nb.wav", "a\rb.wav", os.fsdecode(b"\x82 cp437.wav")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_predict_prints_valid_json_and_csv_whatever_the_names(run, file, tmp_path, monkeypatch):
    for name in NAMES:
        shutil.copy(file, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    command = ["predict", *NAMES, "--run", run, "--jobs", 1]
    paths = [*NAMES[:-1], "\\x82 cp437.wav"]
    by_locale = start(*command, "--json", home=tmp_path, LC_ALL="C", PYTHONUTF8="0")
    for text in (invoke(*command, "--json").stdout, by_locale.stdout):
        assert [row["path"] for row in json.loads(text)] == paths
    text = invoke(*command, "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["path"] for row in rows] == [path.replace("\r", "\\r") for path in paths]


def test_a_path_in_a_table_is_never_a_formula_of_a_spreadsheet():
    paths = ["=1+1.wav", "+1.wav", "-1.wav", "@1.wav", "1=1.wav", "/=1.wav", "./=1.wav"]
    cells = [use._path_cell(Mock(path=path)) for path in paths]
    assert cells == ["./=1+1.wav", "./+1.wav", "./-1.wav", "./@1.wav", *paths[4:]]


def test_paths_may_begin_with_the_home_folder(run, file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copy(file, tmp_path / "song.wav")
    shutil.copytree(run, tmp_path / "run")
    options = ["--run", "~/run", "--json"]
    [row] = json.loads(invoke("predict", "~/song.wav", *options).stdout)
    assert row["path"] == str(tmp_path / "song.wav")
    assert invoke("predict", "~/song.wav", "--plot", "~/song.png", *options).exit_code == 0
    assert (tmp_path / "song.png").exists()
    classifier = GenreClassifier.load("~/run")
    [prediction] = classifier.predict_all(["~/song.wav"], progress=False)
    assert prediction.genre == classifier.predict("~/song.wav").genre == row["genre"]
    assert len(load_audio("~/song.wav")[0]) == 31 * 22050
    assert classifier.save("~/copy").folder == tmp_path / "copy"
    assert Report("x", "~/reports").save() == tmp_path / "reports" / "report.html"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_predict_refuses_pipes(run, file, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for pipe in (tmp_path / "pipe", "/dev/fd/63", "/dev/null"):
        done = invoke("predict", pipe, file, "--run", run, "--json", "--jobs", 1)
        assert done.exit_code == 2
        assert len(json.loads(done.stdout)) == 1
        assert f"'{pipe}' cannot be used (file: is a pipe or a device)" in done.stderr


@pytest.mark.parametrize("command", ["prepare", "train", "crossval", "report"])
def test_an_interruption_is_one_line_and_exit_code_130(short_corpus, home, monkeypatch, command):
    monkeypatch.setattr("genrecls.Corpus.corpus_name", Mock(side_effect=KeyboardInterrupt))
    done = invoke(command, short_corpus)
    assert done.exit_code == 130
    assert done.stderr == "genrecls: interrupted; finished results are kept\n"


def test_a_warning_is_shown_once(home, monkeypatch, run_main):
    def warn_twice(corpus):
        for _ in range(2):
            logging.getLogger("genrecls").warning("seen")
        raise ModelError("the end")

    monkeypatch.setattr("genrecls.Corpus.corpus_name", warn_twice)
    done = run_main("evaluate", "music", home=home)
    assert done.err.splitlines() == ["genrecls: seen", "genrecls: the end"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_in_a_callback_is_repeated(name):
    code = """
import signal, sys, time, weakref
import genrecls
from genrecls.cli import main

def work(corpus):
    thing = type("Thing", (), {})()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.NAME))
    del thing
    for _ in range(600):
        time.sleep(0.05)

genrecls.Corpus.corpus_name = work
sys.argv = ["genrecls", "evaluate", "music"]
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
    command = [sys.executable, "-c", code.replace("NAME", name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "genrecls: interrupted; finished results are kept\n"


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
def test_an_interruption_ends_the_worker_processes_without_a_word(small_corpus, home):
    command = [sys.executable, "-m", "genrecls", "prepare", small_corpus, "--jobs", "2"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    # The shell of the tests may ignore the signal.
    options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, text=True, **options) as process:
        while not re.search("log-mels: +[1-9]", process.stderr.readline()):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        lines = process.communicate()[1].splitlines()
    assert process.returncode == 130
    lines = [line for line in lines if line and "%|" not in line]  # without progress bars
    assert lines == ["genrecls: interrupted; finished results are kept"]


def test_predict_refuses_keras_backends_that_cannot_train(project, run, file):
    for name in ("foo", "openvino"):
        with pytest.raises(ImportError, match=f"is '{name}'; set KERAS_BACKEND"):
            check_backend(name)
    done = start("predict", file, "--run", run, home=project, KERAS_BACKEND="numpy")
    assert done.returncode == 2
    choices = "set KERAS_BACKEND to one of tensorflow, torch, jax"
    assert done.stderr == f"genrecls: the Keras backend is 'numpy'; {choices}\n"


@pytest.mark.parametrize(
    ("name", "code"), [("text.mp3", 2), ("truncated.mp3", 0), ("directory.mp3", 2)]
)
def test_predict_gives_a_prediction_or_one_line_for_hostile_files(
    project, run, hostile, name, code, run_main
):
    done = run_main("predict", hostile / name, "--run", run, "--jobs", 1, home=project)
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert done.code == code
    assert (name in done.out) == (code == 0)
    assert len(lines) == 1
    assert lines[0].startswith("genrecls: ")


def test_export_writes_onnx_and_prints_the_difference(run, tmp_path, monkeypatch):
    export, file = Mock(return_value=2e-7), tmp_path / "small.onnx"
    monkeypatch.setattr(GenreClassifier, "export_onnx", export)
    done = invoke("export", file, "--run", run)
    assert done.exit_code == 0, done.output
    export.assert_called_once_with(file)
    assert done.stdout == f"{file}: probabilities within 2e-07 of those of {run}\n"


# Errors


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["predict", "text.mp3", "--run", "RUN"], "cannot be used"),
        (["predict", "short.wav", "--run", "RUN"], "0.5 s"),
        (["predict", "gone.mp3", "--run", "RUN"], "does not exist"),
        (["predict", "text.mp3", "--run", "."], "no trained model"),
        (["predict", "text.mp3"], "genrecls train"),
        (["predict", "empty", "--run", "RUN"], "no sound files"),
        (["prepare", "none"], "folder"),
        (["prepare"], "genrecls demo"),
        (["evaluate", "empty"], "genrecls train"),
        (["train", "CORPUS", "--model", "efficientnet_lite0", "--weights", "none.h5",
          "--preset", "default"], "no weights file"),
    ],
)  # fmt: skip
def test_errors_of_users_are_one_line_and_exit_code_2(
    run, short_corpus, tmp_path, words, reason, run_main
):
    (tmp_path / "text.mp3").write_text("no sound")
    soundfile.write(tmp_path / "short.wav", [0.0] * 4000, 8000)
    (tmp_path / "empty").mkdir()
    words = [{"RUN": run, "CORPUS": short_corpus}.get(word, word) for word in words]
    done = run_main(*words, home=tmp_path)
    assert done.code == 2, done.err
    [line] = [line for line in done.err.splitlines() if line.strip()]
    assert line.startswith("genrecls: ")
    assert reason in line


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [(["export", "x.onnx"], "onnx", "onnx"), (["serve"], "gradio", "app")],
)
def test_a_missing_extra_is_an_error_that_says_how_to_install_it(
    run, tmp_path, monkeypatch, run_main, words, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    # A test in this process may have imported the page.
    monkeypatch.delitem(sys.modules, "genrecls.app", raising=False)
    monkeypatch.delattr(genrecls, "app", raising=False)
    done = run_main(*words, "--run", run, home=tmp_path)
    assert done.code == 2
    assert f'genrecls: pip install ".[{extra}]" in its folder' in done.err
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("options", [["--model", "vgg"], ["--preset", "best"]])
def test_train_refuses_unknown_names(short_corpus, home, options):
    done = invoke("train", short_corpus, *options)
    assert done.exit_code == 2
    assert options[1] in done.output


def test_prepare_leaves_bad_files_out(short_corpus, tmp_path, home):
    corpus = tmp_path / "bad ones first"
    shutil.copytree(short_corpus, corpus)
    (corpus / "rap" / "._rap 0 - Same Title.wav").write_bytes(b"a note of the file system")
    (corpus / "rap" / "aaa.mp3").write_text("no sound")
    done = invoke("prepare", corpus, "--preset", "default")
    assert done.exit_code == 0
    assert "1 tracks left out" in done.output
    assert "aaa.mp3" in done.output
