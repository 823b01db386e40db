"""The results of an audit as files."""

from __future__ import annotations

import os
from pathlib import Path

from genrecls.corpus.audit import Audit
from genrecls.report.markdown import markdown, render


def write_audit(found: Audit, folder: str | os.PathLike) -> Path:
    """Write ``audit.json``, ``audit.html`` and every table as CSV and Markdown.

    Parameters
    ----------
    found : Audit
        Result of :func:`genrecls.audit`.
    folder : path-like
        Folder for the files, created if it does not exist.

    Returns
    -------
    Path
        Path of ``audit.html``.

    Examples
    --------
    >>> import genrecls
    >>> found = genrecls.audit(genrecls.Corpus.read("music"), progress=False)
    >>> genrecls.write_audit(found, "reports/music").name
    'audit.html'
    """
    page = Path(folder) / "audit.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.with_suffix(".json").write_text(found.to_json(), encoding="utf-8")
    for name, table in found.tables.items():
        table.to_csv(page.with_name(f"audit_{name}.csv"), index=False, encoding="utf-8")
        page.with_name(f"audit_{name}.md").write_text(markdown(table), encoding="utf-8")
    page.write_text(render("audit.html", found=found), encoding="utf-8")
    return page
