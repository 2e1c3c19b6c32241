"""A model behind a page: a server that answers pictures, and hands out the page that does so on a phone."""

from geovision.serve.limits import ServerLimits
from geovision.serve.server import ServerAddress, run_server

__all__ = ["ServerAddress", "ServerLimits", "run_server"]
