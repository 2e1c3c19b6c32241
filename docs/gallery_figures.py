"""Image scraper of sphinx-gallery for figures that are not registered with pyplot.

geovision returns `matplotlib.figure.Figure` objects and leaves the global state of pyplot alone, so the
scraper of sphinx-gallery for matplotlib does not find them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def _get_sg_image_scraper() -> Callable[..., str]:
    """Return the scraper; sphinx-gallery calls this function by its name."""
    return save_figures


def save_figures(block: Any, block_vars: Mapping[str, Any], gallery_conf: Mapping[str, Any]) -> str:
    """Save the figures that a block of a script assigned to a variable, and return their reStructuredText."""
    variables = block_vars["example_globals"]
    saved = variables.setdefault("_saved_figures", [])
    paths = []
    for value in list(variables.values()):
        # A figure of pyplot has a number, and the other scraper saves it.
        if not isinstance(value, Figure) or hasattr(value, "number") or any(value is each for each in saved):
            continue
        path = next(block_vars["image_path_iterator"])
        value.savefig(path, dpi=90, bbox_inches="tight")
        saved.append(value)
        paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])
