"""Markdown to one HTML page that contains its figures and loads nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token
from markupsafe import Markup

from genrecls.report.markdown import render

# A table with more columns than this gets the class, and is printed in a small font.
_WIDE = ((16, "widest"), (12, "wider"), (7, "wide"))

_LONG = 45  # The text of a cell with more characters may be broken into lines.


def page(markdown: str, folder: Path) -> str:
    """Convert a report in Markdown to an HTML page that contains the images in its folder."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    _group_figures(tokens)
    headings = []
    for i, token in enumerate(tokens):
        for image in token.children or ():
            if image.type == "image":
                _embed(image, folder)
        if token.type == "heading_open":
            anchor = re.sub(r"\W+", "-", tokens[i + 1].content).strip("-").lower()
            headings.append((token, anchor, Markup(reader.renderInline(tokens[i + 1].content))))
            if token.tag == "h2":
                token.attrs["id"] = anchor
        if token.type == "table_open":
            token.meta["class"] = _table_class(tokens[i:])
        if token.type == "td_open" and len(tokens[i + 1].content) > _LONG:
            token.attrs["class"] = "long"
    rules = {
        "text": lambda tokens, i, *_: _breakable(tokens[i].content),
        "table_open": lambda tokens, i, *_: f'<div class="{tokens[i].meta["class"]}"><table>\n',
        "table_close": lambda *_: "</table></div>\n",
    }
    reader.renderer.rules.update(rules)  # pyright: ignore[reportAttributeAccessIssue]
    return render(
        "page.html",
        title=headings[0][2].striptags(),
        contents=[(anchor, heading) for token, anchor, heading in headings if token.tag == "h2"],
        body=Markup(reader.renderer.render(tokens, reader.options, {})),
    )


def _breakable(content: str) -> str:
    """Allow line breaks between the words of a name, and none within an interval."""
    text = re.sub(r"[_/:](?=[^\W\d_]{2})", r"\g<0><wbr>", escapeHtml(content))
    return re.sub(r"[(+-]*[\d.]+–[\d.]+\)?", r"<span>\g<0></span>", text)


def _embed(image: Token, folder: Path) -> None:
    """Replace the file name of an image by its content, and give its width in inches."""
    png = (folder / unquote(str(image.attrs["src"]))).read_bytes()
    at = png.index(b"pHYs") + 4
    inches = int.from_bytes(png[16:20]) / int.from_bytes(png[at : at + 4]) / 0.0254
    image.attrs["src"] = f"data:image/png;base64,{b64encode(png).decode()}"
    image.attrs["style"] = f"--width: {inches:.2f}"


def _group_figures(tokens: list[Token]) -> None:
    """Turn each image with the paragraph in italics below it into a figure with a caption."""
    for i in range(len(tokens) - 5):
        image, caption = tokens[i + 1], tokens[i + 4]
        if _child_types(image) == ["image"] and _child_types(caption)[:1] == ["em_open"]:
            caption.children = (caption.children or [])[1:-1]  # without the italics
            tokens[i].tag = tokens[i + 5].tag = "figure"
            tokens[i + 2] = Token("figcaption_open", "figcaption", 1)
            tokens[i + 3] = caption
            tokens[i + 4] = Token("figcaption_close", "figcaption", -1)


def _child_types(token: Token) -> list[str]:
    return [part.type for part in token.children or ()]


def _table_class(tokens: Sequence[Token]) -> str:
    """Return the class of the table that begins here."""
    types = [token.type for token in tokens]
    columns = types[: types.index("thead_close")].count("th_open")
    return next((f"table {name}" for limit, name in _WIDE if columns > limit), "table")
