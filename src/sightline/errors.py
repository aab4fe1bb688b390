"""What can go wrong in a way that a person can mend, said in one sentence.

Everything that a user can cause (a missing folder, an unknown name, a broken file) is raised as a
`SightlineError`. Its text is complete: what is wrong, where, and what to do. The command line prints it
and ends with exit code 2; any other exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os import PathLike


class SightlineError(Exception):
    """A request that cannot be carried out. The message is a whole sentence for the user."""


class UnreadableImage(SightlineError):
    """A picture that cannot be read; `path` names it (None for bytes or arrays), `reason` says why."""

    def __init__(self, path: str | PathLike[str] | None, reason: str) -> None:
        self.path = None if path is None else str(path)
        self.reason = reason
        super().__init__(f"{self.path or 'the picture'} cannot be read: {reason}.")

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str | None, str]]:
        # Exceptions cross process borders in the data loader; the default pickles only the message.
        return type(self), (self.path, self.reason)


class UnknownName(SightlineError):
    """A name that is not in a known list; the message suggests the near ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        close = near(name, known)
        if close:
            rest = f"did you mean {' or '.join(close)}?"
        elif len(known) <= 12:
            rest = f"known are {', '.join(known)}."
        else:
            rest = hint or f"there are {len(known)} known ones, such as {', '.join(known[:5])}."
        super().__init__(f"There is no {kind} called {name!r}; {rest}")


def near(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The up to `n` names in `known` that are spelled most like `name`, closest first."""
    return difflib.get_close_matches(name, list(known), n=n, cutoff=0.6)


class SaidByMain(SightlineError):
    """What the main one of several processes says to the user; the others end in silence."""
