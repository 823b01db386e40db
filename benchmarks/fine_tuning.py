"""Compare training in stages with training a whole InceptionResNetV2: test F1 over time.

    python benchmarks/fine_tuning.py data/demo             # 15 minutes on two cores
    python benchmarks/fine_tuning.py data/demo --train 50  # hours; can be interrupted

The timed runs are separate processes, one after the other, on the same segments and the original's
split (shuffled segments). The original's recipe would take hours: its first epoch, which compiles
the model, is left out, a few more are timed, and the time of all epochs is extrapolated from their
median. Its test F1 after each epoch comes from another training, which is not timed. ``--train N``
starts or continues that training up to N epochs; it is kept in
``models/<corpus>/fine_tuning-<split>/``.

The results are written to ``reports/<corpus>/fine_tuning.{csv,md,png}`` and
``fine_tuning_curves.csv``. The curves show the test after every epoch; no epoch is chosen by it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from genrecls import Corpus, FrontEnd, Recipe, assign_splits, plots, prepare
from genrecls.corpus.splits import split_hash
from genrecls.evaluation.scores import f1_scores
from genrecls.features.stored import Features
from genrecls.models import backbone_end, split_at
from genrecls.models.building import BUILDERS, build_model
from genrecls.report.document import Report
from genrecls.training.data import Batches
from genrecls.training.loop import fit_model
from genrecls.training.stages import fit

ROOT = Path(__file__).resolve().parents[1]
ORIGINAL = Recipe.preset("original", "inception_resnet_v2")
WHOLE = "InceptionResNetV2, all of it (the original)"
STAGED = {
    "InceptionResNetV2 in stages, random backbone": (
        "original",
        Recipe.preset("default", "inception_resnet_v2", split_by="segment"),
    ),
    "EfficientNet-Lite0 in stages, ImageNet": (
        "default",
        Recipe.preset("default", "efficientnet_lite0", split_by="segment"),
    ),
}
TIMED_EPOCHS = 3
EPOCHS_PER_FILE = 5


class TestCurve(keras.callbacks.Callback):
    """Macro F1 over test segments after every epoch. Its own time is not counted."""

    def __init__(self, features: Features, segments: pd.DataFrame, recipe: Recipe):
        super().__init__()
        self.features, self.recipe = features, recipe
        self.segments = segments[segments["split"] == "test"]
        self.genres = sorted(segments["genre"].unique())
        self.whole: keras.Model | None = None
        self.start, self.stage, self.rows = time.perf_counter(), 0, []

    def predict(self, model: keras.Model) -> np.ndarray:
        return model.predict(Batches(self.features.track, self.segments, 20), verbose=0)

    def on_train_begin(self, logs=None):
        began = time.perf_counter()
        if self.recipe.backbone == "frozen":
            # A stage trains the layers above the lower part, whose outputs do not change any more.
            self.stage += 1
            lower, _ = split_at(self.whole, backbone_end(self.whole))
            if self.stage == 2:
                lower, _ = split_at(lower, self.recipe.fine_tune_after)
            self.inputs = self.predict(lower)
        self.start += time.perf_counter() - began

    def on_epoch_end(self, epoch, logs=None):
        ended = time.perf_counter()
        if self.stage:
            probabilities = self.model.predict(self.inputs, batch_size=20, verbose=0)
        else:
            probabilities = self.predict(self.whole)
        predicted = np.array(self.genres)[probabilities.argmax(axis=1)]
        f1 = f1_scores(self.segments.assign(predicted=predicted), self.genres)["macro"]
        row = {"stage": self.stage, "time_s": ended - self.start, "test_f1": f1}
        self.rows.append(row | {name: float(value) for name, value in logs.items()})
        self.start += time.perf_counter() - ended


def read_segments(path: str, preset: str, recipe: Recipe) -> tuple[Features, pd.DataFrame]:
    features = prepare(Corpus.read(path), FrontEnd.preset(preset))
    return features, assign_splits(features.segments, split_by=recipe.split_by, random_seed=0)


def train_in_stages(path: str, preset: str, recipe: Recipe) -> list[dict]:
    """Train in stages; return one row per epoch."""
    features, segments = read_segments(path, preset, recipe)
    curve = TestCurve(features, segments, recipe)
    build = BUILDERS[recipe.model]

    def build_and_keep(*arguments, **options) -> keras.Model:
        curve.whole = build(*arguments, **options)
        return curve.whole

    # The callbacks of a stage see only the part that it trains, but the curve needs all of it.
    BUILDERS[recipe.model] = build_and_keep
    fit(features, segments, recipe, callbacks=[curve])
    return curve.rows


def train_all_layers(
    path: str, recipe: Recipe, *, before: Path | None = None, after: Path | None = None
) -> list[dict]:
    """Train the original's model, from and to a saved one if given; return one row per epoch."""
    features, segments = read_segments(path, "original", recipe)
    curve = TestCurve(features, segments, recipe)
    keras.utils.set_random_seed(recipe.random_seed)
    if before:
        model = keras.saving.load_model(before, safe_mode=True)
    else:
        model = build_model(recipe, features.front_end, segments["genre"].nunique())
    curve.whole = model
    fit_model(model, features.track, segments, recipe, callbacks=[curve])
    if after:
        model.save(after)
    return curve.rows


def train_whole(path: str, folder: Path, epochs: int) -> list[dict]:
    """Return the test F1 of the original's recipe after each epoch; continue where it stopped.

    The learning rate is constant and the optimizer has no state, so that a training in several
    parts is as good as one without a break.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows_file = folder / "epochs.json"  # its length is the epoch of the last complete model
    rows = json.loads(rows_file.read_text()) if rows_file.exists() else []
    while len(rows) < epochs:
        count = min(EPOCHS_PER_FILE, epochs - len(rows))
        recipe = Recipe.preset("original", ORIGINAL.model, epochs=count, random_seed=len(rows))
        before = folder / f"model-{len(rows)}.keras"
        after = folder / f"model-{len(rows) + count}.keras"
        rows += train_all_layers(path, recipe, before=before if rows else None, after=after)
        rows_file.with_suffix(".tmp").write_text(json.dumps(rows))
        os.replace(rows_file.with_suffix(".tmp"), rows_file)
        before.unlink(missing_ok=True)
    return rows


def measure(path: str, name: str) -> pd.DataFrame:
    """Return the curve of one run, trained in a new process without outputs of a backbone."""
    data = ROOT / "data"
    with tempfile.TemporaryDirectory(dir=data, prefix=".fine_tuning.") as home:
        (Path(home) / "data").mkdir()
        for kind in data.iterdir():
            if not kind.name.startswith((".", "backbone_outputs")):
                (Path(home) / "data" / kind.name).symlink_to(kind)
        out = Path(home) / "curve.json"
        command = [sys.executable, __file__, str(Path(path).resolve()), "--run", name]
        environment = os.environ | {"GENRECLS_HOME": home}
        subprocess.run([*command, "--out", str(out)], env=environment, check=True)
        return pd.DataFrame(json.loads(out.read_text())).assign(run=name)


def run_one(path: str, name: str, out: Path) -> None:
    if name == WHOLE:
        recipe = Recipe.preset("original", ORIGINAL.model, epochs=1 + TIMED_EPOCHS)
        rows = train_all_layers(path, recipe)
    else:
        rows = train_in_stages(path, *STAGED[name])
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    out.write_text(json.dumps([row | {"peak_gb": peak_gb} for row in rows]))


def summarize(curves: list[pd.DataFrame], whole_s: float, peak_gb: float) -> pd.DataFrame:
    """Return one row per run and stage; the first curve is that of the whole model."""
    rows = [
        {
            "run": WHOLE,
            "up to": f"epoch {ORIGINAL.epochs} (time extrapolated)",
            "time (s)": round(whole_s),
            "times faster": 1.0,
            "test F1": round(float(curves[0]["test_f1"].iloc[-1]), 3),
            "of epoch": len(curves[0]),
            "peak memory (GB)": round(peak_gb, 1),
        }
    ]
    for curve in curves[1:]:
        for stage, part in curve.groupby("stage"):
            end = float(part["time_s"].iloc[-1])
            so_far = curve[curve["stage"] <= stage]
            best = int(so_far["val_loss"].argmin())
            rows.append(
                {
                    "run": curve["run"].iloc[0],
                    "up to": f"stage {stage}",
                    "time (s)": round(end),
                    "times faster": round(whole_s / end, 1),
                    "test F1": round(float(so_far["test_f1"].iloc[best]), 3),
                    "of epoch": best + 1,
                    "peak memory (GB)": round(float(part["peak_gb"].iloc[0]), 1),
                }
            )
    return pd.DataFrame(rows)


def draw_curves(curves: pd.DataFrame) -> Figure:
    """Draw test F1 over training time, with a circle where a second stage begins."""
    figure, ax = plt.subplots(figsize=(9, 3.8))
    for color, (run, curve) in zip(plots.COLORS, curves.groupby("run", sort=False), strict=False):
        ax.plot(curve["time_s"], curve["test_f1"], color=color, label=str(run))
        second = curve[curve["stage"] == 2].head(1)
        ax.plot(second["time_s"], second["test_f1"], "o", color=color)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="Training time (s)", ylabel="Macro F1, test segments", ylim=(0, 1.03))
    ax.legend(loc="lower right")
    return figure


def main(path: str, epochs: int) -> None:
    corpus = Corpus.read(path)
    for preset in ("original", "default"):
        prepare(corpus, FrontEnd.preset(preset))
    kept = ROOT / "models" / corpus.name / f"fine_tuning-{split_hash(corpus.tracks)[:8]}"
    whole = pd.DataFrame(train_whole(path, kept, epochs))
    timed = measure(path, WHOLE)
    epoch_s = float(np.median(np.diff(timed["time_s"])))
    whole = whole.assign(run=WHOLE, stage=0, time_s=epoch_s * (1 + np.arange(len(whole))))
    curves = [whole, *(measure(path, name) for name in STAGED)]
    table = summarize(curves, epoch_s * ORIGINAL.epochs, float(timed["peak_gb"].iloc[0]))
    report = Report("Fine-tuning", ROOT / "reports" / corpus.name)
    report.table("fine_tuning", table)
    columns = ["run", "stage", "time_s", "test_f1", "val_loss"]
    points = pd.concat(curves, ignore_index=True)[columns]
    points.to_csv(report.folder / "fine_tuning_curves.csv", index=False)
    plots.style()
    report.figure("fine_tuning", draw_curves(points), "Test F1 over training time")
    print(table.to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--train", type=int, default=1, help="epochs of the original's recipe")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_one(arguments.corpus, arguments.run, arguments.out)
    else:
        main(arguments.corpus, arguments.train)
