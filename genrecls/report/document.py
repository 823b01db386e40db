"""A report as a document that is filled section by section, then saved."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from genrecls._utils.io import write_atomically
from genrecls.report.html import page
from genrecls.report.markdown import escape, markdown

_DPI = 120  # dots per inch of the figures


class Report:
    """A report and the folder with its tables and figures.

    Parameters
    ----------
    title : str
        Title, which may contain any characters.
    folder : path-like
        Folder for the files, created if it does not exist.

    Examples
    --------
    >>> import pandas as pd
    >>> from genrecls.report import Report
    >>> report = Report("Instruments", "reports/instruments")
    >>> report.section("Strings")
    >>> report.table("strings", pd.DataFrame({"name": ["violin"], "strings": [4]}))
    >>> report.save().name
    'report.html'
    """

    def __init__(self, title: str, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._parts = [f"# {escape(title)}\n"]

    def section(self, title: str, level: int = 2) -> None:
        """Begin a section.

        Parameters
        ----------
        title : str
            Title, which may contain any characters.
        level : int
            Level of the heading; 2 is shown in the table of contents.
        """
        self._parts.append(f"{'#' * level} {escape(title)}\n")

    def text(self, markdown: str) -> None:
        """Add text.

        Parameters
        ----------
        markdown : str
            CommonMark with tables. HTML in it is shown as text.
        """
        self._parts.append(markdown.rstrip("\n") + "\n")

    def table(
        self, name: str, table: pd.DataFrame, title: str | None = None, *, shown: bool = True
    ) -> None:
        """Save a table as CSV and Markdown, and show it.

        Parameters
        ----------
        name : str
            Name of the files.
        table : pd.DataFrame
            The table; its index is left out.
        title : str, optional
            Markdown above the table.
        shown : bool
            False only saves the files.
        """
        file, text = self._file(name), markdown(table)
        table.to_csv(f"{file}.csv", index=False, encoding="utf-8")
        Path(f"{file}.md").write_text(text, encoding="utf-8")
        if shown:
            self._parts += [f"{title}\n", text] if title else [text]

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Save a figure as PNG and SVG, show it, and close it.

        Parameters
        ----------
        name : str
            Name of the files.
        figure : matplotlib.figure.Figure
            The figure.
        caption : str
            Text below the figure.
        """
        file, text = self._file(name), escape(caption)
        figure.set_dpi(_DPI)
        # savefig would draw it once more beforehand: a fifth of the time of the whole report.
        FigureCanvasAgg(figure).print_png(f"{file}.png", metadata={"Software": None})
        figure.set_layout_engine("none")  # The SVG keeps the layout of the PNG.
        with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "genrecls"}):
            FigureCanvasSVG(figure).print_svg(f"{file}.svg", metadata={"Date": None})
        plt.close(figure)
        self._parts.append(f"![{text}]({file.name}.png)\n\n*{text}*\n")

    def save(self) -> Path:
        """Write ``report.md`` and ``report.html``, which contains its figures.

        Returns
        -------
        Path
            Path of ``report.html``. The folder above gets a copy.
        """
        text = "\n".join(self._parts)
        html = page(text, self.folder).encode()
        write_atomically(self.folder / "report.md", lambda file: file.write(text.encode()))
        for folder in (self.folder.parent, self.folder):
            write_atomically(folder / "report.html", lambda file: file.write(html))
        return self.folder / "report.html"

    def _file(self, name: str) -> Path:
        """Return the path of a table or figure, without the ending."""
        return self.folder / re.sub(r"[^\w.-]+", "_", name)
