"""Put generated tables into README.md: every number there is one that a command has written.

Run as ``python -m genrecls.readme README.md``. Between ``<!-- include: FILE -->`` and
``<!-- end -->`` stands the content of FILE (relative to the README).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_BLOCK = re.compile(r"(<!-- include: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_included(readme: Path) -> str:
    """The text of a README with its blocks refreshed."""

    def fill(block: re.Match) -> str:
        return f"{block[1]}{(readme.parent / block[2]).read_text(encoding='utf-8')}{block[3]}"

    return _BLOCK.sub(fill, readme.read_text(encoding="utf-8"))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(with_included(target), encoding="utf-8")
