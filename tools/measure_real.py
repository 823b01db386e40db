"""Measure all results on real music that the documentation shows.

    python tools/measure_real.py path/to/real path/to/other

The first folder must be called ``real``, and contains the tracks that docs/results_real_music.md
describes. The second contains music of other genres, as MP3. All results are kept in
``reports/real-<version>/``, separately for each version, so that an interrupted measurement
continues. It takes hours on two cores.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from refresh_readme import ROOT, refresh

import genrecls
from genrecls import FrontEnd, evaluation, plots
from genrecls._utils.paths import reports_dir
from genrecls.evaluation.calibration import calibrated
from genrecls.evaluation.scores import probability_columns
from genrecls.report.document import Report

NAME = "real"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Words in the artist or the source of one part of the corpus; the other part has other collections.
FIRST_PART = ("GTZAN", "Boomboxhead", "Quesabe")
FOLDS = ("--folds", "4")  # one for each rap artist
LEAK = (*FOLDS, "--split-by", "all")
# Models of the overview, from the original's to the recommended first one.
OVERVIEW = (
    "cnn-original",
    "cnn-default",
    "compact_cnn-default",
    "efficientnet_lite0-default",
    "musicnn-default",
)


def list_commands(corpus: str, other: str) -> list[tuple[str, ...]]:
    """Return the commands that measure everything, the quick ones first."""
    program = (sys.executable, "-m", "genrecls")
    script = {
        name: (sys.executable, str(ROOT / "benchmarks" / f"{name}.py"))
        for name in ("ablations", "cross_collection", "none_of_these")
    }
    others = [str(file) for file in sorted(Path(other).glob("*.mp3"))]
    return [
        (*program, "weights", "fetch", "musicnn"),
        (*program, "audit", corpus),
        (*script["ablations"], corpus, "front_end"),
        (*program, "crossval", corpus, *LEAK, "--model", "mfcc_svm"),
        (*script["none_of_these"], corpus, *others),
        (*program, "crossval", corpus, *FOLDS),
        (*program, "crossval", corpus, *LEAK, "--model", "cnn-original", "--repeats", "1"),
        (*script["ablations"], corpus, "augmentation", "--repeats", "1"),
        (*script["ablations"], corpus, "image", "--repeats", "1"),
        (*script["cross_collection"], corpus, *FIRST_PART),
        (*program, "train", corpus),
        (*program, "robustness", corpus),
        (*program, "report", corpus),
    ]


def draw_overview(corpus: genrecls.Corpus) -> Figure:
    """Draw a held-out segment of each genre, and its predictions."""
    predictions, _ = evaluation.read_predictions(corpus.name)
    predictions = calibrated(predictions.query("repeat == 0"), corpus.genres)
    n = len(corpus.genres)
    figure, axes = plt.subplots(n, 3, figsize=(12, 5), width_ratios=(1, 1, 0.7), squeeze=False)
    for (*images, models), genre in zip(axes, corpus.genres, strict=True):
        first = corpus.tracks.loc[corpus.tracks["genre"] == genre, "path"].min()
        for ax, preset in zip(images, ("original", "default"), strict=True):
            front_end = FrontEnd.preset(preset)
            features = genrecls.prepare(corpus, front_end)
            segment = features.segments[features.segments["path"] == first].head(1)
            image = genrecls.to_image(features.log_mels(segment)[0, ..., 0], front_end)
            plots.spectrogram_image(image, front_end, ax=ax)
            ax.set_title(f"{genre}: {preset} image")
        segments = predictions[predictions["path"] == first]
        by_run = segments.groupby("run").head(1).set_index("run")
        left = 0
        for name, column in zip(corpus.genres, probability_columns(corpus.genres), strict=True):
            values = by_run.loc[list(OVERVIEW), column]
            models.barh(OVERVIEW, values, left=left, label=name)
            left = left + values
        models.set(xlim=(0, 1), ylim=(len(OVERVIEW) - 0.5, -0.5), xlabel="Probability")
        models.set_title(f"{genre}: predictions")
    labels = axes[0, 2].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower right", ncols=n)
    return figure


def main(path: str, other: str) -> None:
    """Run all commands, draw the overview, and refresh the pages."""
    if Path(path).resolve().name != NAME:
        sys.exit(f"the folder of the corpus must be called {NAME!r}: {path}")
    minor = genrecls.__version__.rpartition(".")[0]
    os.environ["GENRECLS_HOME"] = str(ROOT / "reports" / f"{NAME}-{minor}")
    for command in list_commands(path, other):
        print("\n$", *command[1:], flush=True)
        subprocess.run(command, check=True)
    with plt.rc_context():
        plots.style()
        figure = draw_overview(genrecls.Corpus.read(path))
        Report("Overview", reports_dir() / NAME).figure("overview", figure, "Real music")
    refresh(PAGES, reports_dir())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("other")
    arguments = parser.parse_args()
    main(arguments.corpus, arguments.other)
