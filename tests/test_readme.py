import re
from pathlib import Path

import pytest

from genrecls.readme import with_included
from genrecls.report import markdown

PROJECT = Path(__file__).parents[1]


def test_the_tables_of_the_readme_are_the_generated_ones():
    readme = PROJECT / "README.md"
    assert with_included(readme) == readme.read_text(encoding="utf-8")


def test_every_file_that_the_readme_names_is_there():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links and not [link for link in links if not (PROJECT / link).exists()]


def test_included_files_replace_what_stood_there(tmp_path):
    (tmp_path / "t.md").write_text("| new |\n")
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- include: t.md -->\n| old |\n<!-- end -->\nb\n")
    assert with_included(readme) == "a\n<!-- include: t.md -->\n| new |\n<!-- end -->\nb\n"


@pytest.mark.parametrize("name", ["a|b", "<script>", "*x*", "a\nb", "Имя 🎹 & 'quotes', comma"])
def test_names_do_not_break_tables(name):
    import pandas as pd

    text = markdown(pd.DataFrame({"name": [name], "n": [1]}))
    assert len(text.splitlines()) == 3 and "<" not in text
    assert text.splitlines()[2].count("|") == 3
