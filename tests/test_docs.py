"""Docstrings: their examples run. Sphinx checks the rest when it builds the documentation."""

import doctest
import importlib
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import copy_weights

import genrecls

ROOT = Path(genrecls.__file__).parent
MODULES = [
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(ROOT.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]
ERRORS = {"AudioError", "AudioWarning", "GenreclsError", "__version__"}


@pytest.fixture(scope="module")
def desk(music, bundle, tmp_path_factory):
    """A project folder with what the examples name: a song, some music, and a model of it."""
    desk = tmp_path_factory.mktemp("desk")
    shutil.copytree(bundle, desk / "models" / "music" / bundle.name)
    shutil.copytree(music, desk / "music")
    copy_weights(desk)
    sound = np.random.default_rng(0).normal(0, 0.1, (32 * 44100, 2))
    soundfile.write(desk / "song.mp3", sound, 44100)
    return desk


@pytest.fixture
def at_desk(desk, monkeypatch):
    monkeypatch.setenv("GENRECLS_HOME", str(desk))
    monkeypatch.chdir(desk)
    for option in ("display.width", "display.max_columns"):
        pd.reset_option(option)


@pytest.mark.parametrize("module", MODULES)
def test_module_examples_run(module, at_desk, capsys):
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted > failed == 0, capsys.readouterr().out


def test_public_names_have_an_example():
    for name in set(genrecls.__all__) - ERRORS:
        text = inspect.getdoc(getattr(genrecls, name))
        assert re.search(r"^Examples\n-+\n>>> ", text, re.MULTILINE), name


def test_reference_lists_every_package_that_exports_names():
    stubs = [stub.relative_to(ROOT.parent) for stub in ROOT.rglob("__init__.pyi")]
    text = (ROOT.parent / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (genrecls[\w.]*)$", text, re.MULTILINE)
    assert listed == sorted(".".join(stub.parts[:-1]) for stub in stubs)
