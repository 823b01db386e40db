"""Measure the effect of single settings: change one at a time and cross-validate.

    python benchmarks/ablations.py path/to/corpus front_end
    python benchmarks/ablations.py path/to/corpus image --repeats 1
    python benchmarks/ablations.py path/to/corpus augmentation --repeats 1

Whole artists are held out. ``front_end`` uses an SVM on MFCCs, which takes a second where a network
takes minutes, and gets no more information than the image contains. ``image`` compares colour maps
for a network that was pretrained on photographs. ``augmentation`` compares changes to the training
segments of the compact CNN. The table is written to ``reports/<corpus>/<topic>.{csv,md}``.
"""

import argparse
import dataclasses

import pandas as pd

from genrecls import Corpus, FrontEnd, Recipe, cross_validate
from genrecls._utils.paths import reports_dir
from genrecls.config import hash_json
from genrecls.corpus.audit import audit
from genrecls.corpus.confounds import confound_auc, visible_confounds
from genrecls.evaluation.intervals import format_interval, score_intervals
from genrecls.evaluation.scores import aggregate_tracks
from genrecls.evaluation.tables import paired_table
from genrecls.report.document import Report
from genrecls.training.baselines import Candidate, mfcc_svm, network_candidate

DEFAULT = FrontEnd.preset("default")
COMPACT = Recipe.preset("default", "compact_cnn")
PLAIN = dataclasses.replace(COMPACT, crop=None, mixup=0.0)

# The others are compared with the first one of each topic.
FRONT_ENDS = {
    "default": DEFAULT,
    "64 mels": dataclasses.replace(DEFAULT, n_mels=64),
    "hop 2048": dataclasses.replace(DEFAULT, hop_length=2048),
    "up to 10 kHz": dataclasses.replace(DEFAULT, f_max=10000.0),
    "absolute levels": dataclasses.replace(DEFAULT, reference="unit", image_db=(-80.0, 50.0)),
    "original": FrontEnd.preset("original"),
}
IMAGES = {
    "gray": DEFAULT,
    "viridis": dataclasses.replace(DEFAULT, colormap="viridis"),
}
AUGMENTATIONS = {
    "none": PLAIN,
    "crop of 6 s": dataclasses.replace(PLAIN, crop=128),
    "mixup": dataclasses.replace(PLAIN, mixup=0.5),
    "default: crop and mixup": COMPACT,
}


def make_candidates(topic: str) -> dict[str, Candidate]:
    if topic == "front_end":
        return {name: mfcc_svm(front_end) for name, front_end in FRONT_ENDS.items()}
    if topic == "image":
        recipe = Recipe.preset("default", "efficientnet_lite0")
        return {name: network_candidate(topic, recipe, image) for name, image in IMAGES.items()}
    return {name: network_candidate(topic, r, DEFAULT) for name, r in AUGMENTATIONS.items()}


def compare_with_first(
    predictions: dict[str, pd.DataFrame], genres: list[str]
) -> tuple[str, pd.Series]:
    """Return the title and the cells of a column: the first setting minus each of the others."""
    first = next(iter(predictions))
    named = [segments.assign(run=name) for name, segments in predictions.items()]
    paired = paired_table(pd.concat(named), genres, first).set_index(f"{first} minus")
    cells = pd.Series(list(predictions)).map(paired["macro F1, segments"]).fillna("–")
    return f"{first} minus it, macro F1, segments", cells


def main(path: str, topic: str, repeats: int) -> None:
    corpus = Corpus.read(path)
    tracks = audit(corpus).tracks if topic == "front_end" else pd.DataFrame()
    predictions, rows = {}, []
    for name, candidate in make_candidates(topic).items():
        uid = hash_json([candidate.settings, candidate.front_end.to_dict()])[:8]
        # The report leaves out runs whose name starts with a dot.
        hidden = dataclasses.replace(candidate, name=f".{topic}-{uid}")
        segments = cross_validate(corpus, hidden, repeats=repeats)
        predictions[name] = segments
        row = {topic.replace("_", " "): name}
        levels = {"tracks": aggregate_tracks(segments, corpus.genres), "segments": segments}
        for level, table in levels.items():
            interval = score_intervals(table, corpus.genres).loc["macro F1"]
            row[f"macro F1, {level}"] = format_interval(*interval)
        if topic == "front_end":
            visible = visible_confounds(tracks, candidate.front_end)
            for number in ("bandwidth_hz", "loudness_lufs"):
                row[f"AUC left of {number}"] = confound_auc(visible[number], tracks)
        rows.append(row | {"groups": segments["group"].nunique(), "repeats": repeats})
    table = pd.DataFrame(rows)
    title, cells = compare_with_first(predictions, corpus.genres)
    table[title] = cells
    Report(f"Ablations of {corpus.name}", reports_dir() / corpus.name).table(topic, table)
    print(table.to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("topic", choices=["front_end", "image", "augmentation"])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.corpus, arguments.topic, arguments.repeats)
