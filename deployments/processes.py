"""Processes of a cluster on this machine, and how none of them outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from capyra.engine.errors import CapacityError

_PR_SET_CHILD_SUBREAPER = 36

MARK = "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"
"""The variable that tells a cluster's processes from others: it names a file in its directory."""


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process, so that it can find them."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def descendants(root: int) -> list[int]:
    """Every process below this one."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def mentioning(directory: Path) -> list[int]:
    """Processes with this directory in their command line, such as a proxy left behind."""
    needle = f"{directory}{os.sep}"
    return [pid for pid in _pids() if pid != os.getpid() and needle in command_of(pid)]


def left_behind(directory: Path) -> list[int]:
    """Those of them that a cluster in this directory started: they inherited its environment. A
    person who reads a log there has the directory in the command line too."""
    mark = f"{MARK}={directory}{os.sep}".encode()
    return [pid for pid in mentioning(directory) if mark in _environment(pid)]


def end(pids: Iterable[int], grace_s: float) -> None:
    """Ask these processes to end; after the grace, make them. Reaps those that are ours."""
    left = set(pids)
    _send(left, signal.SIGTERM)
    give_up = time.monotonic() + grace_s
    while left and time.monotonic() < give_up:
        _reap()
        left = {pid for pid in left if alive(pid)}
        time.sleep(0.02)
    _send(left, signal.SIGKILL)
    _reap()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


BLOCK = 200
BLOCKS = range(10_000, 30_000, BLOCK)
"""Below the ports that the system gives to outgoing connections."""


def free_block(port: int, *others: int | None) -> range:
    """Neighbouring ports that nobody listens on, for a server that will listen on `port` and
    `others`. Two that look at the same moment look at different places first."""
    kept = {port, *others}
    first = port % len(BLOCKS)
    for start in (*BLOCKS[first:], *BLOCKS[:first]):
        block = range(start, start + BLOCK)
        if not any(each in kept or port_taken("127.0.0.1", each) for each in block):
            return block
    raise CapacityError(
        f"no {BLOCK} neighbouring ports are free between {BLOCKS.start} and {BLOCKS.stop}: "
        "stop something that listens there"
    )


def port_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
        return False


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            # It has ended, or its number is somebody else's by now.
            continue


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
