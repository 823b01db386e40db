"""Put generated tables and figures into README.md: every number there was written by a command.

Run as ``python -m genrecls.readme README.md``. What the README names in ``reports/shown/`` is
copied there from ``reports/``, so that a later run changes nothing that is in git. Between
``<!-- include: FILE -->`` and ``<!-- end -->`` comes the content of FILE.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

_BLOCK = re.compile(r"(<!-- include: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHOWN = re.compile(r"reports/shown/([\w./-]+)")


def copy_shown(readme: Path) -> None:
    """Copy what the README shows from ``reports/`` to ``reports/shown/``, where it was made."""
    for name in set(_SHOWN.findall(readme.read_text(encoding="utf-8"))):
        made, shown = readme.parent / "reports" / name, readme.parent / "reports" / "shown" / name
        if made.is_file():
            shown.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, shown)


def with_included(readme: Path) -> str:
    """The text of a README with its blocks refreshed."""

    def fill(block: re.Match) -> str:
        return f"{block[1]}{(readme.parent / block[2]).read_text(encoding='utf-8')}{block[3]}"

    return _BLOCK.sub(fill, readme.read_text(encoding="utf-8"))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    copy_shown(target)
    target.write_text(with_included(target), encoding="utf-8")
