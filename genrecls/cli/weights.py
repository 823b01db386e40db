"""Commands for the pretrained weights."""

import itertools
from typing import Annotated

import typer

from genrecls.cli.data import choose_names
from genrecls.errors import WeightsError
from genrecls.models import weights

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Find, verify or download the pretrained weights.",
    epilog="Example: genrecls weights fetch musicnn",
)
_MODELS = tuple(weights.fetchable())


@app.command(epilog="Example: genrecls weights status")
def status() -> None:
    """Verify the pretrained weights; exit code 2 unless all that can be fetched are right."""
    problems = []
    for file in itertools.chain(*weights.fetchable().values()):
        states = {place: weights.examine(file, place) for place in file.places}
        wrong = [place for place in states if states[place] not in ("right", "missing")]
        typer.echo(f"{file.model}: {file.name}")
        typer.echo(f"  {file.size:,} bytes, md5 {file.md5}, from {file.source}")
        for place, state in states.items():
            typer.echo(f"  {'wrong' if place in wrong else state:<7}  {place}")
        problems += [weights.refusal(file, place, states[place]) for place in wrong]
        if not wrong and "right" not in states.values():
            problems.append(weights.missing(file))
    package = weights.PACKAGE.replace("_", "-")
    try:
        state = f"right    {weights.find_package()}"
    except WeightsError as error:
        state = str(error)
    typer.echo(f"efficientnet_lite0: package {package}\n  {state}")
    if problems:
        raise WeightsError("; ".join(problems))


@app.command(epilog="Example: genrecls weights fetch musicnn")
def fetch(
    model: Annotated[str, typer.Argument(help=f"{', '.join(_MODELS)}, or all.")] = "all",
) -> None:
    """Download the weights of a model to models/weights/ unless they are present."""
    for name in choose_names(model, _MODELS, "model"):
        for file in weights.fetchable()[name]:
            known = weights.find(file)
            typer.echo(f"{'already present' if known else 'downloaded'}: {weights.fetch(file)}")
