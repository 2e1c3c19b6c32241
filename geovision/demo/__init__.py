"""Demonstration of all tasks, from generated files to a local page."""

from geovision.demo.runner import run_demo

__all__ = ["run_demo"]
