"""The command ``genrecls``: one thin verb for every step from files to report.

Nothing that takes long to load is imported before a command needs it, so that ``--help`` appears
immediately.
"""

from __future__ import annotations

import logging
import sys
import warnings

import typer

from genrecls.cli import data, experiments, use, weights
from genrecls.errors import AudioWarning, GenreclsError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Music genre classification from mel-spectrogram images.",
)
for _command in (
    experiments.run,
    data.demo,
    data.prepare,
    data.audit,
    experiments.train,
    experiments.crossval,
    experiments.robustness,
    experiments.evaluate,
    experiments.report,
    use.predict,
    use.export,
    use.serve,
):
    app.command(epilog=f"Example: {data.EXAMPLES[_command.__name__]}")(_command)
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command.

    An error that the user can correct is one line on the standard error stream and exit code 2.
    """
    logging.basicConfig(format="genrecls: %(message)s", level=logging.WARNING)
    # TensorFlow warns of retracing whenever the last batch is smaller than the others.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    default_showwarning = warnings.showwarning

    def show(message, category, *args, **kwargs):
        if issubclass(category, AudioWarning):
            typer.echo(f"genrecls: {message}", err=True)
        else:
            default_showwarning(message, category, *args, **kwargs)

    warnings.showwarning = show
    try:
        app()
    except (GenreclsError, ImportError, OSError) as error:
        typer.echo(f"genrecls: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("genrecls: interrupted; finished parts are kept", err=True)
        sys.exit(130)
