"""Trained models in use: save and load them, predict with them, export them."""

import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from genrecls import models
from genrecls._utils import cache
from genrecls._utils.parallel import map_parallel
from genrecls._utils.paths import expand_user
from genrecls.audio.decode import warn_problems
from genrecls.config import FrontEnd
from genrecls.errors import AudioError
from genrecls.evaluation.calibration import probability_columns, scale
from genrecls.evaluation.novelty import Novelty, label
from genrecls.evaluation.runs import CARD, EMBEDDINGS, NOVELTY, Run, check_folder
from genrecls.features.extraction import DTYPE, compute_log_mels, open_sound
from genrecls.features.segments import non_overlapping, step_samples
from genrecls.models.checks import check_model_file

log = logging.getLogger(__name__)

MODEL = "model.keras"
Segment = tuple[dict[str, Any], np.ndarray]  # its row and its log-mel

_BATCH = 4  # segments that are decoded before the model predicts them
# Tracks that may wait for the model, and segments of each; they take 0.2 GB at most.
_MAX_PENDING = 32
_MAX_SEGMENTS = 64


@dataclass(frozen=True)
class Prediction:
    """Prediction of a model for one track.

    Attributes
    ----------
    path : str
        File of the track; ``'<array>'`` for samples.
    genre : str
        Genre with the highest probability.
    probabilities : dict of str to float
        Calibrated probability of each genre: the mean over the segments that do not overlap,
        weighted by ``sounding``.
    segments : pd.DataFrame
        One row per segment: ``segment, start_s, end_s, sounding`` (the share that is not silent;
        1 if the front end keeps silence), ``prob_<genre>...`` (calibrated), ``predicted`` and, if
        known, ``novelty``. The segments overlap if a shorter step was given.
    front_end : FrontEnd
        Front end of the model.
    min_confidence : float in [0, 1]
        Probability below which ``label`` is "not sure".
    novelty : float >= 0, or None
        Mean over the segments; above 1, ``label`` is "none of these". None without an embedding.
    log_mels : np.ndarray [shape=(segments, n_mels, frames), dtype=float16] (in dB), or None
        Log-mels of the segments that do not overlap, and of the last one if it does; None from
        :meth:`~genrecls.GenreClassifier.predict_all`.
    """

    path: str
    genre: str
    probabilities: dict[str, float]
    segments: pd.DataFrame
    front_end: FrontEnd = field(repr=False)
    min_confidence: float
    novelty: float | None = None
    log_mels: np.ndarray | None = field(default=None, repr=False)

    @property
    def probability(self) -> float:
        """Calibrated probability of ``genre``."""
        return self.probabilities[self.genre]

    @property
    def label(self) -> str:
        """``genre``, ``'not sure'`` or ``'none of these'``."""
        return str(label(self.genre, self.probability, self.min_confidence, self.novelty))

    def plot(self):
        """Plot the taggram and the log-mels; see :func:`genrecls.plots.prediction`."""
        from genrecls.plots.sound import prediction

        return prediction(self)


@dataclass(frozen=True)
class GenreClassifier(Run):
    """A saved run in use: its model, front end, card, history and predictions.

    Its tables are read without TensorFlow. The model is loaded when it is first used.

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
    def load(cls, folder: str | os.PathLike) -> Self:
        """Load a saved run without executing any code in its files.

        A warning is logged if the run is no better than chance.

        Parameters
        ----------
        folder : path-like
            Such as ``models/demo/cnn-default``, relative to the current folder or the project.

        Raises
        ------
        ModelError
            If there is no run, or it is damaged, of another version, or not of standard layers.
        """
        run = cls.read(folder)
        check_model_file(run.folder / MODEL)
        if not run.above_chance:
            log.warning(
                "%s is no better than chance: its balanced accuracy over %d validation tracks is "
                "%.2f; do not use it",
                *(run.name, run.n_validation_tracks, run.validation_score),
            )
        return run

    def save(self, folder: str | os.PathLike) -> "GenreClassifier":
        """Save this run in another folder, where it replaces an earlier run, and return it.

        Parameters
        ----------
        folder : path-like
            Folder to write. If it contains anything but a run, a ModelError is raised.
        """
        with cache.new(check_folder(folder), replace=True) as (new, _):
            cache.copy(self.folder, new)
        return GenreClassifier.load(folder)

    @cached_property
    def model(self):
        """Keras model: log-mels [shape=(batch, n_mels, frames, 1)] in dB to probabilities."""
        return models.load_model(self.folder / MODEL, self.front_end, len(self.genres))

    def predict_log_mels(self, log_mels: np.ndarray) -> np.ndarray:
        """Predict the probabilities of segments, without calibration.

        Parameters
        ----------
        log_mels : np.ndarray [shape=(segments, n_mels, frames)] (in dB)
            Log-mels from the front end of the run.

        Returns
        -------
        np.ndarray [shape=(segments, genres)]
            Probabilities.
        """
        return self._apply(log_mels)[0]

    def _apply(self, log_mels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return probabilities, and the novelty if known, after one pass through the model."""
        below, above = self.halves
        outputs = models.predict_log_mels(below, log_mels)
        probabilities = above.predict_on_batch(outputs) if above else outputs
        return probabilities, self.novelty.score(outputs) if self.novelty else None

    @cached_property
    def halves(self) -> tuple[Any, Any]:
        """The model below and above its embedding; without one, the whole model and None."""
        embeds = models.EMBEDDING in [layer.name for layer in self.model.layers]
        return models.split_at(self.model, models.EMBEDDING) if embeds else (self.model, None)

    def predict(
        self,
        sound: str | os.PathLike | np.ndarray,
        sample_rate: int | None = None,
        *,
        step_s: float | None = None,
        min_confidence: float | None = None,
        max_duration_s: float | None = None,
    ) -> Prediction:
        """Predict the genre of a file or of samples.

        Parameters
        ----------
        sound : str, path-like, or np.ndarray [shape=(n,) or (channels, n)], floats in [-1, 1]
            A sound or video file with at least one segment (15 s), or samples. Both are resampled
            to the sample rate of the front end.
        sample_rate : int > 0 (in Hz)
            Sample rate of an array; a file has its own.
        step_s : float > 0, optional (in seconds)
            Time from one segment to the next, such as 1; by default the segment length. It
            changes the table of segments and the plot, but not the prediction.
        min_confidence : float in [0, 1], optional
            Calibrated probability below which the label is "not sure"; by default that of the run.
        max_duration_s : float > 0, optional (in seconds)
            Refuse longer tracks.

        Returns
        -------
        Prediction

        Raises
        ------
        AudioError
            If the sound cannot be decoded, is too short or too long, or is silent.
        ValueError
            If samples are not audio, or ``step_s`` does not divide the segment length.

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
            raise TypeError(f"sound must be a path or a NumPy array, not {type(sound).__name__}")
        path = "<array>" if isinstance(sound, np.ndarray) else sound
        if path is sound and sample_rate is not None:
            raise ValueError("sample_rate is only for arrays; a file has its own sample rate")
        every = self.front_end.segment_samples // step_samples(self.front_end, step_s)
        kept = bytearray()  # grows in place, while a list would need twice the memory when stacked
        with open_sound(sound, sample_rate) as stream:
            computed = compute_log_mels(
                stream, self.front_end, step_s=step_s, max_duration_s=max_duration_s
            )
            computed = _keep(computed, every, kept)
            prediction = self._predict(path, computed, stream.problems, min_confidence)
        shape = (-1, *self.front_end.shape)
        return replace(prediction, log_mels=np.frombuffer(kept, DTYPE).reshape(shape))

    def predict_all(
        self,
        paths: Sequence[str | os.PathLike],
        *,
        jobs: int | None = None,
        step_s: float | None = None,
        min_confidence: float | None = None,
        progress: bool = True,
    ) -> Iterator[Prediction | AudioError]:
        """Predict the genres of many files, which are read in several processes.

        Parameters
        ----------
        paths : sequence of path-like
            Sound or video files.
        jobs : int > 0, optional
            Number of processes; by default one per core, at most 8.
        step_s, min_confidence
            See :meth:`predict`.
        progress : bool
            Show a progress bar.

        Yields
        ------
        Prediction or AudioError
            In the order of ``paths``; the error if a file cannot be used.
        """
        step_samples(self.front_end, step_s)  # raises its error before any file is read
        # The current folder of a worker process may be another one.
        calls = [(expand_user(path).absolute(), self.front_end, step_s) for path in paths]
        results = map_parallel(
            _extract, calls, jobs=jobs, desc="tracks", progress=progress, max_pending=_MAX_PENDING
        )
        for path, result in zip(paths, results, strict=True):
            try:
                if isinstance(result, AudioError):
                    raise result
                if result:
                    segments, problems = result
                    yield self._predict(path, segments, problems, min_confidence)
                else:
                    with open_sound(path) as stream:
                        computed = compute_log_mels(stream, self.front_end, step_s=step_s)
                        yield self._predict(path, computed, stream.problems, min_confidence)
            except AudioError as error:
                yield error

    def _predict(
        self,
        path: str | os.PathLike,
        computed: Iterable[Segment],
        problems: list[str],
        min_confidence: float | None,
    ) -> Prediction:
        """Predict segments as they are computed; the problems are complete after the last."""
        computed, rows, batches = iter(computed), [], []
        while batch := list(itertools.islice(computed, _BATCH)):
            rows += [row for row, _ in batch]
            batches.append(self._apply(np.stack([log_mel for _, log_mel in batch])))
        warn_problems(path, problems)
        outputs, novelties = zip(*batches, strict=True)
        segments, probabilities = pd.DataFrame(rows), np.concatenate(outputs)
        segments[probability_columns(self.genres)] = scale(probabilities, self.temperature)
        segments["predicted"] = np.array(self.genres)[probabilities.argmax(axis=1)]
        if self.novelty:
            segments["novelty"] = np.concatenate(novelties)
        apart = non_overlapping(segments, self.front_end)
        weights = segments["sounding"].to_numpy() * apart
        if not weights.any():
            raise AudioError(path, {"sound": "all of it is silent"}, "Choose another file.")
        # The temperature is applied after the mean: in this order it never changes the genre.
        mean = np.average(probabilities, axis=0, weights=weights)
        mean = scale(mean, self.track_temperature)
        return Prediction(
            str(path),
            self.genres[int(mean.argmax())],
            dict(zip(self.genres, mean.tolist(), strict=True)),
            segments,
            self.front_end,
            self.card["min_confidence"] if min_confidence is None else min_confidence,
            float(np.average(segments["novelty"], weights=weights)) if self.novelty else None,
        )

    def export_onnx(self, file: str | os.PathLike) -> float:
        """Export the model as ONNX, for programs without Keras, and verify it.

        The exported model returns probabilities without calibration. Its metadata hold the
        genres, the temperatures, the limit of "not sure" and the front end as JSON.

        Parameters
        ----------
        file : path-like
            File to write.

        Returns
        -------
        float
            Largest difference between a probability from ONNX Runtime and from Keras.

        Raises
        ------
        ModelError
            If the difference is above 1e-4; then no file is written.
        ImportError
            If the extra ``onnx`` is not installed.
        """
        keys = ("name", "genres", "front_end", "temperature", "track_temperature", "min_confidence")
        properties = {key: json.dumps(self.card[key], ensure_ascii=False) for key in keys}
        return models.export_onnx(self.model, expand_user(file), self.front_end, properties)


def _keep(computed: Iterable[Segment], every: int, log_mels: bytearray) -> Iterator[Segment]:
    """Pass segments on, and keep log-mels of those that do not overlap and of the last one."""
    for i, (row, log_mel) in enumerate(computed):
        kept = -(-i // every)
        log_mels[kept * log_mel.nbytes :] = log_mel.tobytes()  # in place of one that overlaps
        yield row, log_mel


def _extract(
    path: Path, front_end: FrontEnd, step_s: float | None
) -> tuple[list[Segment], list[str]] | AudioError | None:
    """Compute the segments of a file; return None if they are too many to be sent."""
    try:
        with open_sound(path) as stream:
            computed = compute_log_mels(stream, front_end, step_s=step_s)
            segments = list(itertools.islice(computed, _MAX_SEGMENTS + 1))
    except AudioError as error:  # It must not stop the other files.
        return error
    return (segments, stream.problems) if len(segments) <= _MAX_SEGMENTS else None


def save_run(
    folder: Path,
    card: dict,
    model: Any,
    *,
    first_layer: dict,
    embeddings: np.ndarray | None = None,
    novelty: Novelty | None = None,
    **tables: pd.DataFrame,
) -> GenreClassifier:
    """Write the folder of a run, which appears only when it is complete, and load it."""
    with cache.new(folder, replace=True) as (new, _):
        model.save(new / MODEL)
        for name, table in tables.items():
            table.to_parquet(new / f"{name}.parquet")
        np.savez_compressed(new / "first_layer.npz", **first_layer)
        if embeddings is not None:
            np.save(new / EMBEDDINGS, embeddings)
        if novelty is not None:
            np.savez_compressed(new / NOVELTY, **vars(novelty))
        text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        (new / CARD).write_text(text, encoding="utf-8")
    return GenreClassifier.load(folder)
