"""Commands for the pretrained weights."""

from __future__ import annotations

import typer

from genrecls.errors import WeightsError
from genrecls.models import weights

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Find, verify or download the pretrained weights of InceptionResNetV2.",
    epilog="Example: genrecls weights fetch",
)


@app.command(epilog="Example: genrecls weights status")
def status() -> None:
    """Show which pretrained weights are present, and how to get the others."""
    if advice := _echo_places():
        typer.echo(f"  {advice}")
    try:
        state = f"right: {weights.find_package()}"
    except WeightsError as error:
        state = str(error)
    package = weights.PACKAGE.replace("_", "-")
    typer.echo(f"\nEfficientNet-Lite0: package {package}\n  {state}")


@app.command(epilog="Example: genrecls weights verify")
def verify() -> None:
    """Check size and md5 of the files; exit code 2 unless one is right and none is wrong."""
    if advice := _echo_places():
        raise WeightsError(advice)


@app.command(epilog="Example: genrecls weights fetch")
def fetch() -> None:
    """Download the weights to models/weights/ unless the right ones are present."""
    if path := weights.find(weights.INCEPTION_RESNET_V2):
        typer.echo(f"already present: {path}")
    else:
        typer.echo(f"downloaded: {weights.fetch(weights.INCEPTION_RESNET_V2)}")


def _echo_places() -> str | None:
    """Print the state of every place, and return what the user can do."""
    file = weights.INCEPTION_RESNET_V2
    places = weights.status(file)
    typer.echo(f"InceptionResNetV2: {file.name}")
    typer.echo(f"  {file.size:,} bytes, md5 {file.md5}, from {file.url}")
    for place in places:
        typer.echo(f"  {place['state']:<10}  {place['place']}")
    for place in places:
        if place["state"].startswith("wrong"):
            return weights.refusal(place["place"], place["detail"])
    if "right" not in {place["state"] for place in places}:
        return f"{file.name} is missing. To get it: {weights.FETCH}"
    return None
