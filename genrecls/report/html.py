"""A report in Markdown as one HTML page that holds its images and asks for nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

# Nothing may run or be fetched, whatever a track is called.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

# Columns from which on a table is wide, and characters from which on the text of a cell is long.
_WIDE = ((16, "widest"), (12, "wider"), (7, "wide"))
_LONG = 45

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
{meta}
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<nav aria-label="Contents">
<p>Contents</p>
<ul>
{contents}
</ul>
</nav>
<main>
{body}</main>
</body>
</html>
"""

_STYLE = """
:root { color: #1d2731; background: #fff; accent-color: #2f5d91; }
* { box-sizing: border-box; }
html { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  -webkit-text-size-adjust: 100%; }
body { margin: 0; display: grid; grid-template-columns: 15rem minmax(0, 1fr); }
nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow: auto;
  padding: 2rem 1rem 2rem 1.5rem; font-size: .9rem; border-right: 1px solid #e1e5e9;
  min-height: 100vh; }
nav p { margin: 0 0 .5rem; font-weight: 600; }
nav ul { margin: 0; padding: 0; list-style: none; }
nav li { margin: 0 0 .35rem; line-height: 1.35; }
a { color: #2a5788; text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
main { padding: 2rem 2.5rem 5rem; max-width: 84rem; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; overflow-wrap: anywhere; }
h1 { margin: 0 0 1rem; font-size: 1.9rem; }
h2 { margin: 3.2rem 0 1rem; padding-top: .8rem; font-size: 1.4rem; border-top: 1px solid #d5dbe1;
  scroll-margin-top: 0; }
h3 { margin: 2.2rem 0 .8rem; font-size: 1.08rem; }
p { max-width: 46rem; margin: 0 0 1rem; overflow-wrap: break-word; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", Consolas, monospace; background: #f1f3f5;
  padding: .1em .3em; border-radius: 3px; }
figure { margin: 1.2rem 0 1.8rem; }
img { display: block; width: calc(var(--width) * 96px); max-width: 100%; height: auto; }
figcaption { margin-top: .4rem; font-size: .9rem; color: #4c5864; }
/* A shadow at the side on which there is more to see. */
.table { overflow-x: auto; margin: 0 0 1.4rem; background:
  linear-gradient(90deg, #fff 40%, transparent) 0 / 3rem 100% local,
  linear-gradient(270deg, #fff 40%, transparent) 100% / 3rem 100% local,
  linear-gradient(90deg, #0003, transparent) 0 / .8rem 100%,
  linear-gradient(270deg, #0003, transparent) 100% / .8rem 100%;
  background-repeat: no-repeat; }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .7rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid #e1e5e9; }
th { vertical-align: bottom; font-weight: 600; white-space: normal;
  border-bottom: 2px solid #8794a1; }
td span { white-space: nowrap; }
td wbr { display: none; }
.long { min-width: 18rem; white-space: normal; }
tbody tr:nth-child(even) { background: #00305a0a; }
@media (max-width: 60rem) {
  body { display: block; }
  nav { position: static; min-height: 0; max-height: none; padding: 1rem; border: 0;
    background: #f3f5f7; }
  nav ul { columns: 10rem; }
  main { padding: 1.2rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  h2 { font-size: 1.25rem; margin-top: 2.4rem; }
  figure { overflow-x: auto; }
  img { min-width: min(var(--width) * 96px, 36rem); }
  .long { min-width: 12rem; }
}
@page { size: A4; margin: 15mm 14mm 16mm; }
@page broad { size: A4 landscape; }
@media print {
  html { font-size: 9.5pt; line-height: 1.4; }
  body { display: block; }
  nav { display: none; }
  main { padding: 0; max-width: none; }
  h1, h2, h3, thead { break-after: avoid; }
  h2 { margin-top: 1.6rem; }
  p { orphans: 3; widows: 3; max-width: none; }
  p:has(+ .table), p:has(+ figure) { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  figure { margin: .6rem 0 1rem; }
  img { width: calc(var(--width) * 18mm); max-height: 165mm; object-fit: contain;
    object-position: left; }
  figcaption { break-before: avoid; }
  .table { overflow: visible; background: none; }
  table { font-size: 8pt; line-height: 1.3; }
  th, td { padding: .12rem .35rem; white-space: normal; }
  td wbr { display: inline; }
  .long { min-width: 30mm; }
  .wide table { font-size: 6.5pt; }
  .wider table { font-size: 5.5pt; }
  .widest table { font-size: 5pt; }
  .widest { page: broad; }
  .widest th { overflow-wrap: anywhere; }
  .wide :is(th, td) { padding-inline: .2rem; }
  .wider :is(th, td), .widest :is(th, td) { padding-inline: .1rem; }
  tr { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def page(markdown: str, folder: Path, *, meta: str = "") -> str:
    """The page of a report.

    Parameters
    ----------
    markdown : str
        CommonMark with tables; HTML in it is shown, not obeyed. Its first heading is the title,
        those of the second level are the table of contents.
    folder : Path
        Where the images are (PNG) that it names.
    meta : str
        An element for the head.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    _make_figures(tokens)
    titles, contents = [], []
    for i, token in enumerate(tokens):
        for part in token.children or ():
            if part.type == "image":
                image = (folder / unquote(part.attrs["src"])).read_bytes()
                part.attrs["src"] = "data:image/png;base64," + b64encode(image).decode()
                part.attrs["style"] = f"--width: {_inches(image):.2f}"
        if token.type == "heading_open":
            titles.append(reader.renderInline(tokens[i + 1].content))
            if token.tag == "h2":
                token.attrs["id"] = re.sub(r"\W+", "-", tokens[i + 1].content).strip("-").lower()
                contents.append(f'<li><a href="#{token.attrs["id"]}">{titles[-1]}</a></li>')
        if token.type == "table_open":
            token.meta["class"] = _class_of(tokens[i:])
        if token.type == "td_open" and len(tokens[i + 1].content) > _LONG:
            token.attrs["class"] = "long"
    reader.renderer.rules |= {
        "text": lambda tokens, i, *_: _text(tokens[i].content),
        "table_open": lambda tokens, i, *_: f'<div class="{tokens[i].meta["class"]}"><table>\n',
        "table_close": lambda *_: "</table></div>\n",
    }
    return _PAGE.format(
        policy=_POLICY,
        meta=meta,
        title=re.sub("<[^>]*>", "", titles[0]),
        style=_STYLE,
        contents="\n".join(contents),
        body=reader.renderer.render(tokens, reader.options, {}),
    )


def _text(content: str) -> str:
    """Text that may be broken between the words of a name, and not within an interval."""
    text = re.sub(r"[_/:](?=[^\W\d_]{2})", r"\g<0><wbr>", escapeHtml(content))
    return re.sub(r"[(+-]*[\d.]+–[\d.]+\)?", r"<span>\g<0></span>", text)


def _make_figures(tokens: list[Token]) -> None:
    """Make a figure of every paragraph that is a image and the one in italics below it."""
    for i in range(len(tokens) - 5):
        image, caption = tokens[i + 1], tokens[i + 4]
        if _kinds(image) == ["image"] and _kinds(caption)[:1] == ["em_open"]:
            caption.children = caption.children[1:-1]  # without the italics
            tokens[i].tag = tokens[i + 5].tag = "figure"
            tokens[i + 2] = Token("figcaption_open", "figcaption", 1)
            tokens[i + 3] = caption
            tokens[i + 4] = Token("figcaption_close", "figcaption", -1)


def _kinds(token: Token) -> list[str]:
    """What a line of text consists of."""
    return [part.type for part in token.children or ()]


def _inches(png: bytes) -> float:
    """Width of a figure, as it was drawn."""
    at = png.index(b"pHYs") + 4
    return int.from_bytes(png[16:20]) / int.from_bytes(png[at : at + 4]) / 0.0254


def _class_of(tokens: Sequence[Token]) -> str:
    """The class of the table that begins here: the wider, the smaller the type it is printed in."""
    kinds = [token.type for token in tokens]
    columns = kinds[: kinds.index("thead_close")].count("th_open")
    return next((f"table {name}" for most, name in _WIDE if columns > most), "table")
