"""The command ``genrecls``: one thin verb for every step from files to report.

Nothing that takes long to load is imported before a command needs it, so that ``--help`` appears
immediately.
"""

import _thread
import io
import logging
import signal
import sys
import threading
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from genrecls.cli import data, experiments, use, weights
from genrecls.errors import AudioWarning, GenreclsError

# The commands, with the arguments of an example for their help.
_COMMANDS = {
    experiments.run: "my_music",
    data.demo: "",
    data.prepare: "my_music --preset default",
    data.audit: "my_music",
    experiments.train: "my_music --model cnn --preset default",
    experiments.crossval: "my_music --model mfcc_svm --model compact_cnn-default",
    experiments.robustness: "my_music",
    experiments.evaluate: "my_music",
    experiments.report: "my_music",
    use.predict: "song.mp3 --json",
    use.export: "song_model.onnx",
    use.serve: "--run models/demo/compact_cnn-default",
}


class _Commands(TyperGroup):
    """Commands that an interruption ends with one line."""

    def invoke(self, ctx):
        # Typer would end the program itself, without a word.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("genrecls: interrupted; finished results are kept", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Music genre classification from mel-spectrogram images.",
)
for _command, _example in _COMMANDS.items():
    app.command(epilog=f"Example: genrecls {_command.__name__} {_example}")(_command)
app.add_typer(weights.app, name="weights")


class _Once(logging.Filter):
    """Pass every message once: ``run`` reads a corpus several times."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        is_new = record.getMessage() not in self._shown
        self._shown.add(record.getMessage())
        return is_new


def _interrupt_again(ignored: Any) -> None:
    """Repeat an interruption that came in a callback, such as those of Keras' weak references."""
    # Python ignores exceptions in these callbacks, so that the command would go on.
    if ignored.exc_type is KeyboardInterrupt:
        threading.Timer(0.1, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(ignored)


def main() -> None:
    """Run the command; a user's error is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # Names may have characters that the locale lacks, or bytes that are not text. The escape
        # of a byte is also valid JSON, from which Python gets the name back.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(format="genrecls: %(message)s", level=logging.WARNING)
    logging.getLogger().handlers[0].addFilter(_Once())
    # TensorFlow warns of retracing whenever the last batch is smaller than the others.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    default_showwarning = warnings.showwarning

    def show(message, category, *args, **kwargs):
        if issubclass(category, AudioWarning):
            typer.echo(f"genrecls: {message}", err=True)
        else:
            default_showwarning(message, category, *args, **kwargs)

    warnings.showwarning = show
    sys.unraisablehook = _interrupt_again
    # A command that is terminated ends like an interrupted one, without half-written files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # joblib warns of results that nobody takes any more after an interruption.
    warnings.filterwarnings("ignore", ".*adjusting the input task iterator")
    try:
        app()
    except (GenreclsError, ImportError, OSError) as error:
        typer.echo(f"genrecls: {error}", err=True)
        sys.exit(2)
