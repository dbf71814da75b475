"""A lock file that names its holder, so that two processes at once do a piece of work once.

The lock is created with ``O_EXCL`` and holds process id, start time and host. A lock whose process
is gone is stale: it is taken over and that is said. One of another host cannot be judged from here,
so it is waited for and, past the deadline, explained.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from harness.core.errors import HarnessError

_POLL_SECONDS = 0.1
_UNREADABLE_GRACE_SECONDS = 10.0


@contextmanager
def held(
    path: Path,
    *,
    error: type[HarnessError],
    deadline_seconds: float,
    progress: Callable[[str], None],
) -> Iterator[None]:
    """Hold the lock file ``path`` while the body runs.

    Args:
        path: lock file; its folder exists.
        error: class to raise when the lock stays taken.
        deadline_seconds: how long to wait for another holder.
        progress: told once when waiting and when a stale lock is taken over.

    Raises:
        HarnessError: of class ``error``, naming the holder and the file to delete.
    """
    _acquire(path, error, deadline_seconds, progress)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _acquire(
    path: Path,
    error: type[HarnessError],
    deadline_seconds: float,
    progress: Callable[[str], None],
) -> None:
    begin = time.monotonic()
    said = False
    while not _create(path):
        text = _read(path)
        if text is None:
            continue
        if _stale(text, path):
            progress(f"taking over a stale lock: {_holder(text)} is gone ({path.name})")
            _steal(path, text)
            continue
        if not said:
            progress(f"waiting for {_holder(text)}, which holds {path.name}")
            said = True
        if time.monotonic() - begin > deadline_seconds:
            raise error(
                f"{path} has been held by {_holder(text)} for over {deadline_seconds:.0f} s; "
                "if that process no longer runs, delete the file and try again"
            )
        time.sleep(_POLL_SECONDS)


def _create(path: Path) -> bool:
    started = psutil.Process().create_time()
    holder = {"pid": os.getpid(), "started": started, "host": socket.gethostname()}
    # Filled first and linked into place, so that a lock never stands there without its holder,
    # not even if this process is killed in between.
    own = path.with_name(f"{path.name}.{os.getpid()}.new")
    own.write_text(json.dumps(holder))
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _parsed(text: str) -> dict[str, object] | None:
    try:
        holder = json.loads(text)
    except ValueError:
        return None
    return holder if isinstance(holder, dict) and isinstance(holder.get("pid"), int) else None


def _holder(text: str) -> str:
    holder = _parsed(text)
    if holder is None:
        return "an unknown process"
    return f"process {holder['pid']} on {holder.get('host')}"


def _stale(text: str, path: Path) -> bool:
    holder = _parsed(text)
    if holder is None:  # its writer died between creating and filling it, or is about to fill it
        try:
            return time.time() - path.stat().st_mtime > _UNREADABLE_GRACE_SECONDS
        except FileNotFoundError:
            return False
    if holder.get("host") != socket.gethostname():
        return False
    pid = holder["pid"]
    assert isinstance(pid, int)
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
    return started != holder.get("started")  # the id was given to another process since


def _steal(path: Path, text: str) -> None:
    """Remove the stale lock, unless another process already did and holds a new one."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.stale")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if aside.read_text() != text:
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
    aside.unlink()
