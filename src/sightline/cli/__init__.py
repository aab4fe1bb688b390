"""The command line: thin, no logic of its own. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done; 1 done, but some pictures could not be read; 2 the request cannot be carried out, said in one
sentence; 130 interrupted; 141 nobody reads the output. Nothing heavy is imported before a command needs it.
"""

from sightline.cli.main import app, main

__all__ = ["app", "main"]
