"""From a code, a refresh token or an application's own credentials to a Token.

Source: Avito API, section "Authorization"; error bodies as met in the field (the specification has none).
"""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlencode

from avito import errors, protocol
from avito.protocol import Complaint, Request, Response
from avito.types import Token

_CLIENT_CODES = ("invalid_client", "unauthorized_client")


class Sender(Protocol):
    def send(self, request: Request) -> Response: ...


def authorize_url(base: str, *, client_id: str, scopes: Sequence[str], state: str, redirect_uri: str) -> str:
    """Where the account's owner gives consent; Avito then calls `redirect_uri` with `code` and `state`.

    `base`: such as https://avito.ru/oauth. `scopes`: such as messenger:read. `state`: random and good for one use.
    """
    query = {
        "response_type": "code",
        "pro_users_flow": "true",
        "client_id": client_id,
        "scope": ",".join(scopes),
        "state": state,
        "redirect_uri": redirect_uri,
    }
    return f"{base}{'&' if '?' in base else '?'}{urlencode(query, safe=':,')}"


def exchange_code(transport: Sender, *, client_id: str, client_secret: str, code: str) -> Token:
    """The first token of an account whose owner consented. A code works once.

    Raises InvalidGrant (code used or stale), InvalidClient, TimedOut (the code may be used up). Not repeatable.
    """
    return _grant(transport, "authorization_code", client_id, client_secret, {"code": code})


def refresh(transport: Sender, *, client_id: str, client_secret: str, refresh_token: str) -> Token:
    """A new pair for an old refresh token, which is void from then on: store both before use.

    Raises InvalidGrant (used, a year old or revoked), InvalidClient, TimedOut (the old one may be used up).
    """
    return _grant(transport, "refresh_token", client_id, client_secret, {"refresh_token": refresh_token})


def client_credentials(transport: Sender, *, client_id: str, client_secret: str) -> Token:
    """A token of the application's own account; there is nothing to refresh, ask again instead.

    Raises InvalidClient.
    """
    return _grant(transport, "client_credentials", client_id, client_secret, {})


def _grant(transport: Sender, grant_type: str, client_id: str, client_secret: str, proof: dict[str, str]) -> Token:
    fields = {"grant_type": grant_type, "client_id": client_id, "client_secret": client_secret, **proof}
    secrets = [client_secret, *proof.values()]
    response = transport.send(protocol.post_form("/token", fields))
    _raise_refusal(response, secrets)
    token = Token.from_json(protocol.read(response, hide=secrets))
    if proof and token.refresh_token is None:
        raise errors.Unreadable("refresh_token: missing")
    return token


def _raise_refusal(response: Response, secrets: list[str]) -> None:
    """OAuth's own refusals, which count whatever the status; others are left to `protocol.read`."""
    complaint = protocol.complaint_of(response)
    if response.status < 500 and _names(complaint, "invalid_grant"):
        raise errors.InvalidGrant(complaint.words(secrets), status=response.status, code="invalid_grant")
    if response.status == 401 or (response.status < 500 and _names(complaint, *_CLIENT_CODES)):
        raise errors.InvalidClient(complaint.words(secrets), status=response.status, code=complaint.code)


def _names(complaint: Complaint, *codes: str) -> bool:
    return complaint.code in codes or any(code in complaint.message for code in codes)
