"""The manual: `sphinx-build -W -b html docs docs/_build`, which needs no network."""

import sys
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path

here = Path(__file__).resolve().parent
# The installed package is documented: the source folder beside this one has no compiled modules.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here.parent]
sys.path.insert(0, str(here))

import manual  # noqa: E402

project = "ipv4"
author = copyright = "the authors of ipv4"
release = version = version_of("ipv4")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "manual",
]
exclude_patterns = ["_build", "drawings"]
nitpicky = False

# Single backticks: code, and a link where the name is known (manual.py).
default_role = "name"
inventory = Path(tempfile.mkdtemp()) / "python.inv"
manual.write_inventory(inventory)
intersphinx_mapping = {"python": ("https://docs.python.org/3", str(inventory))}

autodoc_member_order = "groupwise"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_aliases = {
    "address": ":term:`address`",
    "interface": ":term:`interface`",
    "IPv4Address": "ipaddress.IPv4Address",
    "None": ":name:`None`",
    "bytes-like": ":term:`bytes-like <buffer>`",
}
numpydoc_xref_ignore = {
    *("of", "or", "optional", "default", "sequence", "writable", "as", "for", "to"),
}

# Files of the repository that the manual includes link to each other there.
myst_heading_anchors = 2
suppress_warnings = ["myst.xref_missing"]

html_theme = "furo"
html_title = f"ipv4 {release}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
# Prompts and output are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div.highlight:not(.highlight-text *) > pre"
