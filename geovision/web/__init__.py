"""The page for a phone: its own files, the browser's runtime, and what lays both beside a model."""

from geovision.web.browser_runtime import bring_own, browser_runtime
from geovision.web.site import MODES, Mode, check_page, lay_out, lay_out_model

__all__ = ["MODES", "Mode", "bring_own", "browser_runtime", "check_page", "lay_out", "lay_out_model"]
