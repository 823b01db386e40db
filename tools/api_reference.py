"""The API reference as HTML pages, from the docstrings: ``python -m genrecls.reference FOLDER``."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

import genrecls
import genrecls.demo


def write_reference(folder: Path) -> None:
    """Write a page for genrecls and one for each of its modules; ``index.html`` leads there."""
    import pdoc

    # Names that are imported when they are used: pdoc looks for those that are there.
    for package in (genrecls, genrecls.demo):
        vars(package).update({name: getattr(package, name) for name in package.__all__})
    found = pkgutil.walk_packages(genrecls.__path__, "genrecls.")
    modules = [module.name for module in found if not module.name.endswith("__main__")]
    pdoc.render.configure(docformat="numpy", footer_text=f"genrecls {genrecls.__version__}")
    pdoc.pdoc("genrecls", *modules, output_directory=folder)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
