"""A lock file that names its holder, so that two processes at once do a piece of work once.

The file stands for the lock. It is linked into place whole, or, on a file system without hard
links, made with ``O_EXCL``. It holds process id, host, boot and start of its holder, who also keeps
an operating system's lock (``flock``) on it: the kernel frees that when the process ends, however
it ends, and no clock can move it.

A lock whose holder is gone is taken over and that is said. Whether it is gone:

- the file is locked: it lives;
- another host: it cannot be judged from here, so it is waited for and, past the deadline,
  explained;
- the holder had a lock of the operating system that works on this file system, and now nobody has:
  gone;
- else by process id and start (in clock ticks since boot), within one boot and one namespace of
  process ids; beyond these it cannot be judged.

Not covered: a file system shared by hosts of the same name on which ``flock`` holds within one host
only (NFS before version 4, some FUSE); there, a lock of the other host can look stale.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from harness.core.errors import HarnessError

_POLL_SECONDS = 0.1
_UNREADABLE_GRACE_SECONDS = 10.0
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
_BOOT = Path("/proc/sys/kernel/random/boot_id")


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
        OSError: the folder can't be written.
    """
    descriptor, text = _acquire(path, error, deadline_seconds, progress)
    try:
        yield
    finally:
        # Somebody may have taken it by force; then the file is theirs.
        if _read(path) == text:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(
    path: Path,
    error: type[HarnessError],
    deadline_seconds: float,
    progress: Callable[[str], None],
) -> tuple[int, str]:
    """Return the open lock file and what stands in it, once it is ours."""
    begin = time.monotonic()
    said = False
    while (made := _create(path)) is None:
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
    return made


def _create(path: Path) -> tuple[int, str] | None:
    """Make the lock file; None where there is one already."""
    # Filled first and linked into place, so that a lock never stands there without its holder,
    # not even if this process is killed in between.
    own = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    own.unlink(missing_ok=True)
    made = _filled(own)
    try:
        os.link(own, path)
        return made
    except FileExistsError:
        os.close(made[0])
        return None
    except OSError as error:
        os.close(made[0])
        if error.errno not in _NO_LINKS:
            raise
    finally:
        own.unlink(missing_ok=True)
    try:
        return _filled(path)
    except FileExistsError:
        return None


def _filled(path: Path) -> tuple[int, str]:
    """Make a file that did not exist, lock it, and write who holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    try:
        process = psutil.Process()
        holder = {
            "pid": os.getpid(),
            "started": process.create_time(),
            "host": socket.gethostname(),
            "flock": _flock(descriptor) and _locked(path),
            "boot": _boot(),
            "namespace": _namespace(),
            "ticks": _ticks(os.getpid()),
        }
        text = json.dumps(holder)
        os.write(descriptor, text.encode())
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor, text


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _locked(path: Path) -> bool:
    """Whether somebody, this process included, has the operating system's lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _boot() -> str | None:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return None


def _namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: no step of the clock changes it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name of the program, in brackets, may hold spaces and brackets.
    return int(text.rpartition(")")[2].split()[19])


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _parsed(text: str) -> dict[str, Any] | None:
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
    if _locked(path):
        return False
    holder = _parsed(text)
    if holder is None:  # its writer died between creating and filling it, or is about to fill it
        try:
            return time.time() - path.stat().st_mtime > _UNREADABLE_GRACE_SECONDS
        except FileNotFoundError:
            return False
    if holder.get("host") != socket.gethostname():
        return False
    if holder.get("flock") is True:
        return True
    if holder.get("boot", _boot()) != _boot() or holder.get("namespace", _namespace()) != (
        _namespace()
    ):
        return False
    if not psutil.pid_exists(holder["pid"]):
        return True
    # Where the start is known, the id may have been given to another process since.
    ticks = holder.get("ticks")
    return ticks is not None and ticks != _ticks(holder["pid"])


def _steal(path: Path, text: str) -> None:
    """Remove the stale lock, unless another process already did and holds a new one."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.stale")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if aside.read_text(errors="replace") != text:
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:
            # No hard links here: between the look and the move nobody else may make one.
            if not path.exists():
                os.rename(aside, path)
                return
    aside.unlink()
