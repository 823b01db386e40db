"""Commands for the pretrained weights."""

from __future__ import annotations

import typer

from genrecls.errors import WeightsError
from genrecls.models import weights

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Find, verify or download the pretrained weights.",
    epilog="Example: genrecls weights fetch",
)


@app.command(epilog="Example: genrecls weights status")
def status() -> None:
    """Verify the pretrained weights; exit code 2 unless InceptionResNetV2's are right."""
    file = weights.INCEPTION_RESNET_V2
    states = {place: weights.examine(file, place) for place in file.places}
    wrong = [place for place in states if states[place] not in ("right", "missing")]
    typer.echo(f"InceptionResNetV2: {file.name}")
    typer.echo(f"  {file.size:,} bytes, md5 {file.md5}, from {file.url}")
    for place, state in states.items():
        typer.echo(f"  {'wrong' if place in wrong else state:<7}  {place}")
    package = weights.PACKAGE.replace("_", "-")
    try:
        state = f"right    {weights.find_package()}"
    except WeightsError as error:
        state = str(error)
    typer.echo(f"\nEfficientNet-Lite0: package {package}\n  {state}")
    for place in wrong:
        raise WeightsError(weights.refusal(place, states[place]))
    if "right" not in states.values():
        raise WeightsError(f"{file.name} is missing. To get it: {weights.FETCH}")


@app.command(epilog="Example: genrecls weights fetch")
def fetch() -> None:
    """Download InceptionResNetV2's weights to models/weights/ unless they are present."""
    if path := weights.find(weights.INCEPTION_RESNET_V2):
        typer.echo(f"already present: {path}")
    else:
        typer.echo(f"downloaded: {weights.fetch(weights.INCEPTION_RESNET_V2)}")
