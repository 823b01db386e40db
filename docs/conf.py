"""Settings of the documentation, which ``make docs`` builds in ``docs/_build/html/``.

Sphinx reads from the root of the repository, so that pages and notebooks link to each other by the
same paths as on the host of a repository. The pages need no network, neither to build nor to read.
"""

import importlib
import inspect
import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

import genrecls
from genrecls.cli import app as cli

DOCS = Path(__file__).parent

project = "genrecls"
author = copyright = "The genrecls authors"
version = release = genrecls.__version__

root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/api/*.rst", "notebooks/*", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "data", "docs/_build", "genrecls", "models", "reports", "tests"]
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
# Every link within the project is checked; the types of other packages have no pages here.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!genrecls\b).*")]

# Quotes and dashes are as they are typed: "--model" is an option.
smartquotes = False
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"genrecls {release}"
html_extra_path = ["_html"]
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
# A site of thirty pages has them all at its side, in place of a choice of five on top.
html_sidebars = {"**": ["all_pages.html"]}
html_theme_options = {
    "navbar_center": [],
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
templates_path = ["_templates"]


def write_api_page(name: str) -> None:
    """Write the page of a package, with everything that its stub exports."""
    package = importlib.import_module(name)
    stub = Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    lines = [name, "=" * len(name), f".. automodule:: {name}\n   :no-members:\n"]
    names, entries, elsewhere = [], [], []
    for module, exported in re.findall(r"^from \.(\S+) import (\w+)", stub, re.MULTILINE):
        if name != "genrecls" and exported in genrecls.__all__:
            elsewhere.append(f":py:obj:`~genrecls.{exported}`")
            continue
        value = getattr(package, exported)
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
        # Autodoc finds the comment of a constant only in the module that defines it.
        names.append(f"{module}.{exported}" if kind == "data" else exported)
        # The values of a dictionary may be functions, which have no short form.
        no_value = ":no-value:" if isinstance(value, dict) else ""
        option = ":members:" if kind == "class" else no_value
        entries.append(f".. auto{kind}:: {name}.{names[-1]}\n   {option}\n")
    if elsewhere:
        lines.append(f"Described in :py:mod:`genrecls`: {', '.join(elsewhere)}.\n")
    if names:
        lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {n}" for n in names), ""]
    (DOCS / "api" / f"{name}.rst").write_text("\n".join(lines + entries), encoding="utf-8")


def write_command_help() -> None:
    """Write the help of all commands, for the page of the commands."""
    command = get_command(cli)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="genrecls", indent=1)
    # The list of commands with their help cut off repeats the headings.
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", text)
    (DOCS / "api" / "commands.txt").write_text(text, encoding="utf-8")


(DOCS / "api").mkdir(exist_ok=True)
for stub in (DOCS.parent / "genrecls").rglob("__init__.pyi"):
    write_api_page(".".join(stub.relative_to(DOCS.parent).parts[:-1]))
write_command_help()


def write_formula(translator, node):
    """Write a formula as MathML, which browsers show without a script."""
    translator.body.append(tex2mathml(node.astext(), as_block=node.tagname == "math_block"))
    raise nodes.SkipNode


def keep_intervals_together(app, doctree):
    """Join the ends of intervals, such as 0.85–0.95, by characters that prevent a line break."""
    for text in list(doctree.findall(nodes.Text)):
        joined = re.sub(r"(?<=\d)–(?=\d)", "\u2060–\u2060", text)
        if joined != text:
            text.parent.replace(text, nodes.Text(joined))


def setup(app):
    """Add what the extensions lack."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    app.connect("doctree-read", keep_intervals_together)
