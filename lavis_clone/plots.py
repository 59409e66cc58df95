"""Curves of jobs as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lavis_clone.common.files import FileError, atomic_path
from lavis_clone.jobs import curves

UNTOLD = ("memory_gb", "samples_per_second", "data_wait", "best/")
"""Starts of names that are not drawn unless they are asked for."""
NUM_COLUMNS = 3
PANEL = (4.5, 3.2)
"""Width and height of one set of axes, in inches."""
DOTS = 120
"""Per inch."""


def plot_jobs(folders: Sequence[Path], target: Path, names: Sequence[str] = ()) -> Path:
    """Draw the numbers of jobs over optimizer steps: a panel for each name, a line for each job.

    Args:
        names: Which; empty for losses, rates and scores.

    Raises:
        FileError: a job has no numbers, or none of these names.
        ImportError: matplotlib is not installed.
    """
    found = {folder: curves(folder) for folder in folders}
    for folder, numbers in found.items():
        if not numbers:
            raise FileError(f"{folder} holds no metrics.jsonl with numbers")
    known = list(dict.fromkeys(name for numbers in found.values() for name in numbers))
    shown = [n for n in known if n in names or (not names and not n.startswith(UNTOLD))]
    if missing := [name for name in names if name not in known]:
        raise FileError(f"no job has numbers named {missing[0]!r}; there are {', '.join(known)}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plot needs the Python package 'matplotlib': pip install 'lavis_clone[log]'"
        ) from error
    num_columns = min(NUM_COLUMNS, len(shown))
    num_rows = -(-len(shown) // num_columns)
    size = (PANEL[0] * num_columns, PANEL[1] * num_rows)
    figure = Figure(figsize=size, dpi=DOTS, layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for panel, name in zip(panels, shown, strict=False):
        for folder, numbers in found.items():
            if points := numbers.get(name):
                steps, values = zip(*points, strict=True)
                panel.plot(steps, values, label=folder.name, marker="." if len(steps) < 30 else "")
        panel.set_title(name)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    if len(folders) > 1:
        panels[0].legend(fontsize="small")
    with atomic_path(target) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
    return target
