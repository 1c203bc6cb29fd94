"""The benchmark runs; what it measures on a machine that is busy with tests means nothing and is not looked at."""

import subprocess
import sys

import pytest

from bench.servers import ROOT


@pytest.mark.xdist_group("bench")
def test_benchmark_of_webhooks_compares_and_loses_nothing() -> None:
    command = [sys.executable, "-m", "bench", "webhook_ack"]
    tiny = ["--rounds", "1", "--seconds", "0.5", "--warmup", "0.5", "--connections", "4"]

    result = subprocess.run([*command, *tiny], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "median ratio" in result.stdout
    assert "all acknowledged are stored" in result.stdout
