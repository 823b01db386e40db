"""Run the numbered notebooks on a corpus: ``python tools/run_notebooks.py CORPUS``.

The executed copies go to ``reports/<corpus>/notebooks/``. A copy that was run with the same
parameters, and is newer than its notebook and than the trained models, is not run again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from base64 import b64decode, b64encode
from pathlib import Path

import papermill
from jupyter_core.paths import jupyter_runtime_dir
from PIL import Image
from traitlets.config import Config

import genrecls
from genrecls._utils.paths import data_dir, expand_user, models_dir, project_root, reports_dir
from genrecls.errors import GenreclsError


def run_notebooks(corpus: str | Path, *, only: str = "", **parameters) -> list[Path]:
    """Run every notebook on a corpus, or find its executed copy up to date.

    Parameters
    ----------
    corpus : str or Path
        Folder or ``tracks.csv``; it becomes the parameter ``CORPUS`` of the notebooks.
    only : str
        Run only the notebooks whose name begins like this, such as ``"03"``.
    **parameters
        Other parameters of the notebooks.

    Returns
    -------
    list of Path
        The executed copies.

    Raises
    ------
    GenreclsError
        If there are no notebooks.
    papermill.PapermillExecutionError
        If a cell fails; the finished cells are in a hidden file beside the copy.
    """
    corpus, sources = expand_user(corpus), project_root() / "notebooks"
    notebooks = sorted(sources.glob(f"{only or '[0-9]'}*.ipynb"))
    if not notebooks:
        raise GenreclsError(f"no notebooks in {str(sources)!r}; run this in a checkout of genrecls")
    # Files connect to the kernel without open ports, where their paths are short enough.
    files = os.name == "posix" and len(jupyter_runtime_dir()) < 50
    # Jupyter warns unless this states whether to use the platform's folders.
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    name = genrecls.Corpus.corpus_name(corpus)
    if Path(corpus).resolve() != (data_dir() / "demo").resolve():
        parameters["CORPUS"] = os.path.relpath(corpus, sources)
    folder = reports_dir() / name / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    executed = []
    for source in notebooks:
        copy = folder / source.name
        if not _up_to_date(copy, source, name, parameters):
            partial = copy.with_name(f".{copy.name}")
            papermill.execute_notebook(
                str(source),
                str(partial),
                parameters,
                cwd=str(sources),
                kernel_name="python3",
                config=Config(KernelManager={"transport": "ipc" if files else "tcp"}),
            )
            _clean(partial, parameters)
            os.replace(partial, copy)
        executed.append(copy)
    return executed


def _up_to_date(copy: Path, source: Path, corpus_name: str, parameters: dict) -> bool:
    inputs = [source, *(models_dir() / corpus_name).glob("[!.]*/card.json")]
    if not copy.exists() or copy.stat().st_mtime <= max(file.stat().st_mtime for file in inputs):
        return False
    metadata = json.loads(copy.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("parameters", {}) == parameters


def _clean(copy: Path, parameters: dict) -> None:
    """Replace papermill's metadata by the parameters, and compress the figures."""
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    notebook["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    if parameters:
        notebook["metadata"]["parameters"] = parameters
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        for data in (output.get("data", {}) for output in cell.get("outputs", ())):
            if "image/png" in data:
                data["image/png"] = compress_png(data["image/png"])
    copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def compress_png(png: str) -> str:
    """Reduce a figure to 256 colours, which makes it a third as large."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(b64decode(png))) as image:
        # The usual method, median cut, loses the rare colours of a colour bar.
        image = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        image.save(file, "png", optimize=True)
    return b64encode(file.getvalue()).decode()


def main() -> None:
    """Read the command line and run the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", type=Path, default=data_dir() / "demo")
    parser.add_argument("--only", default="", help="first characters of the names, such as 03")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help='a parameter, such as CHANGES={"epochs": 2}',
    )
    options = parser.parse_args()
    parameters = {}
    for item in options.set:
        name, _, value = item.partition("=")
        parameters[name] = json.loads(value)
    for notebook in run_notebooks(options.corpus, only=options.only, **parameters):
        print(f"up to date: {notebook}")


if __name__ == "__main__":
    main()
