"""The report on the trained models of a corpus, and the results of an audit, as files."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from tqdm.auto import tqdm

from genrecls import plots
from genrecls._utils.io import write_atomically
from genrecls._utils.paths import reports_dir
from genrecls.corpus.changes import describe_changes
from genrecls.evaluation.runs import read_runs
from genrecls.report.document import Report
from genrecls.report.markdown import escape
from genrecls.report.sections import SECTIONS

if TYPE_CHECKING:  # An audit needs an audio decoder, and a report does not.
    from genrecls.corpus.audit import Audit

log = logging.getLogger(__name__)


def write_report(corpus_name: str) -> Path:
    """Write the report on the trained models of a corpus, from saved tables alone.

    Every table is saved as CSV and Markdown, every figure as PNG and SVG, in
    ``reports/<corpus>/``. ``reports/report.html`` is a copy of the report that was written last. A
    warning is logged, and begins the report, if the corpus has changed since the training.

    Parameters
    ----------
    corpus_name : str
        Name of the corpus, which is the name of its folder in ``models/``.

    Returns
    -------
    Path
        Path of ``report.html``, a single file that contains its figures. ``report.md`` beside it
        has the same content.

    Raises
    ------
    ModelError
        If the corpus has no trained models.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.train("music", "compact_cnn", epochs=20, progress=False)
    >>> genrecls.write_report("music").name
    'report.html'
    """
    runs = read_runs(corpus_name)
    report = Report(f"Report on the corpus {corpus_name}", reports_dir() / corpus_name)
    if changes := describe_changes(runs[0]):
        log.warning("%s", changes)
        report.text(f"**{escape(changes)}**")
    with plt.rc_context():
        plots.style()
        for add_section in tqdm(SECTIONS, desc="report", unit="section"):
            add_section(report, runs)
    page = report.save()
    write_atomically(reports_dir() / page.name, lambda file: file.write(page.read_bytes()))
    return page


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
    >>> found = genrecls.audit("music", progress=False)
    >>> genrecls.write_audit(found, "reports/music").name
    'audit.html'
    """
    report = Report(f"Audit of the corpus {found.corpus}", folder, "audit")
    report.text("\n".join(f"- {escape(warning)}" for warning in found.warnings))
    for name, table in found.tables.items():
        report.section(name.capitalize())
        report.table(f"audit_{name}", table)
    page = report.save()
    page.with_suffix(".json").write_text(found.to_json(), encoding="utf-8")
    return page
