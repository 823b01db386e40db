"""Change what must not matter, and count how many predictions flip.

A *horse* is a system that is right for the wrong reason, as Clever Hans was: it hears not the
music but something that happens to go along with the genre (B. L. Sturm, "A simple method to
determine if a music information retrieval system is a 'horse'", IEEE Transactions on Multimedia
16(6), 2014). Nobody calls a rap track classical after turning it up; a model that does has
learned loudness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike

import numpy as np
import pandas as pd

from genrecls._utils.io import write_atomically
from genrecls._utils.parallel import map_parallel
from genrecls.audio.decode import decode
from genrecls.audio.resample import resample
from genrecls.classifier import GenreClassifier
from genrecls.config import PRESETS, FrontEnd
from genrecls.corpus.tracks import Corpus
from genrecls.errors import ModelError
from genrecls.evaluation.robustness import ROBUSTNESS_FILE, _settings_of
from genrecls.features.extraction import DTYPE
from genrecls.features.image import to_image
from genrecls.features.spectrogram import mel_spectrogram
from genrecls.inspection.perturbations import TRANSFORMATIONS

# Sound on either side of a segment, relative to its length: a tempo 6 % higher takes 3 % on each,
# and what a filter or encoder does at the ends falls outside of the segment.
_MARGIN = 0.05

_MAX_PENDING = 64  # tracks that may wait for the models

# The images before and after cannot be compared frame by frame.
_SHIFTS_TIME = ("tempo −6 %", "tempo +6 %")


def measure_robustness(
    runs: Sequence[GenreClassifier],
    corpus: Corpus,
    *,
    n_tracks: int | None = None,
    n_segments: int = 2,
    random_seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> None:
    """Transform the test tracks, ask the runs again, and save what they say.

    Of each test track of a run the middle segments are taken, with a margin (mirrored sound where
    the track has no more), at the rate and with the channels of the file. They go through the
    front end and the model as they are, and after each of :data:`TRANSFORMATIONS`. A prediction is
    of these segments, not of the whole track. After a transformation nothing is cut off at full
    scale, so that a change of gain is no distortion.

    Each run gets a table ``robustness.parquet`` in its folder, see :func:`read_robustness`. A run that
    has one of the same model, settings and transformations is not asked again.

    Parameters
    ----------
    runs : sequence of GenreClassifier
        Runs of the corpus. What several of them need is computed once.
    corpus : Corpus
    n_tracks : int > 0, optional
        At most so many test tracks a genre, chosen at random; by default all.
    n_segments : int > 0
        At most so many segments a track.
    random_seed : int >= 0
        Of the choice of tracks and of the noise.
    jobs : int > 0, optional
        Processes, of up to 1 GB each; by default one per core, 8 at most.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ModelError
        If a test track of a run is not in the corpus (any more).
    AudioError
        If it cannot be decoded (any more).
    """
    settings = {"n_tracks": n_tracks, "n_segments": n_segments, "random_seed": random_seed,
                "transformations": list(TRANSFORMATIONS)}  # fmt: skip
    todo = [run for run in runs if _settings_of(run) != settings | {"uid": run.card["uid"]}]
    tests = [_test_tracks(run, n_tracks, n_segments, random_seed) for run in todo]
    paths = dict(zip(corpus.tracks["sha256"], corpus.tracks["path"], strict=True))
    wanted: dict[str, dict[FrontEnd, list[int]]] = {}
    for run, test in zip(todo, tests, strict=True):
        for track in test.itertuples():
            if track.sha256 not in paths:
                raise ModelError(
                    f"the test track {track.path!r} of {str(run.folder)!r} is not in the corpus "
                    f"{corpus.name!r}, or is another file; train again with 'genrecls train'"
                )
            wanted.setdefault(track.sha256, {})[run.front_end] = track.segments
    # The processes are given the transformations, since they know of none added meanwhile.
    given = list(TRANSFORMATIONS.values()), random_seed
    calls = [
        (corpus.file(paths[sha256]), sha256, segments, *given)
        for sha256, segments in wanted.items()
    ]
    rows: list[list[dict]] = [[] for _ in todo]
    done = map_parallel(
        _track_log_mels,
        calls,
        jobs=jobs,
        desc="robustness",
        progress=progress,
        max_pending=_MAX_PENDING,
    )
    for sha256, log_mels in done:
        for run, test, table in zip(todo, tests, rows, strict=True):
            for track in test[test["sha256"] == sha256].itertuples():
                if run.front_end in log_mels:
                    table += _answers(run, track, log_mels[run.front_end])
    for run, table in zip(todo, rows, strict=True):
        saved = pd.DataFrame(table).sort_values("path", kind="stable", ignore_index=True)
        saved.attrs = settings | {"uid": run.card["uid"]}
        write_atomically(run.folder / ROBUSTNESS_FILE, saved.to_parquet)


def perturbed_images(
    path: str | PathLike, transformation: str, *, segment: int = 1
) -> dict[str, dict[str, np.ndarray]]:
    """A segment before and after a transformation, as each preset draws it.

    Returns
    -------
    dict of str to dict of str to np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
        Keys: the preset; then ``'as it is'`` and the name of the transformation.
    """
    presets = {name: FrontEnd.preset(name) for name in PRESETS}
    wanted = {front_end: [segment] for front_end in presets.values()}
    _, log_mels = _track_log_mels(path, "0" * 8, wanted, [TRANSFORMATIONS[transformation]], 0)
    return {
        name: {
            what: to_image(log_mels[front_end][i, 0], front_end)
            for i, what in enumerate(("as it is", transformation))
        }
        for name, front_end in presets.items()
    }


def _test_tracks(
    run: GenreClassifier, n_tracks: int | None, n_segments: int, random_seed: int
) -> pd.DataFrame:
    """The test tracks of a run, and the numbers of their middle ``segments``.

    They are the same for all runs of one split and front end.
    """
    test = run.segments.query("split == 'test'").sort_values(["track_id", "segment"])
    middle = {}
    for track_id, numbers in test.groupby("track_id")["segment"]:
        first = max(len(numbers) - n_segments, 0) // 2
        middle[track_id] = numbers.tolist()[first : first + n_segments]
    chosen = test.drop_duplicates("track_id").sample(frac=1, random_state=random_seed)
    chosen["segments"] = chosen["track_id"].map(middle)
    return chosen if n_tracks is None else chosen.groupby("genre").head(n_tracks)


def _track_log_mels(
    path: str | PathLike,
    sha256: str,
    wanted: dict[FrontEnd, list[int]],
    transformations: Sequence[Callable],
    random_seed: int,
) -> tuple[str, dict[FrontEnd, np.ndarray]]:
    """Log-mels of segments of a track, given their numbers for each front end.

    Returns
    -------
    sha256 : str
    log_mels : dict of FrontEnd to np.ndarray [shape=(1 + transformations, segments, n_mels, frames)]
        The untouched ones first.
    """
    decoded = decode(path)
    # As the loader does it.
    y, rate = np.clip(decoded.samples, -1.0, 1.0), decoded.sample_rate
    found: dict[tuple, list] = {(f, n): [] for f, numbers in wanted.items() for n in numbers}
    for segment_s, segment in sorted({(front_end.segment_s, n) for front_end, n in found}):
        excerpt = _excerpt(y, round(segment_s * rate), segment)
        for change in (None, *transformations):
            # The same noise whatever its level and the order of the tracks.
            rng = np.random.default_rng((random_seed, int(sha256[:8], 16), segment))
            changed, new_rate = change(excerpt, rate, rng) if change else (excerpt, rate)
            for (front_end, n), log_mels in found.items():
                if (front_end.segment_s, n) == (segment_s, segment):
                    log_mels.append(_log_mel(changed, new_rate, front_end))
    return sha256, {f: np.stack([found[f, n] for n in wanted[f]], axis=1) for f in wanted}


def _excerpt(y: np.ndarray, length: int, segment: int) -> np.ndarray:
    """A segment (numbers start at 1) with a margin on either side."""
    start, margin = (segment - 1) * length, round(_MARGIN * length)
    inside = y[:, max(start - margin, 0) : start + length + margin]
    before = max(margin - start, 0)
    after = length + 2 * margin - before - inside.shape[1]
    return np.pad(inside, [(0, 0), (before, after)], mode="reflect")


def _log_mel(y: np.ndarray, rate: int, front_end: FrontEnd) -> np.ndarray:
    """Log-mel of the segment in the middle, as :func:`genrecls.features.extraction.track_log_mels`."""
    y = y.mean(axis=0) if front_end.channel == "mix" else y[0]
    if rate != front_end.sample_rate:
        y = resample(y, rate, front_end.sample_rate)
    start = (len(y) - front_end.segment_samples) // 2
    return mel_spectrogram(y[start:][: front_end.segment_samples], front_end).astype(DTYPE)


def _answers(run: GenreClassifier, track, log_mels: np.ndarray) -> list[dict]:
    """One row a transformation of one track."""
    changes, segments, *shape = log_mels.shape
    probabilities = run.predict_log_mels(log_mels.reshape(-1, *shape))
    probabilities = probabilities.reshape(changes, segments, -1).mean(axis=1)
    before, *by_track = probabilities.argmax(axis=1)
    levels = np.clip(log_mels.astype(np.float32), *run.front_end.image_db)
    rows = []
    for i, (name, after) in enumerate(zip(TRANSFORMATIONS, by_track, strict=True), start=1):
        change = np.nan if name in _SHIFTS_TIME else np.abs(levels[i] - levels[0]).mean()
        rows.append(
            {column: getattr(track, column) for column in ("track_id", "path", "genre", "group")}
            | {"transformation": name, "before": run.genres[before], "after": run.genres[after]}
            | {"flipped": bool(after != before), "prob_before": float(probabilities[0, before])}
            | {"prob_after": float(probabilities[i, before])}
            | {"image_change_db": float(change), "segments": segments}
        )
    return rows
