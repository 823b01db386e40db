"""What training in stages buys: test F1 over time, against training all of InceptionResNetV2.

    python benchmarks/fine_tuning.py data/demo             # 15 minutes on two cores
    python benchmarks/fine_tuning.py data/demo --train 50  # hours; can be interrupted

Every run is a process of its own, one after the other, on the same segments, under the original's
split (shuffled segments). Of the original's recipe the first epoch is left out (it compiles the net),
the following ones are timed, and the time of all is extrapolated from their median. What its test
F1 is after each epoch comes from another training, which ``--train N`` begins or goes on with up to
N epochs, and which is kept in ``models/<corpus>/fine_tuning-<split>/``; nothing of it is timed.

Writes ``reports/<corpus>/fine_tuning.{csv,md,png}`` and ``fine_tuning_curves.csv``. The test is
looked at after every epoch to draw the curves; no epoch is chosen by it.
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

import numpy as np
import pandas as pd
from genrecls.backend import keras
from genrecls.fine_tuning import fit_in_stages
from genrecls.render import save_figure, save_table

import genrecls.models  # noqa: F401 (or Keras does not know our layers when it loads a net)
from genrecls import Corpus, FrontEnd, Recipe, plots, prepare
from genrecls.config import project_root
from genrecls.corpus import assign_splits, split_hash
from genrecls.evaluation import f1_scores
from genrecls.features import SegmentLoader, gather_segments
from genrecls.training import build, fit_model

SEED = Recipe.preset("original", "inception_resnet_v2")
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
EPOCHS_AT_ONCE = 5


class TestCurve(keras.callbacks.Callback):
    """Macro F1 over test segments after every epoch. The time that this takes does not count."""

    def __init__(self, segments: pd.DataFrame):
        super().__init__()
        self.segments = segments[segments["split"] == "test"]
        self.genres = sorted(segments["genre"].unique())
        self.start, self.stage, self.rows = time.perf_counter(), 0, []

    def now_of(self, net, track: SegmentLoader):
        self.stage, self.net = self.stage + 1, net
        self.tested = gather_segments(track, self.segments)
        return self

    def on_epoch_end(self, epoch, logs=None):
        ended = time.perf_counter()
        said = self.net.predict(self.tested, batch_size=20, verbose=0).argmax(axis=1)
        table = self.segments.assign(predicted=np.array(self.genres)[said])
        f1 = f1_scores(table, self.genres)["macro"]
        self.rows.append({"stage": self.stage, "time_s": ended - self.start, "test_f1": f1,
                          **{name: float(value) for name, value in logs.items()}})  # fmt: skip
        self.start += time.perf_counter() - ended


def train(
    path: str, preset: str, recipe: Recipe, *, before: Path | None = None, after: Path | None = None
) -> list[dict]:
    """One training, from a saved model and to one if so asked; a row an epoch."""
    features = prepare(Corpus.read(path), FrontEnd.preset(preset))
    segments = assign_splits(features.segments, method=recipe.split_by, random_seed=0)
    curve = TestCurve(segments)
    keras.utils.set_random_seed(recipe.random_seed)
    if before:
        model = keras.saving.load_model(before, safe_mode=True)
    else:
        model = build(recipe, features.front_end, len(curve.genres))

    def fit_net(net, track: SegmentLoader, recipe: Recipe) -> pd.DataFrame:
        return fit_model(net, track, segments, recipe, progress=True,
                          callbacks=[curve.now_of(net, track)])  # fmt: skip

    if recipe.backbone == "frozen":
        fit_in_stages(model, features, segments, recipe, fit_net)
    else:
        fit_net(model, features.track, recipe)
        if after:
            model.save(after)
    return curve.rows


def train_whole(path: str, folder: Path, epochs: int) -> list[dict]:
    """Test F1 of the original's recipe after each of so many epochs, going on where it stopped.

    Its rate is constant and its updates have no memory, so that epoch by epoch is as good as all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows_file = folder / "epochs.json"  # says up to which epoch a saved model is whole
    rows = json.loads(rows_file.read_text()) if rows_file.exists() else []
    while len(rows) < epochs:
        some = min(EPOCHS_AT_ONCE, epochs - len(rows))
        recipe = Recipe.preset("original", SEED.model, epochs=some, random_seed=len(rows))
        before = folder / f"model-{len(rows)}.keras"
        after = folder / f"model-{len(rows) + some}.keras"
        rows += train(path, "original", recipe, before=before if rows else None, after=after)
        rows_file.with_suffix(".tmp").write_text(json.dumps(rows))
        os.replace(rows_file.with_suffix(".tmp"), rows_file)
        before.unlink(missing_ok=True)
    return rows


def measured(path: str, name: str) -> pd.DataFrame:
    """The curve of one run, trained in a process of its own that finds log-mels, no more."""
    root = project_root()
    with tempfile.TemporaryDirectory(dir=root / "data", prefix=".fine_tuning.") as home:
        data = Path(home) / "data"
        data.mkdir()
        for folder in (root / "data").glob("f*"):  # features, fingerprints
            (data / folder.name).symlink_to(folder)
        out = Path(home) / "curve.json"
        command = [sys.executable, __file__, str(Path(path).resolve()), "--run", name]
        subprocess.run([*command, "--out", str(out)], env=os.environ | {"GENRECLS_HOME": home},
                       check=True)  # fmt: skip
        return pd.DataFrame(json.loads(out.read_text())).assign(run=name)


def run_one(path: str, name: str, out: Path) -> None:
    if name == WHOLE:
        rows = train(path, "original", Recipe.preset("original", SEED.model, epochs=1 + TIMED_EPOCHS))
    else:
        rows = train(path, *STAGED[name])
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    out.write_text(json.dumps([row | {"peak_gb": peak_gb} for row in rows]))


def main(path: str, train_epochs: int) -> None:
    corpus = Corpus.read(path)
    for preset in ("original", "default"):
        prepare(corpus, FrontEnd.preset(preset))
    kept = project_root() / "models" / corpus.name / f"fine_tuning-{split_hash(corpus.tracks)[:8]}"
    whole = train_whole(path, kept, train_epochs)
    timed = measured(path, WHOLE)
    epoch_s = float(np.median(np.diff(timed["time_s"])))
    whole = pd.DataFrame(whole).assign(
        run=WHOLE, stage=0, time_s=epoch_s * (1 + np.arange(len(whole)))
    )
    curves = [whole, *(measured(path, name) for name in STAGED)]
    rows = [
        {
            "run": WHOLE,
            "up to": f"epoch {SEED.epochs} (time extrapolated)",
            "time (s)": round(epoch_s * SEED.epochs),
            "times faster": 1.0,
            "test F1": round(float(whole["test_f1"].iloc[-1]), 3),
            "of epoch": len(whole),
            "peak memory (GB)": round(float(timed["peak_gb"].iloc[0]), 1),
        }
    ]
    for curve in curves[1:]:
        for stage, part in curve.groupby("stage"):
            end = part["time_s"].iloc[-1]
            until = curve[curve["stage"] <= stage]
            best = until["val_loss"].argmin()
            rows.append(
                {
                    "run": curve["run"].iloc[0],
                    "up to": f"stage {stage}",
                    "time (s)": round(float(end)),
                    "times faster": round(epoch_s * SEED.epochs / end, 1),
                    "test F1": round(float(until["test_f1"].iloc[best]), 3),
                    "of epoch": int(best) + 1,
                    "peak memory (GB)": round(float(part["peak_gb"].iloc[0]), 1),
                }
            )
    folder = project_root() / "reports" / corpus.name
    folder.mkdir(parents=True, exist_ok=True)
    plots.style()
    together = pd.concat(curves, ignore_index=True)
    together[["run", "stage", "time_s", "test_f1", "val_loss"]].to_csv(
        folder / "fine_tuning_curves.csv", index=False
    )
    print(save_table(folder, "fine_tuning", pd.DataFrame(rows)))
    ax = plots.fine_tuning(together)
    save_figure(folder, "fine_tuning", ax.figure, "Test F1 over time")


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
