"""The subscriptions at Avito that bring an account's messages here: made, looked after, taken off.

`Account.webhook_fingerprint` says which address the account has been subscribed to; OFF means that a person wants none.
What a person wants is written there first, `look_after` brings it about at Avito, now and once an hour.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import structlog
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

import avito
from avito.types import Subscription
from avito_accounts import news, services
from avito_accounts.errors import AccountUnusable, code_of, text_of
from avito_accounts.models import Account

log = structlog.get_logger(__name__)
T = TypeVar("T")

PATH = "/api/v1/webhooks/avito"
PATHS = (PATH, "/api/v1/webhook/avito")
"""One handler serves both, see `config.gate`; the first is what we subscribe."""
OFF = "off"
CUT_MIN = 4
"""Less of a key tells nothing."""
_PORTS = {"http": 80, "https": 443}
_SLASH = r"(?:\\*/|%(?:25)*2F)"
_KEYED = re.compile(rf"(api{_SLASH}v1{_SLASH}webhooks?{_SLASH}avito{_SLASH})[^\s\"'<>]+", re.IGNORECASE)


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
    """A text without keys, for answers, logs and pages: those behind our paths, and the configured ones anywhere."""
    keys = tuple(settings.AVITO_WEBHOOK_KEYS)
    text = _KEYED.sub(r"\1…", text)
    text = _any_of(keys).sub("…", text) if keys else text
    for key in keys:  # long texts of Avito's are cut, perhaps in the middle of one
        cut = next((length for length in range(len(key) - 1, CUT_MIN - 1, -1) if text.endswith(key[:length])), 0)
        text = f"{text[:-cut]}…" if cut else text
    return text


@cache
def _any_of(keys: tuple[str, ...]) -> re.Pattern[str]:
    """Any of these keys, the longest first, however many of their characters are percent-encoded, once or more."""

    def spelled(character: str) -> str:
        encoded = "".join(f"%(?:25)*{byte:02X}" for byte in character.encode())
        return f"(?:{re.escape(character)}|{encoded})"

    longest_first = sorted(keys, key=len, reverse=True)
    return re.compile("|".join("".join(map(spelled, key)) for key in longest_first), re.IGNORECASE)


def fingerprint() -> str:
    return hashlib.sha256(url().encode()).hexdigest()


def is_subscribed(account: Account) -> bool:
    """To the present address, as far as we know."""
    return account.webhook_fingerprint == fingerprint()


def state(account: Account) -> State:
    """Ask Avito what the account is subscribed to. Raises AvitoError, AccountUnusable."""
    known = _known(account)
    return State(
        tuple(Shown(masked(one.url), one.version, _is_ours(one.url)) for one in known),
        _present(one.url for one in known) is not None,
        masked(url()),
    )


def want(accounts: QuerySet[Account]) -> None:
    """A person wants these subscribed, also those that one has taken off."""
    accounts.filter(webhook_fingerprint=OFF).update(webhook_fingerprint="")


def subscribe(account: Account) -> None:
    """Have Avito deliver this account's messages here, also when a person has taken the webhook off before.

    Raises AvitoError, AccountUnusable; then it is tried again by itself.
    """
    want(Account.objects.filter(pk=account.pk))
    if account.webhook_fingerprint == OFF:
        account.webhook_fingerprint = ""
    look_after(account)


def unsubscribe(account: Account) -> None:
    """Take every address of ours off, until a person subscribes the account again.

    Raises AvitoError, AccountUnusable. Where something may have been taken off, the wish stays all the same, and is
    brought about soon; else nothing has changed here.
    """
    # First of all: a look that comes in between must not restore what is being taken off.
    mine = Account.objects.filter(pk=account.pk)
    mine.update(webhook_fingerprint=OFF)
    is_begun = False
    try:
        for one in _known(account):
            if _is_ours(one.url):
                _unsubscribe(account, one.url)
                is_begun = True
    except Exception as error:
        if is_begun or getattr(error, "maybe_done", True):
            mine.update(webhook_checked_at=None)
        else:
            mine.filter(webhook_fingerprint=OFF).update(webhook_fingerprint=account.webhook_fingerprint)
        raise
    mine.filter(webhook_fingerprint=OFF).update(
        webhook_subscribed_at=None, webhook_error_code="", webhook_error_detail=""
    )
    news.forget_webhook(account)
    log.info("webhook_unsubscribed", account_id=account.pk)


def look_after(account: Account) -> None:
    """Bring about at Avito what the account's row says: the present address and no other of ours, or, when OFF, none.

    A subscription that has vanished is restored, and people are told. Costs one call while all is well. Nothing is
    subscribed for the owner of a token that is not this account's own. Raises AvitoError, AccountUnusable.
    """
    is_wanted = account.webhook_fingerprint != OFF
    with _noted(account):
        known = {subscription.url for subscription in _known(account)}
        present = _present(known)
        if is_wanted and not (present and is_subscribed(account)):
            _bring_about(account, is_there=present is not None)
    for old in known - ({present} if is_wanted else set()):
        if _is_ours(old):
            _tidy(account, old)


def to_subscribe() -> QuerySet[Account]:
    """Accounts that Avito does not deliver to the present address yet, though they have tokens or could fetch them.

    One with keys of its own may have neither a token nor a number so far; those it has shown to be wrong wait for a
    person.
    """
    return _reachable().exclude(webhook_fingerprint__in=(fingerprint(), OFF))


def to_check() -> QuerySet[Account]:
    """Accounts that are subscribed as far as we know, or shall not be."""
    return _reachable().filter(webhook_fingerprint__in=(fingerprint(), OFF))


def _reachable() -> QuerySet[Account]:
    return Account.objects.usable().exclude(connection_error_code__in=services.WRONG_OWNER)


@contextmanager
def _noted(account: Account) -> Iterator[None]:
    """Write down when Avito was asked, and what failed; a pause that it asks for is no failure."""
    found = {"webhook_error_code": "", "webhook_error_detail": ""}
    try:
        yield
    except avito.RateLimited:
        found = {}
        raise
    except (avito.AvitoError, AccountUnusable) as error:
        found = {"webhook_error_code": code_of(error), "webhook_error_detail": masked(text_of(error))[:500]}
        raise
    finally:
        Account.objects.filter(pk=account.pk).update(webhook_checked_at=timezone.now(), **found)


def _bring_about(account: Account, *, is_there: bool) -> None:
    """The present address is subscribed and the row says so, unless a person has taken it off meanwhile."""
    has_vanished = is_subscribed(account)
    if has_vanished:
        log.warning("webhook_vanished", account_id=account.pk)
    try:
        services.identify(account)
        if not is_there:
            _subscribe(account)
    except avito.RateLimited:
        raise
    except (avito.AvitoError, AccountUnusable):
        if has_vanished and _still_subscribed(account).update(webhook_fingerprint=""):  # so it is tried more often
            news.webhook_lost(account)
        raise
    mine, now = Account.objects.filter(pk=account.pk), timezone.now()
    if has_vanished and _still_subscribed(account).update(webhook_subscribed_at=now):
        news.webhook_restored(account)
    elif mine.exclude(webhook_fingerprint=OFF).update(webhook_fingerprint=fingerprint(), webhook_subscribed_at=now):
        news.webhook_is_back(account)
        log.info("webhook_subscribed", account_id=account.pk)
    else:
        _unsubscribe(account, url())


def _still_subscribed(account: Account) -> QuerySet[Account]:
    """The row as the look has found it: of two looks at once one tells people, and none undoes a person's wish."""
    return Account.objects.filter(
        pk=account.pk,
        webhook_fingerprint=account.webhook_fingerprint,
        webhook_subscribed_at=account.webhook_subscribed_at,
    )


# At Avito


def _ask(account: Account, use: Callable[[avito.Client], T]) -> T:
    """`services.call`, whose failures hold no key: Avito may repeat an address when it complains of it."""
    try:
        return services.call(account, use)
    except avito.AvitoError as error:
        error.message = masked(error.message)
        error.args = (error.message,)
        raise


def _known(account: Account) -> tuple[Subscription, ...]:
    return _ask(account, lambda client: client.messenger.subscriptions())


def _subscribe(account: Account) -> None:
    address = url()
    try:
        _ask(account, lambda client: client.messenger.subscribe(address))
    except avito.Invalid as error:
        if error.status != 409:  # Avito's word for an address that it knows already
            raise


def _unsubscribe(account: Account, address: str) -> None:
    _ask(account, lambda client: client.messenger.unsubscribe(address))


def _tidy(account: Account, old: str) -> None:
    """Take an address off that is of no use; the next look tries again."""
    try:
        _unsubscribe(account, old)
    except (avito.AvitoError, AccountUnusable) as error:
        log.warning("old_webhook_stays", account_id=account.pk, error=type(error).__name__)


# Spellings of an address


class Place(NamedTuple):
    """What two spellings of one address have in common."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: str


def _place(address: str) -> Place:
    """What is no address is a place of its own."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return Place("", address, None, "", "")
    return Place(parts.scheme, host, port, unquote(parts.path).rstrip("/"), parts.query)


def _present(known: Iterable[str]) -> str | None:
    """The present address among these, as Avito spells it."""
    spellings = [address for address in known if _place(address) == _place(url())]
    return url() if url() in spellings else min(spellings, default=None)


def _is_ours(address: str) -> bool:
    """Would a delivery to it come to our handler?"""
    place = _place(address)
    roots = (_place(settings.PUBLIC_URL + path) for path in PATHS)
    return any(place[:3] == root[:3] and f"{place.path}/".startswith(f"{root.path}/") for root in roots)
