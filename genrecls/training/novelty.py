"""The novelty of a run: its threshold, and its background of sounds without a genre."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils.backend import keras
from genrecls.config import FrontEnd, Recipe
from genrecls.corpus.splits import assign_folds
from genrecls.errors import AudioError
from genrecls.evaluation.novelty import Novelty
from genrecls.features.spectrogram import mel_spectrogram
from genrecls.models.backbone import EMBEDDING, predict_log_mels, split_at
from genrecls.training.backbone_outputs import hash_backbone
from genrecls.training.embedding import cached, embed_files
from genrecls.training.stages import Fitted

log = logging.getLogger(__name__)


def fit_novelty(
    fitted: Fitted,
    segments: pd.DataFrame,
    files: Sequence[Path],
    front_end: FrontEnd,
    recipe: Recipe,
) -> Novelty | None:
    """Fit the novelty on all but the test, with files in the background; None if it is unknown."""
    if fitted.embeddings is None or fitted.out_of_fold is None:
        return None
    # The head needs the validation for its calibration; the novelty is better with all groups.
    rows = (segments["split"] != "test").to_numpy()
    x, segments = fitted.embeddings[rows], segments[rows]
    backbone, _ = split_at(fitted.model, EMBEDDING)
    uid = hash_backbone(backbone, front_end, recipe)
    background = [*cached(f"{uid}-sounds", lambda: _embed_sounds(backbone, front_end))]
    for found in embed_files(backbone, uid, files, front_end):
        if isinstance(found, AudioError):
            log.warning("left out of the background: %s", found)
        else:
            background.append(found)
    return Novelty.fit(x, segments, np.stack(background), choose_threshold(x, segments))


def _embed_sounds(backbone: keras.Model, front_end: FrontEnd) -> np.ndarray:
    sounds = make_sounds(front_end.sample_rate, front_end.segment_samples)
    return predict_log_mels(backbone, np.stack([mel_spectrogram(y, front_end) for y in sounds]))


def choose_threshold(x: np.ndarray, segments: pd.DataFrame) -> float:
    """Return the distance that 95 % of the tracks keep to from genres without their group."""
    folds, distances = assign_folds(segments).to_numpy(), np.empty(len(x))
    for fold in range(folds.max() + 1):
        rest = folds != fold
        distances[~rest] = Novelty.fit(x[rest], segments[rest], x[:0], 1.0).score(x[~rest])
    track, weights = segments["track_id"], segments["sounding"]
    means = (weights * distances).groupby(track).sum() / weights.groupby(track).sum()
    return float(means.quantile(0.95))


def make_sounds(sample_rate: int, n: int) -> Iterator[np.ndarray]:
    """Make tones, hums, beeps, clicks and noises, which a net may place among quiet music."""
    t = np.arange(n) / sample_rate
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(n))
    frequencies = np.maximum(np.fft.rfftfreq(n, 1 / sample_rate), 20)
    sounds = [
        *(np.sin(2 * np.pi * hz * t) for hz in 62.5 * 2.0 ** np.arange(6)),
        *(sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 9)) for hz in (50, 100, 200)),
        *(2 * (hz * t % 1) - 1 for hz in (60, 220, 440)),
        *(np.sin(2 * np.pi * 880 * t) * (hz * t % 1 < 0.1) for hz in (1, 4)),
        *((hz * t % 1 < 1e-3).astype(float) for hz in (0.5, 1, 4)),
        *(np.fft.irfft(spectrum / frequencies**power, n) for power in (0, 0.5, 1, 1.5)),
    ]
    return ((0.5 * y / np.abs(y).max()).astype(np.float32) for y in sounds)
