"""Errors and warnings of the package."""

from os import PathLike
from pathlib import Path


class GenreclsError(Exception):
    """An error in the input that the user can correct; the message explains how."""


class AudioError(GenreclsError, ValueError):
    """A file that cannot be used.

    Parameters
    ----------
    path : str or path-like
        The file.
    reasons : dict of str to str
        What failed, such as a decoder or a check, and why.
    advice : str
        What the user can do.
    """

    def __init__(self, path: str | PathLike, reasons: dict[str, str], advice: str):
        self.path, self.reasons, self.advice = Path(path), reasons, advice
        why = "; ".join(f"{what}: {reason}" for what, reason in reasons.items())
        super().__init__(f"{str(path)!r} cannot be used ({why}). {advice}")

    def __reduce__(self):
        return type(self), (self.path, self.reasons, self.advice)


class AudioWarning(UserWarning):
    """A file that is used although a part of it is damaged or unusual."""


class CorpusError(GenreclsError, ValueError):
    """A folder or table that cannot be used as a corpus; the message explains what to change."""


class LeakError(GenreclsError, ValueError):
    """A group, recording or file that is on two sides of a split."""


class WeightsError(GenreclsError, RuntimeError):
    """Pretrained weights that are missing or wrong; the message names the file and the remedy."""


class ModelError(GenreclsError, ValueError):
    """A saved run or model that is missing or cannot be read."""
