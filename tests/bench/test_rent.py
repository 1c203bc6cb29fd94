"""The benchmark's counts are kept; what it measures beside tests means nothing and is not looked at."""

import pytest

from bench import rent_run
from integrations_str import queue


def test_benchmark_of_rent_counts_no_call_too_many_and_no_query_per_booking(
    product: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(rent_run, "BURST", 5)
    monkeypatch.setattr(rent_run, "BOOKED", (0, 1, 4))
    monkeypatch.setattr(rent_run, "CLAIMS", 2)

    assert rent_run.calls(2, looks=2), capsys.readouterr().out
    assert rent_run.queries([10]), capsys.readouterr().out
    assert rent_run.drain(3, rounds=1), capsys.readouterr().out
