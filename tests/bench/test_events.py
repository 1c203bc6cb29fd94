"""The benchmark runs and each listener hears each event once; the ratio that it measures beside tests means nothing."""

import subprocess
import sys

from bench.servers import ROOT


def test_benchmark_of_live_events_reaches_every_listener() -> None:
    command = [sys.executable, "-m", "bench", "events", "--listeners", "20", "--rounds", "1", "--events", "2"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert "20 listeners on one process of each side" in result.stdout, result.stdout + result.stderr
    assert "x as soon" in result.stdout
    assert "the slowest of ours took" in result.stdout
