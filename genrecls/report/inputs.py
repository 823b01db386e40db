"""What a report was made from, and what of that has changed since: by content, not by time."""

from __future__ import annotations

import glob
import html
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from genrecls import __version__
from genrecls._utils.io import hash_file
from genrecls._utils.paths import project_root
from genrecls.errors import StaleReportError

#: The name of a report, in ``reports/<corpus>/``.
REPORT = "report.html"

#: Tables of the audit that a report shows.
AUDIT = ("confounds", "genres", "duplicates", "problems")

# Below the folder of the project, {} being the corpus.
_READ = (
    *(
        f"models/{{}}/{folder}[!.]*/{files}"
        for folder in ("", "cross_validation/")
        for files in ("card.json", "*.parquet", "*.npz")
    ),
    "data/gallery/{}.npz",
    *(f"reports/{{}}/audit_{name}.md" for name in AUDIT),
    "reports/{}/fine_tuning.md",
    "reports/{}/fine_tuning_curves.csv",
)

_META = re.compile(r'<meta name="genrecls-inputs" content="([^"]*)">')


def inputs_of(corpus_name: str) -> dict[str, str]:
    """Everything that decides what stands in the report of a corpus.

    Log-mels, which the taggrams show, are named by the content of the sound and the front end that
    made them: the cards of the runs hold both.

    Returns
    -------
    dict of str to str
        Path of a file, from the folder of the project or of the package, to the start of the
        SHA-256 of its content; and the version of genrecls.
    """
    root, here = project_root(), Path(__file__).parent
    name = glob.escape(corpus_name)
    found = [path for read in _READ for path in root.glob(read.format(name))]
    files = {path.relative_to(root): path for path in found}
    # A changed program may make another report from the same files.
    files |= {Path("genrecls") / file.name: file for file in here.glob("*.py")}
    hashes = {path.as_posix(): hash_file(file)[:12] for path, file in sorted(files.items())}
    return {"genrecls": __version__, **hashes}


def as_meta(inputs: dict[str, str]) -> str:
    """The inputs as an element for the head of a page."""
    content = html.escape(json.dumps(inputs, ensure_ascii=False))
    return f'<meta name="genrecls-inputs" content="{content}">'


def check_report(corpus_name: str) -> Path:
    """Find the report of a corpus if it shows what is there now.

    Returns
    -------
    Path
        Of ``reports/<corpus>/report.html``.

    Raises
    ------
    StaleReportError
        If there is none, or one that was made from other files or by another program.
    """
    report = project_root() / "reports" / corpus_name / REPORT
    anew = f"'genrecls report {shlex.quote(corpus_name)}' makes it anew"
    if not report.is_file():
        raise StaleReportError(f"there is no report {str(report)!r}; {anew}")
    stated = _META.search(report.read_text(encoding="utf-8"))
    if not stated:
        raise StaleReportError(f"{str(report)!r} does not say what it was made from; {anew}")
    then, now = json.loads(html.unescape(stated[1])), inputs_of(corpus_name)
    differences = {
        "changed": [name for name in then if name in now and now[name] != then[name]],
        "new": [name for name in now if name not in then],
        "gone": [name for name in then if name not in now],
    }
    if any(differences.values()):
        said = "; ".join(f"{what}: {_some(names)}" for what, names in differences.items() if names)
        raise StaleReportError(f"{str(report)!r} is stale ({said}); {anew}")
    return report


def _some(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
