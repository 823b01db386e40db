"""Measurements of all files in a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from genrecls._utils.io import write_atomically
from genrecls._utils.parallel import map_parallel
from genrecls._utils.paths import project_root
from genrecls.audio.fingerprint import (
    fingerprint_file,
    load_fingerprint,
    read_fingerprints,
    save_fingerprint,
)
from genrecls.audio.quality import measure_track
from genrecls.corpus.tracks import Corpus
from genrecls.errors import AudioError

# Raise it when the same file gives other measures than before.
_VERSION = 2


def measure_corpus(
    corpus: Corpus, *, jobs: int | None = None, progress: bool = True
) -> dict[str, dict]:
    """Measures of every file of a corpus by content hash, kept in ``data/audit-<version>``.

    Of a file that cannot be used there is the ``error`` (what to tell the user) and ``refused``,
    the reason of each decoder. The fingerprints are stored on the way.
    """
    folder = project_root() / "data" / f"audit-{_VERSION}"
    files = corpus.tracks.drop_duplicates("sha256").set_index("sha256")["path"].map(corpus.file)
    todo = {
        sha256: path
        for sha256, path in files.items()
        if not (folder / f"{sha256}.json").exists()
        or load_fingerprint(fingerprint_file(sha256)) is None
    }
    found = {
        sha256: json.loads((folder / f"{sha256}.json").read_text("utf-8"))
        for sha256 in files.index
        if sha256 not in todo
    }
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        # Workers may outlive a change of the project folder: they are told where to store.
        calls = [(path, sha256, folder, fingerprint_file(sha256)) for sha256, path in todo.items()]
        found.update(
            map_parallel(_measure_and_store, calls, jobs=jobs, desc="audit", progress=progress)
        )
    return found


def _measure_and_store(
    path: Path, sha256: str, folder: Path, for_fingerprint: Path
) -> tuple[str, dict]:
    try:
        found = measure_track(path)
    except AudioError as error:
        return sha256, {"error": str(error), "refused": error.reasons}
    bits = found.pop("fingerprint")
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    save_fingerprint(for_fingerprint, bits)
    write_atomically(folder / f"{sha256}.json", lambda f: f.write(text.encode()))
    return sha256, found


def fingerprints(
    corpus: Corpus, *, jobs: int | None = None, progress: bool = True
) -> dict[str, np.ndarray]:
    """Fingerprints of the files that can be decoded, by content hash."""
    found = measure_corpus(corpus, jobs=jobs, progress=progress)
    usable = [sha256 for sha256 in corpus.tracks["sha256"].unique() if "error" not in found[sha256]]
    return dict(zip(usable, read_fingerprints(usable), strict=True))
