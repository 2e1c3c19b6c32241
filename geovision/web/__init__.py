"""Web page for phones: static files, ONNX runtime for the browser, and export with a model."""

from geovision.web.browser_runtime import browser_runtime, bundle_runtime
from geovision.web.site import MODES, Mode, validate_page_metadata, write_model_site, write_site

__all__ = [
    "MODES",
    "Mode",
    "browser_runtime",
    "bundle_runtime",
    "validate_page_metadata",
    "write_model_site",
    "write_site",
]
