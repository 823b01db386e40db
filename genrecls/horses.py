"""Change what must not matter, and count how many verdicts flip.

A *horse* is a system that is right for the wrong reason, as Clever Hans was: it hears not the
music but something that happens to go along with the genre (B. L. Sturm, "A simple method to
determine if a music information retrieval system is a 'horse'", IEEE Transactions on Multimedia
16(6), 2014). Nobody calls a rap track classical after turning it up; a model that does has
learned loudness.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike

import numpy as np
import pandas as pd

from .audio import decode, resample
from .bundle import BundleError, GenreClassifier
from .config import PRESETS, FrontEnd
from .corpus import Corpus
from .files import write_atomically
from .intervals import wilson_interval
from .log_mels import DTYPE
from .parallel import in_parallel
from .spectrogram import mel_spectrogram, to_image

FILE = "horses.parquet"
ALL = "all genres"

# What there is in MPEG-1, -2 and -2.5 audio (in Hz).
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

# Sound on either side of a piece, relative to its length: a tempo 6 % higher takes 3 % on each,
# and what a filter or encoder does at the ends falls outside of the piece.
_MARGIN = 0.05

_AT_ONCE = 64  # tracks that may wait for the models

# The pictures before and after cannot be compared frame by frame.
_SHIFTS_TIME = ("tempo −6 %", "tempo +6 %")


def _gain(y, rate, rng, *, db):
    """Nothing is cut off at full scale: this is to measure gain, not distortion."""
    return y * np.float32(10 ** (db / 20)), rate


def _mono(y, rate, rng):
    """The mean of the channels in every channel."""
    return np.broadcast_to(y.mean(axis=0), y.shape), rate


def _low_pass(y, rate, rng, *, hz):
    """Zero phase; unchanged below 0.95 ``hz``, 80 dB down from ``hz`` on."""
    from scipy import signal

    if hz >= rate / 2:
        return y, rate
    taps, beta = signal.kaiserord(80.0, 0.05 * hz / (rate / 2))
    kernel = signal.firwin(taps | 1, 0.975 * hz, window=("kaiser", beta), fs=rate)
    kernel = kernel.astype(np.float32)[None]
    return signal.oaconvolve(y, kernel, mode="same", axes=-1), rate


def _mp3(y, rate, rng, *, kbit_s):
    """Encoded by LAME at a constant bit rate, and decoded without its delay.

    A rate that MP3 has not is resampled to the nearest, and more than two channels are encoded
    two by two. At 24 kHz and below, MP3 ends at 160 kbit/s.
    """
    import av
    import soundfile

    mp3_rate = min(_MP3_RATES, key=lambda known: abs(known - rate))
    y = resample(y, rate, mp3_rate)
    decoded = np.empty_like(y)
    for first in range(0, len(y), 2):
        pair = np.ascontiguousarray(y[first : first + 2])
        layout = "stereo" if len(pair) == 2 else "mono"
        file = io.BytesIO()
        with av.open(file, "w", format="mp3") as container:
            stream = container.add_stream(
                "libmp3lame", rate=mp3_rate, layout=layout, bit_rate=1000 * kbit_s
            )
            frame = av.AudioFrame.from_ndarray(pair, format="fltp", layout=layout)
            frame.sample_rate = mp3_rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        file.seek(0)
        # The encoder notes its delay and padding in the first frame; libsndfile goes by that.
        decoded[first : first + 2] = soundfile.read(file, dtype="float32", always_2d=True)[0].T
    return decoded, mp3_rate


def _file_rate(y, rate, rng, *, hz):
    return resample(y, rate, hz), hz


def _noise(y, rate, rng, *, snr_db):
    """White and Gaussian, the same in all channels, relative to the power of the excerpt."""
    power = np.mean(y**2, dtype=np.float64) / 10 ** (snr_db / 10)
    noise = rng.standard_normal(y.shape[-1], dtype=np.float32)
    return y + np.float32(np.sqrt(power)) * noise, rate


def _tempo(y, rate, rng, *, factor):
    import librosa

    return librosa.effects.time_stretch(y, rate=factor), rate


def _pitch(y, rate, rng, *, semitones):
    import librosa

    return librosa.effects.pitch_shift(y, sr=rate, n_steps=semitones), rate


def _tilt(y, rate, rng, *, db_per_octave):
    """Straight over the octaves, 0 dB at 1 kHz, constant below 62.5 Hz and above 16 kHz."""
    from scipy import fft

    hz = np.clip(fft.rfftfreq(y.shape[-1], 1 / rate), 62.5, 16000.0)
    gain = 10 ** (db_per_octave * np.log2(hz / 1000.0) / 20)
    return fft.irfft(fft.rfft(y) * gain.astype(np.float32), y.shape[-1]), rate


#: What must not matter. Each takes samples [shape=(channels, n), dtype=float32], their rate in
#: Hz and a generator, and returns changed samples and their rate.
TRANSFORMATIONS: dict[
    str, Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, int]]
] = {
    "gain −6 dB": partial(_gain, db=-6.0),
    "gain +6 dB": partial(_gain, db=6.0),
    "mono": _mono,
    "low-pass 8 kHz": partial(_low_pass, hz=8000),
    "low-pass 11 kHz": partial(_low_pass, hz=11000),
    "low-pass 16 kHz": partial(_low_pass, hz=16000),
    "MP3 64 kbit/s": partial(_mp3, kbit_s=64),
    "MP3 128 kbit/s": partial(_mp3, kbit_s=128),
    "MP3 320 kbit/s": partial(_mp3, kbit_s=320),
    "file at 22.05 kHz": partial(_file_rate, hz=22050),
    "file at 48 kHz": partial(_file_rate, hz=48000),
    "noise, 30 dB SNR": partial(_noise, snr_db=30.0),
    "noise, 20 dB SNR": partial(_noise, snr_db=20.0),
    "tempo −6 %": partial(_tempo, factor=0.94),
    "tempo +6 %": partial(_tempo, factor=1.06),
    "pitch −1 semitone": partial(_pitch, semitones=-1),
    "pitch +1 semitone": partial(_pitch, semitones=1),
    "tilt −1.5 dB/octave": partial(_tilt, db_per_octave=-1.5),
    "tilt +1.5 dB/octave": partial(_tilt, db_per_octave=1.5),
}


def ride(
    runs: Sequence[GenreClassifier],
    corpus: Corpus,
    *,
    tracks: int | None = None,
    pieces: int = 2,
    random_seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> None:
    """Transform the test tracks, ask the runs again, and save what they say.

    Of each test track of a run the middle pieces are taken, with a margin (mirrored sound where
    the track has no more), at the rate and with the channels of the file. They go through the
    front end and the model as they are, and after each of :data:`TRANSFORMATIONS`. A verdict is
    of these pieces, not of the whole track. After a transformation nothing is cut off at full
    scale, so that a change of gain is no distortion.

    Each run gets a table ``horses.parquet`` in its folder, see :func:`saved_ride`. A run that
    has one of the same model, settings and transformations is not asked again.

    Parameters
    ----------
    runs : sequence of GenreClassifier
        Runs of the corpus. What several of them need is computed once.
    corpus : Corpus
    tracks : int > 0, optional
        At most so many test tracks a genre, chosen at random; by default all.
    pieces : int > 0
        At most so many pieces a track.
    random_seed : int >= 0
        Of the choice of tracks and of the noise.
    jobs : int > 0, optional
        Processes, of up to 1 GB each; by default one per core, 8 at most.
    progress : bool
        Show a progress bar.

    Raises
    ------
    BundleError
        If a test track of a run is not in the corpus (any more).
    AudioError
        If it cannot be decoded (any more).
    """
    settings = {"tracks": tracks, "pieces": pieces, "random_seed": random_seed,
                "transformations": list(TRANSFORMATIONS)}  # fmt: skip
    todo = [run for run in runs if _settings_of(run) != settings | {"uid": run.card["uid"]}]
    tests = [_test_tracks(run, tracks, pieces, random_seed) for run in todo]
    paths = dict(zip(corpus.tracks["sha256"], corpus.tracks["path"], strict=True))
    wanted: dict[str, dict[FrontEnd, list[int]]] = {}
    for run, test in zip(todo, tests, strict=True):
        for track in test.itertuples():
            if track.sha256 not in paths:
                raise BundleError(
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
    done = in_parallel(
        _track_log_mels, calls, jobs=jobs, desc="horses", progress=progress, at_once=_AT_ONCE
    )
    for sha256, log_mels in done:
        for run, test, table in zip(todo, tests, rows, strict=True):
            for track in test[test["sha256"] == sha256].itertuples():
                if run.front_end in log_mels:
                    table += _answers(run, track, log_mels[run.front_end])
    for run, table in zip(todo, rows, strict=True):
        saved = pd.DataFrame(table).sort_values("path", kind="stable", ignore_index=True)
        saved.attrs = settings | {"uid": run.card["uid"]}
        write_atomically(run.folder / FILE, saved.to_parquet)


def saved_ride(run: GenreClassifier) -> pd.DataFrame:
    """What :func:`ride` has saved for a run.

    Returns
    -------
    pd.DataFrame
        One row a test track and transformation: ``track_id, path, genre, group,
        transformation, before, after`` (verdicts), ``flipped, prob_before, prob_after`` (of the
        verdict before, not calibrated), ``picture_change_db`` (mean absolute change of the
        log-mel within ``front_end.picture_db``, which is what the model can see; NaN where the
        time axis is another) and ``pieces``. The settings and the run's uid are its ``attrs``.

    Raises
    ------
    BundleError
        If there is nothing, or what is there is of another model.
    """
    if _settings_of(run).get("uid") != run.card["uid"]:
        raise BundleError(f"no {FILE} of this model in {str(run.folder)!r}; run 'genrecls horses'")
    return pd.read_parquet(run.folder / FILE)


def flip_rates(runs: Sequence[GenreClassifier]) -> pd.DataFrame:
    """How many verdicts flip, from the saved tables alone.

    Returns
    -------
    pd.DataFrame
        One row a run, transformation and genre (and :data:`ALL`): ``run, transformation, genre,
        flips, n`` (tracks), ``rate``, its 95 % Wilson interval ``low, high``, and
        ``picture_change_db`` (mean).

    Raises
    ------
    BundleError
        If a run has not been ridden.
    """
    rows = []
    for run in runs:
        saved = saved_ride(run)
        for genre in (*run.genres, ALL):
            tracks = saved if genre == ALL else saved[saved["genre"] == genre]
            for transformation, part in tracks.groupby("transformation", sort=False):
                flips, n = int(part["flipped"].sum()), len(part)
                low, high = wilson_interval(flips, n)
                rows.append(
                    {"run": run.name, "transformation": transformation, "genre": genre}
                    | {"flips": flips, "n": n, "rate": flips / n, "low": low, "high": high}
                    | {"picture_change_db": part["picture_change_db"].mean()}
                )
    return pd.DataFrame(rows)


def flip_table(runs: Sequence[GenreClassifier]) -> pd.DataFrame:
    """One row a transformation: per run and genre, how many of how many verdicts flip.

    Returns
    -------
    pd.DataFrame
        Index ``transformation``, columns ``(run, genre)``, cells such as ``'3 of 11'``.

    Raises
    ------
    BundleError
        If a run has not been ridden.
    """
    rates = flip_rates(runs)
    rates["cell"] = rates["flips"].astype(str) + " of " + rates["n"].astype(str)
    table = rates.pivot(index="transformation", columns=["run", "genre"], values="cell")
    columns = pd.MultiIndex.from_frame(rates[["run", "genre"]].drop_duplicates())
    return table.reindex(index=rates["transformation"].unique(), columns=columns).fillna("–")


def pictures(
    path: str | PathLike, transformation: str, *, segment: int = 1
) -> dict[str, dict[str, np.ndarray]]:
    """A piece before and after a transformation, as each preset draws it.

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


def _settings_of(run: GenreClassifier) -> dict:
    """Under which settings the saved table of a run was made; empty if there is none."""
    import pyarrow.parquet

    try:
        return pd.read_parquet(run.folder / FILE, columns=["pieces"]).attrs
    except (FileNotFoundError, pyarrow.lib.ArrowException):
        return {}


def _test_tracks(
    run: GenreClassifier, tracks: int | None, pieces: int, random_seed: int
) -> pd.DataFrame:
    """The test tracks of a run, and the numbers of their middle ``segments``.

    They are the same for all runs of one split and front end.
    """
    test = run.segments.query("split == 'test'").sort_values(["track_id", "segment"])
    middle = {}
    for track_id, numbers in test.groupby("track_id")["segment"]:
        first = max(len(numbers) - pieces, 0) // 2
        middle[track_id] = numbers.tolist()[first : first + pieces]
    chosen = test.drop_duplicates("track_id").sample(frac=1, random_state=random_seed)
    chosen["segments"] = chosen["track_id"].map(middle)
    return chosen if tracks is None else chosen.groupby("genre").head(tracks)


def _track_log_mels(
    path: str | PathLike,
    sha256: str,
    wanted: dict[FrontEnd, list[int]],
    transformations: Sequence[Callable],
    random_seed: int,
) -> tuple[str, dict[FrontEnd, np.ndarray]]:
    """Log-mels of pieces of a track, given their numbers for each front end.

    Returns
    -------
    sha256 : str
    log_mels : dict of FrontEnd to np.ndarray [shape=(1 + transformations, pieces, n_mels, frames)]
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
    """A piece (numbers start at 1) with a margin on either side."""
    start, margin = (segment - 1) * length, round(_MARGIN * length)
    inside = y[:, max(start - margin, 0) : start + length + margin]
    before = max(margin - start, 0)
    after = length + 2 * margin - before - inside.shape[1]
    return np.pad(inside, [(0, 0), (before, after)], mode="reflect")


def _log_mel(y: np.ndarray, rate: int, front_end: FrontEnd) -> np.ndarray:
    """Log-mel of the piece in the middle, as :func:`genrecls.log_mels.track_log_mels`."""
    y = y.mean(axis=0) if front_end.channel == "mix" else y[0]
    if rate != front_end.sample_rate:
        y = resample(y, rate, front_end.sample_rate)
    start = (len(y) - front_end.segment_samples) // 2
    return mel_spectrogram(y[start:][: front_end.segment_samples], front_end).astype(DTYPE)


def _answers(run: GenreClassifier, track, log_mels: np.ndarray) -> list[dict]:
    """One row a transformation of one track."""
    changes, pieces, *shape = log_mels.shape
    probabilities = run.predict_log_mels(log_mels.reshape(-1, *shape))
    probabilities = probabilities.reshape(changes, pieces, -1).mean(axis=1)
    before, *verdicts = probabilities.argmax(axis=1)
    levels = np.clip(log_mels.astype(np.float32), *run.front_end.picture_db)
    rows = []
    for i, (name, after) in enumerate(zip(TRANSFORMATIONS, verdicts, strict=True), start=1):
        change = np.nan if name in _SHIFTS_TIME else np.abs(levels[i] - levels[0]).mean()
        rows.append(
            {column: getattr(track, column) for column in ("track_id", "path", "genre", "group")}
            | {"transformation": name, "before": run.genres[before], "after": run.genres[after]}
            | {"flipped": bool(after != before), "prob_before": float(probabilities[0, before])}
            | {"prob_after": float(probabilities[i, before])}
            | {"picture_change_db": float(change), "pieces": pieces}
        )
    return rows
