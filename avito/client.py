"""The calls of one account: `Client(token, transport).messenger.chats(user_id)`."""

from typing import Any, Protocol

from avito import protocol
from avito.items import ItemCalls
from avito.messenger import MessengerCalls
from avito.presence import PresenceCalls
from avito.protocol import Request, Response
from avito.rent import DIALECTS, Dialect, RentCalls
from avito.statistics import StatisticsCalls
from avito.user import UserCalls


class Sender(Protocol):
    """What a client needs of a transport; `avito.transport.Transport` is the real one."""

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response: ...


class Client:
    """Avito's API as seen with one access token. Safe to share between threads; holds no connection of its own.

    `rent_dialect`: in which paths short-term rent is spoken of, see `avito.rent`.
    """

    def __init__(self, token: str, transport: Sender, rent_dialect: Dialect = "official") -> None:
        dialect = DIALECTS[rent_dialect]
        self._token = token
        self._transport = transport
        self.user = UserCalls(self.call, me_path=dialect.me)
        self.messenger = MessengerCalls(self.call)
        self.presence = PresenceCalls(self.call)
        self.items = ItemCalls(self.call)
        self.rent = RentCalls(self.call, dialect)
        self.statistics = StatisticsCalls(self.call)

    def __repr__(self) -> str:
        return f"<Client of {self._transport!r}>"

    def call(self, request: Request, *, deadline_seconds: float | None = None) -> Any:
        """Send a request under the token: the parsed JSON, None for an empty body, or an AvitoError."""
        response = self._transport.send(request.with_token(self._token), deadline_seconds=deadline_seconds)
        return protocol.read(response, hide=[self._token])
