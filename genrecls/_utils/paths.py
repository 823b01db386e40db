"""Folders of a project, and of the user outside a project."""

import os
from pathlib import Path

import platformdirs


def expand_user(path: str | os.PathLike) -> Path:
    """Replace ``~`` at the beginning of a path, unless it is part of a name such as ``~old``."""
    return Path(os.path.expanduser(path))


def find_project() -> Path | None:
    """Find the folder of the project, the current one or one above it."""
    if home := os.environ.get("GENRECLS_HOME"):
        return expand_user(home).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return None


def project_root() -> Path:
    """Return the folder for results: that of the project, or else the current one."""
    return find_project() or Path.cwd()


def data_dir() -> Path:
    """Return the folder for computed data, ``data/``."""
    # Outside a project, the current folder stays clean.
    project = find_project()
    return project / "data" if project else platformdirs.user_cache_path("genrecls")


def models_dir() -> Path:
    """Return the folder for trained models, ``models/``."""
    return project_root() / "models"


def reports_dir() -> Path:
    """Return the folder for reports, ``reports/``."""
    return project_root() / "reports"
