"""Demonstration of every task in the registry, from generated files to one local page."""

from geovision.demo.runner import run_demo

__all__ = ["run_demo"]
