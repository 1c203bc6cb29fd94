"""Pytest plugin: one embedded PostgreSQL and one Valkey for the whole run, in a temporary folder.

Load it with `-p tests.servers`, so that the addresses are known before Django reads its settings. Servers whose
`DATABASE_URL` or `REDIS_URL` is set already are used as they are. With xdist the controller starts the servers, and
each worker has a database of its own in both.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from config.supervisor import Child, stop_together


class Servers:
    def __init__(self) -> None:
        self.children: list[Child] = []
        self.data_dir: Path | None = None

    def choose(self) -> None:
        """Set the addresses; nothing runs yet."""
        self.data_dir = Path(tempfile.mkdtemp(prefix="avito-test-"))
        os.environ["AVITO_DATA_DIR"] = str(self.data_dir)
        from config import embedded  # reads AVITO_DATA_DIR

        if not os.environ.get("DATABASE_URL", "").strip():
            os.environ["DATABASE_URL"] = embedded.database_url(self.data_dir)
            self.children.append(embedded.Postgres(self.data_dir, durable=False))
        if not os.environ.get("REDIS_URL", "").strip():
            os.environ["REDIS_URL"] = embedded.redis_url(self.data_dir)
            self.children.append(embedded.Valkey(self.data_dir, durable=False))

    def start(self) -> None:
        for child in self.children:
            child.start()
        for child in self.children:
            child.wait_ready()

    def stop(self) -> None:
        from config import embedded

        stop_together(self.children)
        self.children = []
        if self.data_dir:
            shutil.rmtree(embedded.socket_dir(self.data_dir), ignore_errors=True)
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self.data_dir = None


servers = Servers()
atexit.register(servers.stop)  # also when pytest fails before it is configured


def redis_url_of_worker(url: str, worker: int) -> str:
    """The same server, another database: number 0 belongs to a run without workers."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}?db={worker + 1}"
    return urlunsplit(parts._replace(path=f"/{worker + 1}"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        servers.choose()
    else:
        os.environ["REDIS_URL"] = redis_url_of_worker(os.environ["REDIS_URL"], int(worker.removeprefix("gw")))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if not session.config.option.collectonly:
        servers.start()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    servers.stop()
