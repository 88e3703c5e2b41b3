"""The documentation site: `sphinx-build -W -b html docs docs/_build/html`."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "gatjax"
author = "the authors of gatjax"
release = version = installed_version("gatjax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "api",
]
exclude_patterns = ["_build", "_ext"]

# Docstrings are Markdown inside: `api` turns their fences into code or mathematics; a name in backticks is a link.
default_role = "py:obj"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__"}
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_attr_annotations = False
napoleon_use_ivar = True
maximum_signature_line_length = 78

# Pages are Markdown. Notebooks are stored as they were run, which the slow tests do.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"

html_theme = "furo"
html_title = f"gatjax {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["gatjax.css"]
mathjax3_config = {"chtml": {"scale": 0.92, "displayAlign": "left", "displayIndent": "1em"}}
