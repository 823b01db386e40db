"""Install the package without pins on the newest Python, and use it in another folder.

    python tools/smoke.py

The tests run with the versions of ``requirements.txt``. This script finds out whether the ranges in
``pyproject.toml`` are right: it installs what ``pip install .`` installs today.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.13", "3.12", "3.11")
MODEL = ("--model", "compact_cnn", "--preset", "default", "--epochs", "2")


def main() -> None:
    """Install the package and use it; the first step that fails ends the script."""
    start, here = time.perf_counter(), os.getcwd()
    with tempfile.TemporaryDirectory(prefix="genrecls-smoke-") as folder:
        os.chdir(folder)
        programs = install(Path("venv").absolute())
        installed = time.perf_counter()
        use(programs)
        os.chdir(here)
    used = time.perf_counter() - installed
    print(f"smoke: passed; installed in {installed - start:.0f} s, used in {used:.0f} s")


def install(venv: Path) -> Path:
    """Install the wheel with the newest versions of what it needs; return its programs."""
    run(find_python(), "-m", "venv", venv)
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would add files of former builds
    run(*pip, "wheel", "--no-deps", "--wheel-dir", ".", ROOT)
    run(*pip, "install", next(Path().glob("*.whl")))
    run(*pip, "check")
    version = run(programs / "python", "--version").strip()
    size = sum(file.lstat().st_size for file in venv.rglob("*")) / 1e9
    packages = [line.partition(" @")[0] for line in run(*pip, "freeze").splitlines()]
    print(f"smoke: {version}, {size:.2f} GB: {', '.join(packages)}", flush=True)
    return programs


def find_python() -> str:
    """Find the newest Python in the stated range that can make an environment."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in VERSIONS:
        for path in (f"python{version}", *pyenv.glob(f"versions/{version}.*/bin/python")):
            try:
                done = subprocess.run([path, "-c", "import ensurepip"], capture_output=True)
            except OSError:
                continue
            if done.returncode == 0:
                missing = f" (there is no Python {VERSIONS[0]})" if version != VERSIONS[0] else ""
                print(f"smoke: Python {version}{missing} ...", flush=True)
                return str(path)
    sys.exit(f"smoke: no Python {', '.join(VERSIONS)} with the module ensurepip is installed")


def use(programs: Path) -> None:
    """Decode, audit, train, compare, report and predict on a few tracks."""
    genrecls = programs / "genrecls"
    run(programs / "python", ROOT / "tools" / "smoke_music.py")
    run(genrecls, "audit", "music")
    run(genrecls, "train", "music", *MODEL)
    run(genrecls, "crossval", "music", "--model", "mfcc_svm", "--repeats", 1)
    run(genrecls, "evaluate", "music")
    run(genrecls, "report", "music")
    predictions = json.loads(run(genrecls, "predict", "music", "--json"))
    assert len(predictions) == 8, predictions
    for prediction in predictions:
        assert abs(sum(prediction["probabilities"].values()) - 1) < 1e-3, prediction
    assert Path("reports", "music", "report.html").stat().st_size > 100_000


def run(*words: object) -> str:
    """Run a program as in a new terminal, and return its output."""
    own = ("PYTHONPATH", "VIRTUAL_ENV", "KERAS_BACKEND")
    env = {name: value for name, value in os.environ.items() if name not in own}
    env["GENRECLS_HOME"] = os.getcwd()
    done = subprocess.run([*map(str, words)], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"smoke: {words} failed\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
