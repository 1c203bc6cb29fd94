"""Token custody: each account's pair is renewed by one process at a time, once, and stored before it is used.

Avito's refresh tokens work once. So a refresh happens under a lock that belongs to a PostgreSQL session (it frees
itself when the process dies, and never while the process is merely slow), behind a mark that is committed before the
call: whoever finds the mark knows that the stored refresh token may be spent. THIS IS THE ONE PLACE where a lock is
held while the network is awaited; no transaction is open meanwhile.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error, OperationalError, connection, transaction
from django.utils import timezone

import avito
from avito import auth
from avito.client import Sender
from avito.transport import Until
from avito_accounts import limits, news, proxies
from avito_accounts.errors import KEYS_REFUSED, AccountNotAuthorized, MissingAvitoSecrets, ReconnectRequired
from avito_accounts.models import NO_LATER_THAN_AN_INTERVAL, Account, Authorization, Proxy
from notifications import events

log = structlog.get_logger(__name__)

LOCK_NAMESPACE = 0x61766974  # "avit": keeps our advisory locks apart from anybody else's
LOCK_WAIT_SECONDS = 30
REFRESH_AHEAD_SECONDS = 300
NOBODY = 0
"""For the budget of calls: whose token it is has yet to be found out."""
STORE_ATTEMPTS = 6
WITHOUT_TOKENS = (Account.ConnectionStatus.NEEDS_RECONNECT, Account.ConnectionStatus.NOT_CHECKED)
"""States of a connection that new tokens end."""

_in_this_process: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
_asking: dict[int, tuple[int, datetime]] = {}  # per account: how many ask for a refresh, and since when
_asking_changes = threading.Lock()


def _make_transport(base_url: str, proxy: avito.Proxy | None) -> avito.Transport:
    return avito.Transport(
        base_url,
        proxy,
        deadline_seconds=settings.AVITO_TIMEOUT_SECONDS,
        ca_file=settings.SSL_CERT_FILE,
        allow_address=proxies.is_allowed,
    )


transports = avito.Transports(make=_make_transport)


def transport_for(account: Account) -> Sender:
    """The account's own connections, through its own proxy and behind that proxy's breaker."""
    transport, proxy = _transport(account)
    return transport if proxy is None else proxies.Guarded(transport, proxy)


def _transport(account: Account) -> tuple[avito.Transport, Proxy | None]:
    proxy = account.with_present_proxy().proxy
    route = None if proxy is None else proxy.route
    return transports.get(account.pk, base_url=settings.AVITO_API_BASE_URL, proxy=route), proxy


def transport_of_proxy(proxy: Proxy) -> avito.Transport:
    """Connections through a proxy that belong to no account."""
    return transports.get(("proxy", proxy.pk), base_url=settings.AVITO_API_BASE_URL, proxy=proxy.route)


def client_for(account: Account, token: str, *, until: float | None = None) -> avito.Client:
    """Avito as this account sees it: with its token, through its proxy, within the shared budget of calls.

    A resting proxy is asked first: a call that it refuses takes nothing from the budget. `until`: a moment of
    `time.monotonic` after which nothing is sent any more, however long the budget was waited for.
    """
    transport, proxy = _transport(account)
    in_time = transport if until is None else Until(transport, until)
    metered = limits.Metered(in_time, account.pk or NOBODY, before_waiting=release_connection)
    if proxy is None:
        return avito.Client(token, metered, settings.AVITO_STR_DIALECT)
    guarded = proxies.Guarded(transport, proxy, sender=metered, before_sending=release_connection)
    return avito.Client(token, guarded, settings.AVITO_STR_DIALECT)


def access_token(account: Account, *, rejected: str | None = None) -> str:
    """A token to call Avito with; `rejected` is one that Avito has just refused.

    Raises AccountNotAuthorized, ReconnectRequired, MissingAvitoSecrets; or an AvitoError of the refresh itself, whose
    `maybe_done` is False since the caller's own call has not been made.
    """
    authorization = _read(account)
    if authorization is not None and rejected is None:
        now = timezone.now()
        if now < authorization.refresh_at:
            return authorization.access_token
        if now < authorization.expires_at:
            return _renewed_ahead(account, authorization)
    asked_at = timezone.now()
    with _only_one(account.pk, wait=True):
        return _renewed(account, rejected=rejected, asked_at=asked_at).access_token


def at_hand(account: Account) -> str | None:
    """The token that was read together with the account, unless it is time to renew it. Costs no query.

    It may have been replaced since; Avito then refuses it, and `access_token` finds the new one.
    """
    authorization = account._state.fields_cache.get("authorization")
    if authorization is None or authorization.dead_reason or timezone.now() >= authorization.refresh_at:
        return None
    return str(authorization.access_token)


def release_connection() -> None:
    """Give the database connection to others before a wait; the next query gets one again. Not in a transaction."""
    if not connection.in_atomic_block:
        connection.close()


@contextmanager
def asking_together(account_id: int) -> Iterator[datetime]:
    """Yields when the first of those asked who ask `renew` for this account together, their calls overlapping."""
    with _asking_changes:
        count, since = _asking.get(account_id, (0, timezone.now()))
        _asking[account_id] = count + 1, since
    try:
        yield since
    finally:
        with _asking_changes:
            count, since = _asking.pop(account_id)
            if count > 1:
                _asking[account_id] = count - 1, since


def renew(account: Account, *, asked_at: datetime) -> Authorization:
    """Renew now, whatever the pair's age. A pair stored since `asked_at`, see `asking_together`, is new enough.

    After a lost answer the present pair is returned as long as Avito accepts it.
    """
    with _only_one(account.pk, wait=True):
        authorization = _read(account)
        if authorization is not None and authorization.renewed_at >= asked_at:
            return authorization
        return _renewed(account, forced=True, asked_at=asked_at)


def renew_ahead(account: Account) -> None:
    """Renew a pair whose end is near; nothing happens when somebody else is doing it."""
    with _only_one(account.pk, wait=False) as mine:
        if mine:
            _renewed(account, ahead=True)


def store(account: Account, token: avito.Token, *, kind: str, replaces: int | None = None) -> Authorization:
    """Make `token` the account's pair. With `replaces` only if that is still the version stored.

    Raises AccountNotAuthorized when the account itself is gone.
    """
    now = timezone.now()
    with transaction.atomic(durable=True):
        # Two consents at once take turns here, also when there is no pair to lock yet.
        owner = Account.objects.select_for_update(no_key=True).filter(pk=account.pk).first()
        if owner is None:
            raise AccountNotAuthorized(account.pk)
        row = Authorization.objects.select_for_update().filter(account=account).first()
        if row is None:
            if replaces is not None:
                raise ReconnectRequired("the authorisation was removed meanwhile")
            row = Authorization(account=account, version=0)
        elif replaces is not None and row.version != replaces:
            return row  # a person gave a new consent meanwhile: theirs is the newer pair
        row.kind = kind
        row.access_token, row.refresh_token = token.access_token, token.refresh_token or ""
        row.scopes = list(token.scopes) or row.scopes
        row.expires_at = now + timedelta(seconds=token.expires_in)
        row.refresh_at = row.expires_at - timedelta(seconds=min(REFRESH_AHEAD_SECONDS, token.expires_in / 10))
        row.version, row.renewed_at = row.version + 1, now
        row.refresh_sent_at, row.refreshes_unanswered, row.dead_reason = None, 0, ""
        row.save()
        if replaces is None or owner.connection_status in WITHOUT_TOKENS:
            # A renewal says nothing about what else is wrong with the account.
            Account.objects.filter(pk=account.pk).update(
                connection_status=Account.ConnectionStatus.CONNECTED,
                connection_error_code="",
                connection_error_detail="",
                connection_checked_at=now,
                online_due_at=NO_LATER_THAN_AN_INTERVAL,
            )
            news.account_returned(owner)
        events.emit("account.updated", account.pk)
    return row


def flag(account: Account, *, code: str = "token_expired") -> None:
    """Show that a person has to reconnect this account."""
    with transaction.atomic():
        Account.objects.filter(pk=account.pk).update(
            connection_status=Account.ConnectionStatus.NEEDS_RECONNECT,
            connection_error_code=code,
            connection_error_detail="",
            connection_checked_at=timezone.now(),
        )
        events.emit("account.updated", account.pk)
    news.account_fell(account, code)


def lift_flag(account: Account) -> None:
    """Avito accepts the account's token after all: a flag that was set on a living authorisation was a mistake."""
    flagged = Account.objects.filter(
        pk=account.pk,
        connection_status=Account.ConnectionStatus.NEEDS_RECONNECT,
        authorization__dead_reason="",
    )
    with transaction.atomic():
        lifted = flagged.update(
            connection_status=Account.ConnectionStatus.CONNECTED,
            connection_error_code="",
            connection_error_detail="",
            connection_checked_at=timezone.now(),
            online_due_at=NO_LATER_THAN_AN_INTERVAL,
        )
        if lifted:
            events.emit("account.updated", account.pk)
    if lifted:
        account.connection_status = Account.ConnectionStatus.CONNECTED
        news.account_returned(account)


def _read(account: Account) -> Authorization | None:
    """The account's living authorisation; None when its own keys have yet to fetch the first token."""
    authorization = Authorization.objects.filter(account=account).first()
    if authorization is None:
        if not account.has_own_keys:
            raise AccountNotAuthorized(account.pk)
        if Account.objects.filter(pk=account.pk, connection_error_code=KEYS_REFUSED).exists():
            raise ReconnectRequired(KEYS_REFUSED)
    elif authorization.dead_reason:
        raise ReconnectRequired(authorization.dead_reason)
    return authorization


def _renewed_ahead(account: Account, authorization: Authorization) -> str:
    """Try to renew, and go on with the old token, which still lives, when that does not work out."""
    try:
        with _only_one(account.pk, wait=False) as mine:
            if mine:
                return _renewed(account, ahead=True).access_token
    except (avito.AvitoError, MissingAvitoSecrets) as error:
        log.warning("token_refresh_ahead_failed", account_id=account.pk, error=type(error).__name__)
    return authorization.access_token


def _renewed(
    account: Account,
    *,
    rejected: str | None = None,
    forced: bool = False,
    ahead: bool = False,
    asked_at: datetime | None = None,
) -> Authorization:
    """Under the lock: the pair that somebody else has stored meanwhile, or a new one.

    `rejected`: the token that Avito has refused; `forced`: renew a young one as well; `ahead`: never at any risk.
    Those who have waited since `asked_at` for a refresh whose answer was lost share that outcome, too: each of them
    trying again would use up what is left.
    """
    authorization = _read(account)
    if authorization is None:
        return _by_own_keys(account)
    if rejected is not None:
        if authorization.access_token != rejected:
            return authorization
    elif not forced and timezone.now() < authorization.refresh_at:
        return authorization
    lost_at = authorization.refresh_sent_at
    if asked_at is not None and lost_at is not None and lost_at >= asked_at:
        error = avito.TimedOut("the refresh that this call has waited for got no answer")
        error.maybe_done = False
        raise error
    try:
        if authorization.kind == Authorization.Kind.CLIENT_CREDENTIALS:
            return _by_own_keys(account)
        return _by_refresh_token(account, authorization, rejected=rejected, ahead=ahead)
    except avito.AvitoError as error:
        log.warning("avito_401_reason refresh_failed", account_id=account.pk, error=type(error).__name__)
        error.maybe_done = False
        raise


def _by_own_keys(account: Account) -> Authorization:
    """The application of the account's owner; asking twice does no harm."""
    try:
        token = auth.client_credentials(
            transport_for(account), client_id=account.client_id, client_secret=account.client_secret
        )
    except (avito.InvalidClient, avito.InvalidGrant, avito.Unauthorized):
        _bury_keys(account)
        raise ReconnectRequired(KEYS_REFUSED) from None
    except avito.AvitoError as error:
        error.maybe_done = False
        raise
    version = Authorization.objects.filter(account=account).values_list("version", flat=True).first()
    return store(account, token, kind=Authorization.Kind.CLIENT_CREDENTIALS, replaces=version)


def _bury_keys(account: Account) -> None:
    """Remember that Avito refuses the account's own keys, unless others have been saved meanwhile."""
    with transaction.atomic():
        now = Account.objects.select_for_update(no_key=True).filter(pk=account.pk).first()
        if now and (now.client_id, now.client_secret) == (account.client_id, account.client_secret):
            Authorization.objects.filter(account=account).update(dead_reason=KEYS_REFUSED)
            flag(account, code=KEYS_REFUSED)


def _by_refresh_token(
    account: Account, authorization: Authorization, *, rejected: str | None, ahead: bool
) -> Authorization:
    if not authorization.refresh_token:
        return _bury(account, authorization, "no_refresh_token")
    client_id, client_secret = application_keys()
    if authorization.refresh_sent_at is not None:
        # An answer was lost: the stored refresh token may be spent. It is sent once more, and only when there is
        # nothing left to lose.
        if ahead or (rejected is None and _still_opens(account, authorization)):
            return authorization
        if authorization.refreshes_unanswered > 1:
            return _bury(account, authorization, "refresh_answer_lost")
    _mark_sent(authorization)
    try:
        token = auth.refresh(
            transport_for(account),
            client_id=client_id,
            client_secret=client_secret,
            refresh_token=authorization.refresh_token,
        )
    except avito.InvalidGrant:
        return _bury(account, authorization, "invalid_grant")
    except avito.InvalidClient:
        _take_mark_back(authorization)
        log.error("MISSING_AVITO_SECRETS", reason="Avito refuses the application's id and secret")
        raise MissingAvitoSecrets from None
    except (avito.NotConnected, avito.Refused):
        # Not sent, or answered, be it by a filter in front of Avito: no answer was lost.
        _take_mark_back(authorization)
        raise
    except avito.AvitoError:
        # Lost: the mark stays, and says from when on a new caller may think of the one more try.
        Authorization.objects.filter(pk=authorization.pk, version=authorization.version).update(
            refresh_sent_at=timezone.now()
        )
        raise
    return _store_patiently(account, token, authorization)


def _still_opens(account: Account, authorization: Authorization) -> bool:
    """Ask Avito whether the access token lives; an answer that says neither is raised."""
    try:
        # Without `release_connection`: the lock lives in this database session.
        metered = limits.Metered(transport_for(account), account.pk)
        client = avito.Client(authorization.access_token, metered, settings.AVITO_STR_DIALECT)
        with limits.at_once():
            client.user.me()
    except avito.Unauthorized:
        return False
    except avito.Forbidden:
        if not authorization.is_expired():
            raise
        return False
    return True


def _mark_sent(authorization: Authorization) -> None:
    with transaction.atomic(durable=True):
        Authorization.objects.filter(pk=authorization.pk).update(
            refresh_sent_at=timezone.now(), refreshes_unanswered=authorization.refreshes_unanswered + 1
        )


def _take_mark_back(authorization: Authorization) -> None:
    Authorization.objects.filter(pk=authorization.pk, version=authorization.version).update(
        refresh_sent_at=authorization.refresh_sent_at, refreshes_unanswered=authorization.refreshes_unanswered
    )


def _store_patiently(account: Account, token: avito.Token, old: Authorization) -> Authorization:
    """The new pair exists only in our hands: outlast a database that goes away right now."""
    for attempt in range(STORE_ATTEMPTS):
        try:
            return store(account, token, kind=old.kind, replaces=old.version)
        except Error:
            if attempt == STORE_ATTEMPTS - 1:
                raise
            if not connection.is_usable():
                _end_session()
            time.sleep(0.25 * 2**attempt)
    raise AssertionError("unreachable")


def _bury(account: Account, authorization: Authorization, reason: str) -> Authorization:
    """Raise ReconnectRequired: the authorisation is dead for good. Or return what was stored in its place meanwhile."""
    with transaction.atomic():
        stored = Authorization.objects.filter(pk=authorization.pk, version=authorization.version)
        buried = stored.update(dead_reason=reason)
        if buried:
            flag(account)
    if not buried and (current := _read(account)):
        return current
    log.warning("avito_401_reason token_expired", account_id=account.pk, reason=reason)
    raise ReconnectRequired(reason)


def application_keys() -> tuple[str, str]:
    """Id and secret of the installation's OAuth application."""
    if not settings.AVITO_OAUTH_CLIENT_ID or not settings.AVITO_OAUTH_CLIENT_SECRET:
        log.error("MISSING_AVITO_SECRETS")
        raise MissingAvitoSecrets
    return settings.AVITO_OAUTH_CLIENT_ID, settings.AVITO_OAUTH_CLIENT_SECRET


@contextmanager
def _only_one(account_id: int, *, wait: bool) -> Iterator[bool]:
    """Be the only one, over all processes, who renews this account's tokens.

    Yields whether we are; without `wait` it may be False. Callers of one process queue here first, so that at most one
    database connection of each process waits, and is kept until the turn is over. Raises avito.TimedOut when the turn
    does not come in LOCK_WAIT_SECONDS.
    """
    here = _in_this_process[account_id]
    release_connection()
    if not here.acquire(timeout=LOCK_WAIT_SECONDS if wait else 0):
        if wait:
            raise _turn_did_not_come()
        yield False
        return
    try:
        mine = _lock_everywhere(account_id, wait=wait)
        try:
            yield mine
        finally:
            if mine:
                _unlock_everywhere(account_id)
    finally:
        here.release()


def _lock_everywhere(account_id: int, *, wait: bool) -> bool:
    key = (LOCK_NAMESPACE << 32) | (account_id & 0xFFFFFFFF)
    with connection.cursor() as cursor:
        if not wait:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
            return bool(cursor.fetchone()[0])
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_WAIT_SECONDS}s"])
        try:
            cursor.execute("SELECT pg_advisory_lock(%s)", [key])
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) == "55P03":  # lock_not_available
                raise _turn_did_not_come() from None
            raise
        finally:
            if connection.is_usable():
                cursor.execute("SELECT set_config('lock_timeout', '0', false)")
    return True


def _unlock_everywhere(account_id: int) -> None:
    key = (LOCK_NAMESPACE << 32) | (account_id & 0xFFFFFFFF)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [key])
    except Error:
        _end_session()


def _end_session() -> None:
    """End the database session, and with it the locks it holds. Closed only by Django, it would live on in the pool."""
    if connection.connection is not None:
        connection.connection.close()
    connection.close()


def _turn_did_not_come() -> avito.TimedOut:
    error = avito.TimedOut("another process is still renewing this account's tokens")
    error.maybe_done = False
    return error
