"""Where files are: the cache, what the package ships, and what has to be downloaded first."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from lavis_clone.common.atomic import atomic_path, write_atomic
from lavis_clone.common.checksums import FirstUse, transfer_checked, verify
from lavis_clone.common.names import suggest
from lavis_clone.common.transfer import FileError, TransferOptions, Unreachable, fetch_bytes

__all__ = [
    "FileError",
    "atomic_path",
    "cache_root",
    "cached_path",
    "config_file",
    "download",
    "fetch",
    "first_uses",
    "is_offline",
    "is_url",
    "keyed_path",
    "locked",
    "package_root",
    "resolve",
    "write_atomic",
]

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "LAVIS_CLONE_CACHE"
OFFLINE_VARIABLE = "LAVIS_CLONE_OFFLINE"


def cache_root() -> Path:
    """The directory for downloads: ``LAVIS_CLONE_CACHE``, else ``~/.cache/lavis_clone``."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/lavis_clone").expanduser()


def is_offline() -> bool:
    """Whether ``LAVIS_CLONE_OFFLINE`` forbids downloads."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def is_url(location: str | Path) -> bool:
    """Whether ``location`` is an ``http(s)://`` URL."""
    return str(location).lower().startswith(("http://", "https://"))


def package_root() -> Path:
    """The directory of ``lavis_clone`` itself."""
    return Path(__file__).parents[1]


def resolve(location: str | Path) -> Path:
    """The local file that ``location`` names, downloaded first if need be.

    Args:
        location: ``asset://x`` (shipped with the package), ``hf://org/name/path/file[@revision]``
            (the Hugging Face hub; ``hf://datasets/org/name/...`` for a data set), an http(s) URL,
            or a path, in which ``~`` is the home directory.

    Raises:
        FileError: there is no such file, or it cannot be downloaded.
    """
    text = str(location)
    scheme, separator, rest = text.partition("://")
    if not separator:
        path = Path(text).expanduser()
        if not path.exists():
            raise FileError(f"no such file: {path}")
        return path
    if is_url(text):
        return download(text)
    if scheme == "asset":
        return _asset(rest)
    if scheme == "hf":
        return _from_hub(text, rest)
    raise FileError(f"{text}: unknown scheme {scheme!r}; use asset, hf, http or https")


def download(
    url: str,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    target: Path | None = None,
    timeout: float = 30.0,
    retries: int = 3,
    remember: bool = False,
) -> Path:
    """The local copy of ``url``, downloaded at first use.

    A file that is already there, downloaded or placed by hand, is used; with a checksum it is
    checked once, and again when it changes.

    Args:
        target: Where to put it; by default ``cached_path(url)``.
        timeout: Seconds without a byte after which an attempt counts as failed.
        retries: Attempts in a row, after the first one, that may bring nothing new.
        remember: Without a checksum, note the first download's, and expect it of later ones.

    Raises:
        FileError: with the URL, the target and the reason.
    """
    path = cached_path(url) if target is None else target
    checksums = {n: v for n, v in (("sha256", sha256), ("md5", md5)) if v}
    if not path.exists():
        if is_offline():
            raise FileError(
                f"{url} is not on this machine, and {OFFLINE_VARIABLE} forbids downloading; "
                f"place the file at {path}"
            )
        options = TransferOptions(checksums=checksums, timeout=timeout, retries=retries)
        _download_once(url, path, options, first_uses() if remember else None)
    for algorithm, expected in checksums.items():
        verify(path, algorithm, expected)
    return path


def cached_path(url: str) -> Path:
    """Where ``download`` keeps ``url``: a directory for the whole URL, the file's own name in it.

    >>> cached_path("https://example.org/a/model.pth").parts[-3::2]
    ('downloads', 'model.pth')
    """
    return keyed_path(cache_root() / "downloads", url)


def keyed_path(folder: Path, url: str) -> Path:
    """Where ``folder`` has room for ``url`` and for what belongs to it."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name.replace("\\", "_").replace("\0", "")
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    return folder / key / (name if name.strip(".") else "file")


def fetch(url: str, *, max_bytes: int, timeout: float = 30.0) -> bytes:
    """Read a small file, such as a picture, from an http(s) URL; nothing is kept.

    Raises:
        FileError: it cannot be had, is longer than ``max_bytes``, or downloads are forbidden.
    """
    if not is_url(url):
        raise FileError(f"{url!r} is not an http(s) URL")
    if is_offline():
        raise FileError(f"cannot read {url}: {OFFLINE_VARIABLE} forbids downloading")
    return fetch_bytes(url, max_bytes=max_bytes, timeout=timeout)


@contextlib.contextmanager
def locked(path: Path, *, for_ever: bool = False) -> Iterator[None]:
    """Let one process at a time make ``path``; the others wait. A process that dies lets go.

    Args:
        for_ever: Wait for more than an hour.

    Raises:
        FileError: another process has held on to ``path`` for an hour.
    """
    from iopath.common.file_io import file_lock  # slow to import; most runs find all files there
    from portalocker import LockException

    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(file_lock(str(path)))
                break
            except LockException as error:
                if not for_ever:
                    raise FileError(
                        f"another process has been busy with {path} for an hour"
                    ) from error
                logger.warning("still waiting for another process that is busy with %s", path)
        yield


def first_uses() -> FirstUse:
    """The checksums that were noted at first use, in the cache."""
    return FirstUse(cache_root() / "checksums")


def config_file(relative: str | Path) -> Path:
    """The YAML file that ``relative`` names, e.g. ``configs/models/blip_caption_base_coco.yaml``.

    Looked for in the installed package, then in the checkout around it, then from the working
    directory; an absolute path is taken as it is.

    Raises:
        FileError: it is in none of them.
    """
    path = Path(relative).expanduser()
    places = [path] if path.is_absolute() else [root / path for root in _config_roots()]
    for place in places:
        if place.is_file():
            return place
    siblings = {f.name for place in places if place.parent.is_dir() for f in place.parent.iterdir()}
    raise FileError(f"no such config file: {relative}{suggest(path.name, siblings)}")


def _config_roots() -> list[Path]:
    package = package_root()
    checkout = package.parent
    is_checkout = (checkout / "pyproject.toml").is_file() or (checkout / "setup.py").is_file()
    return [package, *([checkout] if is_checkout else []), Path.cwd()]


def _asset(name: str) -> Path:
    root = package_root() / "assets"
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise FileError(f"asset://{name} leads out of the package")
    if not path.exists():
        known = {f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file()}
        raise FileError(f"the package ships no asset://{name}{suggest(name, known)}")
    return path


class _HubFile(NamedTuple):
    repo_type: str
    repo: str
    name: str
    revision: str | None


def _parse_hub(text: str, rest: str) -> _HubFile:
    rest, _, revision = rest.partition("@")
    parts = rest.split("/")
    repo_type = "model"
    if parts[0] == "datasets":
        repo_type, parts = "dataset", parts[1:]
    if len(parts) < 3 or not all(parts):
        raise FileError(f"{text}: must look like hf://org/name/path/file[@revision]")
    return _HubFile(repo_type, "/".join(parts[:2]), "/".join(parts[2:]), revision or None)


def _from_hub(text: str, rest: str) -> Path:
    import huggingface_hub  # takes long to import, and few locations need it
    from huggingface_hub import constants

    wanted = _parse_hub(text, rest)
    try:
        path = huggingface_hub.hf_hub_download(
            wanted.repo,
            wanted.name,
            repo_type=wanted.repo_type,
            revision=wanted.revision,
            local_files_only=is_offline(),
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileError(
            f"cannot get {text}: {reason} Without a network, fill {constants.HF_HUB_CACHE} where "
            f"there is one (`hf download {wanted.repo} {wanted.name}`), or name a local file"
        ) from error
    return Path(str(path))


def _download_once(
    url: str, path: Path, options: TransferOptions, first_use: FirstUse | None
) -> None:
    """Download ``url`` unless another process does so first."""
    try:
        with locked(path):
            if not path.exists():
                logger.info("downloading %s to %s", url, path)
                transfer_checked(url, path, options, first_use)
    except Unreachable as error:
        raise FileError(f"{error}; without a network, place the file at {path}") from error
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot download {url} to {path}: {error}") from error
