"""Metadata of a corpus in Croissant, a format that catalogues of data sets read.

See Akhtar et al., "Croissant: a metadata format for ML-ready datasets", 2024,
DOI 10.48550/arXiv.2403.19546.
"""

import csv
import json
import mimetypes
import os
from pathlib import Path
from typing import Any

from genrecls._utils.io import hash_file, write_atomically
from genrecls.corpus.tracks import Corpus

_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated "
    "replace samplingRate separator source subField transform"
).split()
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {term: f"cr:{term}" for term in _TERMS}
# The names of other columns may have characters that the identifiers of fields must not have.
_FIELDS = "path genre artist album title split sha256 source licence".split()
_TABLE = "croissant_tracks.csv"


def write_croissant(corpus: Corpus, folder: str | os.PathLike) -> Path:
    """Write ``croissant.json``, and the table of the tracks that it describes.

    Parameters
    ----------
    corpus : Corpus
        A corpus. The licences are those of its column ``licence``, if it has one.
    folder : path-like
        An existing folder. To publish the corpus, copy both files from it to the folder of the
        music, to which the paths in the table are relative.

    Returns
    -------
    Path
        Path of ``croissant.json``.
    """
    page, table = Path(folder) / "croissant.json", Path(folder) / _TABLE
    tracks = corpus.tracks.drop(columns=["track_id", "group", "grouped_by"])
    # Before Python 3.13, a carriage return would not be quoted otherwise.
    options: dict[str, Any] = {"index": False, "quoting": csv.QUOTE_NONNUMERIC}
    write_atomically(table, lambda file: tracks.to_csv(file, **options))
    kinds = {mimetypes.guess_type(path)[0] or "application/octet-stream" for path in tracks["path"]}
    source = {"encodingFormat": "text/csv", "contentUrl": _TABLE, "sha256": hash_file(table)}
    endings = {Path(path).suffix for path in tracks["path"]}
    sounds = {"encodingFormat": sorted(kinds), "includes": [f"**/*{e}" for e in sorted(endings)]}
    licences = set(tracks.get("licence", [])) - {""}
    values = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": corpus.name,
        "description": f"{len(tracks)} tracks of the genres {', '.join(corpus.genres)}",
        **({"license": sorted(licences)} if licences else {}),
        "distribution": [
            _node("FileObject", _TABLE, **source),
            _node("FileSet", "audio", **sounds),
        ],
        "recordSet": [
            _node("RecordSet", "tracks", field=[_field(n) for n in _FIELDS if n in tracks])
        ],
    }
    write_atomically(page, lambda file: file.write(json.dumps(values, indent=1).encode()))
    return page


def _field(column: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": _TABLE}, "extract": {"column": column}}
    return _node("Field", f"tracks/{column}", dataType="sc:Text", source=source)


def _node(kind: str, name: str, **properties: Any) -> dict[str, Any]:
    return {"@type": f"cr:{kind}", "@id": name, "name": name, **properties}
