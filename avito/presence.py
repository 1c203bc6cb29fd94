"""Being present at Avito: a call that its documents do not know, but that others make."""

from collections.abc import Callable
from typing import Any

from avito import protocol
from avito.errors import Unreadable


class PresenceCalls:
    """`client.presence`. Raises the errors of `avito.errors`."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def report_online(self, user_id: int) -> None:
        """Say that the account is online. NotFound where Avito knows no such call; harmless when repeated.

        Source: no document of Avito's; seen in public code (jes11sy/avito-service), without proof that it works.
        """
        answer = self._call(protocol.post(protocol.path("/messenger/v2/accounts/{}/status/online", user_id), {}))
        if isinstance(answer, dict) and False in (answer.get("ok"), answer.get("success")):
            raise Unreadable("Avito answered that the account is not online")
