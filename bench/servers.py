"""What the benchmarks measure, started side by side in a temporary folder: storage, our service, the baseline."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import redis

from bench.load import SIGNATURE_SECRET
from config import embedded
from config.supervisor import Child, Failed, stop_together

ROOT = Path(__file__).resolve().parent.parent
WEBHOOK_KEY = secrets.token_hex(16)


class Web(Child):
    """`application` under uvicorn, as the service starts its own. `interface`: asgi3 or wsgi."""

    def __init__(self, name: str, application: str, interface: str, env: Mapping[str, str], *, processes: int) -> None:
        self.port = _free_port()
        command = [sys.executable, "-u", "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--interface", interface]
        command += [
            "--log-level",
            "warning",
            "--no-access-log",
            "--no-server-header",
            "--timeout-graceful-shutdown",
            "3",
        ]
        super().__init__(name, [*command, "--workers", str(processes)], env=env, cwd=ROOT)

    def is_ready(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class Sandbox(Web):
    """Avito's stand-in, as `make run` starts it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.port = _free_port()
        Child.__init__(
            self, "sandbox", [sys.executable, "-u", "-m", "sandbox", "--port", str(self.port)], env=env, cwd=ROOT
        )


@dataclass(frozen=True)
class Side:
    """One of the two that are compared. `ids`: SQL for the message ids in `table`."""

    web: Web
    path: str
    database: psycopg.Connection[tuple[str]]
    table: LiteralString
    ids: LiteralString

    def last_row(self) -> int:
        return int(self._value(f"SELECT coalesce(max(id), 0) FROM {self.table}"))

    def ids_stored_after(self, row: int) -> set[str]:
        return {id for (id,) in self.database.execute(f"SELECT {self.ids} FROM {self.table} WHERE id > %s", [row])}

    def tidy(self) -> None:
        """Do now what PostgreSQL would otherwise do at a time that suits neither."""
        self.database.execute(f"VACUUM (ANALYZE) {self.table}")
        self.database.execute("CHECKPOINT")

    def durability(self) -> str:
        names: tuple[LiteralString, ...] = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        return ", ".join(f"{name} {self._value(f'SHOW {name}')}" for name in names)

    def _value(self, query: LiteralString) -> str:
        row = self.database.execute(query).fetchone()
        assert row
        return row[0]


@contextmanager
def storage() -> Iterator[Path]:
    """The folder of durable storage whose database `avito` has our tables, and nothing else.

    With BENCH_DATA_DIR it is what runs there already, and the tables are copied from its database `template`: so may
    benchmarks that are short follow one another.
    """
    if given := os.environ.get("BENCH_DATA_DIR"):
        with connect(Path(given), "postgres") as connection:
            connection.execute("DROP DATABASE IF EXISTS avito WITH (FORCE)")
            connection.execute("DROP DATABASE IF EXISTS baseline WITH (FORCE)")
            connection.execute("CREATE DATABASE avito TEMPLATE template")
        redis.Redis.from_url(embedded.redis_url(Path(given))).flushall()
        yield Path(given)
        return
    data_dir = Path(tempfile.mkdtemp(prefix="avito-bench-"))
    children: list[Child] = [embedded.Postgres(data_dir, durable=True), embedded.Valkey(data_dir, durable=True)]
    try:
        for child in children:
            child.start()
        for child in children:
            child.wait_ready()
        run([sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"], _addresses(data_dir))
        yield data_dir
    finally:
        stop_together(children)
        shutil.rmtree(embedded.socket_dir(data_dir), ignore_errors=True)
        shutil.rmtree(data_dir, ignore_errors=True)


@contextmanager
def both_sides(processes: int) -> Iterator[dict[str, Side]]:
    """Our service and the baseline, each with `processes` processes and a database on the same durable server."""
    webs: dict[str, Web] = {}
    with storage() as data_dir, ExitStack() as connections:
        connections.enter_context(closing(connect(data_dir, "postgres"))).execute("CREATE DATABASE baseline")
        ours, baseline = _our_environment(data_dir), _baseline_environment(data_dir)
        run([sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"], baseline)
        webs = {
            # A view that waits for its database is served faster by WSGI's threads than through Django's ASGI handler.
            "baseline": Web("baseline", "bench.baseline.wsgi:application", "wsgi", baseline, processes=processes),
            "ours": Web("ours", "config.asgi:application", "asgi3", ours, processes=processes),
        }
        try:
            for web in webs.values():
                web.start()
            for web in webs.values():
                web.wait_ready()
            yield {
                "baseline": Side(
                    webs["baseline"],
                    "/webhook",
                    connections.enter_context(closing(connect(data_dir, "baseline"))),
                    "baseline_message",
                    "avito_id",
                ),
                "ours": Side(
                    webs["ours"],
                    f"/api/v1/webhooks/avito/{WEBHOOK_KEY}",
                    connections.enter_context(closing(connect(data_dir, "avito"))),
                    "chats_webhookevent",
                    "convert_from(body, 'UTF8')::jsonb #>> '{payload,value,id}'",
                ),
            }
        finally:
            stop_together(list(webs.values()))


@contextmanager
def beside_the_sandbox(**more: str) -> Iterator[dict[str, str]]:
    """Durable storage and the sandbox, for a process that has no other Avito. Yields that process's environment."""
    with storage() as data_dir:
        env = {**_addresses(data_dir), "AVITO_RATE_LIMIT_PER_MINUTE": "1000000", **more}
        sandbox = Sandbox(env)
        try:
            sandbox.start()
            sandbox.wait_ready()
            yield {**env, "AVITO_API_BASE_URL": f"http://127.0.0.1:{sandbox.port}"}
        finally:
            stop_together([sandbox])


def measure(module: str, options: Mapping[str, object], env: dict[str, str]) -> int:
    """Run the measuring process, which prints; 0, or 1 for a broken promise."""
    command = [sys.executable, "-m", module, json.dumps(options)]
    result = subprocess.run(command, env=env, cwd=ROOT, timeout=3600)
    if result.returncode not in (0, 1):
        raise Failed(f"The measurement ended with status {result.returncode}.")
    print("Sandbox, database and client share the cores of this machine: only ratios mean anything.")
    return result.returncode


def _addresses(data_dir: Path) -> dict[str, str]:
    return environment(
        AVITO_DATA_DIR=str(data_dir),
        DATABASE_URL=embedded.database_url(data_dir),
        REDIS_URL=embedded.redis_url(data_dir),
        DJANGO_SETTINGS_MODULE="config.settings",
    )


def _our_environment(data_dir: Path) -> dict[str, str]:
    """A production, with a key in the address and the signature enforced."""
    return _addresses(data_dir) | {
        "ENVIRONMENT": "production",
        "PUBLIC_URL": "https://avito.example",
        "SECRET_KEY": secrets.token_hex(48),
        "JWT_SECRET": secrets.token_hex(48),
        "FIELD_ENCRYPTION_KEYS": secrets.token_hex(48),
        "AVITO_WEBHOOK_KEYS": WEBHOOK_KEY,
        "AVITO_WEBHOOK_SIGNATURE": "enforce",
        "AVITO_WEBHOOK_SIGNATURE_SECRET": SIGNATURE_SECRET,
    }


def _baseline_environment(data_dir: Path) -> dict[str, str]:
    url = embedded.database_url(data_dir).rpartition("/")[0] + "/baseline"
    return environment(DATABASE_URL=url, DJANGO_SETTINGS_MODULE="bench.baseline.settings")


def environment(**values: str) -> dict[str, str]:
    """Nothing of the caller's but what a process needs to run."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    return {**{name: os.environ[name] for name in kept if name in os.environ}, **values}


def connect(data_dir: Path, database: str) -> psycopg.Connection[tuple[str]]:
    return psycopg.connect(
        host=str(embedded.socket_dir(data_dir)), port=5432, user="app", dbname=database, autocommit=True
    )


def run(command: list[str], env: dict[str, str]) -> None:
    result = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise Failed(f"{' '.join(command[1:])} ended with status {result.returncode}:\n{result.stdout}{result.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
