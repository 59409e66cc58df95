"""Does the same with many things in several threads, and can be interrupted."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_END = 3.0
"""How long to wait for the threads after Ctrl-C; the process ends those that are left."""


class Stopped(OSError):
    """Work was called off; what has been done is kept."""


def in_threads(
    items: Sequence[Item], work: Callable[[Item], object], *, number: int, stop: threading.Event
) -> list[Exception]:
    """Call ``work`` for all items, some at a time.

    Args:
        number: How many at a time.
        stop: Is set at Ctrl-C; ``work`` should then raise ``Stopped`` soon.

    Returns:
        What was raised; the other items are done.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    errors: list[Exception] = []
    for item in items:
        waiting.put(item)

    def work_off(ended: threading.Event) -> None:
        try:
            while not stop.is_set():
                try:
                    work(waiting.get_nowait())
                except (queue.Empty, Stopped):
                    return
                except Exception as error:  # told by the thread that waits
                    errors.append(error)
        finally:
            ended.set()

    ends = [
        threading.Event() for _ in items[:number]
    ]  # joining is not safe from Ctrl-C before 3.13
    for ended in ends:
        threading.Thread(target=work_off, args=(ended,), daemon=True).start()
    try:
        for ended in ends:
            while not ended.wait(SECONDS_BETWEEN_LOOKS):
                pass  # Ctrl-C comes through between two of them
    except BaseException:
        stop.set()
        _wait(ends, SECONDS_TO_END)
        raise
    return errors


def _wait(ends: Sequence[threading.Event], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for ended in ends:
        ended.wait(max(0.0, deadline - time.monotonic()))
