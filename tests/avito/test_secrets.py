"""No token, secret or password in anything that ends in a log."""

import copy
import pickle

import pytest

import avito
from avito import Client, Proxy, Token, Transport, errors, protocol
from avito.protocol import Response
from avito.webhooks import parse

SECRET = "s3cr3t"
PROXY = Proxy("http", "127.0.0.1", 1, SECRET, SECRET)
TRANSPORT = Transport("http://127.0.0.1:1", PROXY)


@pytest.mark.parametrize(
    "thing",
    [
        Token(SECRET, SECRET, 86400, ("messenger:read",)),
        PROXY,
        TRANSPORT,
        Client(SECRET, TRANSPORT),
        Client(SECRET, TRANSPORT).messenger,
        protocol.get("/x").with_token(SECRET),
        protocol.post_form("/token", {"client_secret": SECRET}),
        Response(200, {"Set-Cookie": SECRET}, SECRET.encode()),
        parse(f'{{"event": "chat.new", "chat_id": "1", "user": {{"name": "{SECRET}", "phone": "{SECRET}"}}}}'.encode()),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_secret_is_not_shown(thing: object) -> None:
    assert SECRET not in repr(thing) + str(thing)


def test_secret_is_in_no_error() -> None:
    with pytest.raises(avito.ProxyFailed) as caught:
        Client(SECRET, TRANSPORT).user.me()
    assert SECRET not in repr(caught.value) + str(caught.value.__dict__) + caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_token_that_avito_repeats_is_not_in_the_error() -> None:
    class Parrot:
        def send(self, request: protocol.Request, *, deadline_seconds: float | None = None) -> Response:
            return Response(401, {}, f'{{"message": "bad {request.headers["Authorization"]}"}}'.encode())

    with pytest.raises(avito.Unauthorized, match=r"^bad Bearer \*\*\*$"):
        Client(SECRET, Parrot()).user.me()


ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.AvitoError) and kind is not errors.AvitoError
]


@pytest.mark.parametrize("kind", ALL)
def test_error_survives_copies_and_is_listed(kind: type[errors.AvitoError]) -> None:
    assert getattr(avito, kind.__name__) is kind
    assert kind.__name__ in (avito.__doc__ or "")
    error = kind("Нельзя", retry_after_seconds=5)
    assert str(error) == error.message == "Нельзя"
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is kind
        assert vars(same) == vars(error)
    assert kind().message == kind.default_message
