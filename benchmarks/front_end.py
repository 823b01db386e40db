"""What the default front end is worth: variations of it, one at a time, on a corpus.

    python benchmarks/front_end.py path/to/corpus

Trains the CNN with the default recipe on artist-wise splits drawn with several random seeds, and
writes ``reports/<corpus>/front_end.{csv,md}``: mean and range of the macro F1 over test pieces.
"""

import dataclasses
import sys
import tempfile

import pandas as pd

from genrecls import Corpus, FrontEnd, Recipe, train
from genrecls.config import project_root
from genrecls.evaluation import accuracy, f1_scores
from genrecls.report import markdown

SEEDS = range(5)
DEFAULT = FrontEnd.preset("default")
VARIATIONS = {
    "default": {},
    "64 mels": {"n_mels": 64},
    "hop 2048": {"hop_length": 2048},
    "up to 8 kHz": {"f_max": 8000.0},
    "viridis": {"colormap": "viridis"},
    "absolute levels": {"reference": "unit", "picture_db": (-80.0, 50.0)},
}


def main(path: str) -> None:
    corpus = Corpus.read(path)
    front_ends = {n: dataclasses.replace(DEFAULT, **c) for n, c in VARIATIONS.items()}
    front_ends["seed"] = FrontEnd.preset("seed")
    rows = []
    for name, front_end in front_ends.items():
        tests = []
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                recipe = Recipe.preset("default", "cnn", random_seed=seed)
                run = train(
                    corpus, recipe, front_end, name="cnn", folder=f"{folder}/run", progress=False
                )
                tests.append(run.predictions.query("split == 'test'"))
        f1 = pd.Series([f1_scores(test, corpus.genres)["macro"] for test in tests])
        rows.append(
            {
                "front end": name,
                "test F1, mean": f1.mean(),
                "lowest": f1.min(),
                "highest": f1.max(),
                "test accuracy, mean": sum(map(accuracy, tests)) / len(tests),
                "splits": len(tests),
            }
        )
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    folder = project_root() / "reports" / corpus.name
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "front_end.csv", index=False)
    (folder / "front_end.md").write_text(markdown(table), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
