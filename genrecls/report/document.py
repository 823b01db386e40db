"""A report as a document that is filled section by section, then saved as Markdown and HTML."""

import datetime
import hashlib
import io
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

import genrecls
from genrecls._utils.io import write_atomically
from genrecls._utils.paths import expand_user
from genrecls.report.markdown import LONG, escape, markdown, render, split_columns

_DPI = 120  # dots per inch of the figures
_MAX_WEBP = 16_383  # pixels of the longer side, a limit of the format
_QUALITY = 80  # of the figures in the page, from 0 to 100


class Report:
    """A report and the folder with its tables and figures.

    Titles, captions and cells may contain any characters; they are shown as they are.
    """

    def __init__(self, title: str, folder: str | os.PathLike, name: str = "report"):
        self.folder = expand_user(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._title, self._page = title, self.folder / f"{name}.html"
        self._markdown: list[str] = []
        self._html: list[str] = []
        self._contents: list[tuple[str, str]] = []
        self.text(f"# {escape(title)}")

    def section(self, title: str, level: int = 2) -> None:
        """Begin a section; those of level 2 are in the table of contents."""
        heading, link = escape(title), ""
        if level == 2:
            anchor = re.sub(r"\W+", "-", title).strip("-").lower()
            self._contents.append((anchor, title))
            link = f' id="{anchor}"'
        html = f"<h{level}{link}>{_READER.renderInline(heading)}</h{level}>\n"
        self._add(f"{'#' * level} {heading}\n", html)

    def text(self, markdown: str) -> None:
        """Add text in CommonMark with tables; HTML in it is shown as text."""
        self._add(markdown.rstrip("\n") + "\n", _READER.render(markdown))

    def table(
        self,
        name: str,
        table: pd.DataFrame,
        title: str | None = None,
        *,
        keys: int = 1,
        shown: bool = True,
    ) -> None:
        """Save a table as CSV and Markdown, and show it below a title in Markdown.

        A wide table is shown in several parts, which all begin with the ``keys`` first columns. The
        Markdown file ends with a stamp; see :func:`stamp`.
        """
        file, text = self._file(name), markdown(table)
        # Before Python 3.13, a carriage return would not be quoted.
        csv = table.replace("\r", r"\\r", regex=True).to_csv(index=False)
        write_atomically(Path(f"{file}.csv"), lambda stream: stream.write(csv.encode()))
        stamped = (text + stamp(text)).encode()
        write_atomically(Path(f"{file}.md"), lambda stream: stream.write(stamped))
        if shown:
            parts = [markdown(part) for part in split_columns(table, keys)]
            self.text("\n".join([f"{title}\n", *parts] if title else parts))

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Save a figure as PNG and SVG, show it with a caption, and close it."""
        file, text = self._file(name), escape(caption)
        figure.set_dpi(_DPI)
        # savefig would draw it once more beforehand: a fifth of the time of the whole report.
        software = {"Software": f"genrecls {genrecls.__version__}"}
        FigureCanvasAgg(figure).print_png(f"{file}.png", metadata=software)
        figure.set_layout_engine("none")  # The SVG keeps the layout of the PNG.
        with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "genrecls"}):
            FigureCanvasSVG(figure).print_svg(f"{file}.svg", metadata={"Date": None})
        plt.close(figure)
        html = Markup(
            '<figure><img src="data:image/webp;base64,{}" alt="{}" style="--width: {:.2f}" />'
            "<figcaption>{}</figcaption></figure>\n"
        )
        data = b64encode(_to_webp(f"{file}.png")).decode()
        shown = Markup(_READER.renderInline(text))
        html = html.format(data, caption, figure.get_figwidth(), shown)
        self._add(f"![{text}]({file.name}.png)\n\n*{text}*\n", html)

    def save(self) -> Path:
        """Write a Markdown file and an HTML page that contains its figures; return its path."""
        body, text = Markup("".join(self._html)), "\n".join(self._markdown)
        html = render("page.html", title=self._title, contents=self._contents, body=body)
        write_atomically(self._page.with_suffix(".md"), lambda file: file.write(text.encode()))
        write_atomically(self._page, lambda file: file.write(html.encode()))
        return self._page

    def _add(self, markdown: str, html: str) -> None:
        self._markdown.append(markdown)
        self._html.append(html)

    def _file(self, name: str) -> Path:
        """Return the path of a table or figure, without the ending."""
        return self.folder / re.sub(r"[^\w.-]+", "_", name)


def read_table(file: Path) -> pd.DataFrame:
    """Read a table that a report has saved as CSV."""
    # A genre may be called NA.
    return pd.read_csv(file, keep_default_na=False, na_values=[""])


def stamp(text: str) -> str:
    """Return a comment with version, date, and the checksum of a text."""
    checksum = hashlib.sha256(text.encode()).hexdigest()[:16]
    today = datetime.datetime.now(datetime.UTC).date()
    return f"\n<!-- genrecls {genrecls.__version__}, {today}, {checksum} -->\n"


def _to_webp(file: str) -> bytes:
    """Compress an image to a tenth of the size of a PNG of a spectrogram."""
    data = io.BytesIO()
    with Image.open(file) as image:
        image.thumbnail((_MAX_WEBP, _MAX_WEBP))
        image.convert("RGB").save(data, "webp", quality=_QUALITY)
    return data.getvalue()


def _render_text(tokens: Sequence[Token], i: int, *_: Any) -> str:
    """Allow line breaks between the words of a name, and none within an interval."""
    text = re.sub(r"[_/:](?=[^\W\d_]{2})", r"\g<0><wbr>", escapeHtml(tokens[i].content))
    return re.sub(r"[(+-]*[\d.]+–[\d.]+\)?", r"<span>\g<0></span>", text)


def _open_cell(tokens: Sequence[Token], i: int, *options: Any) -> str:
    if len(tokens[i + 1].content) > LONG:
        tokens[i].attrs["class"] = "long"
    return _READER.renderer.renderToken(tokens, i, *options)  # pyright: ignore


_READER = MarkdownIt("commonmark", {"html": False}).enable("table")
_READER.renderer.rules |= {  # pyright: ignore[reportAttributeAccessIssue]
    "text": _render_text,
    "table_open": lambda *_: '<div class="table"><table>\n',
    "table_close": lambda *_: "</table></div>\n",
    "td_open": _open_cell,
}
