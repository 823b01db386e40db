"""Commands that use a trained model."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import genrecls
from genrecls import corpus, evaluation, features
from genrecls._utils.io import one_line, open_atomically, printable, write_atomically
from genrecls.cli.data import Jobs, expand
from genrecls.errors import AudioError, CorpusError

if TYPE_CHECKING:
    from genrecls.classifier import GenreClassifier, Prediction

_RUN = "Folder of a run; by default the best one, in validation, of the corpus trained on last."
RunFolder = Annotated[Path | None, typer.Option(help=_RUN, callback=expand)]


def _load(run: Path | None) -> genrecls.GenreClassifier:
    classifier = genrecls.GenreClassifier.load(run or evaluation.find_best_run().folder)
    if classifier.synthetic:
        note = "trained on synthetic music only; its predictions on real music are not tested"
        typer.echo(f"genrecls: {classifier.name} was {note}", err=True)
    return classifier


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Sound or video files of 15 s or more, or folders of them.", callback=expand
        ),
    ],
    run: RunFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a row for each track.")] = False,
    segments: Annotated[
        Path | None,
        typer.Option(help="CSV file to write, with a row for each segment.", callback=expand),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot of a single file to save.", callback=expand)
    ] = None,
    step: Annotated[float | None, typer.Option(help="Seconds from segment to segment.")] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='"Not sure" below this; by default that of the model.'),
    ] = None,
    jobs: Jobs = None,
) -> None:
    """Predict the genre of files, with one line for each.

    The exit code is 0 if all files could be used. Otherwise it is 2, and the standard error stream
    has a line for each file that could not be used.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    if plot:
        if len(files) > 1 or files[0].is_dir():
            raise typer.BadParameter("--plot needs a single file")
        _check_output(plot, "--plot", ".png", ".svg", ".pdf")
    if segments:
        _check_output(segments, "--segments", ".csv")
    classifier = _load(run)
    try:
        features.segments.step_samples(classifier.front_end, step)
    except ValueError as error:
        raise typer.BadParameter(f"--step: {error}") from error
    found = [_audio_files(file) for file in files]
    paths = [path for audio_files, _ in found for path in audio_files]
    lost = any(unreadable for _, unreadable in found)
    width = max(len(one_line(path)) for path in paths)
    echo = _echo_json if as_json else _echo_csv if as_csv else partial(_echo_text, width)
    options: dict[str, Any] = {"step_s": step, "min_confidence": min_confidence}
    errors: list[AudioError] = []
    try:
        if plot:
            results = _predict_and_plot(classifier, paths[0], plot, **options)
        else:
            # In a terminal, a progress bar would be between the predictions.
            options["progress"] = len(paths) > 1 and not sys.stdout.isatty()
            results = classifier.predict_all(paths, jobs=jobs, **options)
        predictions = _drop_errors(results, errors)
        echo(classifier, _save_segments(predictions, segments) if segments else predictions)
    finally:
        for error in errors:
            typer.echo(f"genrecls: {error}", err=True)
    if errors or lost:
        raise typer.Exit(2)


def _drop_errors(
    results: Iterable[Prediction | AudioError], errors: list[AudioError]
) -> Iterator[Prediction]:
    """Pass predictions on, and add the errors to a list."""
    for result in results:
        if isinstance(result, AudioError):
            errors.append(result)
        else:
            yield result


def _audio_files(path: Path) -> tuple[list[Path], bool]:
    """Return the sound files of a path, and whether there were some that cannot be read."""
    if not path.is_dir():
        return [path], False
    files, left_out = corpus.find_audio_files(path)
    for line in corpus.summarize_left_out(left_out):
        typer.echo(f"genrecls: {line}", err=True)
    if not files:
        raise CorpusError(f"there are no sound files in {str(path)!r}")
    return files, corpus.folders.UNREADABLE in set(left_out["problem"])


def _check_output(file: Path, option: str, *endings: str) -> None:
    """Check ending and folder of an output file; a mistyped command could replace music."""
    if file.suffix.lower() not in endings:
        expected = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise typer.BadParameter(f"{option} must end in {expected}, not {file.suffix!r}")
    if not (folder := file.absolute().parent).is_dir():
        raise typer.BadParameter(f"{option}: there is no folder {str(folder)!r}")


def _predict_and_plot(
    classifier: GenreClassifier, path: Path, plot: Path, **options: Any
) -> Iterator[Prediction | AudioError]:
    try:
        prediction = classifier.predict(path, **options)
    except AudioError as error:
        yield error
        return
    kind = plot.suffix.lower()[1:]
    write_atomically(plot, lambda file: prediction.plot().savefig(file, format=kind, dpi=120))
    yield prediction


def _echo_json(classifier: GenreClassifier, predictions: Iterable[Prediction]) -> None:
    """Print an array, which is complete even after an error or an interrupt."""
    separator = "["
    try:
        for prediction in predictions:
            values = {
                "run": printable(classifier.folder),
                "trained_on_synthetic_music": classifier.synthetic,
                "path": printable(prediction.path),
                "label": prediction.label,
                "genre": prediction.genre,
                "min_confidence": prediction.min_confidence,
                "probabilities": prediction.probabilities,
                "novelty": prediction.novelty,
                "segments": prediction.segments.to_dict("records"),
            }
            typer.echo(separator + json.dumps(values, indent=2, ensure_ascii=False), nl=False)
            separator = ",\n"
    finally:
        typer.echo("[]" if separator == "[" else "]")


def _echo_csv(_: GenreClassifier, predictions: Iterable[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for i, prediction in enumerate(predictions):
        if not i:
            names = "path label genre probability second_genre second_probability novelty"
            writer.writerow(names.split())
        (first, p), (second, q) = _likeliest(prediction)
        novelty = "" if prediction.novelty is None else round(prediction.novelty, 4)
        values = prediction.label, first, round(p, 4), second, round(q, 4), novelty
        writer.writerow((_path_cell(prediction), *values))


def _save_segments(predictions: Iterable[Prediction], file: Path) -> Iterator[Prediction]:
    """Pass predictions on, and write their segments to a CSV file."""
    with open_atomically(file) as stream:
        for i, prediction in enumerate(predictions):
            table = prediction.segments.copy()
            table.insert(0, "path", _path_cell(prediction))
            table["label"] = prediction.label
            stream.write(table.to_csv(index=False, header=i == 0).encode())
            yield prediction


def _path_cell(prediction: Prediction) -> str:
    # Before Python 3.13, a carriage return would not be quoted.
    path = printable(prediction.path).replace("\r", "\\r")
    # A spreadsheet would calculate such a cell as a formula.
    return f"./{path}" if path.startswith(("=", "+", "-", "@")) else path


def _likeliest(prediction: Prediction) -> list[tuple[str, float]]:
    """Return the two genres with the highest probabilities."""
    return sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:2]


def _echo_text(width: int, classifier: GenreClassifier, predictions: Iterable[Prediction]) -> None:
    typer.echo(f"Model: {classifier.folder}\n")
    longest = max(map(len, (*classifier.genres, "none of these")))
    for prediction in predictions:
        shares = ", ".join(f"{genre} {p:.2f}" for genre, p in _likeliest(prediction))
        path = one_line(prediction.path)
        typer.echo(f"{path:{width}}  {prediction.label:{longest}}  {shares}")


def export(
    file: Annotated[
        Path, typer.Argument(help="File to write, such as model.onnx.", callback=expand)
    ],
    run: RunFolder = None,
) -> None:
    """Write a model as ONNX and check its probabilities."""
    _check_output(file, "the file", ".onnx")
    classifier = _load(run)
    typer.echo(f"{classifier.name} …", err=True)
    difference = classifier.export_onnx(file)
    typer.echo(f"{file}: probabilities within {difference:.1g} of those of {classifier.folder}")


def serve(
    run: RunFolder = None,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 is open to others.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web page.")] = 7860,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest file (in MB).")] = 50,
    max_minutes: Annotated[float, typer.Option(min=0.25, help="Longest track (in minutes).")] = 15,
) -> None:
    """Serve a web page that predicts genres and keeps no files."""
    from genrecls import app  # needs the extra with Gradio

    app.serve(_load(run), host=host, port=port, max_mb=max_mb, max_minutes=max_minutes)
