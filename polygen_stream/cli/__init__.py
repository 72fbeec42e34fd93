"""The command line: one module per group of commands, entered through `main`."""

from polygen_stream.cli.entry import app, main

__all__ = ["app", "main"]
