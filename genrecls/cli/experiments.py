"""Commands that train, compare and report."""

import dataclasses
import shlex
from typing import Annotated, Any

import typer

import genrecls
from genrecls import corpus as corpora
from genrecls import evaluation, training
from genrecls._utils.paths import models_dir, reports_dir
from genrecls.cli import data
from genrecls.cli.data import CorpusPath, Jobs, Model, Preset, choose_names, read_corpus
from genrecls.config import BACKBONES, MODELS, PRESETS, SPLIT_BY, Recipe, run_name
from genrecls.models.weights import find_weights

# The learning rate of a head on a frozen backbone is too high for the whole model.
_WHOLE_MODEL = {
    "original": {"backbone": "trained"},
    "default": {"backbone": "trained", "fine_tune_after": None, "learning_rate": 1e-4},
}
# Models that `run` trains, cross-validates and tests: about ten minutes on two cores.
_TRAINED = {
    "musicnn": "default",  # comes first, since it needs the fewest tracks
    "cnn": "all",
    "compact_cnn": "default",
    "efficientnet_lite0": "default",
    "efficientnet_lite0_frozen": "default",
    "inception_resnet_v2": "default",
}
_CROSS_VALIDATED = ["majority", "mfcc_svm", "efficientnet_lite0_frozen-default", "musicnn-default"]
_TESTED = [
    *("cnn-original", "cnn-default", "compact_cnn-default", "musicnn-default"),
    *("efficientnet_lite0-default", "efficientnet_lite0_frozen-default"),
]
# Commands that `run` leaves out, with their results.
_FROM_SCRATCH = "train --model efficientnet_lite0 --preset default --weights random"
_LEFT_OUT = {
    "train": "the head of InceptionResNetV2 under the preset original",
    _FROM_SCRATCH: "EfficientNet-Lite0 from scratch",
    "robustness": "the robustness of all models",
    "crossval": "the cross-validation of all models, in three repeats",
    "report": "a report with all results",
}
# Columns of wide tables that a terminal has room for; the report has the others.
_MAIN_SCORES = ["balanced accuracy", "macro F1"]
_MAIN_RESULTS = ["validation accuracy", "above chance", "test F1", "F1 interval"]
_NO_EFFECT = "no effect on musicnn and efficientnet_lite0_frozen."
_EPOCHS_HELP = f"Largest number of epochs, of the first stage if there are two; {_NO_EFFECT}"
_FULL_HELP = f"Train all layers together (hours on a CPU); {_NO_EFFECT}"
_CANDIDATE_HELP = (
    "Model or baseline, such as cnn-default or mfcc_svm; can be repeated; by default all."
)
_RUN_HELP = "Trained run, such as cnn-default; can be repeated; by default all."
_SPLIT_BY = f"Also hold out a validation by {', '.join(SPLIT_BY)}, or all of these."


def run(corpus: CorpusPath = None, jobs: Jobs = None) -> None:
    """Run all steps, from music files to the report."""
    for name in _TRAINED:  # missing weights are an error now, not after the first trainings
        find_weights(name, Recipe.preset("default", name).weights)
    if corpus is None:
        data.demo(jobs=jobs)
    data.prepare(corpus, jobs=jobs)
    data.audit(corpus, jobs=jobs)
    for model, preset in _TRAINED.items():
        train(corpus, model=model, preset=preset, jobs=jobs)
    crossval(corpus, model=_CROSS_VALIDATED, repeats=1, jobs=jobs)
    robustness(corpus, model=_TESTED, jobs=jobs)
    evaluate(corpus)
    report(corpus)
    typer.echo("\nLeft out, since it takes longer:")
    for command, result in _LEFT_OUT.items():
        verb, *options = command.split()
        words = ["genrecls", verb, *([str(corpus)] if corpus else []), *options]
        typer.echo(f"  {shlex.join(words)}  # {result}")


def train(
    corpus: CorpusPath = None,
    model: Model = "all",
    preset: Preset = "all",
    weights: Annotated[
        str | None, typer.Option(help="imagenet, msd, mtt, random, or a weights file.")
    ] = None,
    full: Annotated[bool, typer.Option(help=_FULL_HELP)] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help=_EPOCHS_HELP)] = None,
    jobs: Jobs = None,
) -> None:
    """Train and save the models that are not up to date."""
    if model == "all" and weights not in (None, "imagenet", "random"):
        raise typer.BadParameter(f"--weights {weights} needs one model: name it with --model")
    names = choose_names(model, MODELS, "model")
    if weights and not set(names) & set(BACKBONES):
        raise typer.BadParameter(f"--weights: {model} has no backbone; remove --weights")
    music, recipes = read_corpus(corpus), []
    for model_name in names:
        for preset_name in choose_names(preset, PRESETS, "preset"):
            if model_name not in Recipe.preset_models(preset_name):
                if "all" in (model, preset):
                    continue
                raise typer.BadParameter(f"--preset {preset} has no recipe for {model}")
            recipe = Recipe.preset(preset_name, model_name)
            fitted_at_once = recipe.head == "logistic"
            changes: dict[str, Any] = {"epochs": epochs} if epochs and not fitted_at_once else {}
            if model_name in BACKBONES:
                # `--model all --weights imagenet` leaves musicnn its own weights.
                if weights and (model != "all" or weights in ("random", *BACKBONES[model_name])):
                    changes["weights"] = None if weights == "random" else weights
                whole = full and not fitted_at_once
                changes |= _WHOLE_MODEL[preset_name] if whole else {"backbone": "frozen"}
            recipe = dataclasses.replace(recipe, **changes)
            # Missing weights are an error before hours of training, not after them.
            find_weights(model_name, recipe.weights)
            recipes.append((preset_name, recipe))
    for preset_name, recipe in recipes:
        typer.echo(f"{run_name(preset_name, recipe)} …")
        trained = genrecls.train(music, recipe, preset=preset_name, jobs=jobs)
        typer.echo(
            f"{trained.name}: validation accuracy {trained.card['validation_accuracy']:.3f}, "
            f"{trained.card['training_time_s']:.0f} s of training, {trained.folder}"
        )


def crossval(
    corpus: CorpusPath = None,
    model: Annotated[list[str] | None, typer.Option(help=_CANDIDATE_HELP)] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of parts, each held out once.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions with other folds.")] = 3,
    split_by: Annotated[str | None, typer.Option(help=_SPLIT_BY)] = None,
    jobs: Jobs = None,
) -> None:
    """Cross-validate models and baselines over whole groups of tracks."""
    music = read_corpus(corpus)
    known = training.comparison_candidates(music, jobs=jobs)
    if unknown := [name for name in model or () if name not in known]:
        raise typer.BadParameter(f"--model is one of {', '.join(known)}, not {unknown[0]!r}")
    candidates = [known[name] for name in dict.fromkeys(model or known)]
    for unit in choose_names(split_by, SPLIT_BY, "split-by") if split_by else (None,):
        genrecls.cross_validate(
            music, candidates, folds=folds, repeats=repeats, split_by=unit, jobs=jobs
        )
    predictions, cards = evaluation.read_predictions(music.name)
    if split_by:
        leak = evaluation.leak_summary(evaluation.leak_table(predictions, cards))
        typer.echo(leak.to_string(index=False))
        return
    whole = [name for name, card in cards.items() if card["split_by"] is None]
    tested = predictions[predictions["run"].isin(whole)]
    scores = evaluation.cross_validated_scores(tested, music.genres)
    typer.echo(evaluation.runs.describe_groups(tested))
    for level in ("track", "segment"):
        table = evaluation.summary_table(scores, level)[["run", *_MAIN_SCORES]]
        typer.echo(f"\n{level}s\n{table.to_string(index=False)}")


def robustness(
    corpus: CorpusPath = None,
    model: Annotated[list[str] | None, typer.Option(help=_RUN_HELP)] = None,
    jobs: Jobs = None,
) -> None:
    """Count predictions that flip when the sound is changed."""
    saved = {run.name: run for run in evaluation.read_runs(data.corpus_name(corpus))}
    if unknown := [name for name in model or () if name not in saved]:
        raise typer.BadParameter(f"--model is one of {', '.join(saved)}, not {unknown[0]!r}")
    chosen = [saved[name] for name in dict.fromkeys(model or saved)]
    classifiers = [genrecls.GenreClassifier.load(run.folder) for run in chosen]
    genrecls.measure_robustness(classifiers, read_corpus(corpus), jobs=jobs)
    table = evaluation.flip_table(chosen)[["run", "transformation", evaluation.ALL_GENRES]]
    typer.echo(table.to_string(index=False))


def evaluate(corpus: CorpusPath = None) -> None:
    """Compare the saved predictions of the trained models."""
    saved = evaluation.read_runs(data.corpus_name(corpus))
    if changes := corpora.describe_changes(saved[0]):
        typer.echo(f"genrecls: {changes}", err=True)
    table = genrecls.comparison_table(saved)[["run", *_MAIN_RESULTS]]
    typer.echo(table.to_string(index=False))


def report(corpus: CorpusPath = None) -> None:
    """Write a report on the models, with tables and figures."""
    name = data.corpus_name(corpus)
    typer.echo(f"\nReport:             {genrecls.write_report(name)}")
    typer.echo(f"Tables and figures: {reports_dir() / name}")
    typer.echo(f"Models:             {models_dir() / name}")
