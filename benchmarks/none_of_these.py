"""Measure how often a model labels other genres, and its own, "none of these".

    python benchmarks/none_of_these.py path/to/corpus path/to/other/*.mp3

Whole artists of the corpus are held out, in four folds and three repeats. Models with an embedding
are trained on the rest, and predict the held-out tracks and the files of other genres. The table is
written to ``reports/<corpus>/none_of_these.{csv,md}``.
"""

import argparse
import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from genrecls import Corpus, FrontEnd, GenreClassifier, Recipe, prepare, train
from genrecls._utils.paths import reports_dir
from genrecls.config import run_name
from genrecls.corpus.splits import assign_folds
from genrecls.evaluation.novelty import NONE_OF_THESE
from genrecls.report.document import Report

MODELS = [
    ("musicnn", {}),
    ("musicnn", {"weights": "mtt"}),
    ("efficientnet_lite0_frozen", {}),
]
FOLDS, REPEATS = 4, 3


def split_corpus(corpus: Corpus) -> Iterator[Corpus]:
    """Make each fold the test set in turn; the validation is chosen from the other folds."""
    segments = prepare(corpus, FrontEnd.preset("default")).segments
    for repeat in range(REPEATS):
        folds = assign_folds(segments, folds=FOLDS, random_seed=repeat)
        for fold in range(FOLDS):
            held_out = corpus.tracks["track_id"].isin(segments.loc[folds == fold, "track_id"])
            split = held_out.map({True: "test", False: ""})
            yield dataclasses.replace(corpus, tracks=corpus.tracks.assign(split=split))


def measure(run: GenreClassifier, others: list[str]) -> dict[str, float]:
    """Compare the novelty of the held-out tracks with that of other music."""
    inside = run.label_tracks(run.predictions.query("split == 'test'"))
    outside = [run.predict(file) for file in others]
    novelty = [*inside["novelty"], *(prediction.novelty for prediction in outside)]
    is_other = np.repeat([False, True], [len(inside), len(outside)])
    return {
        "AUROC": roc_auc_score(is_other, novelty),
        "others": float(sum(prediction.label == NONE_OF_THESE for prediction in outside)),
        "inside": 100 * (inside["label"] == NONE_OF_THESE).mean(),
    }


def main(path: str, others: list[str]) -> None:
    corpus, rows = Corpus.read(path), []
    parts = list(split_corpus(corpus))
    for model, changes in MODELS:
        recipe = Recipe.preset("default", model, **changes)
        name = run_name("default", recipe)
        measured = []
        for part in parts:
            # The report leaves out runs whose name starts with a dot.
            run = train(part, recipe, name=f".novelty-{name}", progress=False)
            measured.append(measure(run, others))
        table = pd.DataFrame(measured)
        rows.append(
            {
                "run": name,
                "AUROC": table["AUROC"].mean(),
                f"none of these, of {len(others)} other tracks": table["others"].mean(),
                "worst fold": f"{table['others'].min():.0f}",
                "none of these, of held-out tracks (%)": table["inside"].mean(),
                "repeats": REPEATS,
            }
        )
        print(rows[-1], flush=True)
    Report(f"Other music than {corpus.name}", reports_dir() / corpus.name).table(
        "none_of_these", pd.DataFrame(rows)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("others", nargs="+", metavar="other")
    arguments = parser.parse_args()
    main(arguments.corpus, arguments.others)
