"""The product as separate processes that can be killed one by one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from config import embedded
from tests.avito_accounts.test_tokens import ROOT, product_environment
from tests.chromium import CHROMIUM, launch
from tests.config.test_run import free_ports
from tests.conftest import Api
from tests.sandbox.driver import Sandbox, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class Product:
    """Processes that can be killed one by one."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.valkey = embedded.Valkey(folder, durable=False)
        self.port, _other = free_ports()
        self.base = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **product_environment(sandbox),
            "REDIS_URL": embedded.redis_url(folder),
            "PORT": str(self.port),
            "AVITO_TIMEOUT_SECONDS": "2",
        }
        self.log = (folder / "log").open("ab")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        commands = {
            "web": ["uvicorn", "config.asgi:application", "--port", str(self.port), "--no-access-log"],
            "worker": ["celery", "-A", "config", "worker", "-P", "threads", "-c", "8", "--without-mingle"],
            "beat": ["celery", "-A", "config", "beat"],
        }
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", *commands[name]], env=self.environment, cwd=ROOT, stdout=self.log, stderr=self.log
        )

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.valkey.stop()
        self.log.close()


def all_ok(api: Api) -> Callable[[], bool]:
    def check() -> bool:
        try:
            return api.get("/health/ready").status_code == 200
        except OSError:
            return False

    return check


@pytest.fixture
def running(avito_sandbox: Sandbox, transactional_db: None, tmp_path: Path) -> Iterator[Product]:
    started = Product(avito_sandbox, tmp_path)
    started.valkey.start()
    started.valkey.wait_ready()
    for name in ("web", "worker", "beat"):
        started.start(name)
    try:
        wait_for(all_ok(Api(started.base)), 60)
        yield started
    finally:
        started.stop()


@pytest.fixture
def browser() -> "Iterator[Browser]":
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make install-browser")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt install chromium")
    # Playwright's loop stands in this thread, which does not make the tests' own queries asynchronous.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with playwright.sync_playwright() as play:
        browser = launch(play)
        yield browser
        browser.close()
        connections.close_all()  # those opened beside Playwright's loop are others than the thread's own
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
