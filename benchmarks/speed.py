"""How fast data preparation and prediction are, beside what others would do with the same files.

    python benchmarks/speed.py                 # everything, an hour on two cores
    python benchmarks/speed.py prepare memory  # some parts

A corpus is generated in ``data/benchmark/``; training and prediction take that of the demo, after
``make run``. Each part is a process of its own. What is compared runs alternately in one process
tree, so that a ratio holds although the machine is now fast, now slow; a table shows the medians,
and the median of the ratios within the repetitions. Nothing else should be running.

Writes a table a part to ``reports/benchmarks/``, and from all that are there ``benchmarks.md``.
"""

import argparse
import dataclasses
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import soundfile
from genrecls.fingerprint import HOP_S
from genrecls.parallel import map_parallel
from genrecls.render import save_figure, save_table
from genrecls.spectrogram import to_image

from genrecls import Corpus, FrontEnd, GenreClassifier, plots, prepare
from genrecls.config import project_root

ROOT = project_root()
RATE = 44100
FORMATS = ("mp3", "ogg", "flac")
REPETITIONS = 5
SEED, DEFAULT = FrontEnd.preset("original"), FrontEnd.preset("default")
JOBS = 2


# The corpus


def tune(seed: int, seconds: float) -> np.ndarray:
    """Stereo [shape=(n, 2)]: chords that change every half second over drums, never the same."""
    rng = np.random.default_rng(seed)
    beat = RATE // 2
    t = np.arange(beat) / RATE
    parts = []
    for _ in range(round(seconds * RATE / beat)):
        tones = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(80, 4000, 6))
        drum = rng.standard_normal(beat) * np.exp(-t / rng.uniform(0.02, 0.1))
        left, right = 0.03 * tones + 0.1 * drum, 0.03 * np.roll(tones, 40) + 0.1 * drum
        parts.append(np.stack([left, right], axis=1))
    return np.concatenate(parts).astype(np.float32)


def write_track(file: Path, seed: int, seconds: float) -> None:
    if file.exists():
        return
    y = tune(seed, seconds)
    temporary = file.with_name(f".{file.name}")
    quality = {} if file.suffix == ".flac" else {"compression_level": 0.25}
    if file.suffix == ".mp3":
        quality["bitrate_mode"] = "CONSTANT"  # 256 kbit/s
    kind = {"mp3": "MP3", "ogg": "OGG", "flac": "FLAC"}[file.suffix[1:]]
    with soundfile.SoundFile(temporary, "w", RATE, 2, format=kind, **quality) as out:
        for start in range(0, len(y), 1 << 16):
            out.write(y[start : start + (1 << 16)])
    os.replace(temporary, file)


def generated(name: str, tracks: int, seconds: float, formats=FORMATS) -> Path:
    """A folder with so many tracks, in two genres and the formats in turn."""
    root = ROOT / "data" / "benchmark" / name
    calls = []
    for i in range(tracks):
        folder = root / ("one", "two")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        kind = formats[i // 2 % len(formats)]
        calls.append((folder / f"artist {i} - track.{kind}", i, seconds))
    list(map_parallel(write_track, calls, desc=f"corpus {name}"))
    return root


# What others would do with a file


def decoding(file: Path) -> None:
    """The floor."""
    soundfile.read(file, dtype="float32")


def the_originals_way(file: Path) -> np.ndarray:
    """Both channels, segment by segment through torchaudio, to float64 RGBA images."""
    import matplotlib
    import torch
    import torchaudio

    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=RATE, n_fft=SEED.n_fft, hop_length=SEED.hop_length, n_mels=SEED.n_mels
    )
    y = torch.from_numpy(soundfile.read(file, dtype="float32")[0].T.copy())
    images = []
    for start in range(0, y.shape[1] - SEED.segment_samples + 1, SEED.segment_samples):
        mel = transform(y[:, start : start + SEED.segment_samples])
        images.append(matplotlib.colormaps["viridis"](mel.log2()[0].numpy()))
    return np.stack(images)


def by_librosa(file: Path, front_end: FrontEnd) -> np.ndarray:
    import librosa

    y, rate = librosa.load(file, sr=front_end.sample_rate)
    n = front_end.segment_samples
    segments = [y[start : start + n] for start in range(0, len(y) - n + 1, n)]
    mels = [
        librosa.feature.melspectrogram(
            y=segment, sr=rate, n_fft=front_end.n_fft, hop_length=front_end.hop_length,
            n_mels=front_end.n_mels, fmin=front_end.f_min, fmax=front_end.f_max,
        )
        for segment in segments
    ]  # fmt: skip
    return librosa.power_to_db(np.stack(mels))


# Measuring


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def paired(ways: dict[str, Callable], repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Times in seconds, a column a way, a row a repetition; every way is warmed up once."""
    for way in ways.values():
        way()
    return pd.DataFrame(
        [{name: seconds(way) for name, way in ways.items()} for _ in range(repetitions)]
    )


def compared(times: pd.DataFrame, ratios: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Medians, and medians of the ratios of two columns."""
    rows = [(name, times[name].median(), "s") for name in times]
    rows += [(name, (times[a] / times[b]).median(), "times") for name, (a, b) in ratios.items()]
    return pd.DataFrame(rows, columns=["what", "median", "unit"])


def peak_mb(code: str, *arguments: str) -> tuple[float, float]:
    """Seconds, and most memory in MB (private and a share of what is shared) of Python code and
    all its children."""
    import psutil

    process = psutil.Popen([sys.executable, "-c", code, *arguments])
    start, peak = time.perf_counter(), 0
    while process.poll() is None:
        held = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                held += one.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        peak = max(peak, held)
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    return time.perf_counter() - start, peak / 1e6


PREPARE = """
import os, sys, tempfile, genrecls
preset, root, jobs = sys.argv[1:]
with tempfile.TemporaryDirectory(dir=os.path.dirname(root)) as home:
    os.environ["GENRECLS_HOME"] = home
    corpus = genrecls.Corpus.read(root)
    genrecls.prepare(corpus, genrecls.FrontEnd.preset(preset), jobs=int(jobs), progress=False)
"""


def afresh(call: Callable) -> None:
    """Call it where nothing has been made yet: no log-mels, no fingerprints, no hashes of files."""
    kept = os.environ["GENRECLS_HOME"]
    with tempfile.TemporaryDirectory(dir=ROOT / "data" / "benchmark") as home:
        os.environ["GENRECLS_HOME"] = home
        try:
            call()
        finally:
            os.environ["GENRECLS_HOME"] = kept


def preparing(corpus: Corpus, front_end: FrontEnd, jobs: int) -> Callable:
    """A call that prepares a corpus from nothing."""
    return partial(afresh, partial(prepare, corpus, front_end, jobs=jobs, progress=False))


# The parts


def part_prepare() -> pd.DataFrame:
    """Log-mels of 12 tracks of 4 minutes. The peers run in one process, as their users run them.
    Reading a corpus is mostly hashing its files, which makes the next call find everything."""
    root = generated("prepare", 12, 240.0)
    corpus = Corpus.read(root)
    files = [corpus.file(path) for path in corpus.tracks["path"]]

    def decode_all(jobs: int) -> None:
        joblib.Parallel(n_jobs=jobs)(joblib.delayed(decoding)(f) for f in files)

    times = paired(
        {
            "the original's way": lambda: [the_originals_way(f) for f in files],
            "librosa, seed": lambda: [by_librosa(f, SEED) for f in files],
            "decoding alone, 1 process": partial(decode_all, 1),
            "decoding alone, 2 processes": partial(decode_all, JOBS),
            "reading the corpus": partial(afresh, partial(Corpus.read, root)),
            "seed, 1 process": preparing(corpus, SEED, 1),
            "seed, 2 processes": preparing(corpus, SEED, JOBS),
            "default, 1 process": preparing(corpus, DEFAULT, 1),
            "default, 2 processes": preparing(corpus, DEFAULT, JOBS),
            "reading and default, again": lambda: prepare(
                Corpus.read(root), DEFAULT, progress=False
            ),
        },
        15,  # the first ratio is from 3.4 to 4.9, by what else the machine does
    )
    for preset in ("original", "default"):
        name = f"{preset}, 2 processes"
        times[f"reading and {name}"] = times["reading the corpus"] + times[name]
    pairs = [
        ("the original's way", "reading and seed, 2 processes"),
        ("the original's way", "seed, 2 processes"),
        ("the original's way", "seed, 1 process"),
        ("librosa, seed", "seed, 2 processes"),
        ("librosa, seed", "seed, 1 process"),
        ("default, 2 processes", "decoding alone, 2 processes"),
        ("default, 1 process", "decoding alone, 1 process"),
        ("default, 1 process", "default, 2 processes"),
        ("reading and default, 2 processes", "reading and default, again"),
    ]
    return compared(times, {f"{a} / {b}": (a, b) for a, b in pairs})


def part_formats() -> pd.DataFrame:
    """One process and one track of 4 minutes: what comes on top of decoding, by format."""
    rows = []
    for kind in FORMATS:
        root = generated(f"format-{kind}", 2, 240.0, (kind,))
        files = sorted(root.rglob(f"*.{kind}"))
        times = paired(
            {
                "decoding (s)": lambda files=files: [decoding(f) for f in files],
                "prepare (s)": preparing(Corpus.read(root), DEFAULT, 1),
            }
        )
        ratio = (times["prepare (s)"] / times["decoding (s)"]).median()
        rows.append({"format": kind} | (times.median() / 2).to_dict() | {"ratio": ratio})
    return pd.DataFrame(rows)


def part_precision() -> pd.DataFrame:
    """What a smaller number costs: error of the level and of the image."""
    root = generated("prepare", 12, 240.0)
    rows = []
    for name, front_end in (("original", SEED), ("default", DEFAULT)):
        features = prepare(Corpus.read(root), front_end, progress=False)
        some = features.segments.groupby("track_id").head(2)
        rows += _precision(name, front_end, [root / p for p in some["path"].unique()])
    return pd.DataFrame(rows)


def _precision(name: str, front_end: FrontEnd, files: list[Path]) -> list[dict]:
    from genrecls import load_audio, mel_spectrogram

    n = front_end.segment_samples
    levels = np.concatenate(
        [
            mel_spectrogram(y[: len(y) // n * n].reshape(-1, n)[:4], front_end)
            for y in (load_audio(f, sample_rate=front_end.sample_rate)[0] for f in files)
        ]
    )
    low, high = levels.min(), levels.max()
    eight_bits = np.round((levels - low) / (high - low) * 255).astype(np.uint8)
    exact = to_image(levels, front_end)
    rows = []
    for kind, again in (
        ("float16", levels.astype(np.float16).astype(np.float32)),
        ("uint8", eight_bits / np.float32(255) * (high - low) + low),
    ):
        drawn = np.abs(to_image(again, front_end) - exact).max(axis=-1)
        rows.append(
            {
                "front end": name,
                "stored as": kind,
                "KB a segment": front_end.shape[0] * front_end.shape[1] * np.dtype(kind).itemsize
                / 1000,
                "largest error (dB)": float(np.abs(again - levels).max()),
                "pixels off by over 1/255": float((drawn > 1 / 255).mean()),
                "largest error of a pixel": float(drawn.max()),
            }
        )  # fmt: skip
    return rows


def part_memory() -> pd.DataFrame:
    """Most memory of all processes together."""
    rows = []
    for tracks in (40, 400):
        root = generated(f"short-{tracks}", tracks, 30.0, ("mp3",))
        took, mb = peak_mb(PREPARE, "default", str(root), str(JOBS))
        rows.append({"what": f"{tracks} tracks of 30 s", "time (s)": took, "peak (MB)": mb})
    long = ROOT / "data" / "benchmark" / "long"
    for genre in ("one", "two"):
        (long / genre).mkdir(parents=True, exist_ok=True)
    write_track(long / "one" / "artist 1 - short.mp3", 1, 60.0)
    write_track(long / "part.mp3", 2, 240.0)
    # Frames of MP3 can be strung together, but for the first one, which says how many there are.
    frames = (long / "part.mp3").read_bytes()
    frames = frames[frames.index(frames[:2], 2) :]
    with open(long / "two" / "artist 2 - ten hours.mp3", "wb") as file:
        for _ in range(150):
            file.write(frames)
    for preset in ("original", "default"):
        took, mb = peak_mb(PREPARE, preset, str(long), str(JOBS))
        rows.append({"what": f"10 hours, {preset}", "time (s)": took, "peak (MB)": mb})
    return pd.DataFrame(rows)


def part_scaling() -> pd.DataFrame:
    """Time and memory against the number of tracks, in processes and on a Dask cluster."""
    rows = []
    for tracks in (10, 100, 1000):
        root = generated(f"short-{tracks}", tracks, 30.0, ("mp3",))
        for engine, code in (("processes", PREPARE), ("Dask", _ON_DASK)):
            took, mb = peak_mb(code, "default", str(root), str(JOBS))
            rows.append({"tracks": tracks, "engine": engine, "time (s)": took, "peak (MB)": mb})
    return pd.DataFrame(rows)


_ON_DASK = f"""
if __name__ == "__main__":
    import distributed, joblib
    options = dict(n_workers={JOBS}, threads_per_worker=1, dashboard_address=None)
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        with joblib.parallel_config(backend="dask"):
            {PREPARE.strip().replace("jobs=int(jobs), ", "").replace(chr(10), chr(10) + " " * 12)}
"""


def part_training() -> pd.DataFrame:
    """The original's CNN by its recipe on the demo's 196 segments: Keras' ``fit`` on images held as
    float64, with the plot redrawn after every epoch, against ``genrecls`` from the feature store.
    150 epochs with the plot, 50 without; every repetition has another seed."""
    import IPython.display
    from genrecls.backend import keras
    from IPython.core.pylabtools import print_figure
    from matplotlib import pyplot as plt

    from genrecls import Recipe, live_plot
    from genrecls.corpus import assign_splits
    from genrecls.evaluation import f1_scores
    from genrecls.models import build_cnn
    from genrecls.training import fit, halving_schedule

    class Shown:
        """What a notebook does with a figure."""

        def update(self, figure):
            print_figure(figure, "png")

    IPython.display.display = lambda *_, **__: Shown()
    os.environ["GENRECLS_HOME"] = str(ROOT)
    features = prepare(Corpus.read(ROOT / "data" / "demo"), SEED, progress=False)
    recipe = Recipe.preset("original")
    segments = assign_splits(features.segments, method=recipe.split_by, random_seed=0)
    labels, genres = pd.factorize(segments["genre"], sort=True)
    images = to_image(features.log_mels(segments)[..., 0], SEED).astype(np.float64)
    at = {side: (segments["split"] == side).to_numpy() for side in segments["split"].unique()}
    data = {side: (images[rows], np.eye(2)[labels[rows]]) for side, rows in at.items()}
    tested = segments[at["test"]]

    def macro_f1(probabilities: np.ndarray) -> float:
        said = tested.assign(predicted=genres[probabilities.argmax(axis=1)])
        return f1_scores(said, list(genres))["macro"]

    def redrawn(logs: dict[str, list[float]]) -> None:
        figure, axes = plt.subplots(1, 2, figsize=(12, 4))
        for name, values in logs.items():
            axes[int("accuracy" in name)].plot(values, label=name)
        for ax in axes:
            ax.legend()
        Shown().update(figure)
        plt.close(figure)

    def original(seed: int, epochs: int, *, plotted: bool) -> float:
        keras.utils.set_random_seed(seed)
        model = build_cnn()
        model.compile(keras.optimizers.SGD(recipe.learning_rate), "categorical_crossentropy",
                      metrics=["accuracy"])  # fmt: skip
        logs: dict[str, list[float]] = {}

        def draw(_, values):
            for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
                logs.setdefault(name, []).append(values[name])
            redrawn(logs)

        callbacks = [keras.callbacks.LearningRateScheduler(halving_schedule(recipe))]
        if plotted:
            callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=draw))
        model.fit(*data["train"], batch_size=recipe.batch_size, epochs=epochs, verbose=0,
                  validation_data=data["validation"], callbacks=callbacks)  # fmt: skip
        return macro_f1(model.predict(data["test"][0], verbose=0))

    def ours(seed: int, epochs: int, *, plotted: bool) -> float:
        changed = dataclasses.replace(recipe, random_seed=seed, epochs=epochs)
        callbacks = [live_plot()] if plotted else []
        fitted = fit(features, segments, changed, progress=False, callbacks=callbacks)
        held_out = segments.loc[~at["train"], "split"] == "test"
        return macro_f1(fitted.probabilities[held_out.to_numpy()])

    rows = []
    for seed in range(REPETITIONS + 1):  # the first one warms up
        row = {}
        for epochs, plotted in ((recipe.epochs, True), (50, False)):
            for name, way in (("original", original), ("genrecls", ours)):
                what = f"{name}, {epochs} epochs" + ", plot" * plotted
                start = time.perf_counter()
                f1 = way(seed, epochs if seed else 2, plotted=plotted)
                row[what] = time.perf_counter() - start
                row[f"{what}: test F1"] = f1
        rows.append(row)
    runs = pd.DataFrame(rows[1:])
    times = runs[[column for column in runs if "F1" not in column]]
    pairs = [(a, a.replace("original", "genrecls")) for a in times if "original" in a]
    table = compared(times, {f"{a} / {b}": (a, b) for a, b in pairs})
    scores = runs[[column for column in runs if "F1" in column and "plot" in column]]
    more = [(name, scores[name].mean(), "mean") for name in scores]
    more += [(name, scores[name].std(), "standard deviation") for name in scores]
    return pd.concat([table, pd.DataFrame(more, columns=table.columns)], ignore_index=True)


def part_bfloat16() -> pd.DataFrame:
    """Ten steps of training, and 8 segments through the frozen backbone: single precision, which is what
    is used, against what Keras' mixed bfloat16 would take."""
    from genrecls.backend import keras

    from genrecls.models import build_cnn, build_compact_cnn, build_inception_resnet_v2

    rng = np.random.default_rng(0)
    nets = {"cnn": (build_cnn, SEED, 10), "compact_cnn": (build_compact_cnn, DEFAULT, 32)}
    ways: dict[str, Callable] = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        for name, (build, front_end, batch) in nets.items():
            x = rng.random((batch, *front_end.shape, 3), np.float32)
            y = np.eye(2, dtype=np.float32)[rng.integers(0, 2, batch)]
            net = build(x.shape[1:])
            net.compile("sgd", "categorical_crossentropy")
            ways[f"{name}, {policy}"] = lambda net=net, x=x, y=y: [
                net.train_on_batch(x, y) for _ in range(10)
            ]
        x = rng.random((8, *DEFAULT.shape, 3), np.float32)
        backbone = build_inception_resnet_v2(x.shape[1:], weights=None)
        ways[f"backbone, {policy}"] = partial(backbone.predict_on_batch, x)
    names = (*nets, "backbone")
    return compared(
        paired(ways, 15),
        {
            f"{n}, float32 / mixed_bfloat16": (f"{n}, float32", f"{n}, mixed_bfloat16")
            for n in names
        },
    )


def part_predict() -> pd.DataFrame:
    """A warm classifier and an MP3 of 4 minutes, against librosa's log-mel alone."""
    file = generated("format-mp3", 2, 240.0, ("mp3",)) / "one" / "artist 0 - track.mp3"
    runs = ROOT / "models" / "demo"
    ways: dict[str, Callable] = {}
    for name, front_end in (("cnn-original", SEED), ("cnn-default", DEFAULT)):
        classifier = GenreClassifier.load(runs / name)
        ways[f"librosa, {name}"] = lambda front_end=front_end: by_librosa(file, front_end)
        ways[f"predict, {name}"] = lambda classifier=classifier: classifier.predict(file)
    return compared(
        paired(ways, 15),
        {f"predict / librosa, {name}": (f"predict, {name}", f"librosa, {name}")
         for name in ("cnn-original", "cnn-default")},
    )  # fmt: skip


def part_cold() -> pd.DataFrame:
    """Where the seconds of a command go that has just been started."""
    file = generated("format-mp3", 2, 240.0, ("mp3",)) / "one" / "artist 0 - track.mp3"
    run = ROOT / "models" / "demo" / "cnn-default"
    code = """
import time; start = time.perf_counter(); marks = []
def mark(name): marks.append((name, time.perf_counter()))
import genrecls.cli; mark("import genrecls.cli")
from genrecls import GenreClassifier; c = GenreClassifier.load(sys.argv[2])
from genrecls.backend import keras; import genrecls.models; mark("import TensorFlow and Keras")
c.model; mark("load the model")
from genrecls.log_mels import track_log_mels
x, _ = track_log_mels(sys.argv[1], c.front_end); mark("decode, resample, log-mels")
c.predict_log_mels(x); mark("first answer of the model")
for name, at in marks: print(f"{name}\\t{at - start}"); start = at
"""
    rows = []
    for _ in range(REPETITIONS):
        done = subprocess.run([sys.executable, "-c", "import sys\n" + code, str(file), str(run)],
                              capture_output=True, text=True, check=True)  # fmt: skip
        marks = dict(line.split("\t") for line in done.stdout.splitlines())
        row = {name: float(value) for name, value in marks.items()}
        for what, words in (("genrecls predict FILE, all of it",
                             ["-m", "genrecls", "predict", str(file), "--run", str(run)]),
                            ("genrecls --help", ["-m", "genrecls", "--help"]),
                            ("python -c 'import genrecls'", ["-c", "import genrecls"]),
                            ("python -c ''", ["-c", ""])):  # fmt: skip
            command = [sys.executable, *words]
            row[what] = seconds(partial(subprocess.run, command, check=True, capture_output=True))
        rows.append(row)
    return compared(pd.DataFrame(rows), {})


PARTS = {
    "prepare": part_prepare,
    "formats": part_formats,
    "precision": part_precision,
    "memory": part_memory,
    "scaling": part_scaling,
    "training": part_training,
    "bfloat16": part_bfloat16,
    "predict": part_predict,
    "cold": part_cold,
}


# The report


def machine() -> str:
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        names = [x.partition(": ")[2] for x in info.read_text().splitlines() if "model name" in x]
        cpu = names[0] if names else cpu
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def write_report(folder: Path) -> Path:
    parts = [
        f"# Benchmarks\n\n{machine()}. Medians of {REPETITIONS} paired repetitions or more; "
        "of memory and of the number of tracks one run each.\n"
    ]
    for name, part in PARTS.items():
        if (folder / f"{name}.md").exists():
            parts.append(f"## {name.capitalize()}\n\n{part.__doc__}\n")
            parts.append((folder / f"{name}.md").read_text(encoding="utf-8"))
    made = {name: pd.read_csv(file) for name in PARTS if (file := folder / f"{name}.csv").exists()}
    if "scaling" in made:
        parts.append(draw_scaling(folder, made["scaling"]))
    if made.keys() >= {"prepare", "formats", "scaling", "memory"}:
        parts.append(f"## FMA-full\n\n{save_table(folder, 'fma_full', fma_full(made))}")
    report = folder / "benchmarks.md"
    report.write_text("\n".join(parts), encoding="utf-8")
    return report


def fma_full(made: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What FMA-full would take, by arithmetic from what was measured; it was not run.

    Tracks, days and size are those of its authors (Defferrard et al. 2017). What machines in a
    network cost each other is not in it, but for what Dask takes on one machine; nor is the search
    for near-duplicates.
    """
    tracks, audio_s, size_gb = 106_574, 343 * 24 * 3600, 879 * 2**30 / 1e9
    prepare, scaling = made["prepare"].set_index("what")["median"], made["scaling"]
    mp3 = made["formats"].set_index("format").loc["mp3", "prepare (s)"]
    gain = prepare["default, 1 process / default, 2 processes"]
    most = scaling[scaling["tracks"] == scaling["tracks"].max()].set_index("engine")
    dask = most.loc["Dask", "time (s)"] / most.loc["processes", "time (s)"]
    core_h = audio_s / 240 * mp3 / 3600
    one_h = core_h / gain
    ten_h = one_h * dask / 10
    segments = audio_s / DEFAULT.segment_s - tracks / 2  # the remainder of each is dropped
    rows = [
        ("tracks", tracks, ""),
        ("days of sound", 343, ""),
        ("size of the files", size_gb, "GB"),
        ("one core and an MP3 of 4 minutes", mp3, "s"),
        ("one core", core_h, "h"),
        (f"one machine of {JOBS} cores, {gain:.2f} times as fast", one_h, "h"),
        (f"ten of them, Dask taking {dask:.2f} times as long", ten_h, "h"),
        ("what these ten read together", size_gb * 1e3 / (ten_h * 3600), "MB/s"),
        ("log-mels on the disk", segments * np.prod(DEFAULT.shape) * 2 / 1e9, "GB"),
        ("fingerprints on the disk", audio_s / HOP_S * 4 / 1e9, "GB"),
        ("memory of one machine", most.loc["processes", "peak (MB)"] / 1e3, "GB"),
    ]
    table = pd.DataFrame(rows, columns=["what", "value", "unit"])
    texts = [f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in table["value"]]
    return table.assign(value=texts)


def draw_scaling(folder: Path, table: pd.DataFrame) -> str:
    from matplotlib import pyplot as plt

    plots.style()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for ax, column in zip(axes, ("time (s)", "peak (MB)"), strict=True):
        for engine, part in table.groupby("engine"):
            ax.plot(part["tracks"], part[column], "o-", label=engine)
        ax.set(xlabel="Tracks of 30 s", ylabel=column, ylim=(0, 1.1 * table[column].max()))
    axes[0].legend()
    return save_figure(folder, "scaling", figure, "Time and memory against the number of tracks")


def main(parts: list[str]) -> None:
    if len(parts) != 1:
        # What one leaves behind, such as TensorFlow and its threads, would slow the next one down.
        for name in parts or PARTS:
            subprocess.run([sys.executable, __file__, name], check=True)
        return
    folder = ROOT / "reports" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    # What is prepared here is kept apart from what users have prepared.
    os.environ["GENRECLS_HOME"] = str(ROOT / "data" / "benchmark" / "home")
    table = PARTS[parts[0]]()
    print(f"\n{parts[0]}\n{save_table(folder, parts[0], table)}")
    print(write_report(folder))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="by default all")
    main(parser.parse_args().parts)
