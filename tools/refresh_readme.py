"""Put generated tables into Markdown pages.

    python tools/refresh_readme.py README.md docs/*.md

Every number on the pages comes from a command. The text between ``<!-- include: FILE -->`` and
``<!-- end -->`` is replaced by the content of FILE, a path relative to the root of the repository.
``<!-- include: FILE columns: A; B -->`` includes only these columns of a table.

Files in ``reports/shown/`` are copies of files in ``reports/``, so that later runs do not change
the files under version control. A file that a page names is copied again if ``reports/`` has it.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_BLOCK = re.compile(
    r"(<!-- include: (\S+)(?: columns: (.+?))? -->\n).*?(<!-- end -->)", flags=re.DOTALL
)
_SHOWN = re.compile(r"reports/shown/([\w./-]+)")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


def copy_shown(page: Path, root: Path = ROOT) -> None:
    """Copy the files that a page shows from ``reports/`` to ``reports/shown/``, if they exist."""
    reports = root / "reports"
    for name in set(_SHOWN.findall(page.read_text(encoding="utf-8"))):
        if (reports / name).is_file():
            (reports / "shown" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reports / name, reports / "shown" / name)


def include_files(page: Path, root: Path = ROOT) -> str:
    """Return the text of a page with fresh blocks."""

    def fill(block: re.Match) -> str:
        text = (root / block[2]).read_text(encoding="utf-8")
        if block[3]:
            text = select_columns(text, block[3].split("; "))
        return f"{block[1]}{text}{block[4]}"

    return _BLOCK.sub(fill, page.read_text(encoding="utf-8"))


def select_columns(table: str, names: list[str]) -> str:
    """Return some columns of a Markdown table, in the given order."""
    rows = [[c.strip() for c in _CELL_BORDER.split(line)[1:-1]] for line in table.splitlines()]
    if missing := [name for name in names if name not in rows[0]]:
        raise ValueError(f"no column {missing[0]!r} in the table; it has {', '.join(rows[0])}")
    columns = [rows[0].index(name) for name in names]
    return "".join(f"| {' | '.join(row[i] for i in columns)} |\n" for row in rows)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        copy_shown(Path(name))
        Path(name).write_text(include_files(Path(name)), encoding="utf-8")
