"""Runs a script that was written for LAVIS, unchanged: ``import lavis`` leads to lavis_clone.

python -m lavis_clone.as_lavis SCRIPT.py ARGS...

Module paths and names are those of LAVIS 1.0.2; ``docs/migration.md`` says what differs.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from lavis_clone.migration.finder import install


def main(arguments: Sequence[str]) -> None:
    """Run a script as ``python SCRIPT.py ARGS...`` would.

    Raises:
        SystemExit: there is no script, or it ends so.
    """
    if not arguments:
        sys.exit("usage: python -m lavis_clone.as_lavis SCRIPT.py ARGS...")
    script = Path(arguments[0])
    if not script.is_file():
        sys.exit(f"{script}: no such script")
    install()
    sys.argv = [str(script), *arguments[1:]]
    sys.path[0:0] = [str(script.resolve().parent)]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
