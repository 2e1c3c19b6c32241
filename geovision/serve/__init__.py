"""HTTP server of an image classification model: prediction API and web page."""

from geovision.serve.limits import ServerLimits
from geovision.serve.server import ServerAddress, run_server

__all__ = ["ServerAddress", "ServerLimits", "run_server"]
