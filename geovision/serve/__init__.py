"""A model behind a page: a server that answers pictures, and hands out the page that does so on a phone."""

from geovision.serve.limits import Limits
from geovision.serve.server import Address, run

__all__ = ["Address", "Limits", "run"]
