"""The command line `ravlm`: each command parses options, calls one library function and prints."""

from ravlm.cli.app import main

__all__ = ["main"]
