"""Measure the speed and memory of genrecls beside other ways to do the same.

    python benchmarks/speed.py                 # everything, an hour on two cores
    python benchmarks/speed.py prepare memory  # some parts

The sound is generated in ``data/benchmark/``; the parts ``training``, ``predict`` and ``cold`` use
the demo corpus and its models after ``make run``. Each part is a separate process. The ways that
are compared alternate, so that their ratio is correct even if the speed of the machine changes; the
tables show the medians of the times and of the ratios within a repetition. Nothing else should be
running.

A table per part is written to ``reports/benchmarks/``, and all of them to ``benchmarks.md`` there.
"""

import argparse
import contextlib
import dataclasses
import inspect
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import joblib
import librosa
import matplotlib
import numpy as np
import pandas as pd
import psutil
import soundfile
from matplotlib import pyplot as plt

from genrecls import (
    Corpus,
    FrontEnd,
    GenreClassifier,
    Recipe,
    assign_splits,
    live_plot,
    load_audio,
    mel_spectrogram,
    plots,
    prepare,
    to_image,
)
from genrecls._utils.parallel import map_parallel
from genrecls.audio.fingerprint import HOP_S
from genrecls.evaluation.scores import f1_scores
from genrecls.report.document import Report

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "benchmark"
RATE = 44100
FORMATS = ("mp3", "ogg", "flac")
REPETITIONS = 5
ORIGINAL, DEFAULT = FrontEnd.preset("original"), FrontEnd.preset("default")
JOBS = 2


# The corpus


def synthesize(seed: int, seconds: float) -> np.ndarray:
    """Return stereo samples [shape=(n, 2)]: drums, and a new chord every half second."""
    rng = np.random.default_rng(seed)
    beat = RATE // 2
    t = np.arange(beat) / RATE
    beats = []
    for _ in range(round(seconds * RATE / beat)):
        tones = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(80, 4000, 6))
        drum = rng.standard_normal(beat) * np.exp(-t / rng.uniform(0.02, 0.1))
        left, right = 0.03 * tones + 0.1 * drum, 0.03 * np.roll(tones, 40) + 0.1 * drum
        beats.append(np.stack([left, right], axis=1))
    return np.concatenate(beats).astype(np.float32)


def write_track(file: Path, seed: int, seconds: float) -> None:
    if file.exists():
        return
    y = synthesize(seed, seconds)
    temporary = file.with_name(f".{file.name}")
    quality = {} if file.suffix == ".flac" else {"compression_level": 0.25}
    if file.suffix == ".mp3":
        quality["bitrate_mode"] = "CONSTANT"  # 256 kbit/s
    kind = file.suffix[1:].upper()
    with soundfile.SoundFile(temporary, "w", RATE, 2, format=kind, **quality) as out:
        for start in range(0, len(y), 1 << 16):
            out.write(y[start : start + (1 << 16)])
    os.replace(temporary, file)


def generate(name: str, tracks: int, seconds: float, formats=FORMATS) -> Path:
    """Generate a corpus in two genres, with the formats in turn, and return its folder."""
    root = DATA / name
    calls = []
    for i in range(tracks):
        folder = root / ("one", "two")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        kind = formats[i // 2 % len(formats)]
        file = folder / f"artist {i} - track.{kind}"
        calls.append(joblib.delayed(write_track)(file, i, seconds))
    joblib.Parallel(n_jobs=JOBS)(calls)
    return root


# Other ways to read a file


def decode_with_libsndfile(file: Path) -> np.ndarray:
    return soundfile.read(file, dtype="float32")[0]


def count_samples(file: Path) -> int:
    return len(decode_with_libsndfile(file))


def compute_as_original(file: Path) -> np.ndarray:
    """Compute float64 RGBA images of both channels, segment by segment with torchaudio."""
    import torch
    import torchaudio

    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=RATE,
        n_fft=ORIGINAL.n_fft,
        hop_length=ORIGINAL.hop_length,
        n_mels=ORIGINAL.n_mels,
    )
    y = torch.from_numpy(decode_with_libsndfile(file).T.copy())
    images = []
    for start in range(0, y.shape[1] - ORIGINAL.segment_samples + 1, ORIGINAL.segment_samples):
        mel = transform(y[:, start : start + ORIGINAL.segment_samples])
        images.append(matplotlib.colormaps["viridis"](mel.log2()[0].numpy()))
    return np.stack(images)


def compute_with_librosa(file: Path, front_end: FrontEnd) -> np.ndarray:
    y, rate = librosa.load(file, sr=front_end.sample_rate)
    n = front_end.segment_samples
    mels = [
        librosa.feature.melspectrogram(
            y=y[start : start + n],
            sr=rate,
            n_fft=front_end.n_fft,
            hop_length=front_end.hop_length,
            n_mels=front_end.n_mels,
            fmin=front_end.f_min,
            fmax=front_end.f_max,
        )
        for start in range(0, len(y) - n + 1, n)
    ]
    return librosa.power_to_db(np.stack(mels))


# Measuring


def measure_seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(ways: dict[str, Callable], repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Return times in s: a column per way, a row per repetition, after one call to warm up."""
    for way in ways.values():
        way()
    return pd.DataFrame(
        [{name: measure_seconds(way) for name, way in ways.items()} for _ in range(repetitions)]
    )


def summarize(times: pd.DataFrame, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """Return the medians, and the medians of the ratios of pairs of columns."""
    rows = [(name, times[name].median(), "s") for name in times]
    rows += [(f"{a} / {b}", (times[a] / times[b]).median(), "times") for a, b in pairs]
    return pd.DataFrame(rows, columns=["what", "median", "unit"])


def measure_memory(code: str, *arguments: str) -> tuple[float, float]:
    """Run Python code; return its time in s and the peak memory of all its processes in MB.

    Memory that processes share is divided among them.
    """
    process = psutil.Popen([sys.executable, "-c", code, *arguments])
    start, peak = time.perf_counter(), 0
    while process.poll() is None:
        used = 0
        for one in [process, *process.children(recursive=True)]:
            # A process may end before its memory is read.
            with contextlib.suppress(psutil.Error):
                used += one.memory_full_info().pss
        peak = max(peak, used)
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"the code ended with exit code {process.returncode}")
    return time.perf_counter() - start, peak / 1e6


PREPARE = """
import os, sys, tempfile, genrecls
preset, root, jobs = sys.argv[1:]
with tempfile.TemporaryDirectory(dir=os.path.dirname(root)) as home:
    os.environ["GENRECLS_HOME"] = home
    corpus = genrecls.Corpus.read(root)
    genrecls.prepare(corpus, genrecls.FrontEnd.preset(preset), jobs=int(jobs), progress=False)
"""


@contextlib.contextmanager
def new_home() -> Iterator[None]:
    """Let genrecls use an empty data folder, so that it finds nothing computed."""
    kept = os.environ["GENRECLS_HOME"]
    with tempfile.TemporaryDirectory(dir=DATA) as home:
        os.environ["GENRECLS_HOME"] = home
        try:
            yield
        finally:
            os.environ["GENRECLS_HOME"] = kept


def read_anew(root: Path) -> None:
    with new_home():
        Corpus.read(root)


def prepare_anew(corpus: Corpus, front_end: FrontEnd, jobs: int) -> None:
    with new_home():
        prepare(corpus, front_end, jobs=jobs, progress=False)


# The parts


def part_prepare() -> pd.DataFrame:
    """Log-mels of 12 tracks of 4 minutes. The original's way and librosa run in one process, as
    usual. Reading a corpus means above all hashing its files; the next reading finds the hashes."""
    root = generate("prepare", 12, 240.0)
    corpus = Corpus.read(root)
    files = [corpus.file(path) for path in corpus.tracks["path"]]

    def decode_all(jobs: int) -> None:
        # joblib would start other workers, and again those of prepare afterwards.
        sum(map_parallel(count_samples, [(f,) for f in files], jobs=jobs, desc="", progress=False))

    ways: dict[str, Callable] = {
        "the original's way": lambda: [compute_as_original(f) for f in files],
        "librosa, original": lambda: [compute_with_librosa(f, ORIGINAL) for f in files],
        "decoding by libsndfile, 1 process": partial(decode_all, 1),
        "decoding by libsndfile, 2 processes": partial(decode_all, JOBS),
        "reading the corpus": partial(read_anew, root),
        "original, 1 process": partial(prepare_anew, corpus, ORIGINAL, 1),
        "original, 2 processes": partial(prepare_anew, corpus, ORIGINAL, JOBS),
        "default, 1 process": partial(prepare_anew, corpus, DEFAULT, 1),
        "default, 2 processes": partial(prepare_anew, corpus, DEFAULT, JOBS),
        "reading and default, again": lambda: prepare(Corpus.read(root), DEFAULT, progress=False),
    }
    # With fewer repetitions, the first ratio varies from 3.4 to 4.9.
    times = alternate(ways, 15)
    for preset in ("original", "default"):
        name = f"{preset}, 2 processes"
        times[f"reading and {name}"] = times["reading the corpus"] + times[name]
    pairs = [
        ("the original's way", "reading and original, 2 processes"),
        ("the original's way", "original, 2 processes"),
        ("the original's way", "original, 1 process"),
        ("librosa, original", "original, 2 processes"),
        ("librosa, original", "original, 1 process"),
        ("default, 2 processes", "decoding by libsndfile, 2 processes"),
        ("default, 1 process", "decoding by libsndfile, 1 process"),
        ("default, 1 process", "default, 2 processes"),
        ("reading and default, 2 processes", "reading and default, again"),
    ]
    return summarize(times, pairs)


def part_formats() -> pd.DataFrame:
    """Time per track of 4 minutes in one process, beside decoding by libsndfile, by format."""
    rows = []
    for kind in FORMATS:
        root = generate(f"format-{kind}", 2, 240.0, (kind,))
        corpus = Corpus.read(root)
        files = sorted(root.rglob(f"*.{kind}"))
        times = alternate(
            {
                "decoding (s)": lambda files=files: [decode_with_libsndfile(f) for f in files],
                "prepare (s)": partial(prepare_anew, corpus, DEFAULT, 1),
            }
        )
        ratio = (times["prepare (s)"] / times["decoding (s)"]).median()
        rows.append({"format": kind} | (times.median() / 2).to_dict() | {"ratio": ratio})
    return pd.DataFrame(rows)


def part_precision() -> pd.DataFrame:
    """Errors of levels and images if log-mels are stored with fewer bits."""
    root = generate("prepare", 12, 240.0)
    rows = []
    for name, front_end in (("original", ORIGINAL), ("default", DEFAULT)):
        features = prepare(Corpus.read(root), front_end, progress=False)
        rows += measure_errors(
            name, front_end, [root / p for p in features.segments["path"].unique()]
        )
    return pd.DataFrame(rows)


def measure_errors(name: str, front_end: FrontEnd, files: list[Path]) -> list[dict]:
    n = front_end.segment_samples
    log_mels = []
    for file in files:
        y, _ = load_audio(file, sample_rate=front_end.sample_rate)
        log_mels.append(mel_spectrogram(y[: 4 * n].reshape(4, n), front_end))
    levels = np.concatenate(log_mels)
    low, high = levels.min(), levels.max()
    eight_bits = np.round((levels - low) / (high - low) * 255).astype(np.uint8)
    restored = {
        "float16": levels.astype(np.float16).astype(np.float32),
        "uint8": eight_bits / np.float32(255) * (high - low) + low,
    }
    exact = to_image(levels, front_end)
    rows = []
    for kind, approximate in restored.items():
        error = np.abs(to_image(approximate, front_end) - exact).max(axis=-1)
        rows.append(
            {
                "front end": name,
                "stored as": kind,
                "KB a segment": np.prod(front_end.shape) * np.dtype(kind).itemsize / 1000,
                "largest error (dB)": float(np.abs(approximate - levels).max()),
                "pixels off by over 1/255": float((error > 1 / 255).mean()),
                "largest error of a pixel": float(error.max()),
            }
        )
    return rows


def part_memory() -> pd.DataFrame:
    """Peak memory of all processes together."""
    rows = []
    for tracks in (40, 400):
        root = generate(f"short-{tracks}", tracks, 30.0, ("mp3",))
        took, mb = measure_memory(PREPARE, "default", str(root), str(JOBS))
        rows.append({"what": f"{tracks} tracks of 30 s", "time (s)": took, "peak (MB)": mb})
    long = DATA / "long"
    for genre in ("one", "two"):
        (long / genre).mkdir(parents=True, exist_ok=True)
    write_track(long / "one" / "artist 1 - short.mp3", 1, 60.0)
    write_track(long / "part.mp3", 2, 240.0)
    # MP3 frames can be repeated, except for the first one, which contains their number.
    frames = (long / "part.mp3").read_bytes()
    frames = frames[frames.index(frames[:2], 2) :]
    with open(long / "two" / "artist 2 - ten hours.mp3", "wb") as file:
        for _ in range(150):
            file.write(frames)
    for preset in ("original", "default"):
        took, mb = measure_memory(PREPARE, preset, str(long), str(JOBS))
        rows.append({"what": f"10 hours, {preset}", "time (s)": took, "peak (MB)": mb})
    return pd.DataFrame(rows)


def part_scaling() -> pd.DataFrame:
    """Time and memory against the number of tracks, in processes and on a Dask cluster."""
    rows = []
    for tracks in (10, 100, 1000):
        root = generate(f"short-{tracks}", tracks, 30.0, ("mp3",))
        for engine, code in (("processes", PREPARE), ("Dask", ON_DASK)):
            took, mb = measure_memory(code, "default", str(root), str(JOBS))
            rows.append({"tracks": tracks, "engine": engine, "time (s)": took, "peak (MB)": mb})
    return pd.DataFrame(rows)


ON_DASK = f"""
if __name__ == "__main__":
    import distributed, joblib
    options = dict(n_workers={JOBS}, threads_per_worker=1, dashboard_address=None)
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        with joblib.parallel_config(backend="dask"):
            {PREPARE.strip().replace("jobs=int(jobs), ", "").replace(chr(10), chr(10) + " " * 12)}
"""


class Display:
    """A notebook's display of a figure: draws it and shows nothing."""

    def update(self, figure) -> None:
        from IPython.core.pylabtools import print_figure

        print_figure(figure, "png")


def draw_history(logs: dict[str, list[float]]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(12, 4))
    for name, values in logs.items():
        axes[int("accuracy" in name)].plot(values, label=name)
    for ax in axes:
        ax.legend()
    Display().update(figure)
    plt.close(figure)


def part_training() -> pd.DataFrame:
    """The original's CNN and recipe on the 196 training segments of the demo: Keras' ``fit`` on
    float64 images, with a plot that is redrawn after every epoch, against ``genrecls`` with its
    stored features. 150 epochs with the plot, 50 without it. Every repetition has another random
    seed."""
    import IPython.display
    import keras

    from genrecls import build_cnn
    from genrecls.training.loop import learning_rate
    from genrecls.training.stages import fit

    IPython.display.display = lambda *_, **__: Display()
    os.environ["GENRECLS_HOME"] = str(ROOT)
    features = prepare(Corpus.read(ROOT / "data" / "demo"), ORIGINAL, progress=False)
    recipe = Recipe.preset("original")
    segments = assign_splits(features.segments, split_by=recipe.split_by, random_seed=0)
    labels, genres = pd.factorize(segments["genre"], sort=True)
    images = to_image(features.log_mels(segments)[..., 0], ORIGINAL).astype(np.float64)
    sides = {side: (segments["split"] == side).to_numpy() for side in segments["split"].unique()}
    data = {side: (images[rows], np.eye(2)[labels[rows]]) for side, rows in sides.items()}
    test = segments[sides["test"]]

    def macro_f1(probabilities: np.ndarray) -> float:
        predicted = test.assign(predicted=genres[probabilities.argmax(axis=1)])
        return f1_scores(predicted, list(genres))["macro"]

    def train_with_keras(seed: int, epochs: int, *, plotted: bool) -> float:
        keras.utils.set_random_seed(seed)
        model = build_cnn()
        optimizer = keras.optimizers.SGD(recipe.learning_rate)
        model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
        logs: dict[str, list[float]] = {}

        def draw(_, values) -> None:
            for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
                logs.setdefault(name, []).append(values[name])
            draw_history(logs)

        halve = keras.callbacks.LearningRateScheduler(lambda epoch, _: learning_rate(recipe, epoch))
        callbacks = [halve]
        if plotted:
            callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=draw))
        model.fit(
            *data["train"],
            batch_size=recipe.batch_size,
            epochs=epochs,
            verbose=0,
            validation_data=data["validation"],
            callbacks=callbacks,
        )
        return macro_f1(model.predict(data["test"][0], verbose=0))

    def train_with_genrecls(seed: int, epochs: int, *, plotted: bool) -> float:
        changed = dataclasses.replace(recipe, random_seed=seed, epochs=epochs)
        callbacks = [live_plot()] if plotted else []
        fitted = fit(features, segments, changed, progress=False, callbacks=callbacks)
        held_out = segments.loc[~sides["train"], "split"]
        return macro_f1(fitted.probabilities[(held_out == "test").to_numpy()])

    rows = []
    for seed in range(REPETITIONS + 1):  # the first repetition warms up
        row = {}
        for epochs, plotted in ((recipe.epochs, True), (50, False)):
            for name, way in (("original", train_with_keras), ("genrecls", train_with_genrecls)):
                label = f"{name}, {epochs} epochs" + ", plot" * plotted
                start = time.perf_counter()
                f1 = way(seed, epochs if seed else 2, plotted=plotted)
                row[label] = time.perf_counter() - start
                row[f"{label}: test F1"] = f1
        rows.append(row)
    runs = pd.DataFrame(rows[1:])
    times = runs[[column for column in runs if "F1" not in column]]
    pairs = [(a, a.replace("original", "genrecls")) for a in times if "original" in a]
    table = summarize(times, pairs)
    f1 = runs[[column for column in runs if "F1" in column and "plot" in column]]
    more = [(name, f1[name].mean(), "mean") for name in f1]
    more += [(name, f1[name].std(), "standard deviation") for name in f1]
    return pd.concat([table, pd.DataFrame(more, columns=table.columns)], ignore_index=True)


def part_predict() -> pd.DataFrame:
    """A loaded classifier on an MP3 of 4 minutes, beside the log-mels of librosa alone."""
    file = generate("format-mp3", 2, 240.0, ("mp3",)) / "one" / "artist 0 - track.mp3"
    runs = {"cnn-original": ORIGINAL, "cnn-default": DEFAULT}
    ways: dict[str, Callable] = {}
    for name, front_end in runs.items():
        classifier = GenreClassifier.load(ROOT / "models" / "demo" / name)
        ways[f"librosa, {name}"] = partial(compute_with_librosa, file, front_end)
        ways[f"predict, {name}"] = partial(classifier.predict, file)
    pairs = [(f"predict, {name}", f"librosa, {name}") for name in runs]
    return summarize(alternate(ways, 15), pairs)


COLD = """
import sys, time
start, marks = time.perf_counter(), []
def mark(name):
    marks.append((name, time.perf_counter()))
import genrecls.cli
mark("import genrecls.cli")
from genrecls import GenreClassifier
from genrecls.models import Image
classifier = GenreClassifier.load(sys.argv[2])
mark("import TensorFlow and Keras")
classifier.model
mark("load the model")
from genrecls.features.extraction import extract_log_mels
log_mels, _, _ = extract_log_mels(sys.argv[1], classifier.front_end)
mark("decode, resample, log-mels")
classifier.predict_log_mels(log_mels)
mark("first prediction of the model")
for name, end in marks:
    print(f"{name}\\t{end - start}")
    start = end
"""


def part_cold() -> pd.DataFrame:
    """Time of commands that have just been started, and of the steps of a prediction."""
    file = generate("format-mp3", 2, 240.0, ("mp3",)) / "one" / "artist 0 - track.mp3"
    run = ROOT / "models" / "demo" / "cnn-default"
    commands = {
        "genrecls predict FILE, all of it": ["-m", "genrecls", "predict", file, "--run", run],
        "genrecls --help": ["-m", "genrecls", "--help"],
        "python -c 'import genrecls'": ["-c", "import genrecls"],
        "python -c ''": ["-c", ""],
    }
    rows = []
    for _ in range(REPETITIONS):
        command = [sys.executable, "-c", COLD, file, run]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        marks = dict(line.split("\t") for line in done.stdout.splitlines())
        row = {name: float(value) for name, value in marks.items()}
        for name, words in commands.items():
            call = partial(
                subprocess.run, [sys.executable, *words], check=True, capture_output=True
            )
            row[name] = measure_seconds(call)
        rows.append(row)
    return summarize(pd.DataFrame(rows), [])


PARTS = {
    "prepare": part_prepare,
    "formats": part_formats,
    "precision": part_precision,
    "memory": part_memory,
    "scaling": part_scaling,
    "training": part_training,
    "predict": part_predict,
    "cold": part_cold,
}


# The report


def describe_machine() -> str:
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        names = [x.partition(": ")[2] for x in info.read_text().splitlines() if "model name" in x]
        cpu = names[0] if names else cpu
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def write_report(report: Report) -> Path:
    """Write ``benchmarks.md`` from the tables of all parts that have been measured."""
    folder = report.folder
    tables = {name: pd.read_csv(f) for name in PARTS if (f := folder / f"{name}.csv").exists()}
    if tables.keys() >= {"prepare", "formats", "scaling", "memory"}:
        report.table("fma_full", extrapolate_fma_full(tables))
    text = (
        f"# Benchmarks\n\n{describe_machine()}. Medians of {REPETITIONS} or more repetitions; "
        "memory and the number of tracks were measured once.\n"
    )
    for name in tables:
        text += f"\n## {name.capitalize()}\n\n{inspect.getdoc(PARTS[name])}\n\n"
        text += (folder / f"{name}.md").read_text(encoding="utf-8")
    if "scaling" in tables:
        caption = "Time and memory against the number of tracks"
        report.figure("scaling", draw_scaling(tables["scaling"]), caption)
        text += f"\n![{caption}](scaling.png)\n"
    if (folder / "fma_full.md").exists():
        text += f"\n## FMA-full\n\n{(folder / 'fma_full.md').read_text(encoding='utf-8')}"
    file = folder / "benchmarks.md"
    file.write_text(text, encoding="utf-8")
    return file


def extrapolate_fma_full(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Estimate the time and space for FMA-full from the measurements; it was not run.

    The numbers of tracks, days and bytes are those of its authors (Defferrard et al. 2017). The
    estimate includes the overhead of Dask on one machine, but neither a network nor the search for
    near-duplicates.
    """
    tracks, audio_s, size_gb = 106_574, 343 * 24 * 3600, 879 * 2**30 / 1e9
    prepare, scaling = tables["prepare"].set_index("what")["median"], tables["scaling"]
    mp3_s = tables["formats"].set_index("format").loc["mp3", "prepare (s)"]
    gain = prepare["default, 1 process / default, 2 processes"]
    largest = scaling[scaling["tracks"] == scaling["tracks"].max()].set_index("engine")
    dask = largest.loc["Dask", "time (s)"] / largest.loc["processes", "time (s)"]
    core_h = audio_s / 240 * mp3_s / 3600
    machine_h = core_h / gain
    ten_h = machine_h * dask / 10
    segments = audio_s / DEFAULT.segment_s - tracks / 2  # the remainder of each track is dropped
    rows = [
        ("tracks", tracks, ""),
        ("days of sound", 343, ""),
        ("size of the files", size_gb, "GB"),
        ("one core and an MP3 of 4 minutes", mp3_s, "s"),
        ("one core", core_h, "h"),
        (f"one machine of {JOBS} cores, {gain:.2f} times as fast", machine_h, "h"),
        (f"ten such machines, with Dask {dask:.2f} times as slow", ten_h, "h"),
        ("reading rate of these ten together", size_gb * 1e3 / (ten_h * 3600), "MB/s"),
        ("log-mels on disk", segments * np.prod(DEFAULT.shape) * 2 / 1e9, "GB"),
        ("fingerprints on disk", audio_s / HOP_S * 4 / 1e9, "GB"),
        ("memory of one machine", largest.loc["processes", "peak (MB)"] / 1e3, "GB"),
    ]
    table = pd.DataFrame(rows, columns=["what", "value", "unit"])
    texts = [f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in table["value"]]
    return table.assign(value=texts)


def draw_scaling(table: pd.DataFrame) -> plt.Figure:
    plots.style()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for ax, column in zip(axes, ("time (s)", "peak (MB)"), strict=True):
        for engine, part in table.groupby("engine"):
            ax.plot(part["tracks"], part[column], "o-", label=engine)
        ax.set(xlabel="Tracks of 30 s", ylabel=column, ylim=(0, 1.1 * table[column].max()))
    axes[0].legend()
    return figure


def main(parts: list[str]) -> None:
    if len(parts) != 1:
        # A new process per part, or the threads of TensorFlow would slow down the next part.
        for name in parts or PARTS:
            subprocess.run([sys.executable, __file__, name], check=True)
        return
    # The benchmark has its own data folder, apart from that of the user.
    os.environ["GENRECLS_HOME"] = str(DATA / "home")
    DATA.mkdir(parents=True, exist_ok=True)
    table = PARTS[parts[0]]()
    report = Report("Benchmarks", ROOT / "reports" / "benchmarks")
    report.table(parts[0], table)
    print(f"\n{parts[0]}\n{table.to_string(index=False)}")
    print(write_report(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="by default all")
    main(parser.parse_args().parts)
