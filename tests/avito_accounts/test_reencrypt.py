"""`manage.py reencrypt_secrets`: everything under the newest key, and nothing lost on the way."""

import io
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from avito_accounts.fields import Undecryptable, key_ids
from avito_accounts.models import Account, Authorization
from tests.factories import authorize, make_account

pytestmark = pytest.mark.django_db
ACCOUNTS, TOKENS = Account._meta.db_table, Authorization._meta.db_table


@pytest.fixture(autouse=True)
def _old_key(settings: LazySettings) -> None:
    settings.FIELD_ENCRYPTION_KEYS = ["key-one"]


def new_key(settings: LazySettings) -> None:
    settings.FIELD_ENCRYPTION_KEYS = ["key-two", "key-one"]


def only_the_new_key(settings: LazySettings) -> None:
    settings.FIELD_ENCRYPTION_KEYS = ["key-two"]


def make_accounts(count: int) -> list[Account]:
    return [make_account(client_id=f"id-{n}", client_secret=f"s3cret-{n}") for n in range(count)]


def reencrypt(**options: Any) -> str:
    out = io.StringIO()
    call_command("reencrypt_secrets", stdout=out, **options)
    return out.getvalue()


def failing(**options: Any) -> tuple[int, str, str]:
    """Exit status, message, and what was named on the way."""
    errors = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("reencrypt_secrets", stdout=io.StringIO(), stderr=errors, **options)
    return caught.value.returncode, str(caught.value), errors.getvalue()


def secrets() -> list[tuple[str, str]]:
    return [(account.client_id, account.client_secret) for account in Account.objects.order_by("pk")]


def stored(account: Account) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT client_secret FROM {ACCOUNTS} WHERE id = %s", [account.pk])
        return str(cursor.fetchone()[0])


def overwrite(account: Account, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {ACCOUNTS} SET client_secret = %s WHERE id = %s", [value, account.pk])


def test_all_secrets_of_all_tables_come_under_the_newest_key(settings: LazySettings) -> None:
    accounts = make_accounts(7)
    authorize(accounts[0], access_token="access-0", refresh_token="")
    before = secrets()
    new_key(settings)
    said = reencrypt(batch=3)
    assert f"{ACCOUNTS}: 3 done, 4 left" in said
    assert f"{ACCOUNTS}: 7 done, 0 left" in said
    assert said.endswith("Rows done: 8.\n")
    only_the_new_key(settings)
    assert secrets() == before
    authorization = Authorization.objects.get()
    assert (authorization.access_token, authorization.refresh_token) == ("access-0", "")


def test_when_all_is_under_the_newest_key_nothing_is_written(settings: LazySettings) -> None:
    assert reencrypt() == "Nothing to do.\n"
    account = make_accounts(1)[0]
    make_account()
    before = stored(account)
    assert reencrypt() == "Nothing to do.\n"
    new_key(settings)
    reencrypt()
    after = stored(account)
    assert reencrypt() == "Nothing to do.\n"
    assert stored(account) == after != before


def test_nothing_but_the_ciphertext_changes(settings: LazySettings) -> None:
    account = make_accounts(1)[0]
    authorization = authorize(account)
    new_key(settings)
    reencrypt()
    assert Account.objects.get().updated_at == account.updated_at
    now = Authorization.objects.get()
    assert (now.version, now.updated_at, now.cipher_id) == (
        authorization.version,
        authorization.updated_at,
        authorization.cipher_id,
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_taken_up_by_the_next(settings: LazySettings, signum: signal.Signals) -> None:
    make_accounts(6)
    before = secrets()
    new_key(settings)

    class CtrlC(io.StringIO):
        def write(self, text: str) -> int:
            if "done" in text:
                signal.raise_signal(signum)
            return super().write(text)

    with pytest.raises(CommandError, match="Rows done: 2") as caught:
        call_command("reencrypt_secrets", batch=2, stdout=CtrlC())
    assert caught.value.returncode == 130
    assert secrets() == before
    newest = key_ids()[0]
    assert sum(stored(account).startswith(f"g1:{newest}:") for account in Account.objects.all()) == 2
    assert reencrypt(batch=2).endswith("Rows done: 4.\n")
    only_the_new_key(settings)
    assert secrets() == before


def test_what_no_key_opens_is_named_and_left_as_it_is(settings: LazySettings) -> None:
    good, lost, plain = make_accounts(3)
    settings.FIELD_ENCRYPTION_KEYS = ["a lost key"]
    lost.client_secret = "lost"
    lost.save(update_fields=["client_secret"])
    overwrite(plain, "g1:never-encrypted")
    before = stored(lost)
    new_key(settings)
    for _ in range(2):
        status, message, named = failing(batch=1)
        assert (status, message) == (1, "Values that no key opens, left as they are: 2.")
        assert named.splitlines() == [
            f"{ACCOUNTS} {lost.pk}: client_secret cannot be read",
            f"{ACCOUNTS} {plain.pk}: client_secret cannot be read",
        ]
        assert (stored(lost), stored(plain)) == (before, "g1:never-encrypted")
    only_the_new_key(settings)
    assert Account.objects.get(pk=good.pk).client_secret == "s3cret-0"
    assert Account.objects.get(pk=lost.pk).client_id == "id-1"


def test_ciphertext_moved_from_another_row_is_reported_and_stays_useless(settings: LazySettings) -> None:
    victim, thief = make_accounts(2)
    overwrite(thief, stored(victim))
    moved = stored(thief)
    new_key(settings)
    status, _, named = failing()
    assert (status, named) == (1, f"{ACCOUNTS} {thief.pk}: client_secret cannot be read\n")
    assert stored(thief) == moved
    with pytest.raises(Undecryptable):
        _ = Account.objects.get(pk=thief.pk).client_secret


def test_check_counts_by_keys_and_writes_nothing(settings: LazySettings) -> None:
    account = make_accounts(2)[0]
    old = key_ids()[0]
    new_key(settings)
    make_account(client_secret="new")
    overwrite(account, "never-encrypted")
    said = reencrypt(check=True).splitlines()
    newest = key_ids()[0]
    assert f"{ACCOUNTS}.client_id: 2 older key {old}" in said
    assert f"{ACCOUNTS}.client_secret: 1 newest key {newest}" in said
    assert f"{ACCOUNTS}.client_secret: 1 older key {old}" in said
    assert f"{ACCOUNTS}.client_secret: 1 no ciphertext" in said
    only_the_new_key(settings)
    assert f"{ACCOUNTS}.client_id: 2 unknown key {old}" in reencrypt(check=True)
    assert stored(account) == "never-encrypted"


def test_a_batch_of_nothing_is_refused() -> None:
    assert failing(batch=0)[0] == 1


# Beside the service


def in_another_connection(action: Callable[[], object]) -> None:
    def run() -> None:
        try:
            action()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@contextmanager
def before_the_first_write(action: Callable[[], object]) -> Iterator[None]:
    """Somebody does something between the command's look at a batch and its UPDATE."""
    waiting = [action]

    def look(execute: Any, sql: str, *details: Any) -> Any:
        if " UPDATE " in sql and "FROM unnest" in sql and waiting:
            waiting.pop()()
        return execute(sql, *details)

    with connection.execute_wrapper(look):
        yield


@pytest.mark.django_db(transaction=True)
def test_a_secret_that_is_changed_meanwhile_is_not_lost(settings: LazySettings) -> None:
    account, other = make_accounts(2)
    new_key(settings)

    def change() -> None:
        found = Account.objects.get(pk=account.pk)
        found.client_secret = "typed in just now"
        found.save(update_fields=["client_secret"])

    with before_the_first_write(lambda: in_another_connection(change)):
        reencrypt()
    only_the_new_key(settings)
    assert secrets() == [("id-0", "typed in just now"), ("id-1", "s3cret-1")]
    assert Account.objects.filter(pk=other.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_saved_as_it_was_read_before_is_found_again(settings: LazySettings) -> None:
    account = make_accounts(1)[0]
    read_before = Account.objects.get(pk=account.pk)
    new_key(settings)
    reencrypt()
    read_before.name = "Переименован"
    read_before.save()
    reencrypt()
    only_the_new_key(settings)
    assert secrets() == [("id-0", "s3cret-0")]
    assert Account.objects.get().name == "Переименован"


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_deleted_meanwhile_does_no_harm(settings: LazySettings) -> None:
    account, _ = make_accounts(2)
    new_key(settings)
    with before_the_first_write(lambda: in_another_connection(Account.objects.filter(pk=account.pk).delete)):
        assert reencrypt().endswith("Rows done: 1.\n")
    only_the_new_key(settings)
    assert secrets() == [("id-1", "s3cret-1")]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_not_waited_for(settings: LazySettings) -> None:
    held, other = make_accounts(2)
    new_key(settings)
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Account.objects.select_for_update().get(pk=held.pk)
            is_held.set()
            may_go.wait(60)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(10)
    status, message, _ = failing()
    assert (status, message) == (1, "Rows that others were writing all the time: 1. Run it again.")
    assert stored(other).startswith(f"g1:{key_ids()[0]}:")
    may_go.set()
    thread.join()
    reencrypt()
    only_the_new_key(settings)
    assert secrets() == [("id-0", "s3cret-0"), ("id-1", "s3cret-1")]
