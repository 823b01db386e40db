"""Commands that train, compare and report."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

import genrecls
from genrecls import corpus as corpora
from genrecls import evaluation, models, training
from genrecls._utils.paths import models_dir, reports_dir
from genrecls.cli import data
from genrecls.cli.data import CorpusPath, Jobs, Model, Preset, choose_names, read_corpus
from genrecls.config import BACKBONES, MODELS, PRESETS, SPLIT_BY, Recipe, run_name

# The learning rate of a head on a frozen backbone is too high for the whole model.
_WHOLE_MODEL = {
    "original": {"backbone": "trained"},
    "default": {"backbone": "trained", "fine_tune_after": None, "learning_rate": 1e-4},
}
# Candidates that `run` cross-validates: the others take hours on two cores.
_QUICK = ["majority", "mfcc_svm", "compact_cnn-default", "musicnn-default"]
# Columns of wide tables that a terminal has room for; the report has the others.
_MAIN_SCORES = ["balanced accuracy", "macro F1"]
_MAIN_RESULTS = ["validation accuracy", "beats chance", "test F1", "F1 interval"]
_SPLIT_BY = f"Also hold out a validation by {', '.join(SPLIT_BY)}, or all of these."


def run(corpus: CorpusPath = None, jobs: Jobs = None) -> None:
    """Run all steps, from music files to the report."""
    if corpus is None:
        data.demo(jobs=jobs)
    data.prepare(corpus, jobs=jobs)
    data.audit(corpus, jobs=jobs)
    train(corpus, model="musicnn", preset="default", jobs=jobs)  # the first answer, in a minute
    train(corpus, jobs=jobs)
    train(corpus, model="efficientnet_lite0", preset="default", weights="random", jobs=jobs)
    crossval(corpus, model=_QUICK, repeats=1, jobs=jobs)
    robustness(corpus, jobs=jobs)
    evaluate(corpus)
    report(corpus)


def train(
    corpus: CorpusPath = None,
    model: Model = "all",
    preset: Preset = "all",
    weights: Annotated[
        str | None, typer.Option(help="imagenet, msd, mtt, random, or a weights file.")
    ] = None,
    full: Annotated[bool, typer.Option(help="Train all layers together (hours on a CPU).")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs.")] = None,
    jobs: Jobs = None,
) -> None:
    """Train and save the models that are not up to date."""
    if model == "all" and weights not in (None, "imagenet", "random"):
        raise typer.BadParameter(f"--weights {weights} needs one model: name it with --model")
    music, recipes = read_corpus(corpus), []
    for model_name in choose_names(model, MODELS, "model"):
        for preset_name in choose_names(preset, PRESETS, "preset"):
            if model_name not in Recipe.preset_models(preset_name) and "all" in (model, preset):
                continue
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
            models.weights.find_weights(model_name, recipe.weights)
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
    model: Annotated[list[str] | None, typer.Option(help="A candidate; by default all.")] = None,
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
    candidates = [known[name] for name in model or known]
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
    typer.echo(evaluation.describe_groups(tested))
    for level in ("track", "segment"):
        table = evaluation.summary_table(scores, level)[["run", *_MAIN_SCORES]]
        typer.echo(f"\n{level}s\n{table.to_string(index=False)}")


def robustness(corpus: CorpusPath = None, jobs: Jobs = None) -> None:
    """Count predictions that flip when the sound is changed."""
    saved = evaluation.read_runs(data.corpus_name(corpus))
    classifiers = [genrecls.GenreClassifier.load(run.folder) for run in saved]
    genrecls.measure_robustness(classifiers, read_corpus(corpus), jobs=jobs)
    table = evaluation.flip_table(saved)[["run", "transformation", evaluation.ALL_GENRES]]
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
