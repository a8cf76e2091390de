"""The command line: arguments in, exit code out. One file per command, imported when it is used."""

from onnxsal.cli.group import cli, main

__all__ = ["cli", "main"]
