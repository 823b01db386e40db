"""Write the API reference as HTML pages: ``python tools/api_reference.py FOLDER``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pdoc

import genrecls


def write_reference(folder: Path) -> None:
    """Write a page for genrecls and one for each of its modules, linked from ``index.html``."""
    found = pkgutil.walk_packages(genrecls.__path__, "genrecls.")
    modules = [module for module in found if not module.name.endswith("__main__")]
    # pdoc documents the names that are present, and lazy names are present only after their use.
    for package in (genrecls, *(importlib.import_module(m.name) for m in modules if m.ispkg)):
        names = getattr(package, "__all__", ())
        vars(package).update({name: getattr(package, name) for name in names})
    pdoc.render.configure(docformat="numpy", footer_text=f"genrecls {genrecls.__version__}")
    pdoc.pdoc("genrecls", *(module.name for module in modules), output_directory=folder)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
