"""Put generated tables into Markdown pages.

    python tools/refresh_readme.py README.md docs/*.md

Every number on the pages comes from a command. The text between ``<!-- include: FILE -->`` and
``<!-- end -->`` is replaced by the content of FILE, a path relative to the root of the repository.
``<!-- include: FILE columns: A; B -->`` includes only these columns of a table. With ``rows: X; Y``
after the columns, it includes only the rows whose first cell is X or Y, in this order. X
may be a pattern, such as ``*-alone``. The stamp at the end of a table becomes a line with the
version and the date.

Files in ``reports/shown/`` are copies of files in ``reports/``, so that later runs do not change
the files under version control. A file that a page names is copied again if ``reports/`` has it.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_BLOCK = re.compile(
    r"(<!-- include: (\S+)(?: columns: (.+?))?(?: rows: (.+?))? -->\n).*?(<!-- end -->)",
    flags=re.DOTALL,
)
#: The last line of a saved table: version of genrecls, date, checksum.
STAMP = re.compile(r"\n<!-- genrecls (\S+), (\S+), (\w+) -->\n\Z")
_SHOWN = re.compile(r"reports/shown/([\w./-]+)")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


def copy_shown(page: Path, reports: Path = ROOT / "reports", root: Path = ROOT) -> None:
    """Copy the files that a page shows to ``reports/shown/``, if they exist."""
    for name in set(_SHOWN.findall(page.read_text(encoding="utf-8"))):
        if (reports / name).is_file():
            shown = root / "reports" / "shown" / name
            shown.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reports / name, shown)


def refresh(pages: list[Path], reports: Path = ROOT / "reports") -> None:
    """Update the tables in pages, and the files that they show."""
    for page in pages:
        copy_shown(page, reports)
        page.write_text(include_files(page), encoding="utf-8")


def include_files(page: Path, root: Path = ROOT) -> str:
    """Return the text of a page with fresh blocks."""

    def fill(block: re.Match) -> str:
        text = (root / block[2]).read_text(encoding="utf-8")
        made = STAMP.search(text)
        table = text[: made.start()] if made else text
        if block[3]:
            table = select(table, block[3].split("; "), block[4] and block[4].split("; "))
        line = f"\n*Measured with genrecls {made[1]} on {made[2]}.*\n" if made else ""
        return f"{block[1]}{table}{line}{block[5]}"

    return _BLOCK.sub(fill, page.read_text(encoding="utf-8"))


def select(table: str, columns: list[str], rows: list[str] | None = None) -> str:
    """Return some columns, and rows if given, of a Markdown table, in the given order."""
    head, rule, *body = [
        [cell.strip() for cell in _CELL_BORDER.split(line)[1:-1]] for line in table.splitlines()
    ]
    _check_names(columns, head, "column")
    if rows:
        by_name = {line[0]: line for line in body}
        found = [fnmatch.filter(by_name, row) or [row] for row in rows]
        rows = list(itertools.chain.from_iterable(found))
        _check_names(rows, list(by_name), "row")
        body = [by_name[name] for name in rows]
    numbers = [head.index(name) for name in columns]
    lines = [" | ".join(line[i] for i in numbers) for line in (head, rule, *body)]
    return "".join(f"| {line} |\n" for line in lines)


def _check_names(names: list[str], known: list[str], kind: str) -> None:
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"no {kind} {missing[0]!r} in the table; it has {', '.join(known)}")


if __name__ == "__main__":
    refresh([Path(name) for name in sys.argv[1:]])
