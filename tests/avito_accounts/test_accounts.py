"""`/accounts`: what can be written, what is shown, what stays secret, and who may do it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from django.db import IntegrityError, connection

from avito_accounts import services
from avito_accounts.models import MASK, Account, Authorization, Proxy
from chats.models import Chat, Message
from tests.conftest import Api
from tests.factories import authorize, make_account, make_chat, make_message, make_proxy

ACCOUNTS = "/api/v1/accounts"
WRITTEN: dict[str, Any] = {
    "name": "Студия на Арбате",
    "userId": "94235311",
    "clientId": "anna-client-0123456789",
    "clientSecret": "s3cret-of-anna",
    "proxyType": "socks5",
    "proxyHost": "proxy.example.com",
    "proxyPort": 1080,
    "proxyLogin": "us:er@/%",
    "proxyPassword": "pa:ss@/%",
    "eternalOnlineEnabled": True,
    "onlineKeepAliveInterval": 60,
}
SHOWN = {
    "authorization", "connectionStatus", "connectionError", "connectionCheckedAt", "proxyStatus", "proxyError",
    "proxyCheckedAt", "proxyLatencyMs", "isOnline", "onlineMethod", "lastOnlineAt", "onlineError", "balance",
    "adsCount", "viewsCount", "contactsCount", "viewsToday", "contactsToday", "lastSyncAt", "createdAt", "updatedAt",
}  # fmt: skip


def created(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post(ACCOUNTS, {"name": "Счёт", **fields})
    assert answer.status_code == 201, answer.text
    account: dict[str, Any] = answer.json()
    return account


def changed(api: Api, account: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = api.put(f"{ACCOUNTS}/{account['id']}", fields)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def refusal(answer: requests.Response) -> tuple[int, str, str, str]:
    """Status, type, attr and code of the only error."""
    body = answer.json()
    (error,) = body["errors"]
    assert error["detail"]
    return answer.status_code, body["type"], error["attr"], error["code"]


def test_every_writable_field_is_stored_and_secrets_come_back_as_masks(owner: Api) -> None:
    account = created(owner, **WRITTEN)
    masks = {"clientId": "anna-cli…", "clientSecret": MASK, "proxyPassword": MASK}
    assert {name: account[name] for name in WRITTEN} == {**WRITTEN, **masks}
    stored = Account.objects.get(pk=account["id"])
    assert (stored.client_id, stored.client_secret) == (WRITTEN["clientId"], WRITTEN["clientSecret"])
    assert stored.proxy is not None
    assert (stored.proxy.login, stored.proxy.password) == (WRITTEN["proxyLogin"], WRITTEN["proxyPassword"])
    assert owner.get(f"{ACCOUNTS}/{account['id']}").json() == account


def test_a_new_account_shows_every_field_of_the_contract_and_no_other(owner: Api) -> None:
    account = created(owner)
    assert set(account) == {"id", *WRITTEN, *SHOWN}
    assert account["authorization"] == {"kind": None, "scopes": [], "expiresAt": None, "refreshable": False}
    assert (account["connectionStatus"], account["proxyStatus"]) == ("not_checked", "not_configured")
    assert (account["isOnline"], account["eternalOnlineEnabled"], account["onlineKeepAliveInterval"]) == (
        False,
        False,
        300,
    )
    known = {"id", "name", "authorization", "connectionStatus", "proxyStatus", "isOnline", "eternalOnlineEnabled",
             "onlineKeepAliveInterval", "createdAt", "updatedAt"}  # fmt: skip
    assert {name: value for name, value in account.items() if name not in known and value is not None} == {}
    assert account["createdAt"].endswith("Z")


def test_an_answer_tells_what_the_account_is_at_avito(owner: Api, anna: Account) -> None:
    Account.objects.filter(pk=anna.pk).update(
        balance_real="12.50", balance_bonus=3, online_error_code="avito_timeout", online_error_detail="late"
    )
    account = owner.get(f"{ACCOUNTS}/{anna.pk}").json()
    assert account["authorization"]["kind"] == "oauth"
    assert account["authorization"]["refreshable"] is True
    assert account["authorization"]["scopes"] == ["messenger:read", "messenger:write"]
    assert account["authorization"]["expiresAt"].endswith("Z")
    assert account["connectionStatus"] == "connected"
    assert account["balance"] == {"real": 12.5, "bonus": 3.0}
    assert account["onlineError"] == {"code": "avito_timeout", "detail": "Авито не ответил вовремя."}


def test_read_only_and_unknown_fields_change_nothing(owner: Api) -> None:
    planted = {"id": 7, "connectionStatus": "connected", "isOnline": True, "balance": {"real": 1}, "nonsense": 1}
    account = created(owner, **planted, authorization={"kind": "oauth"}, cipherId="x", version=9)
    assert account["id"] != 7 or Account.objects.count() == 1
    assert (account["connectionStatus"], account["isOnline"], account["balance"]) == ("not_checked", False, None)
    assert account["authorization"]["kind"] is None


# Secrets


def test_a_mask_sent_back_keeps_the_secret(owner: Api) -> None:
    account = created(owner, **WRITTEN)
    assert changed(owner, account, **{**account, "name": "Новое имя"})["name"] == "Новое имя"
    stored = Account.objects.get(pk=account["id"])
    assert (stored.client_id, stored.client_secret) == (WRITTEN["clientId"], WRITTEN["clientSecret"])
    assert stored.proxy is not None
    assert stored.proxy.password == WRITTEN["proxyPassword"]


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("name", ["clientId", "clientSecret", "proxyPassword", "proxyLogin", "userId"])
def test_null_and_an_empty_text_clear_a_field(owner: Api, name: str, nothing: str | None) -> None:
    account = created(owner, **WRITTEN)
    after = changed(owner, account, **{name: nothing})
    assert after[name] is None
    assert {n: after[n] for n in WRITTEN if n != name} == {n: account[n] for n in WRITTEN if n != name}


def test_after_a_consent_the_keys_show_the_masks_of_the_tokens(owner: Api, anna: Account) -> None:
    account = owner.get(f"{ACCOUNTS}/{anna.pk}").json()
    assert (account["clientId"], account["clientSecret"]) == (MASK, MASK)
    changed(owner, account, **account)
    assert Authorization.objects.filter(account=anna, dead_reason="").exists()


@pytest.mark.parametrize("nothing", [None, ""])
def test_clearing_the_keys_of_a_consent_disconnects_the_account(owner: Api, anna: Account, nothing: str | None) -> None:
    account = changed(owner, {"id": anna.pk}, clientId=nothing, clientSecret=nothing)
    assert (account["clientId"], account["clientSecret"]) == (None, None)
    assert account["authorization"]["kind"] is None
    assert account["connectionStatus"] == "not_checked"


def test_new_keys_end_what_the_old_ones_opened(owner: Api) -> None:
    account = created(owner, **WRITTEN)
    authorize(Account.objects.get(pk=account["id"]))
    assert owner.get(f"{ACCOUNTS}/{account['id']}").json()["connectionStatus"] == "connected"
    after = changed(owner, account, clientSecret="another")
    assert after["connectionStatus"] == "not_checked"
    assert after["authorization"] == {
        "kind": "client_credentials",
        "scopes": [],
        "expiresAt": None,
        "refreshable": True,
    }


def test_a_new_proxy_counts_as_not_checked(owner: Api) -> None:
    account = created(owner, **WRITTEN)
    Proxy.objects.update(status="working", latency_ms=12)
    assert changed(owner, account, name="Иначе")["proxyStatus"] == "working"
    after = changed(owner, account, proxyPort=1081)
    assert (after["proxyStatus"], after["proxyLatencyMs"]) == ("not_checked", None)
    assert changed(owner, account, proxyType=None)["proxyStatus"] == "not_configured"


# What is refused


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_missing_field_is_kept(owner: Api, method: str) -> None:
    account = created(owner, **WRITTEN)
    answer = owner.call(method, f"{ACCOUNTS}/{account['id']}", json={"onlineKeepAliveInterval": 120})
    assert answer.status_code == 200
    expected = {**account, "onlineKeepAliveInterval": 120, "updatedAt": answer.json()["updatedAt"]}
    assert answer.json() == expected


BAD: dict[str, list[object]] = {
    "name": ["", None, "x" * 121, "a\0b", {}],
    "userId": ["12a", "-1", "0", "9223372036854775808", "1" * 20, "٣", 1.5, True, []],
    "clientId": [[1]],
    "clientSecret": ["x" * 501],
    "proxyType": ["ftp", 1],
    "proxyPort": [0, 65536, -1, "x", 1e30],
    "proxyHost": [
        "a.example\r\nX: y", "a.example\n", " a.example", "a b", "u@a.example", "a.example#b", "a.example:80",
        "http://a.example", "a.example/x", "пример.рф", "a\0b",
    ],
    "proxyLogin": ["a\r\nb", "a\n"],
    "proxyPassword": ["a\r\nb", "a\n", "x" * 501],
    "eternalOnlineEnabled": [None, "perhaps"],
    "onlineKeepAliveInterval": [59, 3601, None, "x"],
}  # fmt: skip


@pytest.mark.parametrize("field", BAD)
def test_a_bad_value_is_refused_by_its_camel_case_name(owner: Api, field: str) -> None:
    account = created(owner, **WRITTEN)
    for value in BAD[field]:
        for answer in (
            owner.post(ACCOUNTS, {**WRITTEN, "name": "Другой", "userId": None, field: value}),
            owner.put(f"{ACCOUNTS}/{account['id']}", {field: value}),
        ):
            assert answer.status_code == 400, value
            assert {error["attr"] for error in answer.json()["errors"]} == {field}
    assert Account.objects.count() == 1
    assert owner.get(f"{ACCOUNTS}/{account['id']}").json() == account


def test_an_interval_may_be_written_as_text(owner: Api) -> None:
    assert created(owner, onlineKeepAliveInterval="300")["onlineKeepAliveInterval"] == 300


def test_a_name_is_required(owner: Api) -> None:
    assert refusal(owner.post(ACCOUNTS, {})) == (400, "validation_error", "name", "required")


@pytest.mark.parametrize(("field", "value"), [("name", "Первый"), ("userId", "42")])
def test_a_taken_name_or_number_is_refused(owner: Api, field: str, value: str) -> None:
    created(owner, name="Первый", userId="42")
    second = created(owner, name="Второй", userId="43")
    assert refusal(owner.post(ACCOUNTS, {"name": "Третий", field: value})) == (
        400,
        "validation_error",
        field,
        "unique",
    )
    assert refusal(owner.put(f"{ACCOUNTS}/{second['id']}", {field: value}))[:3] == (400, "validation_error", field)
    assert changed(owner, second, name="Второй", userId="43")["userId"] == "43"


@pytest.mark.parametrize(
    ("body", "field"), [({"name": "Один"}, "name"), ({"userId": "77"}, "userId")], ids=["name", "userId"]
)
def test_of_two_alike_at_once_one_is_refused_as_taken(owner: Api, body: dict[str, str], field: str) -> None:
    answers: list[requests.Response] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        api = Api(owner.base)
        api.session.headers.update(owner.session.headers)
        start.wait()
        answers.append(api.post(ACCOUNTS, {"name": f"Счёт {number}", **body}))

    threads = [threading.Thread(target=create, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [201, *[400] * 7]
    assert {refusal(a)[1:] for a in answers if a.status_code == 400} == {("validation_error", field, "unique")}


@pytest.mark.parametrize(
    ("fields", "attr"),
    [
        ({"proxyType": "http"}, "proxyHost"),
        ({"proxyType": "http", "proxyHost": "", "proxyPort": 80}, "proxyHost"),
        ({"proxyType": "http", "proxyHost": "a.example"}, "proxyPort"),
        ({"proxyType": "http", "proxyHost": "a.example", "proxyPort": None}, "proxyPort"),
    ],
)
def test_a_proxy_needs_host_and_port(owner: Api, fields: dict[str, Any], attr: str) -> None:
    assert refusal(owner.post(ACCOUNTS, {"name": "Счёт", **fields}))[:3] == (400, "validation_error", attr)


@pytest.mark.parametrize("nothing", [{"proxyHost": None}, {"proxyPort": None}])
def test_a_proxy_in_use_cannot_lose_its_address(owner: Api, nothing: dict[str, None]) -> None:
    account = created(owner, **WRITTEN)
    assert refusal(owner.put(f"{ACCOUNTS}/{account['id']}", nothing))[2] == next(iter(nothing))
    assert changed(owner, account, **nothing, proxyType=None)["proxyType"] is None


@pytest.mark.parametrize("kind", ["http", "https", "socks4", "socks5"])
def test_every_kind_of_proxy_and_address_can_be_written(owner: Api, kind: str) -> None:
    account = created(owner)
    for host in ("proxy.example.com", "203.0.113.1", "2001:db8::1", "a", "xn--e1afmkfd.xn--p1ai"):
        account = changed(owner, account, proxyType=kind, proxyHost=host, proxyPort=65535)
        assert (account["proxyType"], account["proxyHost"], account["proxyStatus"]) == (kind, host, "not_checked")


def test_spaces_in_a_proxy_password_are_part_of_it(owner: Api) -> None:
    proxy = {name: WRITTEN[name] for name in ("proxyType", "proxyHost", "proxyPort")}
    created(owner, **proxy, proxyPassword=" a b ")
    assert Proxy.objects.get().password == " a b "


# Lists


def names(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [account["name"] for account in answer.json()["results"]]


def test_lists_are_filtered_searched_and_ordered(owner: Api) -> None:
    make_account(name="Арбат", avito_user_id=101, connection_status="connected", views_today=5)
    make_account(
        name="Сокол", avito_user_id=102, connection_status="error", proxy=make_proxy(status="error"), views_today=1
    )
    make_account(name="арка 100%", avito_user_id=103, eternal_online_enabled=True, views_today=3)
    assert names(owner.get(ACCOUNTS)) == ["Арбат", "Сокол", "арка 100%"]
    assert names(owner.get(ACCOUNTS, search="АР")) == ["Арбат", "арка 100%"]
    assert names(owner.get(ACCOUNTS, search="102")) == ["Сокол"]
    assert names(owner.get(ACCOUNTS, search="%")) == ["арка 100%"]
    assert names(owner.get(ACCOUNTS, search="_")) == []
    assert names(owner.get(ACCOUNTS, search="9" * 30)) == []
    assert names(owner.get(ACCOUNTS, connectionStatus="error")) == ["Сокол"]
    assert names(owner.get(ACCOUNTS, connectionStatus=["error", "connected"])) == ["Арбат", "Сокол"]
    assert names(owner.get(ACCOUNTS, proxyStatus="error")) == ["Сокол"]
    assert names(owner.get(ACCOUNTS, eternalOnline="true")) == ["арка 100%"]
    assert names(owner.get(ACCOUNTS, eternalOnline="false")) == ["Арбат", "Сокол"]
    assert names(owner.get(ACCOUNTS, ordering="-viewsToday")) == ["Арбат", "арка 100%", "Сокол"]
    assert names(owner.get(ACCOUNTS, ordering="-viewsToday,id"))[0] == "Арбат"


@pytest.mark.parametrize(
    ("name", "value"), [("connectionStatus", "nonsense"), ("proxyStatus", "x"), ("ordering", "clientSecret"),
                        ("search", "a\0b")]
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_named(owner: Api, name: str, value: str) -> None:
    assert refusal(owner.get(ACCOUNTS, **{name: value}))[:3] == (400, "validation_error", name)


def test_lists_come_in_pages(owner: Api) -> None:
    for _ in range(3):
        make_account()
    first = owner.get(ACCOUNTS, pageSize=2).json()
    assert (first["count"], len(first["results"]), first["previous"]) == (3, 2, None)
    second = owner.get(first["next"]).json()
    assert (len(second["results"]), second["next"]) == (1, None)


# Deletion and roles


def test_deleting_an_account_keeps_its_chats(owner: Api, anna: Account) -> None:
    chat = make_chat(anna)
    make_message(chat)
    answer = owner.delete(f"{ACCOUNTS}/{anna.pk}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert owner.get(f"{ACCOUNTS}/{anna.pk}").status_code == 404
    assert owner.get(f"/api/v1/avito/chats/{chat.avito_id}").json()["accountId"] is None
    assert (Chat.objects.count(), Message.objects.count(), Authorization.objects.count()) == (1, 1, 0)


@pytest.mark.parametrize("account_id", ["0", "999999999999999999", "9" * 30, "-1", "1.5", "x", "%00"])
def test_an_account_that_is_not_there_is_404(owner: Api, account_id: str) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = owner.call(method, f"{ACCOUNTS}/{account_id}", json={"name": "x"})
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "not_found"


def test_an_operator_reads_accounts_and_changes_none(colleague: Api, anna: Account) -> None:
    one = f"{ACCOUNTS}/{anna.pk}"
    assert colleague.get(ACCOUNTS).status_code == 200
    assert colleague.get(one).status_code == 200
    refused = [
        colleague.post(ACCOUNTS, {"name": "x"}),
        colleague.put(one, {"name": "x"}),
        colleague.patch(one, {"name": "x"}),
        colleague.delete(one),
        colleague.post(f"{one}/authorize-link"),
    ]
    assert [answer.status_code for answer in refused] == [403] * 5
    assert Account.objects.get().name == "Анна"


def test_a_stranger_and_nobody_see_no_accounts(stranger: Api, nobody: Api, anna: Account) -> None:
    for path in (ACCOUNTS, f"{ACCOUNTS}/{anna.pk}", f"{ACCOUNTS}/123456"):
        assert stranger.get(path).status_code == 403
        assert nobody.get(path).status_code == 401


# Together with what else changes an account


def test_renaming_an_account_keeps_what_was_filled_in_meanwhile(owner: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    account = make_account(avito_user_id=None)
    save = services.save

    def late(row: Account, changed: set[str], **details: Any) -> Account:
        Account.objects.filter(pk=row.pk).update(
            avito_user_id=94235311, webhook_fingerprint="f", connection_status="connected"
        )
        return save(row, changed, **details)

    monkeypatch.setattr(services, "save", late)
    assert owner.put(f"{ACCOUNTS}/{account.pk}", {"name": "Новое имя"}).status_code == 200
    account.refresh_from_db()
    assert (account.name, account.avito_user_id, account.webhook_fingerprint) == ("Новое имя", 94235311, "f")
    assert account.connection_status == "connected"


SLOW_UPDATES = """
CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END';
CREATE TRIGGER pause AFTER UPDATE ON chats_chat FOR EACH STATEMENT EXECUTE FUNCTION pause();
"""


@pytest.fixture
def slow_updates(product: str) -> Iterator[None]:
    """Whoever updates chats, as a deletion does, takes his time."""
    with connection.cursor() as cursor:
        cursor.execute(SLOW_UPDATES)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION pause CASCADE")


def test_a_chat_that_arrives_while_its_account_is_deleted_does_not_stop_it(owner: Api, slow_updates: None) -> None:
    account = make_account()
    chat = make_chat(account)
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(owner.delete, f"{ACCOUNTS}/{account.pk}")
        time.sleep(0.3)
        with pytest.raises(IntegrityError):  # for whoever brings it to try again, without the account
            make_chat(account)
        assert deletion.result().status_code == 204
    assert list(Chat.objects.filter(account=None)) == list(Chat.objects.all()) == [chat]


def test_two_consents_for_one_account_at_once_leave_one_pair(product: str) -> None:
    account, start = make_account(), threading.Barrier(8)

    def consent(_number: int) -> None:
        connection.ensure_connection()
        start.wait()
        try:
            authorize(account)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(consent, range(8)))
    assert Authorization.objects.get(account=account).version == 8
