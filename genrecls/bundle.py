"""A trained model with all that is needed to use it: saved, loaded, asked about a track."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .audio import AudioError, warn_of
from .calibration import probability_columns, scale
from .config import SURE_FROM, FrontEnd, Recipe, project_root
from .log_mels import do_not_overlap, hear, hop_samples
from .model_file import BundleError, check_model_file, export_onnx, load_model
from .parallel import in_parallel

#: Version of the folder's layout.
FORMAT = 3
CARD = "card.json"

MODEL = "model.keras"

NOT_SURE = "not sure"

_BATCH = 32  # pieces: eight minutes of music
_AT_ONCE = 64  # tracks that may wait for the model: 0.1 GB


@dataclass(frozen=True)
class Prediction:
    """What a model says of one track.

    Attributes
    ----------
    path : str
        ``'<array>'`` where it was given samples.
    genre : str
        The genre with the highest mean probability over the pieces that do not overlap (silent
        ones count only where the front end does not skip them).
    probabilities : dict of str to float
        Mean over those pieces, per genre, calibrated.
    pieces : pd.DataFrame
        One row a piece: ``segment, start_s, end_s, silent, prob_<genre>...`` (calibrated),
        ``predicted``. They overlap where a hop was asked for.
    front_end : FrontEnd
    log_mels : np.ndarray [shape=(pieces, n_mels, frames), dtype=float16] (in dB), or None
        Of the pieces that do not overlap; None from
        :meth:`~genrecls.GenreClassifier.predict_all`.
    sure_from : float in [0, 1]
    """

    path: str
    genre: str
    probabilities: dict[str, float]
    pieces: pd.DataFrame
    front_end: FrontEnd = field(repr=False)
    log_mels: np.ndarray | None = field(default=None, repr=False)
    sure_from: float = SURE_FROM

    @property
    def probability(self) -> float:
        """Calibrated probability of ``genre``."""
        return self.probabilities[self.genre]

    @property
    def verdict(self) -> str:
        """``genre``, or ``'not sure'`` where its probability is below ``sure_from``."""
        return self.genre if self.probability >= self.sure_from else NOT_SURE

    def plot(self):
        """Draw the taggram above the mel-spectrogram of the track.

        Returns
        -------
        matplotlib.figure.Figure
            See :func:`genrecls.plots.prediction`.
        """
        from . import plots

        return plots.prediction(self)


@dataclass(frozen=True)
class GenreClassifier:
    """A saved run: model, front end, card, history and predictions.

    The tables are read from the folder without TensorFlow; the model is loaded when it is
    first needed.

    Examples
    --------
    >>> import genrecls
    >>> classifier = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> classifier.genres
    ['classique', 'jazz', 'rap']
    >>> len(classifier.predictions)  # of validation and test pieces
    18
    """

    folder: Path
    card: dict[str, Any]

    @classmethod
    def load(cls, folder: str | os.PathLike) -> GenreClassifier:
        """Open a saved run to predict with it.

        Nothing that stands in the files is executed.

        Parameters
        ----------
        folder : path-like
            Such as ``models/demo/cnn-default``: from here, or from the folder of the project.

        Raises
        ------
        BundleError
            If there is no run in the folder, or one that is damaged, of a later version of
            genrecls, or with a model of other parts than genrecls builds.
        """
        run = cls.read(folder)
        check_model_file(run.folder / MODEL)
        return run

    @classmethod
    def read(cls, folder: str | os.PathLike) -> GenreClassifier:
        """Open a saved run for its card and tables; its model may be missing.

        Raises
        ------
        BundleError
            If there is no run in the folder, or its card cannot be used.
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
        except (OSError, ValueError) as error:
            raise BundleError(f"{str(folder / CARD)!r} cannot be read: {error}") from error
        if wrong := _wrong_with(card):
            raise BundleError(f"{str(folder / CARD)!r} {wrong}")
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
        check_model_file(self.folder / MODEL)
        return load_model(self.folder / MODEL, self.front_end, len(self.genres))

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
        parts = [
            self.model.predict_on_batch(np.asarray(log_mels[i : i + _BATCH], np.float32)[..., None])
            for i in range(0, len(log_mels), _BATCH)
        ]
        return np.concatenate(parts)

    def predict(
        self,
        sound: str | os.PathLike | np.ndarray,
        sample_rate: int | None = None,
        *,
        hop_s: float | None = None,
        sure_from: float = SURE_FROM,
        longest_s: float | None = None,
    ) -> Prediction:
        """Classify a file, or samples.

        Parameters
        ----------
        sound : str, path-like, or np.ndarray [shape=(n,) or (channels, n)], floats in [-1, 1]
            A sound or video file of at least one piece (15 s), or its samples. Either is
            resampled to what the model was trained on.
        sample_rate : int > 0 (in Hz)
            Of samples; a file knows its own.
        hop_s : float > 0, optional (in seconds)
            From the start of one piece to that of the next, such as 1; by default their length, so
            that they do not overlap. It changes the table of the pieces and the plot, never the
            verdict.
        sure_from : float in [0, 1]
            Calibrated probability below which the verdict is "not sure".
        longest_s : float > 0, optional (in seconds)
            Refuse what is longer.

        Returns
        -------
        Prediction

        Raises
        ------
        AudioError
            If the file cannot be decoded, is too short or too long, or silent throughout (where
            the front end skips silence).
        ValueError
            If samples come without a sample rate or are no sound, or a piece is no whole number of
            hops long.
        TypeError
            If ``sound`` is neither a path nor an array.

        Examples
        --------
        >>> import genrecls
        >>> classifier = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
        >>> prediction = classifier.predict("song.mp3", hop_s=1.0)
        >>> sorted(prediction.probabilities)
        ['classique', 'jazz', 'rap']
        >>> figure = prediction.plot()
        """
        if not isinstance(sound, str | os.PathLike | np.ndarray):
            raise TypeError(f"a sound is a path or a NumPy array, not {type(sound).__name__}")
        if not isinstance(sound, np.ndarray) and sample_rate is not None:
            raise ValueError("a file knows its sample rate; sample_rate is for an array")
        log_mels, pieces, problems = hear(
            sound, self.front_end, sample_rate=sample_rate, hop_s=hop_s, longest_s=longest_s
        )
        path = "<array>" if isinstance(sound, np.ndarray) else sound
        answer = self._predict(path, log_mels, pieces, problems, sure_from)
        if isinstance(answer, AudioError):
            raise answer
        return answer

    def predict_all(
        self,
        paths: Sequence[str | os.PathLike],
        *,
        jobs: int | None = None,
        hop_s: float | None = None,
        sure_from: float = SURE_FROM,
        progress: bool = True,
    ) -> Iterator[Prediction | AudioError]:
        """Classify many files, one after the other; they are read in several processes.

        Parameters
        ----------
        paths : sequence of path-like
        jobs : int > 0, optional
            Processes; by default one per core, 8 at most.
        hop_s, sure_from
            See :meth:`predict`.
        progress : bool
            Show a progress bar.

        Yields
        ------
        Prediction or AudioError
            In the order of ``paths``; the error where a file cannot be used.

        Raises
        ------
        ValueError
            When the first one is asked for, if a piece is no whole number of hops long.
        """
        hop_samples(self.front_end, hop_s)  # or an error, before any file is read
        calls = [(path, self.front_end, hop_s) for path in paths]
        heard = in_parallel(
            _hear, calls, jobs=jobs, desc="tracks", progress=progress, at_once=_AT_ONCE
        )
        for path, found in zip(paths, heard, strict=True):
            if not isinstance(found, AudioError):
                found = self._predict(path, *found, sure_from)
                if isinstance(found, Prediction):
                    found = replace(found, log_mels=None)
            yield found

    def _predict(
        self, path: str | os.PathLike, log_mels: np.ndarray, pieces: pd.DataFrame, problems,
        sure_from: float,
    ) -> Prediction | AudioError:  # fmt: skip
        warn_of(path, problems)
        probabilities = self.predict_log_mels(log_mels)
        pieces[probability_columns(self.genres)] = scale(probabilities, self.temperature)
        pieces["predicted"] = np.array(self.genres)[probabilities.argmax(axis=1)]
        apart = do_not_overlap(pieces, self.front_end)
        heard = apart & ~(pieces["silent"] & self.front_end.skip_silence)
        if not heard.any():
            return AudioError(path, {"sound": "all of it is silent"}, "There is no genre to hear.")
        # First the mean, then the temperature: in this order it never changes a verdict.
        mean = scale(probabilities[heard].mean(axis=0), self.track_temperature)
        return Prediction(
            str(path),
            self.genres[int(mean.argmax())],
            dict(zip(self.genres, mean.tolist(), strict=True)),
            pieces,
            self.front_end,
            log_mels[apart],
            sure_from,
        )

    def export_onnx(self, file: str | os.PathLike) -> float:
        """Write the model as ONNX, for programs without Keras, and check that it says the same.

        It takes log-mels [shape=(batch, n_mels, frames, 1)] in dB and gives probabilities that are
        not calibrated; genres, temperatures and front end stand in its metadata, as JSON.

        Parameters
        ----------
        file : path-like

        Returns
        -------
        float
            Largest difference of a probability between ONNX Runtime and Keras.

        Raises
        ------
        BundleError
            If that is more than 1e-4; nothing is written then.
        ImportError
            If the extra ``onnx`` is not installed.
        """
        told = ("name", "genres", "front_end", "temperature", "track_temperature")
        properties = {key: json.dumps(self.card[key], ensure_ascii=False) for key in told}
        return export_onnx(self.model, Path(file), self.front_end, properties)


def _hear(path: str | os.PathLike, front_end: FrontEnd, hop_s: float | None):
    """What :func:`genrecls.log_mels.hear` gives, or the error, which must not stop the others."""
    try:
        return hear(path, front_end, hop_s=hop_s)
    except AudioError as error:
        return error


def _wrong_with(card: Any) -> str | None:
    """Why a card cannot be used, if it cannot."""
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        return "is no card of genrecls"
    if card["format"] > FORMAT:
        return (
            f"was made by a later version of genrecls (format {card['format']}; this version "
            f"reads {FORMAT}): update genrecls"
        )
    if card["format"] < FORMAT:
        return (
            f"was made by an earlier version of genrecls (format {card['format']}; this version "
            f"reads {FORMAT}): train the model again"
        )
    genres, corpus = card.get("genres"), card.get("corpus")
    if not (isinstance(genres, list) and all(isinstance(genre, str) for genre in genres)
            and len(set(genres)) == len(genres) >= 2):  # fmt: skip
        return f"is damaged: its genres are {genres!r}"
    for key in ("name", "uid", "corpus", "created", "corpus_hash"):
        if not isinstance(card.get(key), str):
            return f"is damaged: its {key} is {card.get(key)!r}"
    if Path(corpus).name != corpus:
        return f"is damaged: its corpus is {corpus!r}, which is no name of a folder"
    for key in ("temperature", "track_temperature"):
        value = card.get(key)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            return f"is damaged: its {key} is {value!r}"
    for key, kind in (("front_end", FrontEnd), ("recipe", Recipe)):
        try:
            kind.from_dict(card[key])
        except (KeyError, TypeError, ValueError) as error:
            return f"is damaged: its {key} cannot be used ({error})"
    return None


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write the card of a run that is being saved."""
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")
