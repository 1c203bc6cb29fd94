"""Looking whether an account reaches Avito, and its proxy carries: real calls, and what they say is written down."""

import time
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.utils import timezone

import avito
from avito import protocol
from avito.types import Owner
from avito_accounts import news, proxies, services, tokens
from avito_accounts.errors import (
    AccountNotAuthorized,
    AccountUnusable,
    ReconnectRequired,
    WrongOwner,
    code_of,
    text_of,
)
from avito_accounts.models import Account, Proxy

log = structlog.get_logger(__name__)

Status = Account.ConnectionStatus
ASKED = "/core/v1/accounts/self"
"""Asked without a token, Avito refuses at once: reason enough to know that the proxy carries."""


@dataclass(frozen=True)
class Check:
    """What a check has found; the rows of account and proxy say the same.

    `latency_ms`: of the one call that counts, through the proxy; None without an answer. `error`: why it failed.
    """

    checked_at: datetime
    latency_ms: int | None = None
    owner: Owner | None = None
    error: Exception | None = None


def check_connection(account: Account) -> Check:
    """Ask Avito whose token this is, through the account's proxy. Failures are results, not exceptions."""
    error: Exception | None = None
    owner, latency = None, None
    try:
        with proxies.probing():
            owner, latency = services.call(account, _timed_self)
        services.recognise(account, owner)
    except (avito.AvitoError, AccountUnusable) as caught:
        error = caught
    check = Check(timezone.now(), latency, owner, error)
    if account.proxy is not None:
        _judge_proxy(account.proxy, check)
    if not isinstance(error, avito.RateLimited):  # a pause says nothing about the account
        _judge_account(account, check)
    return check


def check_proxy(proxy: Proxy) -> Check:
    """See whether the proxy carries a call to Avito; needs no account."""
    transport = proxies.Guarded(tokens.transport_of_proxy(proxy), proxy)
    tokens.release_connection()
    started = time.monotonic()
    try:
        with proxies.probing():
            transport.send(protocol.get(ASKED))
    except avito.AvitoError as error:
        check = Check(timezone.now(), error=error)
    else:
        check = Check(timezone.now(), _milliseconds(started))
    _judge_proxy(proxy, check)
    return check


def _timed_self(client: avito.Client) -> tuple[Owner, int]:
    started = time.monotonic()
    owner = client.user.me()
    return owner, _milliseconds(started)


def _milliseconds(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _judge_proxy(proxy: Proxy, check: Check) -> None:
    error = check.error
    if isinstance(error, AccountUnusable):  # nothing was sent that could have shown it
        check_proxy(proxy)
    elif reason := error and proxies.blame(error, tokens.transport_of_proxy(proxy)):
        proxies.check_failed(proxy, reason)
    elif not isinstance(error, avito.TimedOut):  # an answer of Avito's, be it a refusal, has come through
        proxies.worked(proxy, latency_ms=check.latency_ms)


def _judge_account(account: Account, check: Check) -> None:
    """Write down how the account stands, and tell people when that has changed for the worse or the better."""
    before, error = account.connection_status, check.error
    account.connection_checked_at = check.checked_at
    if error is None:
        account.connection_status = Status.CONNECTED
        account.connection_error_code = account.connection_error_detail = ""
    elif isinstance(error, ReconnectRequired | avito.Unauthorized | WrongOwner):
        # Whoever found out has written the reason down already.
        account.refresh_from_db(fields=["connection_status", "connection_error_code", "connection_error_detail"])
    else:
        account.connection_status = Status.ERROR
        account.connection_error_code, account.connection_error_detail = code_of(error), text_of(error)[:500]
    if (
        isinstance(error, ReconnectRequired | avito.Unauthorized)
        and account.connection_status != Status.NEEDS_RECONNECT
    ):
        account.connection_status, account.connection_error_code = Status.NEEDS_RECONNECT, "token_expired"
    _store(account)
    _tell(account, before, error)


def _store(account: Account) -> None:
    names = ("connection_status", "connection_error_code", "connection_error_detail", "connection_checked_at")
    Account.objects.filter(pk=account.pk).update(**{name: getattr(account, name) for name in names})


def _tell(account: Account, before: str, error: Exception | None) -> None:
    if error is None:
        news.avito_returned()
        if before != Status.CONNECTED:
            news.account_returned(account)
    elif isinstance(error, avito.Broken) or (isinstance(error, avito.NoAnswer) and account.proxy is None):
        news.avito_fell()  # not the account's fault, and the same for all of them
    elif isinstance(error, avito.ProxyFailed) or type(error) is AccountNotAuthorized:
        pass  # the proxy has news of its own; who never was connected has lost nothing
    else:
        news.account_fell(account, account.connection_error_code, account.connection_error_detail)
