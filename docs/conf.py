"""Configuration of the documentation, which `make docs` builds with warnings as errors."""

import os
import sys
from pathlib import Path

import geovision

sys.path.insert(0, str(Path(__file__).parent))  # gallery_figures

project = "geovision"
author = "The geovision developers"
copyright = "The geovision developers, Apache-2.0"
version = release = geovision.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_external_toc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]

# The table of contents is a file, so that pages show no directives on GitHub.
external_toc_path = "_toc.yml"
suppress_warnings = ["etoc.toctree"]  # the gallery writes its own, which _toc.yml repeats

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# In the docstrings a name in single backticks is code.
default_role = "code"

smartquotes_action = "qe"  # two hyphens begin an option

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "abort_on_example_error": True,
    "image_scrapers": ("matplotlib", "gallery_figures"),
    "capture_repr": (),
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "min_reported_time": 3600,
    "plot_gallery": os.environ.get("GEOVISION_GALLERY", "1") == "1",
    "copyfile_regex": r".*\.py",
}

html_theme = "furo"
html_title = f"geovision {release}"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
