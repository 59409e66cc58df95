"""How the command line ends: an error that a user can correct is one line, and no traceback."""

from __future__ import annotations

import dis
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lavis_clone.common.files import package_root

TOLD = (LookupError, OSError, TypeError, ValueError, RuntimeError, ImportError)
"""What the library raises for a wrong name, file, value, capability or checkpoint."""
RANKS = ("RANK", "SLURM_PROCID")
"""Where launchers say which process this is."""
RAISE = dis.opmap["RAISE_VARARGS"]


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn errors that the library raises on purpose into ``error: ...`` and exit status 2.

    Any other error is a bug, here or elsewhere, and keeps its traceback.
    """
    try:
        yield
    except TOLD as error:
        message = purpose_of(error)
        if message is None:
            raise
        for line in message.splitlines() or [type(error).__name__]:
            sys.stderr.write(f"{_who()}error: {line}\n")
        sys.exit(2)


def _who() -> str:
    """Which of several processes speaks; nothing, if it is the first or the only one."""
    rank = next((os.environ[name] for name in RANKS if os.environ.get(name)), "0")
    return "" if rank == "0" else f"rank {rank}: "


def purpose_of(error: BaseException) -> str | None:
    """The message of an error that a ``raise`` statement of this package raised, else None.

    That rules out what is raised by other packages, and by a call or an operator of ours that was
    given nonsense. An error in a process that loads data arrives as text, and is told by that.
    """
    trace = error.__traceback__
    if trace is None or isinstance(error, NotImplementedError):
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if _is_ours(code.co_filename) and code.co_code[trace.tb_lasti] == RAISE:
        return str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    text = str(error.args[0]) if error.args else ""
    return _purpose_in(text) if text.startswith("Caught ") and code.co_name == "reraise" else None


def _purpose_in(text: str) -> str | None:
    """The message at the end of a traceback's text, when a ``raise`` of ours ended it."""
    place, *rest = text.rpartition('\n  File "')[2].splitlines()
    statement = rest[0].strip() if rest else ""
    if not (_is_ours(place.partition('"')[0]) and statement.startswith("raise ")):
        return None
    told = "\n".join(itertools.dropwhile(lambda line: line.startswith(" "), rest))
    return told.partition(": ")[2]


def _is_ours(file_name: str) -> bool:
    return Path(file_name).is_relative_to(package_root())


@contextmanager
def ends_quietly() -> Iterator[None]:
    """Stop without a traceback at Ctrl-C, or when nobody reads the output any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
