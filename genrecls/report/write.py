"""The report on the trained models of a corpus."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from tqdm.auto import tqdm

from genrecls import plots
from genrecls._utils.paths import reports_dir
from genrecls.evaluation.runs import read_runs
from genrecls.report.document import Report
from genrecls.report.sections import SECTIONS


def write_report(corpus_name: str) -> Path:
    """Write the report on the trained models of a corpus, from saved tables alone.

    Every table is saved as CSV and Markdown, every figure as PNG and SVG, in
    ``reports/<corpus>/``. ``reports/report.html`` is a copy of the report that was written last.

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
    CorpusError
        If the log-mels of an example track are not stored.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.train("music", "compact_cnn", epochs=20, progress=False)
    >>> genrecls.write_report("music").name
    'report.html'
    """
    runs = read_runs(corpus_name)
    report = Report(f"Report on the corpus {corpus_name}", reports_dir() / corpus_name)
    with plt.rc_context():
        plots.style()
        for add_section in tqdm(SECTIONS, desc="report", unit="section"):
            add_section(report, runs)
    return report.save()
