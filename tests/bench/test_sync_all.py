"""The benchmark runs and its promises hold; what it measures beside tests means nothing and is not looked at."""

import subprocess
import sys

from bench.servers import ROOT


def test_benchmark_of_figures_makes_the_fewest_calls() -> None:
    command = [sys.executable, "-m", "bench", "sync_all", "--accounts", "10", "--rounds", "1", "--lanes", "2"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "1.00 of the fewest; 0 refused" in result.stdout
    assert "As promised." in result.stdout
