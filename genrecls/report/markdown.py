"""Text of reports: names that are shown as they are, tables, and filled templates."""

import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

#: The text of a cell with more characters may be broken into lines.
LONG = 45
_MAX_WIDTH = 120  # characters in a line of a table


def markdown(table: pd.DataFrame) -> str:
    """Write a table in Markdown, without its index; a missing value becomes a dash."""
    if table.empty:
        return "None.\n"
    columns = [_cells(table[name]) for name in table]
    rule = ["---:" if pd.api.types.is_numeric_dtype(table[name]) else "---" for name in table]
    lines = [[escape(str(name)) for name in table], rule, *zip(*columns, strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cells(column: pd.Series) -> list[str]:
    """Format the values of a column, floats with the same number of decimals, at most 3."""
    form = str
    if pd.api.types.is_integer_dtype(column):
        form = "{:,}".format
    elif pd.api.types.is_float_dtype(column):
        decimals = [f"{value:.3f}".rstrip("0").partition(".")[2] for value in column.dropna()]
        form = f"{{:,.{max(map(len, decimals), default=0)}f}}".format
    return ["–" if pd.isna(value) else escape(form(value)) for value in column]


def escape(text: str) -> str:
    """Escape text so that Markdown and HTML show it as it is, on one line."""
    special = r"[\\`*|<>\[\]&#$~]|(?<!\w)_|_(?!\w)"
    return re.sub(special, lambda m: f"&#{ord(m[0])};", " ".join(text.split()))


def split_columns(table: pd.DataFrame, keys: int) -> list[pd.DataFrame]:
    """Split a wide table into narrow ones, which all begin with the first columns."""
    if table.empty:
        return [table]
    widths = [_width(table.iloc[:, i]) for i in range(table.shape[1])]
    room, parts = _MAX_WIDTH - sum(widths[:keys]), [[]]
    for i, width in enumerate(widths[keys:], start=keys):
        if parts[-1] and sum(widths[j] for j in parts[-1]) + width > room:
            parts.append([])
        parts[-1].append(i)
    return [table.iloc[:, [*range(keys), *part]] for part in parts]


def _width(column: pd.Series) -> int:
    """Return the width of a column in characters, with a margin; long text can be broken."""
    texts = [*str(column.name).split(), *_cells(column)]
    return min(max(map(len, texts)), LONG) + 3


def render(template: str, **values: Any) -> str:
    """Fill a template of this wing; HTML in the values is escaped unless it is ``Markup``."""
    return _TEMPLATES.get_template(f"{template}.jinja").render(values)


def quote(text: str) -> str:
    """Quote text for YAML, with other characters than plain ones escaped."""
    plain = (c if c.isprintable() and c not in '"\\<>&' else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(plain)}"'


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    keep_trailing_newline=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_TEMPLATES.filters["escaped"] = lambda text: Markup(escape(str(text)))
_TEMPLATES.filters["quoted"] = lambda text: Markup(quote(str(text)))
_TEMPLATES.filters["table"] = lambda table: Markup(markdown(table))
_TEMPLATES.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
