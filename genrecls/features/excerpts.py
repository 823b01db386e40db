"""The looks at sound of notebook 01 as arrays, saved so that the report redraws them unheard."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils.io import write_atomically
from genrecls._utils.paths import project_root
from genrecls.audio.decode import load_audio
from genrecls.config import FrontEnd, hash_json
from genrecls.corpus.tracks import Corpus
from genrecls.features.extraction import track_log_mels
from genrecls.features.prepare import Features
from genrecls.features.spectrogram import mel_spectrogram

#: Seconds of a track that the original looks at, and its numbers of mel bands.
EXCERPT_S = 30.0
EXCERPT_MELS = 323
N_MELS = (10, 100, 500)


def envelope(y: np.ndarray, stretches: int = 2000) -> np.ndarray:
    """Lowest and highest sample in equal stretches of a track.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
    stretches : int > 0

    Returns
    -------
    np.ndarray [shape=(2, min(stretches, n))]
    """
    starts = np.linspace(0, len(y), min(stretches, len(y)), endpoint=False).astype(int)
    return np.stack([np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)])


def excerpt_front_end(n_mels: int = EXCERPT_MELS) -> FrontEnd:
    """The original's window and hop, with another number of mel bands, for looking at a track."""
    return dataclasses.replace(FrontEnd.preset("original"), n_mels=n_mels)


def excerpt_tracks(segments: pd.DataFrame) -> dict[str, str]:
    """Path of the first usable training track of every genre."""
    training = segments[segments["split"] != "test"]
    return training.groupby("genre")["path"].first().to_dict()


def save_excerpts(corpus: Corpus, features: Features) -> Path:
    """Save what the report shows of the sound of a corpus, or find it saved.

    Per genre, of the first training track: the waveform as an envelope, the duration, and the
    second segment (the only one if there are no more) under the default front end; of the first
    genre's also the log-mel of the first 30 s with 323 bands, and with 10, 100 and 500.

    Returns
    -------
    Path
        Of the ``.npz``, in ``data/gallery/`` of the project.
    """
    tracks = excerpt_tracks(features.segments)
    hashes = corpus.tracks.set_index("path")["sha256"]
    default = FrontEnd.preset("default")
    stamp = hash_json([default.to_dict(), [(*t, hashes[t[1]]) for t in tracks.items()]])
    file = excerpts_file(corpus.name)
    if file.exists():
        with np.load(file, allow_pickle=False) as stored:
            if stored["stamp"] == stamp:
                return file
    arrays: dict[str, np.ndarray] = {"stamp": np.array(stamp), "genres": np.array(list(tracks))}
    rate = excerpt_front_end().sample_rate
    for i, path in enumerate(tracks.values()):
        y, _ = load_audio(corpus.file(path), sample_rate=rate)
        arrays[f"path_{i}"] = np.array(path)
        arrays[f"envelope_{i}"] = envelope(y)
        arrays[f"duration_s_{i}"] = np.array(len(y) / rate)
        arrays[f"segment_{i}"] = track_log_mels(corpus.file(path), default)[0][:2][-1]
        if i == 0:
            start = y[: round(EXCERPT_S * rate)]
            for n_mels in (EXCERPT_MELS, *N_MELS):
                levels = mel_spectrogram(start, excerpt_front_end(n_mels))
                arrays[f"mels_{n_mels}"] = levels.astype(np.float16)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda f: np.savez_compressed(f, **arrays))
    return file


def excerpts_file(corpus_name: str) -> Path:
    """Where the gallery of a corpus is saved."""
    return project_root() / "data" / "gallery" / f"{corpus_name}.npz"
