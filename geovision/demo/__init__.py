"""The demonstration: every task of the registry, from generated files to one local page."""

from geovision.demo.demonstrate import run

__all__ = ["run"]
