"""The command ``genrecls``: one thin verb for every step from files to report."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrecls._utils.paths import project_root
from genrecls.config import BACKBONES, MIN_CONFIDENCE, MODELS, PRESETS, FrontEnd, Recipe, run_name
from genrecls.errors import GenreclsError

if TYPE_CHECKING:  # what loads pandas is imported where it is needed: help should come at once
    from genrecls.classifier import Prediction
    from genrecls.corpus.tracks import Corpus


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Music genres from mel-spectrogram images.",
)

CorpusPath = Annotated[
    Path | None,
    typer.Argument(help="Folder of genre folders, or a tracks.csv; by default data/demo."),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")]
Preset = Annotated[str, typer.Option(help="seed (the original's way), default, or all.")]
Model = Annotated[str, typer.Option(help=f"{', '.join(MODELS)}, or all.")]


def _example(line: str) -> dict:
    return {"epilog": f"Example: {line}"}


@app.command(**_example("genrecls demo"))
def demo(
    out: Annotated[Path | None, typer.Option(help="Folder; by default data/demo.")] = None,
    jobs: Jobs = None,
) -> None:
    """Make the synthetic demo corpus: 14 classical and 16 rap tracks, about 100 MB of MP3."""
    from genrecls.demo import make_demo

    folder = make_demo(out or project_root() / "data" / "demo", jobs=jobs)
    typer.echo(f"Demo corpus: {folder}")


@app.command(**_example("genrecls prepare my_music --preset default"))
def prepare(
    corpus: CorpusPath = None,
    preset: Preset = "all",
    jobs: Jobs = None,
    strict: Annotated[
        bool, typer.Option(help="Fail if a track cannot be used; else it is left out.")
    ] = False,
) -> None:
    """Decode every track and store the log-mels of its 15-second segments."""
    from genrecls.features.excerpts import save_excerpts
    from genrecls.features.prepare import prepare as prepare_features

    music = _read(corpus)
    for name in _chosen(preset, PRESETS, "preset"):
        features = prepare_features(music, FrontEnd.preset(name), jobs=jobs, strict=strict)
        typer.echo(
            f"{name}: {len(features.segments)} segments of {features.segments['track_id'].nunique()} "
            f"tracks, {len(features.failures)} tracks left out, {features.folder}"
        )
        for failure in features.failures.itertuples():
            typer.echo(f"  left out: {failure.reason}")
        for note in features.notes.itertuples():
            typer.echo(f"  warning: {note.note}")
    save_excerpts(music, features)


@app.command(**_example("genrecls audit my_music"))
def audit(corpus: CorpusPath = None, jobs: Jobs = None) -> None:
    """Look for damage, duplicates and what tells the genres apart without being music."""
    from genrecls.corpus.audit import audit as look_at
    from genrecls.report.audit_pages import write_audit

    music = _read(corpus)
    found = look_at(music, jobs=jobs)
    typer.echo("What tells the genres apart, worst first (AUC: 0.5 is chance, 1 perfect):\n")
    typer.echo(found.confounds.round(3).set_index("confound").T.to_string(na_rep="–"))
    typer.echo("\nTracks:\n\n" + found.genres.round(2).to_string(index=False))
    typer.echo("\nWarnings:" if found.warnings else "\nNo warnings.")
    for warning in found.warnings:
        typer.echo(f"  {warning}")
    typer.echo(f"\nWritten: {write_audit(found, project_root() / 'reports' / music.name)}")


# Whole nets: the rate of a head on a frozen backbone is too high for the backbone.
_MAX_PENDING = {
    "original": {"backbone": "trained"},
    "default": {"backbone": "trained", "fine_tune_after": None, "learning_rate": 1e-4},
}


@app.command(**_example("genrecls train my_music --model cnn --preset default"))
def train(
    corpus: CorpusPath = None,
    model: Model = "all",
    preset: Preset = "all",
    weights: Annotated[
        str | None,
        typer.Option(help="Of a net with a backbone: imagenet, random, or a Keras weights file."),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(help="Train backbone and head at once, not in stages (hours on a CPU)."),
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="At most so many passes (in stage 1).")
    ] = None,
    jobs: Jobs = None,
) -> None:
    """Train models and save them with their cards and predictions; redo only what has changed."""
    from genrecls.models.weights import find_weights
    from genrecls.training.run import train as train_model

    if model == "all" and weights not in (None, "imagenet", "random"):
        raise typer.BadParameter("--weights PATH is of one net: name it with --model")
    music, recipes = _read(corpus), []
    for model_name in _chosen(model, MODELS, "model"):
        for preset_name in _chosen(preset, PRESETS, "preset"):
            if model_name not in Recipe.preset_models(preset_name) and "all" in (model, preset):
                continue
            changes = {"epochs": epochs} if epochs else {}
            if model_name in BACKBONES:
                if weights:
                    changes["weights"] = None if weights == "random" else weights
                changes |= _MAX_PENDING[preset_name] if full else {"backbone": "frozen"}
            recipe = Recipe.preset(preset_name, model_name, **changes)
            find_weights(model_name, recipe.weights)  # or an error, before hours of training
            recipes.append((preset_name, recipe))
    for preset_name, recipe in recipes:
        name = run_name(preset_name, recipe)
        typer.echo(f"{name} …")
        run = train_model(music, recipe, FrontEnd.preset(preset_name), name=name, jobs=jobs)
        typer.echo(
            f"{name}: validation accuracy {run.card['validation_accuracy']:.3f}, "
            f"{run.card['training_time_s']:.0f} s of training, {run.folder}"
        )


@app.command(**_example("genrecls evaluate my_music"))
def evaluate(corpus: CorpusPath = None) -> None:
    """Compare the trained models of a corpus, from their saved predictions."""
    from genrecls.evaluation.runs import read_runs
    from genrecls.evaluation.tables import comparison_table

    typer.echo(comparison_table(read_runs(_name(corpus))).T.to_string(header=False))


@app.command(**_example("genrecls predict song.mp3 --run models/demo/cnn-default --json"))
def predict(
    files: Annotated[
        list[Path], typer.Argument(help="Sound or video files of 15 s or more, or folders of them.")
    ],
    run: Annotated[
        Path | None, typer.Option(help="Saved run; by default models/demo/cnn-default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV row a segment.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the taggram of one file to this file (.png, .svg, .pdf)."),
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds between segments, which then overlap, such as 1.")
    ] = None,
    min_confidence: Annotated[
        float,
        typer.Option(min=0, max=1, help='Probability below which the prediction is "not sure".'),
    ] = MIN_CONFIDENCE,
    jobs: Jobs = None,
) -> None:
    """Say what genre files are: probabilities per segment, and the prediction on the track.

    Exit code 0 if every file got one; 2 if a file could not be used, with a line on stderr for
    each; 130 if interrupted.
    """
    from genrecls.classifier import GenreClassifier
    from genrecls.corpus.tracks import find_audio_files
    from genrecls.errors import AudioError, CorpusError
    from genrecls.features.segments import step_samples

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    if plot:
        _check_plot(plot, files)
    classifier = GenreClassifier.load(run or _demo_run())
    try:
        step_samples(classifier.front_end, hop)
    except ValueError as error:
        raise typer.BadParameter(f"--hop: {error}") from error
    tracks = []
    for file in files:
        found = find_audio_files(file) if file.is_dir() else [file]
        if not found:
            raise CorpusError(f"no sound files in {str(file)!r}")
        tracks += found
    options = {"step_s": hop, "min_confidence": min_confidence}
    with _without_remarks_of_decoders():
        if plot:
            answers = [classifier.predict(tracks[0], **options)]
            _save_plot(answers[0], plot)
        else:
            several = len(tracks) > 1
            answers = list(classifier.predict_all(tracks, jobs=jobs, progress=several, **options))
    errors = [answer for answer in answers if isinstance(answer, AudioError)]
    predictions = [answer for answer in answers if not isinstance(answer, AudioError)]
    if as_json:
        said_by = {"run": str(classifier.folder)}
        said = [said_by | _as_dict(prediction) for prediction in predictions]
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
    elif as_csv:
        _echo_csv(predictions)
    else:
        typer.echo(f"Model: {classifier.folder}\n")
        for prediction in predictions:
            _echo_prediction(prediction)
    for error in errors:
        typer.echo(f"genrecls: {error}", err=True)
    if errors:
        raise typer.Exit(2)


@contextlib.contextmanager
def _without_remarks_of_decoders():
    """Keep what C libraries write to the standard error stream of a damaged file from it.

    Python's own stream goes on; what a decoder says of a file it refuses is in the error.
    """
    ours = sys.stderr
    saved = os.dup(2)
    try:
        with (
            open(saved, "w", buffering=1, closefd=False) as sys.stderr,
            open(os.devnull, "w") as null,
        ):
            os.dup2(null.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        sys.stderr = ours


def _check_plot(plot: Path, files: list[Path]) -> None:
    if len(files) > 1 or files[0].is_dir():
        raise typer.BadParameter("--plot is of one file")
    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise typer.BadParameter(f"--plot ends in .png, .svg or .pdf, not {plot.suffix!r}")
    if not plot.absolute().parent.is_dir():
        raise typer.BadParameter(f"--plot: there is no folder {str(plot.absolute().parent)!r}")


def _save_plot(prediction: Prediction, plot: Path) -> None:
    from genrecls._utils.io import write_atomically

    kind = plot.suffix.lower()[1:]
    write_atomically(plot, lambda file: prediction.plot().savefig(file, format=kind, dpi=120))


@app.command(**_example("genrecls export song_model.onnx --run models/demo/cnn-default"))
def export(
    file: Annotated[Path, typer.Argument(help="The file to write, such as model.onnx.")],
    run: Annotated[
        Path | None, typer.Option(help="Saved run; by default models/demo/cnn-default.")
    ] = None,
) -> None:
    """Write a trained model as ONNX, and check that it says the same."""
    from genrecls.classifier import GenreClassifier

    difference = GenreClassifier.load(run or _demo_run()).export_onnx(file)
    typer.echo(f"{file}: its probabilities are within {difference:.1g} of the model's")


@app.command(**_example("genrecls serve --run models/demo/cnn-default"))
def serve(
    run: Annotated[
        Path | None, typer.Option(help="Saved run; by default models/demo/cnn-default.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 7860,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest file, in MB.")] = 50,
    max_minutes: Annotated[float, typer.Option(min=0.25, help="Longest track.")] = 15,
) -> None:
    """Open a page to drop a track on: player, taggram, prediction, maps. Nothing is kept."""
    from genrecls.app import serve as serve_page
    from genrecls.classifier import GenreClassifier

    serve_page(
        GenreClassifier.load(run or _demo_run()),
        host=host, port=port, max_mb=max_mb, max_minutes=max_minutes,
    )  # fmt: skip


@app.command(**_example("genrecls report my_music"))
def report(
    corpus: CorpusPath = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether it shows what is there now.")
    ] = False,
) -> None:
    """Write the report on the trained models of a corpus to reports/: tables, figures, a page."""
    from genrecls.report.inputs import check_report

    name = _name(corpus)
    if check:
        typer.echo(f"up to date: {check_report(name)}")
        return
    from genrecls.report.write import write_report

    written = write_report(name)
    root = project_root()
    typer.echo("\nWhat was made, and where to look first:")
    typer.echo(f"  first: report   {written}")
    for what, folder in (
        ("notebooks", root / "reports" / name / "notebooks"),
        ("tables, figures", root / "reports" / name),
        ("models", root / "models" / name),
    ):
        if folder.is_dir():
            typer.echo(f"  {what:<15} {folder}/")


Repeats = Annotated[
    int, typer.Option(min=1, help="How often, with other folds and another random seed.")
]


@app.command(**_example("genrecls crossval my_music --model mfcc_svm --model compact_cnn-default"))
def crossval(
    corpus: CorpusPath = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Name of a model; by default all that are compared.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts, each held out once.")] = 5,
    repeats: Repeats = 3,
    split_by: Annotated[
        str | None,
        typer.Option(help="Hold out a validation too: by artist, track, segment, or all of these."),
    ] = None,
    jobs: Jobs = None,
) -> None:
    """Cross-validate models by whole artists, beside simple rivals: scores with intervals."""
    from genrecls.evaluation.runs import read_predictions
    from genrecls.evaluation.tables import (
        cross_validated_scores,
        leak_summary,
        leak_table,
        summary_table,
    )
    from genrecls.training.baselines import comparison_candidates
    from genrecls.training.cross_validation import cross_validate

    music = _read(corpus)
    known = comparison_candidates(music, jobs=jobs)
    for name in model or known:
        if name not in known:
            raise typer.BadParameter(f"--model is one of {', '.join(known)}, not {name!r}")
        ways = _chosen(split_by, SPLIT_BY, "split-by") if split_by else (None,)
        for way in ways:
            cross_validate(music, known[name], folds=folds, repeats=repeats, split_by=way,
                           jobs=jobs)  # fmt: skip
    predictions, cards = read_predictions(music.name)
    if split_by:
        typer.echo(leak_summary(leak_table(predictions, cards)).to_string(index=False))
    else:
        tested = predictions[predictions["run"].map(lambda run: cards[run]["split_by"] is None)]
        scores = cross_validated_scores(tested, music.genres)
        for level in ("track", "segment"):
            table = summary_table(scores, level).set_index("run").T
            typer.echo(f"\n{level}s\n{table.to_string()}")


@app.command(**_example("genrecls robustness my_music"))
def robustness(corpus: CorpusPath = None, jobs: Jobs = None) -> None:
    """Change what must not matter in the test tracks, and count how many predictions flip."""
    from genrecls.evaluation.robustness import flip_table
    from genrecls.evaluation.runs import read_runs
    from genrecls.inspection.robustness import measure_robustness

    runs = read_runs(_name(corpus))
    measure_robustness(runs, _read(corpus), jobs=jobs)
    typer.echo(flip_table(runs).to_string())


weights_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look for the pretrained weights of InceptionResNetV2, verify or download them.",
    **_example("genrecls weights fetch"),
)
app.add_typer(weights_app, name="weights")


@weights_app.command(**_example("genrecls weights status"))
def status() -> None:
    """Say which pretrained weights are there, which are missing, and what gets them."""
    from genrecls.errors import WeightsError
    from genrecls.models.weights import PACKAGE, find_package

    if advice := _echo_places():
        typer.echo(f"  {advice}")
    try:
        found = f"right: {find_package()}"
    except WeightsError as error:
        found = str(error)
    typer.echo(f"\nEfficientNet-Lite0: package {PACKAGE.replace('_', '-')}\n  {found}")


@weights_app.command(**_example("genrecls weights verify"))
def verify() -> None:
    """Check size and md5 of the files; exit code 2 unless one is right and none is wrong."""
    from genrecls.errors import WeightsError

    if advice := _echo_places():
        raise WeightsError(advice)


@weights_app.command(**_example("genrecls weights fetch"))
def fetch() -> None:
    """Download the weights to models/weights/ if no right ones are there; continue if begun."""
    from genrecls.models import weights

    if found := weights.find(weights.INCEPTION_RESNET_V2):
        typer.echo(f"there already: {found}")
    else:
        typer.echo(f"downloaded: {weights.fetch(weights.INCEPTION_RESNET_V2)}")


def _echo_places() -> str | None:
    """Print what every place holds; returns what is to be done, if anything is."""
    from genrecls.models.weights import FETCH, refusal, status
    from genrecls.models.weights import INCEPTION_RESNET_V2 as FILE

    rows = status(FILE)
    typer.echo(f"InceptionResNetV2: {FILE.name}")
    typer.echo(f"  {FILE.size:,} bytes, md5 {FILE.md5}, from {FILE.url}")
    for row in rows:
        typer.echo(f"  {row['state']:<10}  {row['place']}")
        if row["state"] == "missing" and row["detail"]:
            typer.echo(f"  {'':<10}  {row['detail']}")
    for row in rows:
        if row["state"].startswith("wrong"):
            return refusal(row["place"], row["detail"])
    if "right" not in {row["state"] for row in rows}:
        return f"{FILE.name} is missing. To get it: {FETCH}"
    return None


def _demo_run() -> Path:
    return project_root() / "models" / "demo" / "cnn-default"


def _path(corpus: Path | None) -> Path:
    return corpus or project_root() / "data" / "demo"


def _name(corpus: Path | None) -> str:
    from genrecls.corpus.tracks import Corpus

    return Corpus.corpus_name(_path(corpus))


def _read(corpus: Path | None) -> Corpus:
    from genrecls.corpus.tracks import Corpus
    from genrecls.errors import CorpusError

    path = _path(corpus)
    if corpus is None and not path.is_dir():
        raise CorpusError(f"no demo corpus in {str(path)!r}; make it with 'genrecls demo'")
    return Corpus.read(path)


def _chosen(value: str, names: tuple[str, ...], what: str) -> tuple[str, ...]:
    if value == "all":
        return names
    if value not in names:
        raise typer.BadParameter(f"--{what} is one of {', '.join(names)} or all, not {value!r}")
    return (value,)


def _as_dict(prediction: Prediction) -> dict:
    return {
        "path": prediction.path,
        "label": prediction.label,
        "genre": prediction.genre,
        "min_confidence": prediction.min_confidence,
        "probabilities": prediction.probabilities,
        "segments": prediction.segments.to_dict("records"),
    }


def _echo_csv(predictions: list[Prediction]) -> None:
    for i, prediction in enumerate(predictions):
        table = prediction.segments.copy()
        table.insert(0, "path", prediction.path)
        table["label"] = prediction.label
        typer.echo(table.to_csv(index=False, header=i == 0), nl=False)


def _echo_prediction(prediction: Prediction) -> None:
    typer.echo(prediction.path)
    typer.echo(prediction.segments.round(3).to_string(index=False))
    shares = ", ".join(f"{genre} {p:.3f}" for genre, p in prediction.probabilities.items())
    typer.echo(f"Prediction: {prediction.label} ({shares})\n")


def main() -> None:
    """Run the command; what the user can mend is one line on stderr and exit code 2."""
    logging.basicConfig(format="genrecls: %(message)s", level=logging.WARNING)
    # It warns of retracing whenever the last batch is smaller than the others.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.showwarning = _show_warning(warnings.showwarning)
    try:
        app()
    except (GenreclsError, ImportError, OSError) as error:
        typer.echo(f"genrecls: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("genrecls: interrupted; what was finished is kept", err=True)
        sys.exit(130)


def _show_warning(otherwise):
    def show(message, category, *args, **kwargs):
        from genrecls.errors import AudioWarning

        if issubclass(category, AudioWarning):
            typer.echo(f"genrecls: {message}", err=True)
        else:
            otherwise(message, category, *args, **kwargs)

    return show
