"""Where the library's log goes: to the terminal, and to ``console.log`` in the job's directory."""

from __future__ import annotations

import logging
import sys

from lavis_clone.common.context import RunContext

ROOT = "lavis_clone"
FILE_NAME = "console.log"


def setup_logging(context: RunContext, *, level: int = logging.INFO) -> None:
    """Log what the library says; again for another job, whose file then takes the place.

    Rank 0 logs from ``level`` on, to both places; the others their warnings, to the terminal.
    """
    close_logging()
    root = logging.getLogger(ROOT)
    who = "" if context.is_main else f"rank {context.rank} "
    form = logging.Formatter(f"%(asctime)s %(levelname)s {who}%(message)s")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if context.is_main:
        context.output_dir.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(context.output_dir / FILE_NAME, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(form)
        handler.set_name(ROOT)
        root.addHandler(handler)
    root.setLevel(level if context.is_main else max(level, logging.WARNING))


def close_logging() -> None:
    """Take away what ``setup_logging`` set up."""
    root = logging.getLogger(ROOT)
    for handler in [h for h in root.handlers if h.get_name() == ROOT]:
        root.removeHandler(handler)
        handler.close()
