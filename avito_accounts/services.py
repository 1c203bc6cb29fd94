"""What can be done with an account."""

from collections.abc import Callable
from typing import TypeVar

import structlog
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet
from django.utils import timezone

import avito
from avito.types import Owner
from avito_accounts import jobs, news, proxies, tokens
from avito_accounts.errors import KEYS_REFUSED, AccountNotAuthorized, AccountUnusable, WrongOwner
from avito_accounts.models import NO_LATER_THAN_AN_INTERVAL, Account, Authorization, Job, database_now
from notifications import events

log = structlog.get_logger(__name__)
T = TypeVar("T")

KEYS = frozenset({"client_id", "client_secret"})
ONLINE = frozenset({"eternal_online_enabled", "online_keep_alive_interval"})
WRONG_OWNER = ("account_mismatch", "user_id_taken")


def call(account: Account, use: Callable[[avito.Client], T], *, until: float | None = None) -> T:
    """Do something at Avito with the account's token, through its proxy.

    `use` gets a client and makes ONE call with it, or several that only read. It is called a second time, with a
    renewed token, only after Avito has refused a call (401; 403 when the token was past its time), so nothing is done
    twice. `until`: a moment of `time.monotonic` after which nothing is sent. Raises AvitoError, AccountUnusable.
    """
    result = _call(account, use, until)
    if account.connection_status == Account.ConnectionStatus.NEEDS_RECONNECT:
        tokens.lift_flag(account)
    return result


def _call(account: Account, use: Callable[[avito.Client], T], until: float | None) -> T:
    token = tokens.at_hand(account) or tokens.access_token(account)
    client = tokens.client_for(account, token, until=until)
    tokens.release_connection()
    try:
        return use(client)
    except avito.Forbidden:
        if not _is_expired(account):
            raise
    except avito.Unauthorized:
        pass
    client = tokens.client_for(account, tokens.access_token(account, rejected=token), until=until)
    account._state.fields_cache.pop("authorization", None)  # another one by now
    tokens.release_connection()
    try:
        return use(client)
    except avito.Unauthorized:
        tokens.flag(account)
        raise


def _is_expired(account: Account) -> bool:
    authorization = Authorization.objects.filter(account=account).first()
    if authorization is None:  # ended while Avito was asked
        raise AccountNotAuthorized(account.pk)
    return authorization.is_expired()


def user_id(account: Account) -> int:
    """Avito's number of the account. One with keys of its own is asked for it once."""
    if account.avito_user_id is None:
        identify(account)
    if account.avito_user_id is None:
        raise AccountNotAuthorized(account.pk)
    return account.avito_user_id


def identify(account: Account) -> Owner:
    """Ask Avito whose token the account has, and keep the number. Raises WrongOwner for another's."""
    owner = call(account, lambda client: client.user.me())
    recognise(account, owner)
    return owner


def recognise(account: Account, owner: Owner) -> None:
    """Keep the number of whose token it is. Raises WrongOwner if it is another one, or another account holds it."""
    error = ""
    if account.avito_user_id is None:
        try:
            with transaction.atomic():
                Account.objects.filter(pk=account.pk, avito_user_id=None).update(avito_user_id=owner.id)
                events.emit("account.updated", account.pk)
            account.avito_user_id = owner.id
        except IntegrityError:
            error = "user_id_taken"
    elif account.avito_user_id != owner.id:
        error = "account_mismatch"
    if error:
        with transaction.atomic():
            Account.objects.filter(pk=account.pk).update(
                connection_status=Account.ConnectionStatus.ERROR,
                connection_error_code=error,
                connection_error_detail="",
                connection_checked_at=timezone.now(),
            )
            events.emit("account.updated", account.pk)
        raise WrongOwner(error)


def save(account: Account, changed: set[str], *, proxy_address: "proxies.Address | None" = None) -> Account:
    """Store the fields of an account that a form or the API has `changed`; a new account as a whole.

    Nothing else is written: Avito's side of the row may be filled in at the same time. New keys end the authorisation
    that the old ones, or a consent, have given. With "proxy" among the changes and a `proxy_address` the account gets
    the proxy of that address.
    """
    written, is_new = {*changed, "updated_at"}, account.pk is None
    keys_changed = not changed.isdisjoint(KEYS)
    if keys_changed or _number_corrected(account, changed):
        written |= _reset_connection(account)
    if changed & KEYS:  # the history shows that they changed, not what they are
        account._change_reason = ", ".join(sorted(changed & KEYS))  # type: ignore[attr-defined]
    if not changed.isdisjoint(ONLINE):  # from now on, at the new interval
        account.online_due_at = database_now() if account.eternal_online_enabled else None
        account.online_failures = 0
        written |= {"online_due_at", "online_failures"}
    with transaction.atomic():
        leaves = _proxy_of(account) if "proxy" in changed and not is_new else None
        if proxy_address is not None:
            account.proxy = proxies.chosen(proxy_address, leaving=leaves)
        account.save(update_fields=None if is_new else written)
        events.emit("account.updated", account.pk)
        if leaves != account.proxy_id:
            proxies.forget_unused(leaves)
        if keys_changed:
            Authorization.objects.filter(account=account).delete()
            news.forget_account(account.pk)
        if "proxy" in changed and not is_new:  # the other way may work
            Account.objects.filter(pk=account.pk).update(online_due_at=NO_LATER_THAN_AN_INTERVAL)
        if "connection_status" in written and account.has_own_keys:
            queue_after_connecting(account)
    if "authorization" in account._state.fields_cache:
        del account._state.fields_cache["authorization"]
    return account


def _proxy_of(account: Account) -> int | None:
    """The proxy that the row has now, whatever the form says."""
    return Account.objects.filter(pk=account.pk).values_list("proxy_id", flat=True).first()


def _number_corrected(account: Account, changed: set[str]) -> bool:
    return "avito_user_id" in changed and account.connection_error_code in WRONG_OWNER


def _reset_connection(account: Account) -> set[str]:
    account.connection_status = Account.ConnectionStatus.NOT_CHECKED
    account.connection_error_code = account.connection_error_detail = ""
    return {"connection_status", "connection_error_code", "connection_error_detail"}


def keys_refused(account: Account) -> bool:
    """Avito has refused the account's own keys, and nobody has typed any since."""
    return account.connection_error_code == KEYS_REFUSED


class AccountInUse(Exception):
    """Something that another app keeps needs the account."""


def delete(accounts: QuerySet[Account]) -> None:
    """Delete accounts, all of them or none. Raises AccountInUse."""
    try:
        _delete(accounts)
    except ProtectedError:
        raise AccountInUse from None


def _delete(accounts: QuerySet[Account]) -> None:
    """Locked first, so that no chat is added to one while it goes."""
    with transaction.atomic():
        locked = dict(
            Account.objects.select_for_update().filter(pk__in=accounts.values("pk")).values_list("pk", "proxy_id")
        )
        for account in Account.objects.filter(pk__in=locked):  # one by one: the history keeps that it was there
            news.forget_account(account.pk)
            events.emit("account.updated", account.pk)
            account.delete()
        for proxy_id in set(locked.values()):
            proxies.forget_unused(proxy_id)


def queue_after_connecting(account: Account) -> None:
    """An account has become usable: learn its number and subscribe its webhook soon, read its figures a little later.

    Later, because a person who has just connected an account may look at its figures at once, and Avito counts pages.
    """
    this = Account.objects.filter(pk=account.pk)
    jobs.queue(Job.Kind.SUBSCRIBE, this)
    jobs.queue(Job.Kind.SYNC, this, after=jobs.FRESH)


def try_quietly(action: Callable[[Account], object], account: Account) -> None:
    """Do something for an account in the background, where a failure is news but no error of ours."""
    try:
        action(account)
    except (avito.AvitoError, AccountUnusable) as error:
        log.warning("account_task_failed", account_id=account.pk, action=action.__name__, error=type(error).__name__)
