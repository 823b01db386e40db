"""Commands from files to features, and the options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import genrecls
from genrecls import corpus as corpora
from genrecls._utils.paths import data_dir, expand_user, reports_dir
from genrecls.config import MODELS, PRESETS, FrontEnd
from genrecls.errors import CorpusError

_CORPUS = "Folder with a folder for each genre, or a tracks.csv; by default the demo corpus."
_PRESET = f"{' (as in the original lab), '.join(PRESETS)}, or all."


def expand(path: Any) -> Any:
    """Replace ``~`` in a path or in paths, which not every shell does."""
    return [expand(one) for one in path] if isinstance(path, list) else path and expand_user(path)


CorpusPath = Annotated[Path | None, typer.Argument(help=_CORPUS, callback=expand)]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes; by default one per core, at most 8.")
]
Preset = Annotated[str, typer.Option(help=_PRESET)]
Model = Annotated[str, typer.Option(help=f"{', '.join(MODELS)}, or all.")]


def choose_names(value: str, names: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Return one of the names, or all of them for the value ``all``."""
    if value == "all":
        return names
    if value not in names:
        raise typer.BadParameter(f"--{option} is one of {', '.join(names)} or all, not {value!r}")
    return (value,)


def corpus_name(corpus: Path | None) -> str:
    """Return the name under which the results of a corpus are kept."""
    return genrecls.Corpus.corpus_name(corpus or data_dir() / "demo")


def read_corpus(corpus: Path | None) -> genrecls.Corpus:
    """Read a corpus, by default that of the demo."""
    path = corpus or data_dir() / "demo"
    if corpus is None and not path.is_dir():
        raise CorpusError(f"there is no demo corpus in {str(path)!r}; make it with 'genrecls demo'")
    return genrecls.Corpus.read(path)


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default data/demo.", callback=expand)
    ] = None,
    jobs: Jobs = None,
) -> None:
    """Make the demo corpus: synthetic music, 100 MB of MP3."""
    folder = genrecls.make_demo(out or data_dir() / "demo", jobs=jobs)
    typer.echo(f"Demo corpus: {folder}")


def prepare(
    corpus: CorpusPath = None,
    preset: Preset = "all",
    jobs: Jobs = None,
    strict: Annotated[bool, typer.Option(help="Stop at a track that cannot be used.")] = False,
) -> None:
    """Decode the tracks and store log-mels of their segments."""
    music = read_corpus(corpus)
    for name in choose_names(preset, PRESETS, "preset"):
        features = genrecls.prepare(music, FrontEnd.preset(name), jobs=jobs, strict=strict)
        tracks = features.segments["track_id"].nunique()
        typer.echo(
            f"{name}: {len(features.segments)} segments from {tracks} tracks, "
            f"{len(features.failures)} tracks left out"
        )
        for reason in features.failures["reason"]:
            typer.echo(f"  left out: {reason}")
        for note in features.notes["note"]:
            typer.echo(f"  warning: {note}")


def audit(corpus: CorpusPath = None, jobs: Jobs = None) -> None:
    """Find damage, duplicates and confounds in a corpus.

    A confound is a difference between the genres that is not musical, such as the codec.
    """
    music = read_corpus(corpus)
    found = genrecls.audit(music, jobs=jobs)
    typer.echo("Differences between the genres, worst first (AUC: 0.5 is chance, 1 perfect):\n")
    columns = ["confound", "auc alone", *(f"under {preset}" for preset in PRESETS)]
    typer.echo(found.confounds[columns].round(3).to_string(index=False, na_rep="–") + "\n")
    values = found.confounds.set_index("confound").filter(regex="^in ")
    typer.echo(values.T.unstack().to_string(header=False))
    typer.echo("\nTracks:\n\n" + found.genres.round(2).to_string(index=False))
    typer.echo("\nWarnings:" if found.warnings else "\nNo warnings.")
    for warning in found.warnings:
        typer.echo(f"  {warning}")
    folder = reports_dir() / music.name
    typer.echo(f"\nWritten: {genrecls.write_audit(found, folder)}")
    typer.echo(f"Written: {corpora.write_croissant(music, folder)}")
