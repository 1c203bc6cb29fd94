"""Proxies that others wrote, on loopback: what they understand is not our reading of the protocols alone."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from avito import Proxy

START_SECONDS = 10


class Witness:
    """A running proxy. `proxy`: how to reach it with its own login."""

    def __init__(self, proxy: Proxy, log: Path) -> None:
        self.proxy = proxy
        self._log = log

    def said(self) -> str:
        """All that it has logged."""
        return self._log.read_text()


@contextmanager
def microsocks(folder: Path, login: str = "", password: str = "") -> Iterator[Witness]:
    """SOCKS5."""
    program = _program("microsocks")
    secrets = ["-u", login, "-P", password] if login else []
    with _running(lambda port: [program, "-i", "127.0.0.1", "-p", str(port), *secrets], folder / "microsocks") as port:
        yield Witness(Proxy("socks5", "127.0.0.1", port, login, password), folder / "microsocks.log")


@contextmanager
def tinyproxy(folder: Path, login: str = "", password: str = "") -> Iterator[Witness]:
    """HTTP, forwarding and CONNECT."""
    program = _program("tinyproxy")

    def command(port: int) -> list[str]:
        lines = [f"Port {port}", "Listen 127.0.0.1", "Allow 127.0.0.1", "LogLevel Connect", "Timeout 20"]
        lines += [f"BasicAuth {login} {password}"] if login else []
        (folder / "tinyproxy.conf").write_text("\n".join([*lines, ""]))
        return [program, "-d", "-c", str(folder / "tinyproxy.conf")]

    with _running(command, folder / "tinyproxy") as port:
        yield Witness(Proxy("http", "127.0.0.1", port, login, password), folder / "tinyproxy.log")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt install {name})")
    return found


@contextmanager
def _running(command: Callable[[int], list[str]], name: Path) -> Iterator[int]:
    """The port of a server in a process of its own; another one may take a free port first, so it is tried again."""
    for _ in range(5):
        port = _free_port()
        with name.with_suffix(".log").open("w") as log:
            process = subprocess.Popen(command(port), stdout=log, stderr=subprocess.STDOUT, cwd=name.parent)
        try:
            if _is_listening(process, port):
                yield port
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError(f"{name.name} does not start: {name.with_suffix('.log').read_text()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_listening(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process.poll() is None
        time.sleep(0.02)
    return False
