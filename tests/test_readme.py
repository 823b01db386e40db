import re
import shutil
from pathlib import Path

import pytest
from conftest import GENRES

from genrecls.report.markdown import markdown
from tools.refresh_readme import copy_shown, include_files

PROJECT = Path(__file__).parents[1]


def test_the_tables_of_the_readme_are_the_generated_ones():
    readme = PROJECT / "README.md"
    assert include_files(readme) == readme.read_text(encoding="utf-8")


def test_every_file_that_the_readme_names_is_there():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links and not [link for link in links if not (PROJECT / link).exists()]


def test_the_first_code_block_of_the_readme_runs(tmp_path, monkeypatch):
    import numpy as np
    import soundfile

    sound = np.random.default_rng(0).normal(0, 0.1, (32 * 44100, 2))
    soundfile.write(tmp_path / "song.mp3", sound, 44100)
    monkeypatch.chdir(tmp_path)
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    assert names["log_mels"].shape == (2, 128, 323)
    assert names["images"].shape == (2, 128, 323, 3)


def test_five_lines_of_the_readme_take_a_file_to_a_prediction_and_a_plot(
    bundle, tmp_path, monkeypatch, capsys
):
    import numpy as np
    import soundfile

    sound = np.random.default_rng(0).normal(0, 0.1, (32 * 44100, 2))
    soundfile.write(tmp_path / "song.mp3", sound, 44100)
    shutil.copytree(bundle, tmp_path / "models" / "demo" / "compact_cnn-default")
    monkeypatch.chdir(tmp_path)
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [block] = [block for block in blocks if "prediction.plot()" in block]
    assert len([line for line in block.splitlines() if line]) == 5
    exec(block, {})
    said = capsys.readouterr().out
    assert said.split(" {")[0] in (*GENRES, "not sure")
    assert (tmp_path / "song.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_readme_shows_is_copied_from_where_it_is_made(tmp_path):
    (tmp_path / "reports" / "demo").mkdir(parents=True)
    (tmp_path / "reports" / "demo" / "t.md").write_text("| made |\n")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- include: reports/shown/demo/t.md -->\n<!-- end -->")
    copy_shown(readme)
    assert "| made |" in include_files(readme)


def test_included_files_replace_what_stood_there(tmp_path):
    (tmp_path / "t.md").write_text("| new |\n")
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- include: t.md -->\n| old |\n<!-- end -->\nb\n")
    assert include_files(readme) == "a\n<!-- include: t.md -->\n| new |\n<!-- end -->\nb\n"


@pytest.mark.parametrize("name", ["a|b", "<script>", "*x*", "a\nb", "Имя 🎹 & 'quotes', comma"])
def test_names_do_not_break_tables(name):
    import pandas as pd

    text = markdown(pd.DataFrame({"name": [name], "n": [1]}))
    assert len(text.splitlines()) == 3 and "<" not in text
    assert text.splitlines()[2].count("|") == 3
