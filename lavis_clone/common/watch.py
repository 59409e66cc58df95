"""One process's failure ends all of a job, and its error is what is shown first.

A process that waits for others in a collective does not see that one of them has failed: it would
wait for hours, or end with an error that says nothing of the cause. So each process has a thread
that looks for word of a failure, which the process that fails leaves after it has told its error.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore

logger = logging.getLogger(__name__)

FAILED = "failed"
"""The key of the store that holds the rank of the first process that failed."""
SECONDS = 0.5
"""Between two looks for word of a failure."""
GRACE = 3.0
"""Seconds that a process has to end by itself once another one has failed."""
BY_SIGNAL = 128
"""Where the status of processes begins that a signal ended."""
STATUS = 1
"""Of a process that ends because another one has failed."""


class Watch:
    """Looks for word of a failure among several processes, and leaves it.

    Args:
        store: What all processes reach; not the one that collectives are arranged through.
        rank: This process.
    """

    def __init__(self, store: TCPStore, rank: int) -> None:
        self._store, self.rank = store, rank
        self._first: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="watch")
        self._thread.start()

    def failed(self) -> int | None:
        """The rank of the first process that failed; None if none has, or nobody knows."""
        try:
            if self._first is None and self._store.check([FAILED]):
                self._first = int(self._store.get(FAILED))
        except RuntimeError:
            logger.debug("rank 0, which keeps the store, is gone")
        return self._first

    def tell(self) -> None:
        """Leave word that this process has failed, and stay until the others have read it."""
        try:
            self._store.compare_set(FAILED, "", str(self.rank))
        except RuntimeError:
            logger.debug("nobody is there to be told")
        time.sleep(2 * SECONDS)

    def stop(self) -> None:
        """Look no more: the process has done its work."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SECONDS):
            first = self.failed()
            if first is not None and first != self.rank:
                if not self._over.wait(GRACE):
                    leave(self.rank, first)
                return


def leave(rank: int, first: int) -> None:
    """End this process at once, with a line that says whose failure it is."""
    sys.stderr.write(f"rank {rank} ends, as rank {first} has failed\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(STATUS)  # other threads may hang in a collective for ever


_watches: list[Watch] = []
"""The watch of this process, while it is one of several."""


def start() -> None:
    """Begin to watch; every process that has joined the others must call it."""
    from torch.distributed import TCPStore  # here, so that a command line does not load torch

    from lavis_clone.common import dist

    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    limit = timedelta(seconds=60)
    is_main = dist.rank() == 0
    store = (
        TCPStore(host, 0, is_master=True, timeout=limit, wait_for_workers=False)
        if is_main
        else None
    )
    port = dist.broadcast(store.port if store else 0)
    store = store or TCPStore(host, port, timeout=limit, wait_for_workers=False)
    _watches.append(Watch(store, dist.rank()))
    atexit.register(stop)  # a thread that talks to a store while Python ends may hang


def stop() -> None:
    """Look no more: this process has done its work."""
    while _watches:
        _watches.pop().stop()


@contextmanager
def ends_together() -> Iterator[None]:
    """End all processes of the job when the block fails in one of them, which tells its error.

    What fails in the others because of that is not shown. Nothing is done in a single process.
    """
    try:
        yield
    except BaseException as error:
        if not _watches or _is_meant(error):
            raise
        watch = _watches.pop()
        first = watch.failed()
        if first is not None:
            leave(watch.rank, first)
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        watch.tell()
        watch.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        code = error.code if isinstance(error, SystemExit) else STATUS
        os._exit(code if isinstance(code, int) else STATUS)
    stop()


def _is_meant(error: BaseException) -> bool:
    """Whether the process just ends, or was asked to by a signal, as all are then."""
    if not isinstance(error, SystemExit):
        return isinstance(error, KeyboardInterrupt)
    return not error.code or (isinstance(error.code, int) and error.code >= BY_SIGNAL)
