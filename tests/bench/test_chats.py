"""The benchmark runs and its pages have the right rows; what it measures beside tests means nothing."""

import subprocess
import sys

from bench.servers import ROOT


def test_benchmark_of_chats_finds_the_same_rows_by_cursor_and_by_offset() -> None:
    command = [sys.executable, "-m", "bench", "chats", "--chats", "2000", "--messages", "20000", "--large", "300"]

    result = subprocess.run(
        [*command, "--depth", "400", "--rounds", "1", "--times", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "As promised." in result.stdout
