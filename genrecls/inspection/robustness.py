"""Transform the test tracks in ways that do not change their genre, and compare the predictions.

A *horse* is a system that is right for a wrong reason, like the horse Clever Hans, which watched
its questioner instead of counting; see Sturm, IEEE Transactions on Multimedia 16(6), 2014,
DOI 10.1109/TMM.2014.2330697. The predictions of a model that uses the loudness flip with it.
"""

from collections.abc import Hashable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.io import write_atomically
from genrecls._utils.parallel import map_parallel
from genrecls.audio.decode import load_audio
from genrecls.audio.resample import resample
from genrecls.classifier import GenreClassifier
from genrecls.config import FrontEnd
from genrecls.corpus.tracks import Corpus
from genrecls.errors import AudioError, GenreclsError, ModelError
from genrecls.evaluation.robustness import ROBUSTNESS_FILE, read_finished
from genrecls.features.extraction import DTYPE
from genrecls.features.spectrogram import mel_spectrogram
from genrecls.inspection.perturbations import TRANSFORMATIONS, Transformation

# Sound before and after a segment, relative to its length. A tempo 6 % higher uses 3 % on each
# side, and the ends of a filter or encoder fall outside the segment.
_MARGIN = 0.05
_N_SEGMENTS = 2  # of a track, at most
_RANDOM_SEED = 0  # of the noise
# Raise it when a transformation gives another sound than before.
_VERSION = 2
_MAX_PENDING = 64  # tracks that wait for the models
_SHIFTS_TIME = ("tempo −6 %", "tempo +6 %")  # their frames cannot be compared


def measure_robustness(
    classifiers: Sequence[GenreClassifier],
    corpus: Corpus | str | PathLike,
    *,
    jobs: int | None = None,
    progress: bool = True,
) -> None:
    """Predict the test tracks before and after every transformation.

    The two middle segments of a track are transformed at the rate and with the channels of the
    file, with a margin (mirrored at the ends of the track), and predicted together. The results
    are saved in the folder of each classifier, for :func:`genrecls.evaluation.flip_table`. Tracks
    that have been tested with the same settings are left out, also after an interruption.

    Parameters
    ----------
    classifiers : sequence of GenreClassifier
        Models of the corpus. Log-mels that several of them need are computed once.
    corpus : Corpus or path-like
        Corpus with the test tracks, or its path.
    jobs : int > 0, optional
        Number of processes, of up to 1 GB each; by default one per core, at most 8.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ModelError
        If a test track is not in the corpus.
    GenreclsError
        If results cannot be written, or a file cannot be decoded; then after all others are tested.

    Examples
    --------
    >>> import genrecls
    >>> from genrecls import evaluation
    >>> run = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> genrecls.measure_robustness([run], "music", progress=False)
    >>> len(evaluation.flip_table([run]))  # one row per transformation
    19
    """
    corpus = Corpus.read(corpus)
    settings: dict[Hashable | None, Any] = {"n_segments": _N_SEGMENTS, "version": _VERSION}
    settings["transformations"] = list(TRANSFORMATIONS)
    by_folder = {classifier.folder: classifier for classifier in classifiers}
    paths = dict(zip(corpus.tracks["sha256"], corpus.tracks["path"], strict=True))
    users: dict[str, list[tuple[GenreClassifier, dict[Any, Any]]]] = {}
    tables: dict[Path, list[pd.DataFrame]] = {}
    for folder, classifier in by_folder.items():
        finished = read_finished(classifier)
        if not settings.items() <= finished.attrs.items():
            finished = finished[:0]
        tested = set(finished["track_id"])
        todo = [track for track in _test_tracks(classifier) if track["track_id"] not in tested]
        if todo:
            cache.check_writable(folder / ROBUSTNESS_FILE)
            tables[folder] = [finished] if tested else []
        for track in todo:
            if track["sha256"] not in paths:
                raise ModelError(
                    f"the test track {track['path']!r} of {str(classifier.folder)!r} is not in the "
                    f"corpus {corpus.name!r}, or has changed; train again with 'genrecls train'"
                )
            users.setdefault(track["sha256"], []).append((classifier, track))
    calls = []
    for sha256, pairs in users.items():
        numbers = {classifier.front_end: track["segment"] for classifier, track in pairs}
        # A new process would not know transformations that were added to the table meanwhile.
        transformations = list(TRANSFORMATIONS.values())
        calls.append((corpus.file(paths[sha256]), sha256, numbers, transformations))
    options: dict[str, Any] = {"jobs": jobs, "progress": progress, "max_pending": _MAX_PENDING}
    results = map_parallel(_compute_log_mels, calls, desc="robustness", **options)
    errors = []
    try:
        for pairs, log_mels in zip(users.values(), results, strict=True):
            if isinstance(log_mels, AudioError):
                errors.append(log_mels)
                continue
            for run, track in pairs:
                tables[run.folder].append(_predict_track(run, track, log_mels[run.front_end]))
    finally:
        for folder, parts in tables.items():
            if parts:
                _save(by_folder[folder], pd.concat(parts), settings)
    if errors:
        summary = (
            f"tracks that cannot be tested: {len(errors)}; the results of the others are kept:"
        )
        raise GenreclsError("\n".join([summary, *map(str, errors)]))


def _save(
    classifier: GenreClassifier, table: pd.DataFrame, settings: dict[Hashable | None, Any]
) -> None:
    """Save the results of all tracks that have been tested."""
    table = table.sort_values("path", kind="stable", ignore_index=True)
    n_missing = len(_test_tracks(classifier)) - table["track_id"].nunique()
    table.attrs = {**settings, "uid": classifier.card["uid"], "missing": n_missing}
    write_atomically(classifier.folder / ROBUSTNESS_FILE, table.to_parquet)


def _test_tracks(classifier: GenreClassifier) -> list[dict[Any, Any]]:
    """Return the test tracks with lists of their middle segments."""
    test = classifier.segments.query("split == 'test'").sort_values(["track_id", "segment"])
    by_track = test.groupby("track_id")
    position = by_track.cumcount()
    first = (by_track["segment"].transform("size") - _N_SEGMENTS).clip(lower=0) // 2
    middle = test[(position >= first) & (position < first + _N_SEGMENTS)]
    lists = middle.groupby("track_id")[["segment", "sounding"]].agg(list)
    tracks = test.drop_duplicates("track_id").drop(columns=lists.columns)
    return tracks.join(lists, on="track_id").to_dict("records")


def _compute_log_mels(
    path: str | PathLike,
    sha256: str,
    numbers: dict[FrontEnd, list[int]],
    transformations: Sequence[Transformation],
) -> dict[FrontEnd, np.ndarray] | AudioError:
    """Return log-mels [shape=(1 + transformations, segments, ...)], or an error."""
    log_mels: dict[FrontEnd, list[list[np.ndarray]]] = {front_end: [] for front_end in numbers}
    for segment_s, number in sorted({(f.segment_s, n) for f in numbers for n in numbers[f]}):
        # The margins are in the segments before and after.
        first = max(number - 1, 1)
        start_s = (first - 1) * segment_s
        try:
            y, rate = load_audio(path, mono=False, start_s=start_s, duration_s=3 * segment_s)
        except AudioError as error:
            return error
        excerpt = _excerpt(y, round(segment_s * rate), number - first + 1)
        sounds = [(excerpt, rate)]
        for transform in transformations:
            # The noise depends neither on its level nor on the order of the tracks.
            rng = np.random.default_rng((_RANDOM_SEED, int(sha256[:8], 16), number))
            sounds.append(transform(excerpt, rate, rng))
        for front_end in numbers:
            if front_end.segment_s == segment_s and number in numbers[front_end]:
                log_mels[front_end].append([_log_mel(*sound, front_end) for sound in sounds])
    return {front_end: np.stack(parts, axis=1) for front_end, parts in log_mels.items()}


def _excerpt(y: np.ndarray, length: int, segment: int) -> np.ndarray:
    """Cut a segment (the first is 1) with a margin on either side."""
    start, margin = (segment - 1) * length, round(_MARGIN * length)
    inside = y[:, max(start - margin, 0) : start + length + margin]
    before = max(margin - start, 0)
    after = length + 2 * margin - before - inside.shape[1]
    return np.pad(inside, [(0, 0), (before, after)], mode="reflect")


def _log_mel(y: np.ndarray, rate: int, front_end: FrontEnd) -> np.ndarray:
    """Compute the log-mel of the segment in the middle, as for training."""
    y = y.mean(axis=0) if front_end.channel == "mix" else y[0]
    if rate != front_end.sample_rate:
        y = resample(y, rate, front_end.sample_rate)
    start = (len(y) - front_end.segment_samples) // 2
    return mel_spectrogram(y[start:][: front_end.segment_samples], front_end).astype(DTYPE)


def _predict_track(
    classifier: GenreClassifier, track: dict[Any, Any], log_mels: np.ndarray
) -> pd.DataFrame:
    """Return one row per transformation of a track."""
    states, segments, *shape = log_mels.shape
    probabilities = classifier.predict_log_mels(log_mels.reshape(-1, *shape))
    probabilities = probabilities.reshape(states, segments, -1)
    probabilities = np.average(probabilities, axis=1, weights=track["sounding"])
    genres, predicted = np.array(classifier.genres), probabilities.argmax(axis=1)
    before, *levels = np.clip(log_mels.astype(np.float32), *classifier.front_end.image_db)
    change = [float(np.abs(level - before).mean()) for level in levels]
    common = {column: track[column] for column in ("track_id", "path", "genre", "group")}
    table = {
        "transformation": list(TRANSFORMATIONS),
        "before": genres[predicted[0]],
        "after": genres[predicted[1:]],
        "flipped": predicted[1:] != predicted[0],
        "prob_before": probabilities[0, predicted[0]],
        "prob_after": probabilities[1:, predicted[0]],
        "image_change_db": np.where(np.isin(list(TRANSFORMATIONS), _SHIFTS_TIME), np.nan, change),
        "segments": segments,
    }
    return pd.DataFrame(common | table)
