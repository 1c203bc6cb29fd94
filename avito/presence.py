"""Being present at Avito: a call that its documents do not know, but that others make."""

from collections.abc import Callable
from typing import Any

from avito import protocol
from avito.errors import Unreadable

STATUS_PATH = "/messenger/v2/accounts/{user_id}/status/online"
"""Hearsay: no document of Avito's knows it; seen in public code (jes11sy/avito-service), never proven."""


class PresenceCalls:
    """`client.presence`. Raises the errors of `avito.errors`."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def report_online(self, user_id: int, *, path: str = STATUS_PATH) -> None:
        """Say that the account is online. NotFound where Avito knows no such call; harmless when repeated."""
        answer = self._call(protocol.post(protocol.path(path.replace("{user_id}", "{}"), user_id), {}))
        if isinstance(answer, dict) and False in (answer.get("ok"), answer.get("success")):
            raise Unreadable("Avito answered that the account is not online")
