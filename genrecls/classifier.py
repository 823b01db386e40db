"""A trained model with all that is needed to use it: saved, loaded, asked about a track."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils.parallel import map_parallel
from genrecls.audio.decode import warn_problems
from genrecls.config import MIN_CONFIDENCE, FrontEnd
from genrecls.errors import AudioError, ModelError
from genrecls.evaluation.calibration import probability_columns, scale
from genrecls.evaluation.runs import CARD, Run
from genrecls.features.extraction import extract_log_mels
from genrecls.features.segments import non_overlapping, step_samples
from genrecls.models.serialization import check_model_file, export_onnx, load_model

MODEL = "model.keras"

NOT_SURE = "not sure"

_BATCH = 32  # segments: eight minutes of music
_MAX_PENDING = 64  # tracks that may wait for the model: 0.1 GB


@dataclass(frozen=True)
class Prediction:
    """What a model says of one track.

    Attributes
    ----------
    path : str
        ``'<array>'`` where it was given samples.
    genre : str
        The genre with the highest mean probability over the segments that do not overlap (silent
        ones count only where the front end does not skip them).
    probabilities : dict of str to float
        Mean over those segments, per genre, calibrated.
    segments : pd.DataFrame
        One row a segment: ``segment, start_s, end_s, silent, prob_<genre>...`` (calibrated),
        ``predicted``. They overlap where a hop was asked for.
    front_end : FrontEnd
    log_mels : np.ndarray [shape=(segments, n_mels, frames), dtype=float16] (in dB), or None
        Of the segments that do not overlap; None from
        :meth:`~genrecls.GenreClassifier.predict_all`.
    min_confidence : float in [0, 1]
    """

    path: str
    genre: str
    probabilities: dict[str, float]
    segments: pd.DataFrame
    front_end: FrontEnd = field(repr=False)
    log_mels: np.ndarray | None = field(default=None, repr=False)
    min_confidence: float = MIN_CONFIDENCE

    @property
    def probability(self) -> float:
        """Calibrated probability of ``genre``."""
        return self.probabilities[self.genre]

    @property
    def prediction(self) -> str:
        """``genre``, or ``'not sure'`` where its probability is below ``min_confidence``."""
        return self.genre if self.probability >= self.min_confidence else NOT_SURE

    def plot(self):
        """Draw the taggram above the mel-spectrogram of the track.

        Returns
        -------
        matplotlib.figure.Figure
            See :func:`genrecls.plots.prediction`.
        """
        from genrecls import plots

        return plots.prediction(self)


@dataclass(frozen=True)
class GenreClassifier(Run):
    """A saved run: model, front end, card, history and predictions.

    The tables are read from the folder without TensorFlow; the model is loaded when it is
    first needed.

    Examples
    --------
    >>> import genrecls
    >>> classifier = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> classifier.genres
    ['classique', 'jazz', 'rap']
    >>> len(classifier.predictions)  # of validation and test segments
    18
    """

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
        ModelError
            If there is no run in the folder, or one that is damaged, of a later version of
            genrecls, or with a model of other parts than genrecls builds.
        """
        run = cls.read(folder)
        check_model_file(run.folder / MODEL)
        return run

    @staticmethod
    def read_uid(folder: Path) -> str | None:
        """What decides the outcome of the run in a folder, hashed; None if there is no run."""
        try:
            return GenreClassifier.load(folder).card["uid"]
        except ModelError:
            return None

    @cached_property
    def model(self):
        """The Keras model: log-mels [shape=(batch, n_mels, frames, 1)] in dB to probabilities."""
        check_model_file(self.folder / MODEL)
        return load_model(self.folder / MODEL, self.front_end, len(self.genres))

    def predict_log_mels(self, log_mels: np.ndarray) -> np.ndarray:
        """Probabilities of segments as the model gives them, not calibrated.

        Parameters
        ----------
        log_mels : np.ndarray [shape=(segments, n_mels, frames)] (in dB)

        Returns
        -------
        np.ndarray [shape=(segments, genres)], rows sum to 1
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
        step_s: float | None = None,
        min_confidence: float = MIN_CONFIDENCE,
        max_duration_s: float | None = None,
    ) -> Prediction:
        """Classify a file, or samples.

        Parameters
        ----------
        sound : str, path-like, or np.ndarray [shape=(n,) or (channels, n)], floats in [-1, 1]
            A sound or video file of at least one segment (15 s), or its samples. Either is
            resampled to what the model was trained on.
        sample_rate : int > 0 (in Hz)
            Of samples; a file knows its own.
        step_s : float > 0, optional (in seconds)
            From the start of one segment to that of the next, such as 1; by default their length, so
            that they do not overlap. It changes the table of the segments and the plot, never the
            prediction.
        min_confidence : float in [0, 1]
            Calibrated probability below which the prediction is "not sure".
        max_duration_s : float > 0, optional (in seconds)
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
            If samples come without a sample rate or are no sound, or a segment is no whole number of
            hops long.
        TypeError
            If ``sound`` is neither a path nor an array.

        Examples
        --------
        >>> import genrecls
        >>> classifier = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
        >>> prediction = classifier.predict("song.mp3", step_s=1.0)
        >>> sorted(prediction.probabilities)
        ['classique', 'jazz', 'rap']
        >>> figure = prediction.plot()
        """
        if not isinstance(sound, str | os.PathLike | np.ndarray):
            raise TypeError(f"a sound is a path or a NumPy array, not {type(sound).__name__}")
        if not isinstance(sound, np.ndarray) and sample_rate is not None:
            raise ValueError("a file knows its sample rate; sample_rate is for an array")
        log_mels, segments, problems = extract_log_mels(
            sound,
            self.front_end,
            sample_rate=sample_rate,
            step_s=step_s,
            max_duration_s=max_duration_s,
        )
        path = "<array>" if isinstance(sound, np.ndarray) else sound
        answer = self._predict(path, log_mels, segments, problems, min_confidence)
        if isinstance(answer, AudioError):
            raise answer
        return answer

    def predict_all(
        self,
        paths: Sequence[str | os.PathLike],
        *,
        jobs: int | None = None,
        step_s: float | None = None,
        min_confidence: float = MIN_CONFIDENCE,
        progress: bool = True,
    ) -> Iterator[Prediction | AudioError]:
        """Classify many files, one after the other; they are read in several processes.

        Parameters
        ----------
        paths : sequence of path-like
        jobs : int > 0, optional
            Processes; by default one per core, 8 at most.
        step_s, min_confidence
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
            When the first one is asked for, if a segment is no whole number of hops long.
        """
        step_samples(self.front_end, step_s)  # or an error, before any file is read
        calls = [(path, self.front_end, step_s) for path in paths]
        heard = map_parallel(
            _hear, calls, jobs=jobs, desc="tracks", progress=progress, max_pending=_MAX_PENDING
        )
        for path, found in zip(paths, heard, strict=True):
            if not isinstance(found, AudioError):
                found = self._predict(path, *found, min_confidence)
                if isinstance(found, Prediction):
                    found = replace(found, log_mels=None)
            yield found

    def _predict(
        self, path: str | os.PathLike, log_mels: np.ndarray, segments: pd.DataFrame, problems,
        min_confidence: float,
    ) -> Prediction | AudioError:  # fmt: skip
        warn_problems(path, problems)
        probabilities = self.predict_log_mels(log_mels)
        segments[probability_columns(self.genres)] = scale(probabilities, self.temperature)
        segments["predicted"] = np.array(self.genres)[probabilities.argmax(axis=1)]
        apart = non_overlapping(segments, self.front_end)
        heard = apart & ~(segments["silent"] & self.front_end.skip_silence)
        if not heard.any():
            return AudioError(path, {"sound": "all of it is silent"}, "There is no genre to hear.")
        # First the mean, then the temperature: in this order it never changes a prediction.
        mean = scale(probabilities[heard].mean(axis=0), self.track_temperature)
        return Prediction(
            str(path),
            self.genres[int(mean.argmax())],
            dict(zip(self.genres, mean.tolist(), strict=True)),
            segments,
            self.front_end,
            log_mels[apart],
            min_confidence,
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
        ModelError
            If that is more than 1e-4; nothing is written then.
        ImportError
            If the extra ``onnx`` is not installed.
        """
        told = ("name", "genres", "front_end", "temperature", "track_temperature")
        properties = {key: json.dumps(self.card[key], ensure_ascii=False) for key in told}
        return export_onnx(self.model, Path(file), self.front_end, properties)


def _hear(path: str | os.PathLike, front_end: FrontEnd, step_s: float | None):
    """What :func:`genrecls.features.extraction.extract_log_mels` gives, or the error, which must not stop the others."""
    try:
        return extract_log_mels(path, front_end, step_s=step_s)
    except AudioError as error:
        return error


def save_run(
    folder: Path,
    *,
    card: dict[str, Any],
    model,
    history: pd.DataFrame,
    segments: pd.DataFrame,
    predictions: pd.DataFrame,
    first_layer: dict[str, np.ndarray],
) -> GenreClassifier:
    """Write the folder of a run, which appears under its name only when it is complete.

    Parameters
    ----------
    folder : Path
    card : dict
    model : keras.Model
    history, segments, predictions : pd.DataFrame
    first_layer : dict of str to np.ndarray
        ``path, segment, log_mel`` of a test segment, and the ``maps`` of the first convolution.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        model.save(new / MODEL)
        history.to_parquet(new / "history.parquet")
        predictions.to_parquet(new / "predictions.parquet")
        segments.to_parquet(new / "segments.parquet")
        np.savez_compressed(new / "first_layer.npz", **first_layer)
        text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        (new / CARD).write_text(text, encoding="utf-8")
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    return GenreClassifier.load(folder)
