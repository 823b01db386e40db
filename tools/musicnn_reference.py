"""Write the reference of ``tests/test_musicnn.py``: what musicnn's own graph computes.

    pip download --no-deps musicnn==0.1.0
    python tools/musicnn_reference.py musicnn-0.1.0-py3-none-any.whl tests/musicnn_reference.npz

The wheel contains the TensorFlow 1 graphs of Pons and Serra (ISC licence) and their checkpoints.
The graphs are run on the patches of :func:`log_mels`, without any code of genrecls.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

_INPUTS = {"patches": "model/Placeholder:0", "training": "model/Placeholder_2:0"}
_EMBEDDING = "model/batch_normalization_10/batchnorm/add_1"


def log_mels() -> np.ndarray:
    """Return two segments [shape=(2, 96, 938)] in dB, louder in the middle bands."""
    levels = np.random.default_rng(0).uniform(-70, 25, (2, 96, 938))
    return (levels - abs(np.arange(96) - 48)[:, None] / 2).astype(np.float32)


def compute_embeddings(folder: Path) -> np.ndarray:
    """Run the graph of a checkpoint; return the mean over the patches of each segment."""
    power = 10 ** (log_mels()[..., :935].astype(float) / 10)
    patches = np.log10(1 + 10000 * power).reshape(2, 96, 5, 187).transpose(0, 2, 3, 1)
    meta = tf.compat.v1.MetaGraphDef()
    meta.ParseFromString((folder / ".meta").read_bytes())
    graph = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [_EMBEDDING])
    for node in graph.node:
        node.attr.pop("_output_shapes", None)  # today's TensorFlow finds other shapes
    # The name of the files is empty, so that the folder is their common beginning.
    checkpoint = tf.compat.v1.train.NewCheckpointReader(f"{folder}/")
    names = [node.name for node in graph.node if node.op == "VariableV2"]
    values = {f"{name}/read:0": checkpoint.get_tensor(name) for name in names}
    values |= {_INPUTS["patches"]: patches.reshape(10, 187, 96), _INPUTS["training"]: False}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        outputs = session.run(f"{_EMBEDDING}:0", values)
    return outputs.reshape(2, 5, 200).mean(axis=1)


if __name__ == "__main__":
    wheel, target = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(wheel) as archive:
        archive.extractall(temporary)
        folders = {
            name: Path(temporary, "musicnn", f"{name.upper()}_musicnn") for name in ("msd", "mtt")
        }
        np.savez(target, **{name: compute_embeddings(folder) for name, folder in folders.items()})
