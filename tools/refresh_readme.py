"""Put generated tables and figures into a page: ``python tools/refresh_readme.py README.md``.

Every number in the page was written by a command. A file in ``reports/shown/`` that the page names
is copied there from ``reports/``, so that later runs do not change what is in git. The text between
``<!-- include: FILE -->`` and ``<!-- end -->`` is replaced by the content of FILE.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

_BLOCK = re.compile(r"(<!-- include: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHOWN = re.compile(r"reports/shown/([\w./-]+)")


def copy_shown(page: Path) -> None:
    """Copy the files that a page shows from ``reports/`` to ``reports/shown/``, if they exist."""
    reports = page.parent / "reports"
    for name in set(_SHOWN.findall(page.read_text(encoding="utf-8"))):
        if (reports / name).is_file():
            (reports / "shown" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reports / name, reports / "shown" / name)


def include_files(page: Path) -> str:
    """Return the text of a page with refreshed blocks."""

    def fill(block: re.Match) -> str:
        return f"{block[1]}{(page.parent / block[2]).read_text(encoding='utf-8')}{block[3]}"

    return _BLOCK.sub(fill, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    copy_shown(target)
    target.write_text(include_files(target), encoding="utf-8")
