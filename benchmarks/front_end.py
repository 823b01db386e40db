"""What the default front end is worth: variations of it, one at a time, on a corpus.

    python benchmarks/front_end.py path/to/corpus

The test tracks of the corpus are set aside first, so that nothing is chosen by looking at them.
On the others the CNN is trained with the default recipe, on artist-wise splits drawn with
several random seeds. Writes ``reports/<corpus>/front_end.{csv,md}``: the macro F1 over the pieces
that each split holds out.
"""

import dataclasses
import sys
import tempfile

import pandas as pd

from genrecls import Corpus, FrontEnd, Recipe, assign_splits, prepare, train
from genrecls.config import project_root
from genrecls.evaluation import f1_scores
from genrecls.render import markdown

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


def without_test(corpus: Corpus) -> Corpus:
    """The corpus without the tracks that its default split tests on."""
    segments = assign_splits(prepare(corpus, DEFAULT).segments, method="artist")
    test = segments.loc[segments["split"] == "test", "track_id"]
    tracks = corpus.tracks[~corpus.tracks["track_id"].isin(test)]
    return dataclasses.replace(corpus, tracks=tracks.reset_index(drop=True))


def held_out_f1(corpus: Corpus, front_end: FrontEnd, seed: int) -> float:
    """Macro F1 over the pieces that one artist-wise split holds out."""
    recipe = Recipe.preset("default", "cnn", random_seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = train(corpus, recipe, front_end, name="cnn", folder=f"{folder}/run", progress=False)
        return f1_scores(run.predictions.query("split == 'test'"), corpus.genres)["macro"]


def main(path: str) -> None:
    corpus = Corpus.read(path)
    rest = without_test(corpus)
    front_ends = {n: dataclasses.replace(DEFAULT, **c) for n, c in VARIATIONS.items()}
    front_ends["seed"] = FrontEnd.preset("seed")
    rows = []
    for name, front_end in front_ends.items():
        f1 = pd.Series([held_out_f1(rest, front_end, seed) for seed in SEEDS])
        rows.append({"front end": name, "mean F1": f1.mean(), "lowest": f1.min(),
                     "highest": f1.max(), "splits": len(f1)})  # fmt: skip
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    folder = project_root() / "reports" / corpus.name
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "front_end.csv", index=False)
    (folder / "front_end.md").write_text(markdown(table), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
