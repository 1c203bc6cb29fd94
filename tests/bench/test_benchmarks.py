"""Each benchmark runs and its promises hold; what it measures beside tests means nothing and is not looked at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from bench.servers import ROOT, connect, storage


@pytest.fixture(scope="module", autouse=True)
def _one_storage_for_all() -> Iterator[None]:
    with storage() as data_dir, pytest.MonkeyPatch.context() as patch:
        with closing(connect(data_dir, "postgres")) as connection:
            connection.execute("ALTER DATABASE avito RENAME TO template")
        patch.setenv("BENCH_DATA_DIR", str(data_dir))
        yield


def output(*arguments: str) -> str:
    """What a benchmark prints that ends well."""
    command = [sys.executable, "-m", "bench", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=os.environ)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_benchmark_of_chats_finds_the_same_rows_by_cursor_and_by_offset() -> None:
    size = ("--chats", "2000", "--messages", "20000", "--large", "300", "--depth", "400")
    assert "As promised." in output("chats", *size, "--rounds", "1", "--times", "1")


def test_benchmark_of_live_events_reaches_every_listener() -> None:
    printed = output("events", "--listeners", "20", "--rounds", "1", "--events", "2", "--settle", "0.2")
    assert "20 listeners on one process of each side" in printed
    assert "x as soon" in printed
    assert "the slowest of ours took" in printed


def test_benchmark_of_eternal_online_loses_and_doubles_no_sign() -> None:
    size = ("--simulated", "30", "--minutes", "10", "--accounts", "10", "--rounds", "1", "--timeout", "1")
    printed = output("presence", *size)
    assert "0 accounts lost, 0 signs doubled" in printed
    assert "REACHED: the goal is 99%" in printed
    assert "As promised." in printed


def test_benchmark_of_figures_makes_the_fewest_calls() -> None:
    printed = output("sync_all", "--accounts", "10", "--rounds", "1", "--lanes", "2")
    assert "1.00 of the fewest; 0 refused" in printed
    assert "As promised." in printed


def test_benchmark_of_webhooks_compares_and_loses_nothing() -> None:
    printed = output("webhook_ack", "--rounds", "1", "--seconds", "0.5", "--warmup", "0.5", "--connections", "4")
    assert "median ratio" in printed
    assert "all acknowledged are stored" in printed
