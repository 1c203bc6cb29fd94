"""Ciphertext at rest: bound to its row and column, readable by every living key, never lost to a wrong one."""

import base64
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, transaction

from avito_accounts.fields import Undecryptable
from avito_accounts.models import Account, Proxy
from tests.conftest import Api
from tests.factories import make_account, make_proxy

SECRETS = {"client_id": "id-of-änna", "client_secret": "s3cret"}
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _one_key(settings: LazySettings) -> None:
    settings.FIELD_ENCRYPTION_KEYS = ["key-one"]


def row(account: Account) -> dict[str, Any]:
    """What PostgreSQL holds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(SECRETS)} FROM avito_accounts_account WHERE id = %s", [account.pk])
        return dict(zip(SECRETS, cursor.fetchone(), strict=True))


def overwrite(account: Account, column: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE avito_accounts_account SET {column} = %s WHERE id = %s", [value, account.pk])


def read(account: Account) -> Account:
    return Account.objects.get(pk=account.pk)


def test_text_comes_back_and_the_database_holds_only_ciphertext() -> None:
    account = make_account(**SECRETS)
    assert {name: getattr(read(account), name) for name in SECRETS} == SECRETS
    for name, stored in row(account).items():
        assert SECRETS[name] not in stored
        assert stored.startswith("g1:")


def test_the_same_text_is_another_ciphertext_every_time() -> None:
    first, second = (row(make_account(client_secret="same")) for _ in range(2))
    assert first["client_secret"] != second["client_secret"]
    account = make_account(client_secret="same", client_id="same")
    assert row(account)["client_secret"][:20] != row(account)["client_id"][:20]


def test_nothing_is_stored_as_nothing() -> None:
    account = make_account(client_secret="")
    assert row(account)["client_secret"] == ""
    assert read(account).client_secret == ""


def test_ciphertext_moved_to_another_row_does_not_decrypt() -> None:
    victim, thief = make_account(**SECRETS), make_account(**SECRETS)
    overwrite(thief, "client_secret", row(victim)["client_secret"])
    with pytest.raises(Undecryptable):
        _ = read(thief).client_secret
    assert read(victim).client_secret == "s3cret"


def test_ciphertext_moved_to_another_column_does_not_decrypt() -> None:
    account = make_account(**SECRETS)
    overwrite(account, "client_id", row(account)["client_secret"])
    with pytest.raises(Undecryptable):
        _ = read(account).client_id


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    account = make_account(client_secret="s3cret")
    version, key, payload = row(account)["client_secret"].split(":")
    raw = base64.urlsafe_b64decode(payload)
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        overwrite(account, "client_secret", f"{version}:{key}:{base64.urlsafe_b64encode(changed).decode()}")
        with pytest.raises(Undecryptable):
            _ = read(account).client_secret


@pytest.mark.parametrize(
    "rubbish", ["plain", "g1:x", "g1:0000:AAAA", "g2:{key}:{payload}", "g1:{key}:", "g1:{key}:ы", "::"]
)
def test_what_is_no_ciphertext_of_ours_is_never_taken_for_the_value(rubbish: str) -> None:
    account = make_account(client_secret="s3cret")
    _version, key, payload = row(account)["client_secret"].split(":")
    overwrite(account, "client_secret", rubbish.format(key=key, payload=payload))
    with pytest.raises(Undecryptable) as caught:
        _ = read(account).client_secret
    assert payload not in str(caught.value)


def test_two_keys_live_at_once_and_the_newest_writes(settings: LazySettings) -> None:
    old = make_account(**SECRETS)
    settings.FIELD_ENCRYPTION_KEYS = ["key-two", "key-one"]
    new = make_account(**SECRETS)
    assert read(old).client_secret == read(new).client_secret == "s3cret"
    settings.FIELD_ENCRYPTION_KEYS = ["key-two"]
    assert read(new).client_secret == "s3cret"
    with pytest.raises(Undecryptable):
        _ = read(old).client_secret


def test_a_value_that_is_written_again_gets_the_newest_key(settings: LazySettings) -> None:
    account = make_account(**SECRETS)
    settings.FIELD_ENCRYPTION_KEYS = ["key-two", "key-one"]
    again = read(account)
    again.client_secret = again.client_secret
    again.save()
    settings.FIELD_ENCRYPTION_KEYS = ["key-two"]
    assert read(account).client_secret == "s3cret"


def test_with_a_wrong_key_other_fields_are_saved_and_the_ciphertext_stays(settings: LazySettings) -> None:
    account = make_account(**SECRETS)
    before = row(account)
    settings.FIELD_ENCRYPTION_KEYS = ["wrong"]
    for _attempt in range(2):
        found = read(account)
        for name in SECRETS:
            with pytest.raises(Undecryptable):
                getattr(found, name)
        found.name = "Переименован"
        found.save()
        found.save(update_fields=["name"])
    assert row(account) == before
    settings.FIELD_ENCRYPTION_KEYS = ["key-one"]
    assert read(account).client_secret == "s3cret"
    assert read(account).name == "Переименован"


def test_saving_other_fields_leaves_the_ciphertext_as_it_is() -> None:
    account = make_account(**SECRETS)
    before = row(account)
    found = read(account)
    found.name = "Переименован"
    found.save()
    assert row(account) == before
    deferred = Account.objects.defer("client_secret").get(pk=account.pk)
    deferred.save()
    assert deferred.client_secret == "s3cret"
    assert row(account) == before


def test_update_refuses_plain_text() -> None:
    account = make_account(client_secret="s3cret")
    with transaction.atomic(), pytest.raises(TypeError, match="encrypted"):
        Account.objects.filter(pk=account.pk).update(client_secret="plain")
    with pytest.raises(TypeError, match="encrypted"):
        Account.objects.filter(client_secret="plain").exists()
    Account.objects.filter(pk=account.pk).update(client_secret="")
    assert read(account).client_secret == ""


def test_rows_made_in_bulk_are_encrypted_too() -> None:
    Account.objects.bulk_create([Account(name="Оптом", client_secret="s3cret")])
    account = Account.objects.get(name="Оптом")
    assert row(account)["client_secret"].startswith("g1:")
    assert account.client_secret == "s3cret"


def test_reprs_show_no_secret() -> None:
    account = make_account(**SECRETS, proxy=make_proxy(login="u", password="pässwörd"))
    proxy = Proxy.objects.get()
    shown = repr(account) + str(account) + repr(proxy) + str(proxy) + repr(proxy.route)
    assert "pässwörd" not in shown
    assert not any(secret in shown for secret in SECRETS.values())


def test_with_a_wrong_key_people_still_see_their_accounts_and_can_enter_new_secrets(
    owner: Api, settings: LazySettings
) -> None:
    body = {"name": "Счёт", "clientId": "id-of-anna", "clientSecret": "s3cret"}
    account_id = owner.post("/api/v1/accounts", body).json()["id"]
    settings.FIELD_ENCRYPTION_KEYS = ["wrong"]
    listed = owner.get("/api/v1/accounts")
    assert listed.status_code == 200, listed.text
    shown = listed.json()["results"][0]
    assert (shown["name"], shown["clientSecret"]) == ("Счёт", "********…")
    assert not any(text in listed.text for text in ("g1:", "id-of-an", "s3cret"))
    renamed = owner.put(f"/api/v1/accounts/{account_id}", {"name": "Другой", "clientSecret": "new"})
    assert renamed.status_code == 200, renamed.text
    assert Account.objects.get().client_secret == "new"
    settings.FIELD_ENCRYPTION_KEYS = ["key-one"]
    assert Account.objects.get().client_id == "id-of-anna"
