"""Tables and figures to files, and to Markdown that shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd


def save_table(folder: Path, name: str, table: pd.DataFrame) -> str:
    """Save a table as CSV and Markdown; returns the latter."""
    safe = _safe_name(name)
    table.to_csv(folder / f"{safe}.csv", index=False, encoding="utf-8")
    text = markdown(table)
    (folder / f"{safe}.md").write_text(text, encoding="utf-8")
    return text


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers to the right, whatever the cells contain."""
    columns = [_cells(table[name]) for name in table]
    rule = ["---:" if pd.api.types.is_numeric_dtype(table[name]) else "---" for name in table]
    lines = [[escape(str(name)) for name in table], rule, *zip(*columns, strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cells(column: pd.Series) -> list[str]:
    """Text of a column: the same number of decimals all the way down, at most three."""
    if pd.api.types.is_integer_dtype(column):
        return [f"{value:,}" for value in column]
    if pd.api.types.is_float_dtype(column):
        digits = max((len(f"{v:.3f}".rstrip("0").partition(".")[2]) for v in column), default=0)
        return [f"{value:,.{digits}f}" for value in column]
    return [escape(str(value)) for value in column]


def escape(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    special = r"[\\`*|<>\[\]&#$~]|(?<!\w)_|_(?!\w)"
    return re.sub(special, lambda m: f"&#{ord(m[0])};", " ".join(text.split()))


def _safe_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def save_figure(folder: Path, name: str, figure, caption: str) -> str:
    """Save a figure as PNG and SVG; returns Markdown that shows the former."""
    from matplotlib import pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = folder / f"{_safe_name(name)}.png"
    figure.set_dpi(plt.rcParams["savefig.dpi"])
    # Unlike savefig, a canvas does not draw once more beforehand to lay the figure out.
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    figure.set_layout_engine("none")  # it stays as it is laid out
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "genrecls"}):
        FigureCanvasSVG(figure).print_svg(file.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
    text = escape(caption)
    return f"![{text}]({file.name})\n\n*{text}*\n"
