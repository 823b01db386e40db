"""Audit results as files."""

from __future__ import annotations

import html
import os
from pathlib import Path

import pandas as pd

from genrecls.corpus.audit import Audit

_STYLE = (
    "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ccc}"
)


def write_audit(found: Audit, folder: str | os.PathLike) -> Path:
    """Write ``audit.json``, ``audit.html`` and every table as ``audit_<name>.csv`` and ``.md``.

    Returns
    -------
    Path
        Of ``audit.html``.
    """
    from genrecls.report.markdown import markdown

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(found.to_json(), encoding="utf-8")
    (folder / "audit.html").write_text(_page(found), encoding="utf-8")
    for name, table in found.tables.items():
        table.to_csv(folder / f"audit_{name}.csv", index=False, encoding="utf-8")
        (folder / f"audit_{name}.md").write_text(markdown(_shown(table)), encoding="utf-8")
    return folder / "audit.html"


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Gaps as dashes: no number is called nan."""
    gaps = [name for name in table if table[name].isna().any()]
    as_text = {
        name: table[name].map(lambda v: "–" if pd.isna(v) else f"{v:.3f}").astype(object)
        for name in gaps
    }
    return table.assign(**as_text)


def _page(found: Audit) -> str:
    """A page of its own, without scripts."""
    title = html.escape(f"Audit of the corpus {found.corpus}")
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"]
    parts += [f"<style>{_STYLE}</style><h1>{title}</h1><ul>"]
    parts += [f"<li>{html.escape(warning)}</li>" for warning in found.warnings]
    parts += ["</ul>"]
    for name, table in found.tables.items():
        shown = table.to_html(index=False, border=0, na_rep="–", float_format="{:.4g}".format)
        parts += [f"<h2>{name.capitalize()}</h2>", shown if len(table) else "<p>None.</p>"]
    return "\n".join([*parts, "</html>\n"])
