"""Commands from files to features, and the options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import genrecls
from genrecls._utils.paths import data_dir, reports_dir
from genrecls.config import MODELS, PRESETS, FrontEnd
from genrecls.errors import CorpusError

if TYPE_CHECKING:
    from genrecls import Corpus

#: A complete line for the help of every command.
EXAMPLES = {
    "run": "genrecls run my_music",
    "demo": "genrecls demo",
    "prepare": "genrecls prepare my_music --preset default",
    "audit": "genrecls audit my_music",
    "train": "genrecls train my_music --model cnn --preset default",
    "crossval": "genrecls crossval my_music --model mfcc_svm --model compact_cnn-default",
    "robustness": "genrecls robustness my_music",
    "evaluate": "genrecls evaluate my_music",
    "report": "genrecls report my_music",
    "predict": "genrecls predict song.mp3 --json",
    "export": "genrecls export song_model.onnx",
    "serve": "genrecls serve --run models/demo/compact_cnn-default",
}

CorpusPath = Annotated[
    Path | None,
    typer.Argument(
        help="Folder with a folder for each genre, or a tracks.csv; by default the demo corpus."
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")]
Preset = Annotated[
    str, typer.Option(help=f"{' (as in the original lab), '.join(PRESETS)}, or all.")
]
Model = Annotated[str, typer.Option(help=f"{', '.join(MODELS)}, or all.")]


def choose_names(value: str, names: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Return one of the names, or all of them for the value ``all``."""
    if value == "all":
        return names
    if value not in names:
        raise typer.BadParameter(f"--{option} is one of {', '.join(names)} or all, not {value!r}")
    return (value,)


def corpus_path(corpus: Path | None) -> Path:
    """Return the path of a corpus, by default that of the demo."""
    return corpus or data_dir() / "demo"


def corpus_name(corpus: Path | None) -> str:
    """Return the name under which the results of a corpus are kept."""
    return genrecls.Corpus.corpus_name(corpus_path(corpus))


def read_corpus(corpus: Path | None) -> Corpus:
    """Read a corpus, by default that of the demo."""
    path = corpus_path(corpus)
    if corpus is None and not path.is_dir():
        raise CorpusError(f"there is no demo corpus in {str(path)!r}; make it with 'genrecls demo'")
    return genrecls.Corpus.read(path)


def demo(
    out: Annotated[Path | None, typer.Option(help="Folder; by default data/demo.")] = None,
    jobs: Jobs = None,
) -> None:
    """Make the synthetic demo corpus: 14 classical and 16 rap tracks, about 100 MB of MP3."""
    folder = genrecls.make_demo(out or data_dir() / "demo", jobs=jobs)
    typer.echo(f"Demo corpus: {folder}")


def prepare(
    corpus: CorpusPath = None,
    preset: Preset = "all",
    jobs: Jobs = None,
    strict: Annotated[
        bool, typer.Option(help="Fail if a track cannot be used, instead of leaving it out.")
    ] = False,
) -> None:
    """Decode every track and store the log-mels of its 15-second segments."""
    music = read_corpus(corpus)
    for name in choose_names(preset, PRESETS, "preset"):
        features = genrecls.prepare(music, FrontEnd.preset(name), jobs=jobs, strict=strict)
        tracks = features.segments["track_id"].nunique()
        typer.echo(
            f"{name}: {len(features.segments)} segments from {tracks} tracks, "
            f"{len(features.failures)} tracks left out"
        )
        for failure in features.failures.itertuples():
            typer.echo(f"  left out: {failure.reason}")
        for note in features.notes.itertuples():
            typer.echo(f"  warning: {note.note}")


def audit(corpus: CorpusPath = None, jobs: Jobs = None) -> None:
    """Search for damage, duplicates, and differences between genres that are not musical."""
    music = read_corpus(corpus)
    found = genrecls.audit(music, jobs=jobs)
    typer.echo("Differences between the genres, worst first (AUC: 0.5 is chance, 1 perfect):\n")
    typer.echo(found.confounds.round(3).set_index("confound").T.to_string(na_rep="–"))
    typer.echo("\nTracks:\n\n" + found.genres.round(2).to_string(index=False))
    typer.echo("\nWarnings:" if found.warnings else "\nNo warnings.")
    for warning in found.warnings:
        typer.echo(f"  {warning}")
    typer.echo(f"\nWritten: {genrecls.write_audit(found, reports_dir() / music.name)}")
