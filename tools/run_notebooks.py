"""The numbered notebooks, run top to bottom on a corpus."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .config import GenreclsError, hash_json, project_root
from .corpus import Corpus
from .files import hash_file

_STAMP = "genrecls"


def run_notebooks(corpus: str | Path, **parameters) -> list[Path]:
    """Run every notebook on a corpus, or find its executed copy up to date.

    Parameters
    ----------
    corpus : str or Path
        Folder or ``tracks.csv``; becomes the parameter ``CORPUS`` of the notebooks.
    **parameters
        Other parameters of the notebooks.

    Returns
    -------
    list of Path
        The executed copies, in ``reports/<corpus>/notebooks/``.

    Raises
    ------
    GenreclsError
        If there are no notebooks.
    papermill.PapermillExecutionError
        If a cell fails; the copy then shows how far it came.
    """
    import papermill
    from jupyter_core.paths import jupyter_runtime_dir
    from traitlets.config import Config

    sources = project_root() / "notebooks"
    notebooks = sorted(sources.glob("[0-9]*.ipynb"))
    if not notebooks:
        raise GenreclsError(
            f"no notebooks in {str(sources)!r}; run this in a checkout of genrecls, "
            f"or set GENRECLS_HOME to one"
        )
    # Talk to the kernel through files rather than open ports, where their names are not too long.
    files = os.name == "posix" and len(jupyter_runtime_dir()) < 50
    # Jupyter warns unless it is told whether to use the platform's folders.
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    name = Corpus.corpus_name(corpus)
    if Path(corpus).resolve() != (project_root() / "data" / "demo").resolve():
        parameters["CORPUS"] = os.path.relpath(corpus, sources)
    folder = project_root() / "reports" / name / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    state = _runs_state(name)
    executed = []
    for source in notebooks:
        copy = folder / source.name
        stamp = hash_json([_code(source), state, parameters])
        if _stamp_of(copy) != stamp:
            papermill.execute_notebook(
                str(source),
                str(copy),
                parameters,
                cwd=str(sources),
                kernel_name="python3",
                config=Config(KernelManager={"transport": "ipc" if files else "tcp"}),
            )
            _write_stamp(copy, stamp)
        executed.append(copy)
    return executed


def _code(notebook: Path) -> list[str]:
    """The cells without their outputs."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells]


def _runs_state(corpus_name: str) -> str:
    """What the notebooks show that is not in them: runs of the corpus, and what is published."""
    cards = sorted((project_root() / "models" / corpus_name).glob("[!.]*/card.json"))
    uids = [json.loads(card.read_text(encoding="utf-8"))["uid"] for card in cards]
    shown = sorted(project_root().glob("reports/shown/*/*"))
    return "".join([*uids, *(hash_file(file) for file in shown)])


def _stamp_of(copy: Path) -> str | None:
    if not copy.exists():
        return None
    return json.loads(copy.read_text(encoding="utf-8"))["metadata"].get(_STAMP)


def _write_stamp(copy: Path, stamp: str) -> None:
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    # Without papermill's record of paths and times.
    notebook["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        _STAMP: stamp,
    }
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
    copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
