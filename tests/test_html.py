"""The page of a report: one file that contains its figures and loads nothing."""

import html
import re
from base64 import b64decode

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from genrecls.report.document import Report


@pytest.fixture
def text(tmp_path):
    """Return the page of a report with a figure and tables of two widths."""
    report = Report("Title & <more>", tmp_path / "x")
    report.section("First part")
    report.figure("figure", plt.figure(figsize=(4, 2)), "A caption")
    for columns in (2, 17):
        name = f"table {columns}"
        report.table(name, pd.DataFrame({f"c{i}": ["x" * 50] for i in range(columns)}))
    report.section("Second part")
    report.section("Detail", level=3)
    report.table("numbers", pd.DataFrame({"run": ["compact_cnn"], "F1": ["0.9 (0.80–0.95)"]}))
    return report.save().read_text(encoding="utf-8")


def test_page_loads_nothing_and_runs_nothing(text):
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in text
    sources = re.findall(r'src="data:image/webp;base64,([^"]*)"', text)
    assert [b64decode(data)[:4] for data in sources] == [b"RIFF"]
    without = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?://|src=|<script|<link[^>]*stylesheet|@import|url\(", without)


def test_page_has_a_title_and_its_sections_as_contents(text):
    assert "<title>Title &amp; &lt;more&gt;</title>" in text
    contents = re.findall(r'<li><a href="#([^"]*)">([^<]*)</a></li>', text)
    assert contents == [("first-part", "First part"), ("second-part", "Second part")]
    assert '<h2 id="first-part">First part</h2>' in text
    assert "<h3>Detail</h3>" in text


def test_page_shows_a_figure_with_its_width_and_caption(text):
    figure = re.search(r"<figure>(.*?)</figure>", text, re.DOTALL)[1]
    assert 'style="--width: 4.00"' in figure
    assert 'alt="A caption"' in figure
    assert "<figcaption>A caption</figcaption>" in figure


def test_page_shows_wide_tables_in_parts_and_breaks_long_text(text):
    tables = re.findall(r'<div class="table"><table>(.*?)</table>', text, re.DOTALL)
    heads = [re.findall("<th>(.*?)</th>", table) for table in tables]
    wide = heads[1:-1]
    assert [head[0] for head in wide] == ["c0"] * 16  # a line has room for two long cells
    assert [name for head in wide for name in head[1:]] == [f"c{i}" for i in range(1, 17)]
    assert '<td class="long">' in text
    assert "@media print" in text
    assert "compact_<wbr>cnn" in text
    assert "<span>(0.80–0.95)</span>" in text


@pytest.mark.parametrize(
    "name", ["<b>", "a|b", "![x](y.png)", "[x](http://y)", "`c`", "&amp;", "# x", "{{ 1 + 1 }}"]
)
def test_page_shows_the_text_of_a_cell_as_it_is(name, tmp_path):
    report = Report(name, tmp_path)
    report.table("table", pd.DataFrame({"name": [name], "n": [1]}))
    text = report.save().read_text(encoding="utf-8")
    cell = re.search(r"<td>(.*?)</td>", text, re.DOTALL)[1]
    assert "<a " not in cell
    assert "<img" not in cell
    assert "<b>" not in cell
    assert html.unescape(re.sub("<[^>]*>", "", cell)) == name
    assert html.unescape(re.search("<title>(.*)</title>", text)[1]) == name
