"""Whatever is sent to the JSON API: refused in the one shape, and nothing has changed. The rows are the matrix's."""

import gzip
import json
from typing import Any

import pytest

from avito_accounts.models import Account, Proxy
from chats.models import Chat, Message
from config import gate
from tests.api import raw
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.factories import PASSWORD, make_account, make_chat, make_message
from tests.sandbox.driver import Sandbox

JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024
OPERATIONS = {
    "create account": ("POST", "/api/v1/accounts", "name"),
    "change account": ("PUT", "/api/v1/accounts/{account}", "name"),
    "reply": ("POST", "/api/v1/avito/chats/u2i-somebody~1/reply", "text"),
    "send": ("POST", "/api/v1/messenger/accounts/{account}/chats/u2i-somebody~1/send", "text"),
    "token": ("POST", "/api/v1/auth/token", "username"),
}

Operation = tuple[str, str, str]


@pytest.fixture(params=OPERATIONS.values(), ids=list(OPERATIONS))
def operation(request: pytest.FixtureRequest, anna: Account, chat: Chat) -> Operation:
    method, path, field = request.param
    return method, path.replace("{account}", str(anna.pk)), field


def send(api: Api, operation: Operation, body: bytes, **headers: str) -> Any:
    return api.call(operation[0], operation[1], data=body, headers={**JSON, **headers})


UNREADABLE = {
    "empty": b"",
    "not JSON": b"hello",
    "cut off": b'{"%s": "x',
    "bad UTF-8": b'{"%s": "\xff\xfe"}',
    "UTF-16": '{"%s": "x"}'.encode("utf-16"),
    "BOM": b'\xef\xbb\xbf{"%s": "x"}',
    "zero byte": b'{"%s": "x"}\0',
    "nesting of lists": b"[" * 100_000 + b"]" * 100_000,
    "nesting of objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "nesting of 33 in an unknown field": b'{"%s": "x", "unknown": ' + b"[" * 33 + b"]" * 33 + b"}",
    "5,000 digits": b'{"%s": ' + b"9" * 5000 + b"}",
    "NaN": b'{"%s": NaN}',
    "Infinity": b'{"%s": Infinity}',
    "-Infinity in an unknown field": b'{"%s": "x", "unknown": -Infinity}',
    "1e999": b'{"%s": 1e999}',
    "duplicate keys": b'{"%s": "x", "%s": "y"}',
    "U+0000": b'{"%s": "a\\u0000b"}',
    "lone surrogate": b'{"%s": "a\\ud800b"}',
    "lone surrogate in a key": b'{"\\udc00": 1, "%s": "x"}',
    "list": b"[]",
    "list of objects": b'[{"%s": "x"}]',
    "number": b"42",
    "null": b"null",
    "string": b'"text"',
    "true": b"true",
    "null as text": b'{"%s": null}',
    "list as text": b'{"%s": ["x"]}',
    "object as text": b'{"%s": {"a": "b"}}',
    "true as text": b'{"%s": true}',
    "empty text": b'{"%s": ""}',
    "blanks as text": b'{"%s": " \\t\\n "}',
    "1,001 characters": b'{"%s": "' + b"x" * 1001 + b'"}',
    "a megabyte of text": b'{"%s": "' + b"x" * (MIB - 100) + b'"}',
}


def test_unreadable_and_useless_bodies_are_refused(
    owner: Api, operation: Operation, avito_sandbox: Sandbox, subtests: pytest.Subtests
) -> None:
    method, _path, field = operation
    before = state()
    for name, pattern in UNREADABLE.items():
        with subtests.test(name):
            answer = send(owner, operation, pattern.replace(b"%s", field.encode()))
            if name == "empty" and method == "PUT":
                assert answer.status_code == 200  # a field that is missing is kept, also if all are
            else:
                assert_error(answer, 400)
    assert state() == before
    assert not [call for call in avito_sandbox.journal() if call["method"] == "POST" and "messages" in call["path"]]


def state() -> Any:
    accounts = list(Account.objects.order_by("id").values("name", "avito_user_id", "proxy__host"))
    return accounts, Chat.objects.count(), Message.objects.count()


def test_wrong_content_types_are_refused(owner: Api, operation: Operation, subtests: pytest.Subtests) -> None:
    body = json.dumps({operation[2]: "x"}).encode()
    wrong = (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "multipart/form-data",
        "nonsense",
    )
    for content_type in wrong:
        # Where pictures are taken, a form is no wrong type, but this is no form.
        is_form = content_type.startswith("multipart") and operation[1].endswith("/send")
        status, code = (400, "parse_error") if is_form else (415, "unsupported_media_type")
        with subtests.test(content_type):
            assert_error(send(owner, operation, body, **{"Content-Type": content_type}), status, code)


def test_encoded_body_is_refused(owner: Api, operation: Operation) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert_error(send(owner, operation, bomb, **{"Content-Encoding": "gzip"}), 415, "unsupported_encoding")


def test_body_over_the_cap_is_refused(owner: Api, product: str, operation: Operation, anna: Account) -> None:
    method, path, _field = operation
    token = f"Authorization: {owner.session.headers['Authorization']!s}"
    honest = raw.exchange(product, raw.head(product, method, path, token, f"Content-Length: {MIB + 1}"))
    chunked = raw.exchange(
        product,
        raw.head(product, method, path, token, "Content-Type: application/json", "Transfer-Encoding: chunked"),
        b"%x\r\n" % (MIB + 1),
        b"x" * (MIB + 1),
    )
    for answer in (honest, chunked):
        assert (answer.status, answer.closed) == (413, True)
        assert json.loads(answer.body)["errors"][0]["code"] == "body_too_large"
    if not path.endswith("/send"):  # multipart is for images alone
        form = raw.head(
            product, method, path, "Content-Type: multipart/form-data; boundary=x", f"Content-Length: {MIB + 1}"
        )
        assert raw.exchange(product, form).status == 413


def test_dripping_body_is_cut_off_in_time(product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.5)
    lines = raw.head(product, "POST", "/api/v1/auth/token", "Content-Length: 1000", "Content-Type: application/json")
    answer = raw.exchange(product, lines, *[b"{"] * 12, pause=0.1)
    assert (answer.status, answer.closed) == (408, True)


def test_body_in_chunks_is_a_body(owner: Api) -> None:
    answer = owner.call("POST", "/api/v1/accounts", data=iter([b'{"name": ', b'"By pieces"}']), headers=JSON)
    assert (answer.status_code, answer.json()["name"]) == (201, "By pieces")


def test_method_override_headers_are_ignored(owner: Api, anna: Account) -> None:
    for header in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        assert owner.call("GET", f"/api/v1/accounts/{anna.pk}", headers={header: "DELETE"}).status_code == 200
        answer = owner.call(
            "POST", f"/api/v1/accounts/{anna.pk}", json={"_method": "DELETE"}, headers={header: "DELETE"}
        )
        assert_error(answer, 405, "method_not_allowed")
    assert Account.objects.filter(pk=anna.pk).exists()


def test_only_declared_methods_are_taken(owner: Api, operation: Operation) -> None:
    for method in ("TRACE", "PROPFIND", "LOCK"):
        assert_error(owner.call(method, operation[1]), 405, "method_not_allowed")
    allowed = owner.call("OPTIONS", operation[1])
    assert allowed.status_code == 200
    assert operation[0] in allowed.headers["Allow"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("userId", -5),
        ("userId", 2**63),
        ("userId", "9" * 20),
        ("userId", 1.5),
        ("userId", "seller"),
        ("userId", "٣"),
        ("userId", True),
        ("userId", [1]),
        ("userId", "0"),
        ("name", "x" * 121),
        ("clientSecret", "x" * 501),
        ("clientId", {"a": 1}),
        ("proxyType", "ftp"),
        ("proxyType", "HTTP"),
        ("proxyType", {}),
        ("proxyPort", 0),
        ("proxyPort", 65536),
        ("proxyPort", -1),
        ("proxyPort", 1.5),
        ("proxyPort", "http"),
        ("proxyPort", 10**30),
        ("proxyHost", "a\r\nHost: b"),
        ("proxyHost", "a b"),
        ("proxyHost", "user@host"),
        ("proxyHost", "http://host"),
        ("proxyHost", "host:80"),
        ("proxyHost", "аvito.ru"),
        ("proxyHost", "x" * 254),
        ("proxyLogin", "a\r\nb"),
        ("proxyPassword", "a\nb"),
        ("eternalOnlineEnabled", "perhaps"),
        ("eternalOnlineEnabled", []),
        ("onlineKeepAliveInterval", 59),
        ("onlineKeepAliveInterval", 3601),
        ("onlineKeepAliveInterval", None),
        ("onlineKeepAliveInterval", 60.5),
        ("onlineKeepAliveInterval", 10**30),
    ],
)
def test_bad_field_of_an_account_is_named(owner: Api, field: str, value: Any, anna: Account) -> None:
    assert_error(owner.post("/api/v1/accounts", {"name": "New", field: value}), 400, attr=field)
    assert_error(owner.put(f"/api/v1/accounts/{anna.pk}", {field: value}), 400, attr=field)
    assert Account.objects.count() == 1


def test_interval_as_text_is_read(owner: Api) -> None:
    answer = owner.post("/api/v1/accounts", {"name": "New", "onlineKeepAliveInterval": "300"})
    assert answer.json()["onlineKeepAliveInterval"] == 300


def test_login_and_password_of_a_proxy_may_hold_any_sign(owner: Api) -> None:
    proxy = {"proxyType": "http", "proxyHost": "proxy.example", "proxyPort": 8080}
    answer = owner.post(
        "/api/v1/accounts", {"name": "New", **proxy, "proxyLogin": "a:@/%", "proxyPassword": ":@/%пароль"}
    )
    assert (answer.status_code, answer.json()["proxyLogin"]) == (201, "a:@/%")
    assert Proxy.objects.get().password == ":@/%пароль"
    assert "пароль" not in answer.text


BAD_ACCOUNTS = (
    "0",
    "-1",
    "999999",
    str(2**63),
    "9" * 20,
    "9" * 5000,
    "1.5",
    "one",
    "1;DROP",
    "%00",
    "..%2F1",
    "1%0A",
    "null",
)


def test_ids_of_accounts_that_are_none_are_not_found(owner: Api, anna: Account, subtests: pytest.Subtests) -> None:
    for bad in BAD_ACCOUNTS:
        with subtests.test(bad[:30]):
            assert_error(owner.get(f"/api/v1/accounts/{bad}"), 404, "not_found")
            assert_error(owner.put(f"/api/v1/accounts/{bad}", {"name": "New"}), 404, "not_found")
            assert_error(owner.delete(f"/api/v1/accounts/{bad}"), 404, "not_found")
            assert_error(owner.get(f"/api/v1/messenger/accounts/{bad}/chats"), 404, "not_found")
            assert_error(owner.post(f"/api/v1/messenger/accounts/{bad}/chats/c/send", {"text": "x"}), 404, "not_found")
    assert Account.objects.get().name == "Анна"


def test_ids_of_chats_that_are_none_are_not_found(owner: Api, chat: Chat, subtests: pytest.Subtests) -> None:
    for bad in ("nope", "%00", "a%00b", "x" * 300, "%F0%9F%98%80", "%ff", "'; --", "%2e%2e", "%0A"):
        with subtests.test(bad[:30]):
            assert_error(owner.get(f"/api/v1/avito/chats/{bad}"), 404, "not_found")
            assert_error(owner.get(f"/api/v1/avito/chats/{bad}/messages"), 404, "not_found")
            assert_error(owner.post(f"/api/v1/avito/chats/{bad}/reply", {"text": "x"}), 404, "not_found")


def test_ids_of_live_chats_that_are_none_are_not_found(owner: Api, anna: Account, subtests: pytest.Subtests) -> None:
    for bad in ("nope", "%00", "%2e%2e", "%F0%9F%98%80", "%ff", "'; --", "%0A"):
        with subtests.test(bad[:30]):
            path = f"/api/v1/messenger/accounts/{anna.pk}/chats/{bad}"
            assert_error(owner.get(path), 404)
            assert_error(owner.post(f"{path}/send", {"text": "x"}), 404)


def test_chat_id_of_300_characters_is_not_found(owner: Api, anna: Account) -> None:
    answer = owner.post(f"/api/v1/messenger/accounts/{anna.pk}/chats/{'x' * 300}/send", {"text": "x"})
    assert_error(answer, 404)


# Pages


@pytest.mark.parametrize("size", ["0", "-1", "1000000000", "9" * 5000, "1.5", "x", "", "NaN"])
def test_page_sizes_are_bounded(owner: Api, size: str) -> None:
    for _number in range(3):
        make_account()
    answer = owner.get("/api/v1/accounts", pageSize=size)
    assert (answer.status_code, answer.json()["count"], len(answer.json()["results"])) == (200, 3, 3)


@pytest.mark.parametrize("page", ["0", "-1", "1000000000", "9" * 5000, "1.5", "x", "NaN"])
def test_pages_that_are_none_are_refused(owner: Api, page: str) -> None:
    make_account()
    assert_error(owner.get("/api/v1/accounts", page=page), 404, "not_found")


def test_page_is_never_longer_than_200(owner: Api) -> None:
    Account.objects.bulk_create([Account(name=f"n{number}") for number in range(201)])
    answer = owner.get("/api/v1/accounts", pageSize="100000").json()
    assert (answer["count"], len(answer["results"])) == (201, 200)
    assert "page=2" in answer["next"]


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "x", "9" * 10, "9" * 5000, "NaN", "1e3", " 5"])
def test_bad_limit_is_refused(colleague: Api, limit: str) -> None:
    assert_error(colleague.get("/api/v1/avito/chats", limit=limit), 400, attr="limit")


def test_limit_over_200_is_200(colleague: Api, chat: Chat) -> None:
    for _number in range(201):
        make_message(chat)
    answer = colleague.get(f"/api/v1/avito/chats/{chat.avito_id}/messages", limit=1000).json()
    assert len(answer["results"]) == 200


def test_offset_is_no_way_around_the_cursor(colleague: Api, chat: Chat) -> None:
    first = colleague.get("/api/v1/avito/chats").json()
    assert colleague.get("/api/v1/avito/chats", offset=1, page=2).json()["results"] == first["results"]


def cursor_of(link: str) -> str:
    return link.partition("cursor=")[2].partition("&")[0]


def test_altered_cursor_shows_nothing(colleague: Api, chat: Chat, subtests: pytest.Subtests) -> None:
    for _number in range(3):
        make_message(chat)
    path = f"/api/v1/avito/chats/{chat.avito_id}/messages"
    cursor = cursor_of(colleague.get(path, limit=1).json()["next"])
    assert len(colleague.call("GET", f"{path}?limit=1&cursor={cursor}").json()["results"]) == 1
    swapped = cursor[0].swapcase() if cursor[0].isalpha() else "A"
    altered = (swapped + cursor[1:], cursor[:-1], cursor + "A", "x", ":", "%00", "%ff", "a" * 5000, "null", "1:2:3")
    for bad in altered:
        with subtests.test(bad[:30]):
            assert_error(colleague.call("GET", f"{path}?limit=1&cursor={bad}"), 400, "invalid_cursor", "cursor")


def test_cursor_of_another_list_shows_nothing(colleague: Api, chat: Chat, anna: Account) -> None:
    other = make_chat(anna, avito_id="u2i-other~1")
    for _number in range(2):
        make_message(chat)
        make_message(other)
    of_chats = cursor_of(colleague.get("/api/v1/avito/chats", limit=1).json()["next"])
    of_messages = cursor_of(colleague.get(f"/api/v1/avito/chats/{chat.avito_id}/messages", limit=1).json()["next"])
    for path, cursor in (
        (f"/api/v1/avito/chats/{other.avito_id}/messages", of_messages),
        ("/api/v1/avito/chats", of_messages),
        (f"/api/v1/avito/chats/{chat.avito_id}/messages", of_chats),
    ):
        assert_error(colleague.call("GET", f"{path}?cursor={cursor}"), 400, "invalid_cursor", "cursor")


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("accounts", "search=%00", 400),
        ("accounts", f"search={'x' * 10_000}", 200),
        ("accounts", "search=%25_%5C", 200),
        ("accounts", "search=%ff", 200),
        ("accounts", "connectionStatus=nope", 400),
        ("accounts", "proxyStatus=%00", 400),
        ("accounts", "eternalOnline=perhaps", 400),
        ("accounts", "ordering=password", 400),
        ("accounts", "ordering=-authorization__access_token", 400),
        ("avito/chats", "status=nope", 400),
        ("avito/chats", "status=%00", 400),
        ("avito/chats", "accountId=0", 400),
        ("avito/chats", f"accountId={2**63}", 400),
        ("avito/chats", f"accountId={'9' * 5000}", 400),
        ("avito/chats", "accountId=1.5", 400),
        ("avito/chats", "accountId=NaN", 400),
        ("avito/chats", "accountId=1e999999999", 400),
        ("avito/chats", "updatedAfter=10000-01-01T00:00:00Z", 400),
        ("avito/chats", "updatedAfter=2026-02-29T00:00:00Z", 400),
        ("avito/chats", "updatedAfter=yesterday", 400),
        ("avito/chats", "updatedAfter=0001-01-01T00:00:00%2B14:00", 200),
        ("avito/chats", "updatedAfter=9999-12-31T23:59:59-14:00", 200),
        ("avito/chats", "search=%00", 400),
        ("avito/chats", "search=%25_%5C", 200),
    ],
)
def test_odd_filters_are_refused_or_taken_literally(owner: Api, chat: Chat, path: str, query: str, status: int) -> None:
    answer = owner.call("GET", f"/api/v1/{path}?{query}")
    if status == 400:
        assert_error(answer, 400, attr=query.partition("=")[0])
    else:
        assert answer.status_code == 200
        if query.startswith("search"):
            assert answer.json()["results"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "offset=-1", "offset=1001", "itemIds=x", "chatTypes=x"]
)
def test_odd_queries_never_reach_avito(owner: Api, anna: Account, avito_sandbox: Sandbox, query: str) -> None:
    assert_error(owner.call("GET", f"/api/v1/messenger/accounts/{anna.pk}/chats?{query}"), 400)
    assert not [call for call in avito_sandbox.journal() if "messenger" in call["path"]]


# Fields that are not the caller's to write

READ_ONLY = {
    "id": 77,
    "pk": 77,
    "authorization": {"kind": "oauth", "scopes": ["x"], "expiresAt": "2030-01-01T00:00:00Z", "refreshable": True},
    "connectionStatus": "connected",
    "connection_status": "connected",
    "connectionError": {"code": "x", "detail": "x"},
    "connectionCheckedAt": "2020-01-01T00:00:00Z",
    "proxyStatus": "working",
    "proxyError": {"code": "x", "detail": "x"},
    "proxyCheckedAt": "2020-01-01T00:00:00Z",
    "proxyLatencyMs": 1,
    "isOnline": True,
    "is_online": True,
    "onlineMethod": "status",
    "lastOnlineAt": "2020-01-01T00:00:00Z",
    "onlineError": {"code": "x", "detail": "x"},
    "balance": {"real": 1, "bonus": 1},
    "balance_real": 1,
    "adsCount": 5,
    "viewsCount": 5,
    "contactsCount": 5,
    "viewsToday": 5,
    "contactsToday": 5,
    "lastSyncAt": "2020-01-01T00:00:00Z",
    "createdAt": "2020-01-01T00:00:00Z",
    "updatedAt": "2020-01-01T00:00:00Z",
    "cipherId": "00000000-0000-0000-0000-000000000000",
    "cipher_id": "00000000-0000-0000-0000-000000000000",
    "avito_user_id": 5,
    "webhookFingerprint": "x",
    "reconciledAt": "2020-01-01T00:00:00Z",
    "owner": 1,
    "user": 1,
    "__proto__": {"id": 1},
}
VOLATILE = {"id", "name", "createdAt", "updatedAt"}


def test_read_only_fields_of_an_account_cannot_be_written(owner: Api) -> None:
    plain = owner.post("/api/v1/accounts", {"name": "plain"}).json()
    greedy = owner.post("/api/v1/accounts", {"name": "greedy", **READ_ONLY}).json()
    assert set(plain) - set(READ_ONLY) == {
        "name", "userId", "clientId", "clientSecret", "proxyType", "proxyHost", "proxyPort", "proxyLogin",
        "proxyPassword", "eternalOnlineEnabled", "onlineKeepAliveInterval",
    }  # fmt: skip
    assert without(greedy) == without(plain)
    assert greedy["id"] != 77
    for method in ("PUT", "PATCH"):
        changed = owner.call(method, f"/api/v1/accounts/{greedy['id']}", json=READ_ONLY).json()
        assert {**changed, "updatedAt": None} == {**greedy, "updatedAt": None}


def without(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if name not in VOLATILE}


def test_extra_fields_of_a_reply_are_ignored(colleague: Api, chat: Chat) -> None:
    extra = {
        "id": 5,
        "messageId": "m",
        "direction": "inbound",
        "type": "image",
        "deliveryStatus": "sent",
        "authorId": 5,
        "author_id": 5,
        "content": {"text": "other"},
        "error": {"code": "x", "detail": "y"},
        "createdAt": "2020-01-01T00:00:00Z",
        "readAt": "2020-01-01T00:00:00Z",
        "chat": 99,
        "attempts": 20,
    }
    answer = colleague.post(f"/api/v1/avito/chats/{chat.avito_id}/reply", {"text": "Да", **extra})
    assert answer.status_code == 202
    shown = answer.json()
    assert shown["deliveryStatus"] == "queued"
    assert shown["direction"] == "outbound"
    assert (shown["messageId"], shown["type"], shown["error"], shown["readAt"]) == (None, "text", None, None)
    assert shown["content"] == {"text": "Да"}
    assert shown["createdAt"] > "2021"
    assert Message.objects.get().chat == chat


def test_signing_in_makes_nobody_greater(nobody: Api, stranger: Api) -> None:
    body = {"username": "stranger", "password": PASSWORD, "role": "admin", "is_superuser": True, "user_id": 1}
    access = nobody.post("/api/v1/auth/token", body).json()["access"]
    me = nobody.call("GET", "/api/v1/auth/me", headers={"Authorization": f"Bearer {access}"}).json()
    assert (me["username"], me["role"], me["permissions"]) == ("stranger", None, [])
