"""The notebooks as they are committed, and a run of all of them on a small corpus."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import copy_weights
from PIL import Image

from tools.run_notebooks import compress_png, run_notebooks

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 1_000_000
MAX_CELLS = 15
MAX_LINES = 10
MAX_COLUMNS = 8

# Cheap settings: two epochs, and no training of InceptionResNetV2.
PARAMETERS = {
    "CHANGES": {"epochs": 2},
    "TRAININGS": [["default", "efficientnet_lite0", {"weights": None, "fine_tune_epochs": 1}]],
    "RUNS": [f"{name}-epochs-2" for name in ("cnn-original", "cnn-default", "compact_cnn-default")],
    "REPEATS": 1,
}


def code_cells(notebook):
    return [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_committed_notebook_has_few_short_cells(notebook):
    """A notebook calls the library; it does not contain programs."""
    cells = code_cells(notebook)
    assert len(cells) <= MAX_CELLS
    assert max(len(cell.source.splitlines()) for cell in cells) <= MAX_LINES


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_committed_notebook_is_executed_in_order_without_errors(notebook):
    """A reader sees the results of one run from top to bottom, in a file of moderate size."""
    cells = code_cells(notebook)
    assert notebook.stat().st_size < MAX_BYTES
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]


def count_columns(html):
    """Count the columns of a table that pandas has written, without its index."""
    return html.rpartition("<tr>")[2].count("<td>")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_committed_notebook_has_narrow_tables(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    tables = [output.data.get("text/html", "") for output in outputs if "data" in output]
    assert max(map(count_columns, tables), default=0) <= MAX_COLUMNS


def test_columns_of_a_table_are_counted():
    table = pd.DataFrame({"a": [1, 2], "b": 3, "c": 4}).set_index("a")
    assert count_columns(table.to_html()) == 2


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_first_cell_states_purpose_and_time(notebook):
    text = nbformat.read(notebook, 4).cells[0].source
    assert re.match(r"# \d+ · .+\n\nAt the end of this notebook you will (know|have) ", text)
    assert re.search(r"\bIt takes .+(second|minute)s?\b", text)


def test_notebooks_tell_one_story():
    """Each notebook ends with a link to the next one."""
    for notebook, following in pairwise(NOTEBOOKS):
        assert f"]({following.name})." in nbformat.read(notebook, 4).cells[-1].source


@pytest.mark.parametrize(("number", "name"), [(3, "transfer"), (7, "leak")])
def test_committed_notebooks_show_the_present_results_on_real_music(number, name):
    outputs = [o for cell in code_cells(NOTEBOOKS[number - 1]) for o in cell.outputs]
    shown = "".join(output.data.get("text/html", "") for output in outputs if "data" in output)
    table = (PROJECT / "reports" / "shown" / "real" / f"{name}.md").read_text(encoding="utf-8")
    intervals = set(re.findall(r"[+-]?\d\.\d+ \([^)]*\)", table))
    assert intervals and all(interval in shown for interval in intervals)


def test_two_notebooks_install_the_package_in_colab():
    first, second = (code_cells(NOTEBOOKS[i])[0].source for i in (0, 8))
    assert first == second and 'if "google.colab" in sys.modules:' in first


def test_figures_are_compressed_without_losing_colours():
    """A colour bar keeps its colours beside a large figure in other ones."""
    bar = np.linspace([255, 0, 0], [0, 0, 255], 64).astype("uint8")
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 1), "uint8").repeat(3, axis=2)
    noise[:64, 0] = bar
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "png")
    png = compress_png(b64encode(file.getvalue()).decode())
    small = np.asarray(Image.open(io.BytesIO(b64decode(png))).convert("RGB")).astype(int)
    assert len(png) < 0.5 * len(b64encode(file.getvalue()))
    assert np.abs(small - noise).max() < 16


def test_run_notebooks_runs_a_copy_again_with_other_parameters(home, monkeypatch):
    folder = home / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOKS[0], folder)
    runs = []

    def execute(source, copy, parameters, **_):
        runs.append(dict(parameters))
        shutil.copyfile(source, copy)

    monkeypatch.setattr("papermill.execute_notebook", execute)
    two = {"CHANGES": {"epochs": 2}}
    for parameters in (two, two, {}, {}):
        [copy] = run_notebooks(home / "data" / "demo", **parameters)
    assert runs == [two, {}]
    assert "parameters" not in json.loads(copy.read_text(encoding="utf-8"))["metadata"]


@pytest.mark.slow
def test_run_notebooks_executes_all_cells_of_all_notebooks(short_corpus, tmp_path):
    """Each notebook runs after the ones before it, from an empty project folder."""
    shutil.copytree(PROJECT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(PROJECT / "reports" / "shown", tmp_path / "reports" / "shown")
    copy_weights(tmp_path)
    settings = [f"--set={name}={json.dumps(value)}" for name, value in PARAMETERS.items()]
    done = subprocess.run(
        [sys.executable, PROJECT / "tools" / "run_notebooks.py", short_corpus, *settings],
        env={**os.environ, "GENRECLS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    copies = sorted((tmp_path / "reports" / "small" / "notebooks").glob("*.ipynb"))
    assert [copy.name for copy in copies] == [notebook.name for notebook in NOTEBOOKS]
    for copy in copies:
        assert all(cell.execution_count for cell in code_cells(copy)), copy.name
