"""The results of an audit as files."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from genrecls.corpus.audit import Audit
from genrecls.report.markdown import markdown, render


def write_audit(found: Audit, folder: str | os.PathLike) -> Path:
    """Write ``audit.json``, ``audit.html`` and every table as CSV and Markdown.

    Parameters
    ----------
    found : Audit
        Result of :func:`genrecls.corpus.audit.audit`.
    folder : path-like
        Folder for the files. It is created if it does not exist.

    Returns
    -------
    Path
        Path of ``audit.html``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(found.to_json(), encoding="utf-8")
    for name, table in found.tables.items():
        table.to_csv(folder / f"audit_{name}.csv", index=False, encoding="utf-8")
        text = markdown(_with_dashes(table))
        (folder / f"audit_{name}.md").write_text(text, encoding="utf-8")
    tables = {name: _html_table(table) for name, table in found.tables.items()}
    text = render("audit.html", corpus=found.corpus, warnings=found.warnings, tables=tables)
    (folder / "audit.html").write_text(text, encoding="utf-8")
    return folder / "audit.html"


def _with_dashes(table: pd.DataFrame) -> pd.DataFrame:
    """Write missing values as dashes; they would be shown as nan."""
    incomplete = [str(name) for name in table if table[name].isna().any()]
    return table.assign(**{name: table[name].map(_cell).astype(object) for name in incomplete})


def _cell(value) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _html_table(table: pd.DataFrame) -> Markup:
    if table.empty:
        return Markup("")
    text = table.to_html(index=False, border=0, na_rep="–", float_format="{:.4g}".format)
    return Markup(text)
