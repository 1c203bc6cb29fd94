"""The benchmark runs and no sign is lost or doubled; the rate that it measures beside tests means nothing."""

import subprocess
import sys

from bench.servers import ROOT


def test_benchmark_of_eternal_online_loses_and_doubles_no_sign() -> None:
    command = [sys.executable, "-m", "bench", "presence", "--simulated", "30", "--minutes", "10"]

    result = subprocess.run(
        [*command, "--accounts", "10", "--rounds", "1"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 accounts lost, 0 signs doubled" in result.stdout
    assert "REACHED: the goal is 99%" in result.stdout
    assert "As promised." in result.stdout
