"""The notebooks as they are committed, and a run of all of them on a small corpus."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import copy_weights

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 1_500_000
MAX_CELLS = 15
MAX_LINES = 10

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


@pytest.mark.slow
def test_run_notebooks_executes_all_cells_of_all_notebooks(small_corpus, tmp_path):
    """Each notebook runs after the ones before it, from an empty project folder."""
    shutil.copytree(PROJECT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(PROJECT / "reports" / "shown", tmp_path / "reports" / "shown")
    copy_weights(tmp_path)
    settings = [f"--set={name}={json.dumps(value)}" for name, value in PARAMETERS.items()]
    done = subprocess.run(
        [sys.executable, PROJECT / "tools" / "run_notebooks.py", small_corpus, *settings],
        env={**os.environ, "GENRECLS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    copies = sorted((tmp_path / "reports" / "small" / "notebooks").glob("*.ipynb"))
    assert [copy.name for copy in copies] == [notebook.name for notebook in NOTEBOOKS]
    for copy in copies:
        assert all(cell.execution_count for cell in code_cells(copy)), copy.name
