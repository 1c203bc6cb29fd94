"""Proxies: which hosts may be one, which row an account uses, and the circuit breaker in front of each.

A proxy that fails is never gone around. After a few failures in a row its breaker opens: nothing is sent through it but
one probe a minute, until one comes back. The state is the row's, so all processes share it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import avito
from avito import addresses
from avito.client import Sender
from avito.errors import ProxyReason
from avito.protocol import Request, Response
from avito.transport import resolve
from avito_accounts import jobs, news
from avito_accounts.errors import PROXY_REASONS
from avito_accounts.fields import look
from avito_accounts.models import Account, Job, Proxy
from notifications import events

log = structlog.get_logger(__name__)

OPENS_AFTER = 5
"""Failed calls in a row until the breaker opens."""
PROBE_SECONDS = 60
RESOLVE_SECONDS = 3
SOCKS5_LOGIN_MAX = 127
"""Bytes; the protocol takes 255, PySocks garbles more than these."""
ADDRESS = frozenset({"type", "host", "port", "login", "password"})

_probing: ContextVar[bool] = ContextVar("probing", default=False)


class Address(NamedTuple):
    """What makes a proxy the one it is: the same in all five, the same row."""

    type: str
    host: str
    port: int
    login: str
    password: str


def check_host(host: str) -> None:
    """Raise ValidationError for a host that no proxy of ours may have; it is resolved for that.

    Does not replace the check when connecting: the name may lead elsewhere by then.
    """
    if settings.PROXY_ALLOW_PRIVATE:
        return
    if addresses.is_forbidden_name(host):
        raise ValidationError(PROXY_REASONS["forbidden"], code="forbidden_host")
    try:
        found = [address for _family, (address, _port) in resolve(host, 0, RESOLVE_SECONDS)]
    except (OSError, TimeoutError):
        raise ValidationError(_("The host's name does not resolve."), code="unknown_host") from None
    if not found or not all(map(is_allowed, found)):
        raise ValidationError(PROXY_REASONS["forbidden"], code="forbidden_host")


def check_login(kind: str, login: str, password: str) -> None:
    """Raise ValidationError for credentials that no address could carry, or that this kind of proxy cannot be told."""
    if "#" in login:
        raise ValidationError(_("A proxy's login has no “#”."), code="invalid")
    if kind == Proxy.Type.SOCKS5 and max(len(login.encode()), len(password.encode())) > SOCKS5_LOGIN_MAX:
        raise ValidationError(_("SOCKS5 takes at most 127 bytes of login and of password."), code="max_length")


def is_allowed(address: str) -> bool:
    """May a proxy have this address? Asked again at each connection, about the very address it goes to."""
    return settings.PROXY_ALLOW_PRIVATE or addresses.is_public(address)


def chosen(address: Address, *, leaving: int | None = None) -> Proxy:
    """The row of this very proxy, made if there is none. In a transaction: the row stays until it ends.

    `leaving`: the proxy that the account has had. It is locked as well, in one order with all others, so that two
    accounts that swap their proxies do not block each other.
    """
    same = Q(type=address.type, host=address.host, port=address.port, login=address.login)
    for proxy in Proxy.objects.select_for_update().filter(same | Q(pk=leaving or 0)).order_by("id"):
        found = (proxy.type, proxy.host, proxy.port, proxy.login, look(proxy, "password"))
        if found == address:
            return proxy
    return Proxy.objects.create(**address._asdict())


def save(proxy: Proxy, changed: set[str]) -> None:
    """Store what a form has `changed`, for all accounts that use the proxy; another address has not been checked."""
    is_new, written = proxy.pk is None, {*changed, "updated_at"}
    if not changed.isdisjoint(ADDRESS):
        proxy.status, proxy.error_reason, proxy.failures = Proxy.Status.NOT_CHECKED, "", 0
        proxy.checked_at = proxy.latency_ms = proxy.retry_at = None
        written |= {"status", "error_reason", "failures", "checked_at", "latency_ms", "retry_at"}
    if "password" in changed:
        # The history shows that it changed, not what it is.
        proxy._change_reason = "password"  # type: ignore[attr-defined]  # simple-history looks for it
    with transaction.atomic():
        proxy.save(update_fields=None if is_new else written)
        if not is_new:
            _emit(proxy)
        if "status" in written and not is_new:
            news.forget_proxy(proxy)


def forget_unused(proxy_id: int | None) -> None:
    """A proxy that came with an account goes with the last one. In a transaction that has taken it off an account."""
    if proxy_id is None:
        return
    proxy = Proxy.objects.select_for_update().filter(pk=proxy_id, is_kept=False).first()
    if proxy is not None and not Account.objects.filter(proxy=proxy).exists():
        news.forget_proxy(proxy)
        proxy.delete()


@contextmanager
def probing() -> Iterator[None]:
    """Within, an open breaker lets calls through: somebody wants to know, now."""
    token = _probing.set(True)
    try:
        yield
    finally:
        _probing.reset(token)


class Guarded:
    """A sender behind the breaker of a proxy.

    `sender` sends through `transport`, perhaps after waiting. `before_sending` is called when the database was asked:
    the place to give its connection back.
    """

    def __init__(
        self,
        transport: avito.Transport,
        proxy: Proxy,
        *,
        sender: Sender | None = None,
        before_sending: Callable[[], object] | None = None,
    ) -> None:
        self._transport, self._proxy = transport, proxy
        self._sender = sender or transport
        self._release = before_sending or (lambda: None)

    def __repr__(self) -> str:
        return repr(self._transport)

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        if self._proxy.retry_at is not None:
            admit(self._proxy)
            self._release()
        try:
            response = self._sender.send(request, deadline_seconds=deadline_seconds)
        except avito.AvitoError as error:
            if reason := blame(error, self._transport):
                failed(self._proxy, reason)
            raise
        if self._proxy.failures or self._proxy.retry_at or self._proxy.status == Proxy.Status.ERROR:
            worked(self._proxy)
            self._release()
        return response


def is_resting(error: Exception) -> bool:
    """Nothing was sent: the breaker is open."""
    return isinstance(error, avito.ProxyFailed) and error.retry_after_seconds is not None


def blame(error: Exception, transport: avito.Transport) -> ProxyReason | None:
    """Why the proxy is thought to have failed; None if it is not to blame.

    One that forwards (http:// to http://, never so at the real Avito) stands in Avito's place: silence and nonsense
    count as its own.
    """
    if isinstance(error, avito.ProxyFailed):
        return error.reason
    if transport.is_forwarding and isinstance(error, avito.TimedOut):
        return "timeout"
    return "protocol" if transport.is_forwarding and isinstance(error, avito.Unreadable) else None


def admit(proxy: Proxy) -> None:
    """Return if a call may go through the proxy now; raise ProxyFailed, with the time to wait, while it rests."""
    if proxy.retry_at is None or _probing.get():
        return
    proxy.refresh_from_db(fields=["retry_at", "error_reason", "failures", "status"])
    if proxy.retry_at is None or _claims_probe(proxy):
        return
    seconds = (proxy.retry_at - timezone.now()).total_seconds()
    raise avito.ProxyFailed(
        "The proxy has failed several times and rests",
        reason=_reason(proxy.error_reason),
        retry_after_seconds=max(1, round(seconds)),
    )


def _claims_probe(proxy: Proxy) -> bool:
    """Of all who would like to try a resting proxy one may, once a minute."""
    now = timezone.now()
    due = Proxy.objects.filter(pk=proxy.pk, retry_at__lte=now)
    return due.update(retry_at=now + timedelta(seconds=PROBE_SECONDS)) == 1


def failed(proxy: Proxy, reason: str) -> None:
    """Count a failed call; at the limit the breaker opens and people are told."""
    now = timezone.now()
    same = Proxy.objects.filter(pk=proxy.pk, updated_at=proxy.updated_at)
    with transaction.atomic():
        same.update(failures=F("failures") + 1, error_reason=reason)
        opened = same.filter(failures__gte=OPENS_AFTER).update(
            failures=OPENS_AFTER,  # as many as ever count, so the column cannot overflow
            status=Proxy.Status.ERROR,
            retry_at=now + timedelta(seconds=PROBE_SECONDS),
        )
        if opened:
            _emit(proxy)
    log.warning("proxy_failed", proxy_id=proxy.pk, reason=reason, is_open=bool(opened))
    if opened:
        news.proxy_fell(proxy, reason)


def worked(proxy: Proxy, *, latency_ms: int | None = None) -> None:
    """A call has come through: the breaker closes. `latency_ms` is kept if it is known, as the result of a check."""
    had_fallen = proxy.status == Proxy.Status.ERROR
    changes: dict[str, Any] = {"failures": 0, "retry_at": None, "error_reason": "", "status": Proxy.Status.WORKING}
    if latency_ms is not None:
        changes |= {"latency_ms": latency_ms, "checked_at": timezone.now()}
    if not _set(proxy, changes):
        return
    news.proxy_returned(proxy)
    if had_fallen:  # what its accounts could not do, they may be able to do now
        jobs.queue(Job.Kind.CHECK, proxy.accounts.filter(connection_error_code="proxy_failed"))


def check_failed(proxy: Proxy, reason: str, *, is_certain: bool = True) -> None:
    """A check has failed. People are told at once if they have asked, else when it happens again."""
    changes = {
        "status": Proxy.Status.ERROR,
        "error_reason": reason,
        "checked_at": timezone.now(),
        "latency_ms": None,
    }
    was_fallen = proxy.status == Proxy.Status.ERROR
    if _set(proxy, changes) and (is_certain or was_fallen):
        news.proxy_fell(proxy, reason)


def _set(proxy: Proxy, changes: dict[str, Any]) -> bool:
    """Write down what was found, unless the proxy is gone, or has another address by now."""
    for name, value in changes.items():
        setattr(proxy, name, value)
    with transaction.atomic():
        same = Proxy.objects.filter(pk=proxy.pk, updated_at=proxy.updated_at)
        is_news = same.exclude(status=proxy.status, error_reason=proxy.error_reason).exists()
        is_set = same.update(**changes) == 1
        if is_set and is_news:
            _emit(proxy)
    return is_set


def _emit(proxy: Proxy) -> None:
    """Its accounts show how their proxy stands."""
    events.emit("account.updated", *proxy.accounts.values_list("pk", flat=True))


def due_for_a_check() -> Any:
    """Proxies in use of which nothing was heard for a while; those that have failed are asked every minute."""
    now = timezone.now()
    stale = Q(checked_at=None) | Q(checked_at__lt=now - timedelta(seconds=settings.AVITO_CHECK_SECONDS))
    fallen = Q(status=Proxy.Status.ERROR) & Q(checked_at__lt=now - timedelta(seconds=PROBE_SECONDS))
    return Proxy.objects.filter(stale | fallen, accounts__isnull=False).distinct()


def claim_check(proxy: Proxy) -> bool:
    """Be the only one of all processes who checks a proxy that is due."""
    same = Proxy.objects.filter(pk=proxy.pk, updated_at=proxy.updated_at, checked_at=proxy.checked_at)
    return same.update(checked_at=timezone.now()) == 1


def _reason(word: str) -> ProxyReason:
    return word if word in PROXY_REASONS else "unreachable"  # type: ignore[return-value]  # the keys are the reasons
