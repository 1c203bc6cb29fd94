"""The subscriptions at Avito that bring an account's messages here: made, looked after, taken off.

`Account.webhook_fingerprint` says which address the account has been subscribed to; OFF means that a person wants none.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

import avito
from avito.types import Subscription
from avito_accounts import news, services
from avito_accounts.models import Account

log = structlog.get_logger(__name__)

PATH = "/api/v1/webhooks/avito"
OFF = "off"
ROUND_MINUTES = 60
_KEYED = re.compile(r"(/api/v1/webhooks?/avito/)[^\s\"'<>]+")


class Shown(NamedTuple):
    """A subscription for people: the key in its address is masked."""

    url: str
    version: str
    is_ours: bool


class State(NamedTuple):
    """What an account is subscribed to. `subscribed`: does Avito deliver to the present address, `url`?"""

    subscriptions: tuple[Shown, ...]
    subscribed: bool
    url: str


def url() -> str:
    """The address that Avito shall deliver to; with the newest key in it, so it is a secret."""
    key = f"/{settings.AVITO_WEBHOOK_KEYS[0]}" if settings.AVITO_WEBHOOK_KEYS else ""
    return f"{settings.PUBLIC_URL}{PATH}{key}"


def masked(text: str) -> str:
    """A text without the keys of the addresses in it, for answers, logs and pages."""
    return _KEYED.sub(r"\1…", text)


def fingerprint() -> str:
    return hashlib.sha256(url().encode()).hexdigest()


def state(account: Account) -> State:
    """Ask Avito what the account is subscribed to. Raises AvitoError, AccountUnusable."""
    known = _known(account)
    return State(
        tuple(Shown(masked(one.url), one.version, _is_ours(one.url)) for one in known),
        url() in {one.url for one in known},
        masked(url()),
    )


def subscribe(account: Account) -> None:
    """Have Avito deliver this account's messages here, and here only once: older addresses of ours are taken off.

    Nothing is subscribed for the owner of a token that is not this account's own. Raises AvitoError, AccountUnusable.
    """
    _subscribe(account)
    # Last of all: from here on nothing tries again.
    _remember(account, Account.objects.all())


def subscribe_if_wanted(account: Account) -> None:
    """As `subscribe`, unless a person has said that the account shall not be."""
    if account.webhook_fingerprint == OFF:
        return
    _subscribe(account)
    if not _remember(account, Account.objects.exclude(webhook_fingerprint=OFF)):  # said so meanwhile
        _unsubscribe(account, url())


def unsubscribe(account: Account) -> None:
    """Take every address of ours off, until a person subscribes the account again.

    Raises AvitoError, AccountUnusable; then nothing has changed here.
    """
    # First of all: a check that comes in between must not restore what is being taken off.
    mine = Account.objects.filter(pk=account.pk)
    mine.update(webhook_fingerprint=OFF)
    try:
        for one in _known(account):
            if _is_ours(one.url):
                _unsubscribe(account, one.url)
    except Exception:
        mine.filter(webhook_fingerprint=OFF).update(webhook_fingerprint=account.webhook_fingerprint)
        raise
    mine.filter(webhook_fingerprint=OFF).update(webhook_subscribed_at=None)
    news.forget_webhook(account)
    log.info("webhook_unsubscribed", account_id=account.pk)


def check(account: Account) -> None:
    """See whether Avito still knows the subscription; one that has vanished is restored, and people are told.

    Costs one call while all is well. Raises AvitoError, AccountUnusable.
    """
    known = {subscription.url for subscription in _known(account)}
    if url() in known:
        return
    log.warning("webhook_vanished", account_id=account.pk)
    try:
        _bring_about(account, known)
    except avito.AvitoError:
        # The sweep goes on trying.
        if _still_subscribed(account).update(webhook_fingerprint=""):
            news.webhook_lost(account)
        raise
    if _still_subscribed(account).update(webhook_subscribed_at=timezone.now()):
        news.webhook_restored(account)


def to_subscribe() -> QuerySet[Account]:
    """Accounts that Avito does not deliver to the present address yet, though they have tokens or could fetch them.

    One with keys of its own may have neither a token nor a number so far; those it has shown to be wrong wait for a
    person.
    """
    return (
        Account.objects.usable()
        .exclude(webhook_fingerprint__in=(fingerprint(), OFF))
        .exclude(connection_error_code__in=services.WRONG_OWNER)
    )


def to_check() -> QuerySet[Account]:
    """Accounts that are subscribed as far as we know."""
    return Account.objects.usable().filter(webhook_fingerprint=fingerprint(), webhook_subscribed_at__isnull=False)


def to_check_in(minute: int) -> QuerySet[Account]:
    """Those whose turn it is in this minute of the hour: by number, so they are spread and nothing is written."""
    return to_check().annotate(turn=F("pk") % ROUND_MINUTES).filter(turn=minute % ROUND_MINUTES)


def _subscribe(account: Account) -> None:
    services.identify(account)
    _bring_about(account, {subscription.url for subscription in _known(account)})


def _known(account: Account) -> tuple[Subscription, ...]:
    return services.call(account, lambda client: client.messenger.subscriptions())


def _bring_about(account: Account, known: set[str]) -> None:
    """The present address is subscribed, and no other of ours."""
    address = url()
    if address not in known:
        try:
            with _keeping_keys():
                services.call(account, lambda client: client.messenger.subscribe(address))
        except avito.Invalid as error:
            if error.status != 409:  # Avito's word for an address that it knows already
                raise
    for old in known - {address}:
        if _is_ours(old):
            _unsubscribe(account, old)


def _unsubscribe(account: Account, address: str) -> None:
    with _keeping_keys():
        services.call(account, lambda client: client.messenger.unsubscribe(address))


@contextmanager
def _keeping_keys() -> Iterator[None]:
    """Avito may repeat an address when it complains of it."""
    try:
        yield
    except avito.AvitoError as error:
        error.message = masked(error.message)
        raise


def _is_ours(address: str) -> bool:
    ours = f"{settings.PUBLIC_URL}{PATH}"
    return address == ours or address.startswith(f"{ours}/")


def _remember(account: Account, accounts: QuerySet[Account]) -> bool:
    """Write down that the account is subscribed, if it is one of these."""
    changed = accounts.filter(pk=account.pk).update(
        webhook_fingerprint=fingerprint(), webhook_subscribed_at=timezone.now()
    )
    if changed:
        news.webhook_is_back(account)
        log.info("webhook_subscribed", account_id=account.pk)
    return bool(changed)


def _still_subscribed(account: Account) -> QuerySet[Account]:
    """The row as the check has found it: of two checks at once one tells people, and none undoes a person's wish."""
    return Account.objects.filter(
        pk=account.pk,
        webhook_fingerprint=account.webhook_fingerprint,
        webhook_subscribed_at=account.webhook_subscribed_at,
    )
