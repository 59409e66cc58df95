"""Gets a data set onto this disk: annotations and media, as far as a program may."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lavis_clone.common.archives import Unpacked, extract_member, unpack
from lavis_clone.common.atomic import write_atomic
from lavis_clone.common.checksums import ALGORITHM, transfer_checked, verify
from lavis_clone.common.files import (
    OFFLINE_VARIABLE,
    FileError,
    first_uses,
    is_offline,
    locked,
    resolve,
)
from lavis_clone.common.ranges import is_big
from lavis_clone.common.threads import in_threads
from lavis_clone.common.transfer import TransferOptions, Unreachable, look_up, num_there
from lavis_clone.datasets.download_plan import STATE, Item, Plan

UNPACKED_PER_BYTE = 1.05
"""What a byte of an archive is taken to become; pictures and videos do not shrink further."""
Tell = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How to download."""

    connections: int = 4
    """How many at a time, of all files together."""
    keep: bool = False
    """Keep archives that have been unpacked."""
    transfer: TransferOptions = dataclasses.field(default_factory=TransferOptions)


def download_dataset(plan: Plan, ways: Ways | None = None, tell: Tell = lambda _line: None) -> bool:
    """Get what a plan names, unless it is there.

    Args:
        tell: Called with each line for the user.

    Returns:
        Whether all is there now; False if something has to be fetched by hand.

    Raises:
        FileError: a line for each file that cannot be had, is not what it must be, or has no room.
    """
    for line in _introduction(plan):
        tell(line)
    missing = [item for item in plan.items if not item.is_done()]
    if missing and is_offline():
        raise FileError(_told_offline(plan, missing))
    for location in plan.hub:
        tell(f"  {location}: {resolve(location)}")
    if missing:
        _Downloads(missing, ways or Ways(), tell).run()
    _verify(plan, [item for item in plan.items if item not in missing])
    is_complete = _tell_by_hand(plan, tell)
    for line in _conclusion(plan, missing, is_complete):
        tell(line)
    return is_complete


class _Downloads:
    """Several files at a time, over a limited number of connections in all."""

    def __init__(self, items: Sequence[Item], ways: Ways, tell: Tell) -> None:
        self.items, self.ways, self.tell = list(items), ways, tell
        self.stop = threading.Event()
        self.unpacking = threading.Lock()
        """One archive at a time, so that the space that is needed can be told beforehand."""
        self.bar: Any = None
        self.sizes: dict[str, int | None] = {}
        self.options = dataclasses.replace(
            ways.transfer,
            connections=ways.connections,
            slots=threading.Semaphore(ways.connections),
            stop=self.stop,
        )

    def run(self) -> None:
        """Download all.

        Raises:
            FileError: a line for each file that could not be had; the others are there.
        """
        self.sizes = sizes = self._sizes()
        _check_space(self.items, sizes, keep=self.ways.keep)
        known = [size for size in sizes.values() if size is not None]
        about = f"{sum(known):,} bytes" + ("" if len(known) == len(sizes) else " or more")
        self.tell(f"downloading {len(self.items)} files, {about}")
        there = sum(_bytes_there(item) for item in self.items)
        self.bar = tqdm(
            total=sum(known) if len(known) == len(sizes) else None,
            initial=there,
            unit="B",
            unit_scale=True,
            desc="downloading",
            disable=None,  # shown on a terminal only
        )
        self.options = dataclasses.replace(self.options, on_bytes=self.bar.update)
        with self.bar:
            self._in_threads(self.items, self._get)

    def _sizes(self) -> dict[str, int | None]:
        """Bytes of each file, by URL; None where the server does not say."""
        sizes: dict[str, int | None] = {}

        def ask(item: Item) -> None:
            remote = look_up(item.url, self.options)
            if item.size is not None and remote.size not in (None, item.size):
                raise FileError(f"{item.url} has {remote.size} bytes, not {item.size}")
            sizes[item.url] = remote.size if remote.size is not None else item.size

        self._in_threads([item for item in self.items if not item.target.is_file()], ask)
        for item in self.items:
            if item.target.is_file():
                sizes[item.url] = item.target.stat().st_size
        return sizes

    def _in_threads(self, items: Sequence[Item], work: Callable[[Item], None]) -> None:
        """Call ``work`` for all.

        Raises:
            FileError: a line for each that failed.
        """
        errors = in_threads(items, work, number=self.ways.connections, stop=self.stop)
        for error in errors:
            if not isinstance(error, OSError):
                raise error
        if errors:
            raise FileError("\n".join(dict.fromkeys(map(_line, errors))))

    def _get(self, item: Item) -> None:
        """Download one file and unpack it, unless another process does so meanwhile."""
        with locked(item.target, for_ever=True):
            if item.is_done():
                return
            if not item.target.is_file():
                options = dataclasses.replace(
                    self.options, checksums=item.checksums or None, size=item.size
                )
                if not is_big(self.sizes[item.url]):
                    options = dataclasses.replace(options, connections=1)
                try:
                    transfer_checked(item.url, item.target, options, first_uses())
                except Unreachable as error:
                    raise FileError(
                        f"{error}; give the same command again to go on, or place the file at "
                        f"{item.target}"
                    ) from error
            for algorithm, expected in item.checksums.items():
                verify(item.target, algorithm, expected)
            if item.is_archive:
                with self.unpacking:
                    self._unpack(item)

    def _unpack(self, item: Item) -> None:
        with ExitStack() as stack:
            bar: Any = stack.enter_context(
                tqdm(
                    unit="B",
                    unit_scale=True,
                    desc=f"unpacking {item.target.name}",
                    disable=None,
                    leave=False,
                )
            )
            for member, path in item.members.items():
                if not path.is_file():
                    extract_member(item.target, member, path)
            if item.unpack_to is not None:
                found = unpack(item.target, item.unpack_to, work=item.work, on_bytes=bar.update)
                _note_unpacked(item, found)
        if not self.ways.keep:
            item.target.unlink()


def _note_unpacked(item: Item, found: Unpacked) -> None:
    write_atomic(item.note, json.dumps({"url": item.url, **asdict(found)}, indent=1))


def _bytes_there(item: Item) -> int:
    return item.target.stat().st_size if item.target.is_file() else num_there(item.target)


def _check_space(items: Sequence[Item], sizes: Mapping[str, int | None], *, keep: bool) -> None:
    """
    Raises:
        FileError: a disk has too little space for the files and what they unpack to.
    """
    disks: dict[int, tuple[Path, list[Item]]] = {}
    for item in items:
        folder = _existing(item.target.parent)
        disks.setdefault(os.stat(folder).st_dev, (folder, []))[1].append(item)
    problems = []
    for folder, on_disk in disks.values():
        known = {item: sizes[item.url] or 0 for item in on_disk}
        to_come = sum(max(0, known[item] - _bytes_there(item)) for item in on_disk)
        unpacked = [int(UNPACKED_PER_BYTE * known[item]) for item in on_disk if item.is_archive]
        # One archive is unpacked at a time, and then makes room for the next one
        to_unpack = sum(unpacked) if keep else max(unpacked, default=0)
        free = shutil.disk_usage(folder).free
        if to_come + to_unpack > free:
            problems.append(
                f"not enough space on the disk of {folder}: {to_come + to_unpack:,} bytes are "
                f"needed ({to_come:,} to download, {to_unpack:,} to unpack), {free:,} are free; "
                "make room, or name another place with --to"
            )
    if problems:
        raise FileError("\n".join(problems))


def _existing(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    return next(parent for parent in (path, *path.parents) if parent.is_dir())


def _verify(plan: Plan, there: Sequence[Item]) -> None:
    """Check what was there before against its checksums, and everything against its counts.

    Raises:
        FileError: a line for each thing that is not as it must be.
    """
    problems = []
    for item in there:
        if not item.is_archive and item.target.is_file():
            known = None if item.checksums else first_uses().known(item.url)
            expected = item.checksums or ({ALGORITHM: known} if known else {})
            for algorithm, value in expected.items():
                try:
                    verify(item.target, algorithm, value)
                except FileError as error:
                    problems.append(str(error))
    holds = [holding for item in plan.items for holding in item.holds] + plan.holds
    for holding in holds:
        problem, state = holding.problem(), holding.folder / STATE
        again = f"; to download it again, remove {state}" if state.is_dir() else ""
        problems += [f"{problem}{again}"] if problem else []
    if problems:
        raise FileError("\n".join(problems))


def _introduction(plan: Plan) -> list[str]:
    about = plan.about
    lines = [f"{plan.name}: licence: {about.get('licence') or 'not stated here, ask its makers'}"]
    lines += [f"  {about['homepage']}"] if about.get("homepage") else []
    lines += [f"  media: {about['media']}"] if about.get("media") else []
    return lines


def _told_offline(plan: Plan, missing: Sequence[Item]) -> str:
    first = missing[0]
    targets = list(first.members.values()) or [first.target]
    place = f"what {first.url} holds at {first.unpack_to}" if first.unpack_to else ""
    place = place or f"{first.url} at {', '.join(map(str, targets))}"
    return (
        f"{plan.name}: {len(missing)} files are not on this machine, and {OFFLINE_VARIABLE} "
        f"forbids downloading; the first: place {place}"
    )


def _tell_by_hand(plan: Plan, tell: Tell) -> bool:
    """Say what is left to do; True when nothing is."""
    is_complete = True
    for thing in plan.by_hand:
        problems = thing.problems()
        if not problems:
            continue
        is_complete = False
        tell(f"by hand, {thing.what}: {thing.text}")
        for problem in problems:
            tell(f"  {problem}")
    return is_complete


def _conclusion(plan: Plan, missing: Sequence[Item], is_complete: bool) -> list[str]:
    if is_complete:
        places = sorted({str(item.unpack_to or item.target.parent) for item in missing})
        done = f"downloaded to {', '.join(places)}" if missing else "nothing to download"
        lines = [f"{plan.name}: all is there ({done})"]
    else:
        lines = [f"{plan.name}: not complete; give the same command again when it is done"]
    if plan.overrides:
        lines.append("to use it, put behind the YAML file that you give to train or evaluate:")
        lines += [f"  {override}" for override in plan.overrides]
    return lines


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
