"""Processes that live and end together: start, readiness, output line by line, stop. No Django."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

Log = Callable[[str], None]

POLL_SECONDS = 0.05
TAIL_LINES = 20


class Failed(Exception):
    """A process cannot start, or ended by itself. The message is for people."""


class Stopped(Exception):
    """Somebody asked us to end while we waited."""


def ignore(line: str) -> None:
    """A log that keeps nothing."""


def never() -> bool:
    return False


def launch(signum: int, identity: str, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as `identity` and ends it with `signum` when this process dies."""
    launcher = str(Path(__file__).with_name("child.py"))
    return [sys.executable, "-I", "-S", launcher, str(int(signum)), str(os.getpid()), identity, *command]


class Child:
    """One process in a process group of its own; it ends when its supervisor ends, in whatever way that happens.

    Start it from the main thread: the kernel counts the death of the thread that started a process.
    """

    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    stop_seconds = 6.0
    ready_seconds = 60.0

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ):
        self.name = name
        self.command = list(command)
        self.identity = "same"
        self.env = env
        self.cwd = cwd
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def prepare(self) -> None:
        """What must be done before the process can start."""

    def is_ready(self) -> bool:
        """Does it do its work yet?"""
        return True

    def start(self, log: Log = ignore) -> None:
        self.prepare()
        self._process = subprocess.Popen(  # noqa: S603 - our own command lines
            launch(self.orphan_signal, self.identity, self.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=self.cwd,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout, log), daemon=True)
        self._reader.start()

    def _read(self, output: IO[bytes], log: Log) -> None:
        for raw in output:
            line = raw.decode(errors="replace").rstrip()
            self.tail.append(line)
            log(line)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def started(self) -> bool:
        return self._process is not None

    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll() if self._process else None

    def last_lines(self) -> str:
        if self._reader:
            self._reader.join(timeout=1)
        return "\n".join(f"    {line}" for line in self.tail)

    def obituary(self) -> str:
        status = self.status()
        how = f"was ended by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
        return f"{self.name} {how}. Its last lines:\n{self.last_lines() or '    (none)'}"

    def wait_ready(self, seconds: float | None = None, stopped: Callable[[], bool] = never) -> None:
        """Return when it is ready. Raises Failed when it ends or stays silent, Stopped when `stopped()`."""
        seconds = self.ready_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if stopped():
                raise Stopped
            if self.status() is not None:
                raise Failed(self.obituary())
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} was not ready after {seconds:.0f} s. Its last lines:\n{self.last_lines()}")
            time.sleep(POLL_SECONDS)

    def wait_end(self, seconds: float, stopped: Callable[[], bool] = never) -> int | None:
        """The exit status, or None when it still runs after `seconds`. Raises Stopped when `stopped()`."""
        deadline = time.monotonic() + seconds
        while self.status() is None and time.monotonic() < deadline:
            if stopped():
                raise Stopped
            time.sleep(POLL_SECONDS)
        return self.status()

    def ask_to_stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self, seconds: float | None = None) -> None:
        """Ask it to end; by force what does not listen."""
        stop_together([self], seconds)


def stop_together(
    children: Sequence[Child], seconds: float | None = None, hurry: Callable[[], bool] = never
) -> list[str]:
    """Ask all to end, wait for all, force the rest; `hurry()` ends the waiting. Returns the names of those forced."""
    running = [child for child in children if child.started and child.status() is None]
    for child in running:
        child.ask_to_stop()
    begin = time.monotonic()
    forced = []
    for child in running:
        patience = child.stop_seconds if seconds is None else seconds
        try:
            status = child.wait_end(begin + patience - time.monotonic(), hurry)
        except Stopped:
            status = None
        if status is None and child.status() is None:
            child.kill()
            forced.append(child.name)
    return forced


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock file while the block runs; Failed when another process holds it."""
    with path.open("a+") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise Failed(
                f"This service already runs on {path.parent} (process {file.read().strip() or 'unknown'}). "
                "Stop it first, or choose another data folder: AVITO_DATA_DIR=/some/folder make run"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
