"""What single choices are worth: variations of one thing at a time, cross-validated on a corpus.

    python benchmarks/ablations.py path/to/corpus front_end
    python benchmarks/ablations.py path/to/corpus image --repeats 1
    python benchmarks/ablations.py path/to/corpus augmentation --repeats 1

Whole artists are held out. ``front_end`` uses the SVM on MFCCs: it takes a second where a net
takes minutes, and hears no more than the image shows. ``image`` asks what the three channels
should be, of a net that was trained on photographs; ``augmentation`` what the compact CNN gains by
each change of its training segments. Writes ``reports/<corpus>/<what>.{csv,md}``.
"""

import argparse
import dataclasses

import pandas as pd
from genrecls.audit import audit
from genrecls.baselines import mfcc_svm
from genrecls.confounds import confound_auc, visible
from genrecls.crossval import Model, cross_validate, net
from genrecls.intervals import score_intervals
from genrecls.render import save_table

from genrecls import Corpus, FrontEnd, Recipe
from genrecls.config import hash_json, project_root
from genrecls.evaluation import aggregate_tracks, paired_table

DEFAULT = FrontEnd.preset("default")
COMPACT = Recipe.preset("default", "compact_cnn")
PLAIN = dataclasses.replace(COMPACT, crop=None, mixup=0.0)

# What is compared; the first of each is what the others are compared with.
FRONT_ENDS = {
    "default": DEFAULT,
    "64 mels": dataclasses.replace(DEFAULT, n_mels=64),
    "hop 2048": dataclasses.replace(DEFAULT, hop_length=2048),
    "up to 10 kHz": dataclasses.replace(DEFAULT, f_max=10000.0),
    "absolute levels": dataclasses.replace(DEFAULT, reference="unit", image_db=(-80.0, 50.0)),
    "original": FrontEnd.preset("original"),
}
PICTURES = {
    "gray": DEFAULT,
    "viridis": dataclasses.replace(DEFAULT, colormap="viridis"),
    "deltas": dataclasses.replace(DEFAULT, colormap="deltas"),
}
AUGMENTATIONS = {
    "none": PLAIN,
    "crop of 6 s": dataclasses.replace(PLAIN, crop=128),
    "mixup": dataclasses.replace(PLAIN, mixup=0.5),
    "time mask": dataclasses.replace(PLAIN, time_mask=64),
    "frequency mask": dataclasses.replace(PLAIN, frequency_mask=24),
    "gain of 6 dB": dataclasses.replace(PLAIN, gain_db=6.0),
    "time shift": dataclasses.replace(PLAIN, time_shift=True),
    "default: crop and mixup": COMPACT,
}


def variations(what: str) -> dict[str, Model]:
    if what == "front_end":
        return {name: mfcc_svm(front_end) for name, front_end in FRONT_ENDS.items()}
    if what == "image":
        recipe = Recipe.preset("default", "efficientnet_lite0")
        return {name: net(what, recipe, front_end) for name, front_end in PICTURES.items()}
    return {name: net(what, recipe, DEFAULT) for name, recipe in AUGMENTATIONS.items()}


def main(path: str, what: str, repeats: int) -> None:
    corpus = Corpus.read(path)
    tracks = audit(corpus).tracks if what == "front_end" else None
    predictions, rows = {}, []
    for name, model in variations(what).items():
        uid = hash_json([model.settings, model.front_end.to_dict()])[:8]
        # A name that starts with a dot keeps it out of the report's tables.
        named = dataclasses.replace(model, name=f".{what}-{uid}")
        predictions[name] = segments = cross_validate(corpus, named, repeats=repeats)
        row = {what.replace("_", " "): name}
        for level, table in (("tracks", aggregate_tracks(segments, corpus.genres)), ("segments", segments)):
            value, low, high = score_intervals(table, corpus.genres).loc["macro F1"]
            row[f"macro F1, {level}"] = f"{value:.3f} ({low:.2f}–{high:.2f})"
        if what == "front_end":
            left = visible(tracks, model.front_end)
            for number in ("bandwidth_hz", "loudness_lufs"):
                row[f"AUC left of {number}"] = confound_auc(left[number], tracks)
        rows.append(row | {"groups": segments["group"].nunique(), "repeats": repeats})
    table = pd.DataFrame(rows)
    if what != "front_end":
        first = next(iter(predictions))
        named = [segments.assign(run=name) for name, segments in predictions.items()]
        paired = paired_table(pd.concat(named), corpus.genres, first)
        column = f"{first} minus it, macro F1, segments"
        against = paired.set_index(f"{first} minus")["macro F1, segments"]
        table[column] = table[what].map(against).fillna("–")
    folder = project_root() / "reports" / corpus.name
    folder.mkdir(parents=True, exist_ok=True)
    print(save_table(folder, what, table))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("what", choices=["front_end", "image", "augmentation"])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.corpus, arguments.what, arguments.repeats)
