"""The queue of connections: who does what, in which order, and what becomes of it when somebody dies."""

import pytest

from integrations_str import queue
from tests.integrations_str.conftest import Home, work


def test_what_falls_due_while_the_queue_is_looked_at_is_not_left_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "QUIET_SECONDS", 0.012)
    home.connect_and_push()
    for number in range(12):
        home.set_rate(5, price=2500 + number)
        work()
        assert len(home.writes()) == number + 1
