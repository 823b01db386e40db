"""Train on one part of a corpus and test on the rest, then the other way round.

    python benchmarks/cross_collection.py path/to/corpus GTZAN Boomboxhead Quesabe

The first part consists of the tracks whose ``source`` or ``artist`` contains one of the words. If
the parts come from different collections, a model that has learnt how a collection was recorded,
and not its music, fails here. Every model is trained once per direction; the table is written to
``reports/<corpus>/cross_collection.{csv,md}``.
"""

import argparse
import dataclasses

import pandas as pd

from genrecls import Corpus, GenreClassifier, Recipe, train
from genrecls._utils.paths import reports_dir
from genrecls.config import BACKBONES, PRESETS, run_name
from genrecls.evaluation.novelty import NOT_SURE
from genrecls.report.document import Report


def split_corpus(corpus: Corpus, words: list[str], *, train_on_first: bool) -> Corpus:
    """Make one part the test set; the validation is chosen from the other."""
    tracks = corpus.tracks
    text = (tracks["source"] + "\n" + tracks["artist"]).str.lower()
    first = text.map(lambda value: any(word.lower() in value for word in words))
    test = ~first if train_on_first else first
    split = test.map({True: "test", False: ""})
    return dataclasses.replace(corpus, tracks=tracks.assign(split=split))


def count_labels(run: GenreClassifier) -> dict[str, str]:
    """Count the test tracks predicted correctly or labelled "not sure"."""
    tracks = run.label_tracks(run.predictions.query("split == 'test'"))
    right = tracks["predicted"] == tracks["genre"]
    counts = {"right": right} | {f"right, {g}": right[tracks["genre"] == g] for g in run.genres}
    cells = {name: f"{values.sum()} of {len(values)}" for name, values in counts.items()}
    return cells | {"not sure": f"{(tracks['label'] == NOT_SURE).sum()} of {len(tracks)}"}


def main(path: str, words: list[str]) -> None:
    corpus, rows = Corpus.read(path), []
    for train_on_first in (True, False):
        part = split_corpus(corpus, words, train_on_first=train_on_first)
        trained_on = (part.tracks["split"] != "test").sum()
        for preset in PRESETS:
            for model in Recipe.preset_models(preset):
                # Training all of InceptionResNetV2, as in the original, takes hours.
                changes = {"backbone": "frozen"} if model in BACKBONES else {}
                recipe = Recipe.preset(preset, model, **changes)
                name = run_name(preset, recipe)
                # The report leaves out runs whose name starts with a dot.
                folder_name = f".cross-{'first' if train_on_first else 'second'}-{name}"
                run = train(part, recipe, preset=preset, name=folder_name)
                row = {"trained on": f"{trained_on} tracks", "run": name}
                rows.append(row | count_labels(run))
                print(rows[-1], flush=True)
    Report(f"Collections of {corpus.name}", reports_dir() / corpus.name).table(
        "cross_collection", pd.DataFrame(rows)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("words", nargs="+")
    arguments = parser.parse_args()
    main(arguments.corpus, arguments.words)
