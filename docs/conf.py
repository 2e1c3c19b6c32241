"""How the documentation is built: `make docs`, where a warning is an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import geovision

project = "geovision"
author = "The geovision developers"
copyright = "The geovision developers, Apache-2.0"
version = release = geovision.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "from_the_code",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# In the docstrings a name in single backticks is code.
default_role = "code"

smartquotes_action = "qe"  # two hyphens begin an option

html_theme = "furo"
html_title = f"geovision {release}"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
