"""Eternal online: signs of life at their times by a simulated clock, and their rate beside a bare client loop."""

import json
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import rule
from bench.servers import ROOT, Sandbox, environment, run
from config import embedded
from config.supervisor import Child, Failed, stop_together

TIMEOUT_SECONDS = 3
"""How long the signs behind the dead proxy wait, on both sides."""


def main(arguments: list[str]) -> int:
    parser = ArgumentParser("python -m bench presence", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--simulated", type=int, default=10_000, help="accounts under the simulated clock")
    parser.add_argument("--minutes", type=int, default=120, help="that the simulated clock goes on")
    parser.add_argument("--look", type=float, default=None, help="seconds between two looks (default: the setting)")
    parser.add_argument("--accounts", type=int, default=400, help="that are due at once, in real time")
    parser.add_argument("--rounds", type=int, default=rule.ROUNDS_MIN, help="of the comparison with a bare loop")
    options = parser.parse_args(arguments)
    with _servers() as env:
        result = subprocess.run(
            [sys.executable, "-m", "bench.presence_run", json.dumps(vars(options))], env=env, cwd=ROOT, timeout=3600
        )
    if result.returncode not in (0, 1):
        raise Failed(f"The measurement ended with status {result.returncode}.")
    print("Sandbox, database and client share the cores of this machine: only ratios mean anything.")
    return result.returncode


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    """Storage of our own and the sandbox, for a process that has no other Avito. Yields that process's environment."""
    data_dir = Path(tempfile.mkdtemp(prefix="avito-bench-"))
    storage: list[Child] = [embedded.Postgres(data_dir, durable=True), embedded.Valkey(data_dir, durable=True)]
    env = environment(
        AVITO_DATA_DIR=str(data_dir),
        DATABASE_URL=embedded.database_url(data_dir),
        REDIS_URL=embedded.redis_url(data_dir),
        DJANGO_SETTINGS_MODULE="config.settings",
        AVITO_RATE_LIMIT_PER_MINUTE="1000000",
        AVITO_TIMEOUT_SECONDS=str(TIMEOUT_SECONDS),
        SANDBOX_STATUS_ONLINE_KNOWN="true",
        LOG_LEVEL="CRITICAL",
    )
    sandbox = Sandbox(env)
    try:
        for child in (*storage, sandbox):
            child.start()
        for child in (*storage, sandbox):
            child.wait_ready()
        env["AVITO_API_BASE_URL"] = f"http://127.0.0.1:{sandbox.port}"
        run([sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"], env)
        yield env
    finally:
        stop_together([sandbox])
        stop_together(storage)
        shutil.rmtree(embedded.socket_dir(data_dir), ignore_errors=True)
        shutil.rmtree(data_dir, ignore_errors=True)
