"""What the default front end is worth: variations of it, one at a time, on a corpus.

    python benchmarks/front_end.py path/to/corpus

Each is cross-validated by whole artists, with the SVM on MFCCs: it takes a second where a net
takes minutes, and hears no more than the picture shows. Writes
``reports/<corpus>/front_end.{csv,md}``.
"""

import dataclasses
import sys

import pandas as pd

from genrecls import Corpus, FrontEnd
from genrecls.audit import audit
from genrecls.baselines import mfcc_svm
from genrecls.config import project_root
from genrecls.confounds import auc_alone, visible
from genrecls.crossval import cross_validate
from genrecls.evaluation import track_verdicts
from genrecls.intervals import score_intervals
from genrecls.render import save_table

DEFAULT = FrontEnd.preset("default")
FRONT_ENDS = {
    "default": DEFAULT,
    "64 mels": dataclasses.replace(DEFAULT, n_mels=64),
    "hop 2048": dataclasses.replace(DEFAULT, hop_length=2048),
    "up to 10 kHz": dataclasses.replace(DEFAULT, f_max=10000.0),
    "absolute levels": dataclasses.replace(DEFAULT, reference="unit", picture_db=(-80.0, 50.0)),
    "seed": FrontEnd.preset("seed"),
}


def main(path: str) -> None:
    corpus = Corpus.read(path)
    tracks = audit(corpus).tracks
    rows = []
    for name, front_end in FRONT_ENDS.items():
        # A name that starts with a dot keeps it out of the report's tables.
        model = dataclasses.replace(mfcc_svm(front_end), name=f".front_end-{front_end.uid()}")
        pieces = cross_validate(corpus, model)
        row = {"front end": name}
        for level, table in (("tracks", track_verdicts(pieces, corpus.genres)), ("pieces", pieces)):
            value, low, high = score_intervals(table, corpus.genres).loc["macro F1"]
            row[f"macro F1, {level}"] = f"{value:.3f} ({low:.2f}–{high:.2f})"
        left = visible(tracks, front_end)
        for number in ("bandwidth_hz", "loudness_lufs"):
            row[f"AUC left of {number}"] = auc_alone(left[number], tracks)
        rows.append(row | {"groups": tracks["group"].nunique(), "tracks": len(tracks)})
    folder = project_root() / "reports" / corpus.name
    folder.mkdir(parents=True, exist_ok=True)
    print(save_table(folder, "front_end", pd.DataFrame(rows)))


if __name__ == "__main__":
    main(sys.argv[1])
