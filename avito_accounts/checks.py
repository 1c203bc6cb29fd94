"""Looking whether an account reaches Avito, and its proxy carries: real calls, and what they say is written down."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

import avito
from avito import protocol
from avito.types import Owner
from avito_accounts import news, proxies, services, tokens
from avito_accounts.errors import (
    AccountNotAuthorized,
    AccountUnusable,
    MissingAvitoSecrets,
    ReconnectRequired,
    Undecryptable,
    WrongOwner,
    code_of,
    text_of,
)
from avito_accounts.fields import look
from avito_accounts.models import Account, Proxy
from notifications import events

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


def check_connection(account: Account, *, by_person: bool = True, is_certain: bool = True) -> Check:
    """Ask Avito whose token this is, through the account's proxy. Failures are results, not exceptions.

    `by_person`: somebody waits for the answer, so a resting proxy is asked all the same. `is_certain`: a failure is
    news at once; else it is news when it happens again.
    """
    error: Exception | None = None
    owner, latency = None, None
    try:
        with proxies.probing() if by_person else nullcontext():
            owner, latency = services.call(account, _timed_self)
        services.recognise(account, owner)
    except (avito.AvitoError, AccountUnusable) as caught:
        error = caught
    check = Check(timezone.now(), latency, owner, error)
    if account.proxy is not None:
        _judge_proxy(account.proxy, check, by_person=by_person, is_certain=is_certain)
    if not isinstance(error, avito.RateLimited):  # a pause says nothing about the account
        _judge_account(account, check, is_certain=is_certain)
    return check


def check_proxy(proxy: Proxy, *, by_person: bool = True, is_certain: bool = True) -> Check:
    """See whether the proxy carries a call to Avito; needs no account. For the rest see `check_connection`."""
    started = time.monotonic()
    try:
        guarded = proxies.Guarded(tokens.transport_of_proxy(proxy), proxy, before_sending=tokens.release_connection)
        tokens.release_connection()
        with proxies.probing() if by_person else nullcontext():
            guarded.send(protocol.get(ASKED))
    except (avito.AvitoError, Undecryptable) as error:
        check = Check(timezone.now(), error=error)
    else:
        check = Check(timezone.now(), _milliseconds(started))
    _judge_proxy(proxy, check, by_person=by_person, is_certain=is_certain)
    return check


def _timed_self(client: avito.Client) -> tuple[Owner, int]:
    started = time.monotonic()
    owner = client.user.me()
    return owner, _milliseconds(started)


def _milliseconds(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _judge_proxy(proxy: Proxy, check: Check, *, by_person: bool, is_certain: bool) -> None:
    error = check.error
    if check.latency_ms is not None:
        proxies.worked(proxy, latency_ms=check.latency_ms)
    elif isinstance(error, Undecryptable) and look(proxy, "password") is None:
        proxies.check_failed(proxy, "unreadable", is_certain=is_certain)
    elif isinstance(error, AccountUnusable):  # nothing was sent that could have shown it
        check_proxy(proxy, by_person=by_person, is_certain=is_certain)
    elif error is None or proxies.is_resting(error):
        pass
    elif reason := proxies.blame(error, tokens.transport_of_proxy(proxy)):
        proxies.check_failed(proxy, reason, is_certain=is_certain)
    elif isinstance(error, avito.Refused | avito.Unreadable) and not isinstance(error, avito.RateLimited):
        proxies.worked(proxy)  # an answer of Avito's has come through


def _judge_account(account: Account, check: Check, *, is_certain: bool) -> None:
    """Write down how the account stands, and tell people when that has changed for the worse or the better."""
    error = check.error
    account.connection_checked_at = check.checked_at
    if error is None:
        account.connection_status = Status.CONNECTED
        account.connection_error_code = account.connection_error_detail = ""
    elif isinstance(error, ReconnectRequired | avito.Unauthorized | WrongOwner):
        # Whoever found out has written the reason down already.
        account.refresh_from_db(fields=["connection_status", "connection_error_code", "connection_error_detail"])
        if not isinstance(error, WrongOwner) and account.connection_status != Status.NEEDS_RECONNECT:
            account.connection_status, account.connection_error_code = Status.NEEDS_RECONNECT, "token_expired"
    else:
        account.connection_status = Status.ERROR
        account.connection_error_code, account.connection_error_detail = code_of(error), text_of(error)[:500]
    account.connection_failures = 0 if error is None else min(account.connection_failures + 1, 1000)
    if _store(account):
        _tell(account, error, is_certain=is_certain or account.connection_failures > 1)


STORED = (
    "connection_status", "connection_error_code", "connection_error_detail", "connection_checked_at",
    "connection_failures",
)  # fmt: skip


def _store(account: Account) -> bool:
    """Unless the account is gone, or a later check was faster."""
    later = Q(connection_checked_at=None) | Q(connection_checked_at__lte=account.connection_checked_at)
    changes = {name: getattr(account, name) for name in STORED}
    with transaction.atomic():
        is_stored = Account.objects.filter(later, pk=account.pk).update(**changes) == 1
        if is_stored:
            events.emit("account.updated", account.pk)
    return is_stored


def _tell(account: Account, error: Exception | None, *, is_certain: bool) -> None:
    if error is None:
        news.account_returned(account)
        if not _is_avito_down():
            news.avito_returned()
    elif isinstance(error, avito.ProxyFailed | MissingAvitoSecrets) or type(error) is AccountNotAuthorized:
        pass  # news of the proxy's own; the installation's fault; who never was connected has lost nothing
    elif isinstance(error, avito.Broken | avito.NoAnswer | avito.Unreadable):
        if _is_avito_down():
            news.avito_fell()  # not the account's fault, and the same for all of them
        elif account.connection_failures > 1:
            news.account_fell(account, account.connection_error_code, account.connection_error_detail)
    elif is_certain:
        news.account_fell(account, account.connection_error_code, account.connection_error_detail)


def _is_avito_down() -> bool:
    """For at least half of the accounts that could reach it, Avito was silent or broken at their last check."""
    usable = Account.objects.usable().aggregate(
        all=Count("pk"), failing=Count("pk", filter=Q(connection_error_code__in=("avito_unavailable", "avito_timeout")))
    )
    return bool(usable["failing"]) and usable["failing"] * 2 >= usable["all"]
