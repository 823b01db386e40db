"""Names of corpora, under which their results are kept in ``models/`` and ``reports/``.

Two corpora in folders of the same name must not share results. The table ``models/corpora.json``
keeps the root of every name: the first corpus gets the name, and others get it with a number. A
name becomes free when its root no longer exists, so that a corpus that was moved keeps its results.
"""

import itertools
import json
import logging
import os
from pathlib import Path

from filelock import FileLock

from genrecls._utils import cache
from genrecls._utils.io import write_atomically
from genrecls._utils.paths import models_dir, project_root

log = logging.getLogger(__name__)

_TABLE = "corpora.json"


def claim_name(name: str, root: Path) -> str:
    """Return the name of the corpus with this root, and keep it for this corpus."""
    roots = _read_roots()
    chosen = _choose(name, root, roots)
    if (chosen in roots and _is_same(root, roots[chosen])) or not root.exists():
        return chosen
    table = models_dir() / _TABLE
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(table.with_name(f".{_TABLE}.lock")):
            known = _read_roots()  # another process may have added a name
            chosen = _choose(name, root, known)
            text = json.dumps(
                {name: _shorten(path) for name, path in (known | {chosen: root}).items()}, indent=1
            )
            write_atomically(table, lambda file: file.write(text.encode()))
    except OSError:  # Where nothing can be written, no results can get mixed up.
        return chosen
    if chosen in known and known[chosen] != root:
        gone = f"{known[chosen]}, which no longer exists"
        log.warning("%s: takes the name %r and the results of %s", root, chosen, gone)
    elif chosen != name:
        log.warning("%s: the name %r is taken; results are kept as %r", root, name, chosen)
    return chosen


def find_root(name: str) -> Path | None:
    """Return the root of the corpus with this name, or None if it is unknown or gone."""
    root = _read_roots().get(name)
    return root if root and os.path.exists(root) else None


def _choose(name: str, root: Path, roots: dict[str, Path]) -> str:
    for own, other in roots.items():
        if _is_same(root, other):
            return own
    # Some file systems ignore the case.
    taken = {other.casefold() for other, path in roots.items() if os.path.exists(path)}
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(free for free in names if free.casefold() not in taken)


def _is_same(root: Path, other: Path) -> bool:
    exist = os.path.exists(root) and os.path.exists(other)
    return root == other or (exist and os.path.samefile(root, other))


def _read_roots() -> dict[str, Path]:
    table, base = models_dir() / _TABLE, project_root().resolve()
    try:
        roots = json.loads(table.read_text(encoding="utf-8"))
        return {name: base / root for name, root in roots.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s); corpora get their names again", table, error)
        cache.remove(table)
        return {}


def _shorten(root: Path) -> str:
    """Return a path that stays valid when the whole project is moved."""
    base = project_root().resolve()
    return str(root.relative_to(base) if root.is_relative_to(base) else root)
