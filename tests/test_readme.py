"""README and docs: the tables are fresh, and the links, commands and examples work."""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import typer
from conftest import GENRES, copy_weights
from matplotlib import pyplot as plt
from PIL import Image

import genrecls
from genrecls.cli import app
from genrecls.report.document import Report, stamp
from genrecls.report.markdown import markdown
from tools.refresh_readme import STAMP, copy_shown, include_files, select

PROJECT = Path(__file__).parents[1]
DOCS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
FOLDERS = ("data", "models", "reports")
LABELS = (*GENRES, "not sure", "none of these")
SHOWN = PROJECT / "reports" / "shown"
PAGES = [
    *DOCS,
    PROJECT / "CHANGELOG.md",
    PROJECT / "CONTRIBUTING.md",
    *(PROJECT / folder / "README.md" for folder in FOLDERS),
]
COMMANDS = typer.main.get_command(app).commands


def page_name(page):
    return str(page.relative_to(PROJECT))


def code_blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def find_block(page, text):
    [block] = [block for block in code_blocks(PROJECT / page, "python") if text in block]
    return block


def anchors(page):
    """Return GitHub's anchors of the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def wrong_words(line):
    """Return the commands and options in a line that do not exist."""
    words = shlex.split(line, comments=True)[1:]
    command = COMMANDS.get(words[0])
    if command is None:
        return words[:1]
    if words[0] == "weights":
        return [word for word in words[1:2] if word not in command.commands]
    options = {name for parameter in command.params for name in parameter.opts}
    return [word for word in words if word.startswith("--") and word not in options]


@pytest.fixture
def song(tmp_path, monkeypatch):
    """A file song.mp3 in the current folder, which is a project folder."""
    monkeypatch.setenv("GENRECLS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sound = np.random.default_rng(0).normal(0, 0.1, (32 * 44100, 2))
    soundfile.write(tmp_path / "song.mp3", sound, 44100)


def test_readme_is_short():
    assert len((PROJECT / "README.md").read_bytes()) <= 8000


@pytest.mark.parametrize("page", DOCS, ids=page_name)
def test_tables_are_fresh(page):
    assert include_files(page) == page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    assert not list(broken_links(page))


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](#a-title) [b](#b) [c](page.md) [d](d.md) [e](https://e.org)")
    assert list(broken_links(page)) == ["#b", "d.md"]


def test_version_and_date_are_those_of_the_last_release():
    log = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.findall(r"^## ([\d.]+) - ([\d-]+)$", log, re.MULTILINE)[0]
    citation = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'\nversion: {version}\ndate-released: "{date}"\n' in citation
    assert genrecls.__version__ == version or genrecls.__version__.endswith(".dev0")


def test_readme_leads_to_the_documentation():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert "](docs/index.md)" in text  # Sphinx checks that this page leads to all others


@pytest.mark.parametrize("page", DOCS, ids=page_name)
def test_commands_and_their_options_exist(page):
    for block in code_blocks(page, "console"):
        for line in re.findall(r"^\$ (genrecls .*)$", block, re.MULTILINE):
            assert not wrong_words(line), line


@pytest.mark.parametrize("page", [*DOCS, *NOTEBOOKS], ids=page_name)
def test_commands_in_sentences_exist(page):
    for line in re.findall(r"`(genrecls [^`\"\n]+)", page.read_text(encoding="utf-8")):
        assert not wrong_words(line), line


def test_wrong_commands_are_found():
    assert wrong_words("genrecls trian my_music") == ["trian"]
    assert wrong_words("genrecls predict song.mp3 --hop 1 --json") == ["--hop"]
    assert wrong_words("genrecls weights status  # a comment") == []


@pytest.mark.slow
def test_first_code_of_the_readme_trains_and_predicts(small_corpus, song, capsys):
    shutil.copytree(small_corpus, "my_music")
    copy_weights(Path.cwd())
    [block] = code_blocks(PROJECT / "README.md", "python")
    assert len([line for line in block.splitlines() if line]) <= 6
    names = {}
    exec(block, names)
    assert names["classifier"].folder == Path.cwd() / "models/my_music/musicnn-default"
    assert capsys.readouterr().out.split(" {")[0].splitlines()[-1] in LABELS
    assert Path("song.png").read_bytes().startswith(b"\x89PNG")


def test_code_of_the_documentation_predicts_with_a_saved_model(bundle, song, capsys):
    shutil.copytree(bundle, "models/my_music/musicnn-default")
    exec(find_block("docs/your_own_music.md", "prediction.plot()"), {})
    assert capsys.readouterr().out.split(" {")[0] in (*GENRES, "not sure")
    assert Path("song.png").read_bytes().startswith(b"\x89PNG")


def test_code_of_the_documentation_turns_a_song_into_images(song):
    names = {}
    exec(find_block("docs/models.md", "load_audio"), names)
    assert names["log_mels"].shape == (2, 128, 323)
    assert names["images"].shape == (2, 128, 323, 3)


def test_first_code_of_the_documentation_is_that_of_the_readme():
    pages = (PROJECT / "README.md", PROJECT / "docs" / "getting_started.md")
    readme, documentation = (code_blocks(page, "python") for page in pages)
    assert readme == documentation


def test_code_of_the_documentation_trains_a_model_and_an_estimator(short_corpus, song, capsys):
    shutil.copytree(short_corpus, "my_music")
    copy_weights(Path.cwd())
    training = find_block("docs/models.md", "mixup")
    exec(training.replace("epochs=20", "epochs=1"), {})
    assert Path("models/my_music/compact_cnn-default-epochs-1-mixup-0.0").is_dir()
    exec(find_block("docs/models.md", "GroupKFold"), {})
    assert re.search(r"\[[\d. ]+\]\n$", capsys.readouterr().out)


@pytest.mark.slow
def test_code_of_the_documentation_trains_and_compares_a_builder(small_corpus, song):
    shutil.copytree(small_corpus, "my_music")
    names = {}
    exec(find_block("docs/adding_a_model.md", "def small_net"), names)
    assert names["run"].name.startswith("small_net")
    assert names["predictions"]["run"].nunique() == 2
    assert Path("reports/my_music/report.html").is_file()


def test_shown_files_are_copied_from_the_reports(tmp_path):
    (tmp_path / "reports" / "demo").mkdir(parents=True)
    (tmp_path / "reports" / "demo" / "t.md").write_text("| made |\n")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text("<!-- include: reports/shown/demo/t.md -->\n<!-- end -->")
    copy_shown(page, tmp_path / "reports", tmp_path)
    assert "| made |" in include_files(page, tmp_path)


def test_included_files_replace_the_former_text(tmp_path):
    (tmp_path / "t.md").write_text("| new |\n")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- include: t.md -->\n| old |\n<!-- end -->\nb\n")
    assert include_files(page, tmp_path) == "a\n<!-- include: t.md -->\n| new |\n<!-- end -->\nb\n"


def test_included_tables_can_have_chosen_columns(tmp_path):
    (tmp_path / "t.md").write_text("| a | F1, b | c |\n| --- | ---: | --- |\n| x\\|y | 1 | z |\n")
    page = tmp_path / "page.md"
    page.write_text("<!-- include: t.md columns: F1, b; a -->\n<!-- end -->\n")
    table = "| F1, b | a |\n| ---: | --- |\n| 1 | x\\|y |\n"
    assert table in include_files(page, tmp_path)


def test_included_tables_can_have_chosen_rows(tmp_path):
    (tmp_path / "t.md").write_text("| a | b |\n| --- | --- |\n| x | 1 |\n| y | 2 |\n| z | 3 |\n")
    page = tmp_path / "page.md"
    for rows in ("z; x", "z; *x"):
        page.write_text(f"<!-- include: t.md columns: b rows: {rows} -->\n<!-- end -->\n")
        assert "| b |\n| --- |\n| 3 |\n| 1 |\n<!-- end -->" in include_files(page, tmp_path)


def test_missing_columns_and_rows_are_an_error():
    table = "| a |\n| --- |\n| 1 |\n"
    with pytest.raises(ValueError, match="no column 'b'"):
        select(table, ["b"])
    with pytest.raises(ValueError, match="no row '2'"):
        select(table, ["a"], ["2"])


def test_included_tables_name_their_version_and_date(tmp_path):
    Report("A title", tmp_path).table("t", pd.DataFrame({"a": [1]}))
    page = tmp_path / "page.md"
    page.write_text("<!-- include: t.md -->\n<!-- end -->\n")
    line = rf"\n\*Measured with genrecls {re.escape(genrecls.__version__)} on \d{{4}}-\d\d-\d\d\.\*"
    assert re.search(line, include_files(page, tmp_path))


def find_fault(file):
    """Return why a shown table or figure must be made again, or None."""
    if file.suffix == ".png":
        made = Image.open(file).info.get("Software", "").removeprefix("genrecls ")
    else:
        text = file.read_text(encoding="utf-8")
        found = STAMP.search(text)
        if not found or stamp(text[: found.start()]).split(", ")[2] != found[0].split(", ")[2]:
            return "edited by hand"
        made = found[1]
    return None if made.split(".")[:2] == genrecls.__version__.split(".")[:2] else f"made by {made}"


RESULTS = sorted(SHOWN.rglob("*.*"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_shown_results_are_of_this_version(file):
    assert find_fault(file) is None


def test_commands_that_measure_real_music_exist(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "tools")
    commands = importlib.import_module("measure_real").list_commands("real", "other")
    assert commands
    for _, first, *words in commands:
        if first == "-m":
            assert not wrong_words(shlex.join(words))
        else:
            assert Path(first).is_file()


def test_old_and_edited_results_are_found(tmp_path, monkeypatch):
    report = Report("A title", tmp_path)
    report.table("t", pd.DataFrame({"a": [1]}))
    report.figure("f", plt.figure(), "A caption")
    assert find_fault(tmp_path / "t.md") is find_fault(tmp_path / "f.png") is None
    text = (tmp_path / "t.md").read_text()
    (tmp_path / "t.md").write_text(text.replace("| 1 |", "| 2 |"))
    assert find_fault(tmp_path / "t.md") == "edited by hand"
    (tmp_path / "t.md").write_text(text)
    version = genrecls.__version__
    monkeypatch.setattr(genrecls, "__version__", "99.9.0")
    for name in ("t.md", "f.png"):
        assert find_fault(tmp_path / name) == f"made by {version}"


@pytest.mark.parametrize("name", ["a|b", "<script>", "*x*", "a\nb", "Имя 🎹 & 'quotes', comma"])
def test_names_do_not_break_tables(name):
    text = markdown(pd.DataFrame({"name": [name], "n": [1]}))
    assert len(text.splitlines()) == 3 and "<" not in text
    assert text.splitlines()[2].count("|") == 3
