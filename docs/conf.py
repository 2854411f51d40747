"""The manual: `sphinx-build -W -b html docs docs/_build`, which needs no network."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

# The installed package is documented: the source folder beside this one has no compiled modules.
root = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != root]

project = "ipv4"
author = "the authors of ipv4"
release = version = version_of("ipv4")
extensions = ["sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
default_role = "code"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
nitpicky = False
