"""A trained model with all that is needed to use it: saved, loaded, asked about a track."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .audio import AudioError, warn_of
from .calibration import probability_columns, scale
from .config import FrontEnd, GenreclsError, Recipe, project_root
from .log_mels import hear
from .parallel import in_parallel

#: Version of the folder's layout.
FORMAT = 3
CARD = "card.json"

_BATCH = 32  # pieces: eight minutes of music
_AT_ONCE = 64  # tracks that may wait for the model: 0.1 GB


class BundleError(GenreclsError, ValueError):
    """A folder that is no saved run, or one that this version cannot read."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one track.

    Attributes
    ----------
    path : str
    genre : str
        The verdict: the genre with the highest mean probability over the pieces (silent ones
        count only where the front end does not skip them).
    probabilities : dict of str to float
        Mean over the pieces, per genre, calibrated.
    pieces : pd.DataFrame
        One row a piece: ``segment, start_s, end_s, silent, prob_<genre>...`` (calibrated),
        ``predicted``.
    """

    path: str
    genre: str
    probabilities: dict[str, float]
    pieces: pd.DataFrame


@dataclass(frozen=True)
class GenreClassifier:
    """A saved run: model, front end, card, history and predictions.

    The tables are read from the folder without TensorFlow; the model is loaded when it is
    first needed.
    """

    folder: Path
    card: dict[str, Any]

    @classmethod
    def load(cls, folder: str | os.PathLike) -> GenreClassifier:
        """Open a saved run.

        Parameters
        ----------
        folder : path-like
            Such as ``models/demo/cnn-default``: from here, or from the folder of the project.

        Raises
        ------
        BundleError
            If there is no run in the folder, or one of a later version of genrecls.
        """
        folder = Path(folder)
        if not folder.exists():
            folder = project_root() / folder
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BundleError(
                f"no trained model in {str(folder)!r}; make one with 'genrecls train'"
            ) from error
        except ValueError as error:
            raise BundleError(f"{str(folder / CARD)!r} is damaged: {error}") from error
        if not isinstance(card, dict) or card.get("format") != FORMAT:
            raise BundleError(
                f"{str(folder / CARD)!r} is not a card of format {FORMAT}; "
                f"it was made by another version of genrecls"
            )
        return cls(folder, card)

    @staticmethod
    def uid_of(folder: Path) -> str | None:
        """What decides the outcome of the run in a folder, hashed; None if there is no run."""
        try:
            return GenreClassifier.load(folder).card["uid"]
        except BundleError:
            return None

    @property
    def name(self) -> str:
        return self.card["name"]

    @property
    def genres(self) -> list[str]:
        """Genres in the order of the model's outputs."""
        return self.card["genres"]

    @property
    def temperature(self) -> float:
        """What calibrates the probabilities of pieces. See :mod:`genrecls.calibration`."""
        return self.card["temperature"]

    @property
    def track_temperature(self) -> float:
        """The same for tracks: a mean over pieces is less sure than they are."""
        return self.card["track_temperature"]

    @cached_property
    def front_end(self) -> FrontEnd:
        return FrontEnd.from_dict(self.card["front_end"])

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.card["recipe"])

    @cached_property
    def model(self):
        """The Keras model: log-mels [shape=(batch, n_mels, frames, 1)] in dB to probabilities."""
        from . import models  # noqa: F401  registers the Picture layer
        from .backend import keras

        return keras.saving.load_model(self.folder / "model.keras", safe_mode=True, compile=False)

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch: ``epoch, loss, accuracy, val_loss, val_accuracy``."""
        return pd.read_parquet(self.folder / "history.parquet")

    @property
    def predictions(self) -> pd.DataFrame:
        """One row a validation or test piece: segments table, ``prob_<genre>`` (as the model
        gives them, not calibrated), ``predicted``, ``temperature``, ``track_temperature``."""
        return pd.read_parquet(self.folder / "predictions.parquet")

    @property
    def segments(self) -> pd.DataFrame:
        """Every piece of the corpus with its split."""
        return pd.read_parquet(self.folder / "segments.parquet")

    @property
    def first_layer(self) -> tuple[dict[str, Any], np.ndarray]:
        """One test piece (``path, segment, log_mel``) and its maps [shape=(channels, h, w)]."""
        with np.load(self.folder / "first_layer.npz", allow_pickle=False) as saved:
            piece = {
                "path": str(saved["path"]),
                "segment": int(saved["segment"]),
                "log_mel": saved["log_mel"],
            }
            return piece, saved["maps"]

    def predict_log_mels(self, log_mels: np.ndarray) -> np.ndarray:
        """Probabilities of pieces as the model gives them, not calibrated.

        Parameters
        ----------
        log_mels : np.ndarray [shape=(pieces, n_mels, frames)] (in dB)

        Returns
        -------
        np.ndarray [shape=(pieces, genres)], rows sum to 1
        """
        x = np.asarray(log_mels, np.float32)[..., None]
        parts = [self.model.predict_on_batch(x[i : i + _BATCH]) for i in range(0, len(x), _BATCH)]
        return np.concatenate(parts)

    def predict(self, path: str | os.PathLike) -> Prediction:
        """Classify a file.

        Parameters
        ----------
        path : str or path-like
            A sound or video file of at least one piece (15 s).

        Returns
        -------
        Prediction

        Raises
        ------
        AudioError
            If the file cannot be decoded, is too short, or silent throughout (where the front
            end skips silence).
        """
        [answer] = self.predict_all([path], progress=False)
        if isinstance(answer, AudioError):
            raise answer
        return answer

    def predict_all(
        self, paths: Sequence[str | os.PathLike], *, jobs: int | None = None, progress: bool = True
    ) -> Iterator[Prediction | AudioError]:
        """Classify many files, one after the other; they are read in several processes.

        Parameters
        ----------
        paths : sequence of path-like
        jobs : int > 0, optional
            Processes; by default one per core, 8 at most.
        progress : bool
            Show a progress bar.

        Yields
        ------
        Prediction or AudioError
            In the order of ``paths``; the error where a file cannot be used.
        """
        calls = [(path, self.front_end) for path in paths]
        heard = in_parallel(
            _hear, calls, jobs=jobs, desc="tracks", progress=progress, at_once=_AT_ONCE
        )
        for path, found in zip(paths, heard, strict=True):
            yield found if isinstance(found, AudioError) else self._predict(path, *found)

    def _predict(
        self, path: str | os.PathLike, log_mels: np.ndarray, pieces: pd.DataFrame, problems
    ) -> Prediction | AudioError:
        warn_of(path, problems)
        probabilities = self.predict_log_mels(log_mels)
        pieces[probability_columns(self.genres)] = scale(probabilities, self.temperature)
        pieces["predicted"] = np.array(self.genres)[probabilities.argmax(axis=1)]
        heard = ~pieces["silent"] if self.front_end.skip_silence else np.ones(len(pieces), bool)
        if not heard.any():
            return AudioError(path, {"sound": "all of it is silent"}, "There is no genre to hear.")
        # First the mean, then the temperature: in this order it never changes a verdict.
        mean = scale(probabilities[heard].mean(axis=0), self.track_temperature)
        return Prediction(
            str(path),
            self.genres[int(mean.argmax())],
            dict(zip(self.genres, mean.tolist(), strict=True)),
            pieces,
        )


def _hear(path: str | os.PathLike, front_end: FrontEnd):
    """What :func:`genrecls.features.hear` gives, or the error, which must not stop the others."""
    try:
        return hear(path, front_end)
    except AudioError as error:
        return error


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write the card of a run that is being saved."""
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")
