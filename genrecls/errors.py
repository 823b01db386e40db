"""Exceptions and warnings of the package."""

from __future__ import annotations

from os import PathLike
from pathlib import Path


class GenreclsError(Exception):
    """Something about the input that the user can mend; the message says how."""


class AudioError(GenreclsError, ValueError):
    """A file that cannot be used, with the reason of every decoder that tried.

    Attributes
    ----------
    path : Path
    reasons : dict of str to str
        Decoder (or check) and what it said.
    advice : str
        What the user can do.
    """

    def __init__(self, path: str | PathLike, reasons: dict[str, str], advice: str):
        self.path, self.reasons, self.advice = Path(path), reasons, advice
        said = "; ".join(f"{who}: {why}" for who, why in reasons.items())
        super().__init__(f"{str(path)!r} cannot be used ({said}). {advice}")

    def __reduce__(self):
        return type(self), (self.path, self.reasons, self.advice)


class AudioWarning(UserWarning):
    """A file that is used although something about it is not as it should be."""


class CorpusError(GenreclsError, ValueError):
    """A folder or table that is no corpus; the message says what to change."""


class LeakError(GenreclsError, ValueError):
    """The same group, recording or file stands on two sides of a split."""


class WeightsError(GenreclsError, RuntimeError):
    """The weights cannot be had; the message names the file and says what to do."""


class ModelError(GenreclsError, ValueError):
    """A folder that is no saved run, or one that this version cannot read."""


class StaleReportError(GenreclsError):
    """A report that does not show what is there now."""
