"""Whatever is posted to the webhook's address: kept if it could be Avito's, refused if not, and never an error of ours.

The rows are those of the bad-input matrix.
"""

import gzip
import hashlib
import hmac
import json
from typing import Any

import pytest
from django.conf import LazySettings

from avito_accounts.models import Account
from chats import tasks
from chats.models import Chat, Message, WebhookEvent
from config import gate
from tests.api import raw
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.sandbox.driver import wait_for

OTHER = "/api/v1/webhook/avito"
CAP = 256 * 1024
OK = (200, {"ok": True})
SHAPE = {"code", "detail", "attr"}


def body_of(**value: Any) -> bytes:
    return json.dumps(message_event(**value)).encode()


def patched(old: str, new: str, **value: Any) -> bytes:
    """A delivery with a piece of its JSON text replaced."""
    text = json.dumps(message_event(**value))
    assert old in text
    return text.replace(old, new, 1).encode()


def deliver(api: Api, body: bytes, path: str = MAIN, **headers: str) -> tuple[int, Any]:
    answer = api.call("POST", path, data=body, headers=headers)
    return answer.status_code, answer.json()


def assert_refused(answer: tuple[int, Any], status: int, code: str) -> None:
    assert answer[0] == status
    (error,) = answer[1]["errors"]
    assert (error["code"], set(error)) == (code, SHAPE)


def settled() -> WebhookEvent:
    """The one stored delivery, after a worker has looked at it."""
    tasks.process_inbox()
    event = WebhookEvent.objects.get()
    assert "Traceback" not in event.error
    return event


# Keys


@pytest.mark.parametrize("path", [MAIN, OTHER])
def test_keys_open_and_nothing_else_does(nobody: Api, settings: LazySettings, path: str) -> None:
    settings.AVITO_WEBHOOK_KEYS = ["new-key-3f2a", "old-key-91bc"]
    for given in (
        "",
        "/",
        "/wrong",
        "/new-key-3f2",
        "/new-key-3f2a2",
        "/NEW-KEY-3F2A",
        "/new-key-3f2a/x",
        "/ключ",
        "/%00",
    ):
        assert_refused(deliver(nobody, body_of(), path + given), 401, "not_authenticated")
    assert_refused(deliver(nobody, b"{}", path), 401, "not_authenticated")
    assert not WebhookEvent.objects.exists()
    assert deliver(nobody, body_of(), f"{path}/new-key-3f2a") == OK
    assert deliver(nobody, body_of(), f"{path}/old-key-91bc/") == OK
    assert WebhookEvent.objects.count() == 2


def test_a_refusal_does_not_tell_the_key(nobody: Api, settings: LazySettings) -> None:
    settings.AVITO_WEBHOOK_KEYS = ["new-key-3f2a"]
    assert "new-key" not in nobody.call("POST", f"{MAIN}/new-key-3f2", data=b"{}").text


# Signature


def signature(body: bytes, secret: str = "signing-secret") -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed(api: Api, body: bytes, header: str | bytes | None) -> int:
    headers = {} if header is None else {"x-avito-messenger-signature": header}
    return api.call("POST", MAIN, data=body, headers=headers).status_code


@pytest.fixture
def enforced(settings: LazySettings) -> None:
    settings.AVITO_WEBHOOK_SIGNATURE = "enforce"
    settings.AVITO_WEBHOOK_SIGNATURE_SECRET = "signing-secret"


def test_without_the_check_any_signature_is_kept_and_believed(nobody: Api) -> None:
    assert signed(nobody, body_of(), "nonsense") == 200
    assert WebhookEvent.objects.get().signature == "nonsense"


def test_the_check_may_only_note_what_does_not_match(nobody: Api, settings: LazySettings) -> None:
    settings.AVITO_WEBHOOK_SIGNATURE = "log"
    settings.AVITO_WEBHOOK_SIGNATURE_SECRET = "signing-secret"
    bad, good = body_of(), body_of()
    assert signed(nobody, bad, None) == 200
    assert signed(nobody, good, signature(good)) == 200
    notes = dict(WebhookEvent.objects.values_list("request_id", "note"))
    assert sorted(notes.values()) == ["", "signature does not match"]


@pytest.mark.usefixtures("enforced")
def test_enforced_check_refuses_no_wrong_and_cut_signatures(nobody: Api) -> None:
    body = body_of()
    right = signature(body)
    wrong = (
        None,
        "",
        "0",
        right[:-1],
        right + "0",
        right.upper(),
        f"sha256={right}",
        signature(body, ""),
        b"\xff" * 64,
    )
    for header in wrong:
        assert signed(nobody, body, header) == 401, header
    assert signed(nobody, body, signature(body, "another-secret")) == 401
    assert not WebhookEvent.objects.exists()
    assert signed(nobody, body, right) == 200


@pytest.mark.usefixtures("enforced")
def test_every_flipped_bit_of_body_and_signature_is_refused(nobody: Api) -> None:
    body = body_of()
    right = signature(body)
    for position in range(len(body)):
        flipped = bytearray(body)
        flipped[position] ^= 1
        assert signed(nobody, bytes(flipped), right) == 401, position
    for position in range(len(right)):
        spoilt = bytearray(right.encode())
        spoilt[position] ^= 1
        assert signed(nobody, body, bytes(spoilt)) == 401, position
    assert not WebhookEvent.objects.exists()


# Size, speed, encoding


def test_body_of_exactly_the_cap_is_stored(nobody: Api) -> None:
    body = body_of()
    assert deliver(nobody, body + b" " * (CAP - len(body))) == OK
    assert settled().status == "unmatched"


def test_honest_length_over_the_cap_is_refused_before_the_body_is_read(
    product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = raw.CountingReceive()
    monkeypatch.setattr(gate.Gate, "__call__", count.around(gate.Gate.__call__))
    answer = raw.exchange(product, raw.head(product, "POST", MAIN, f"Content-Length: {CAP + 1}"))
    assert (answer.status, answer.closed, count.bytes) == (413, True, 0)
    assert json.loads(answer.body)["errors"][0]["code"] == "body_too_large"
    assert not WebhookEvent.objects.exists()


def test_chunked_body_over_the_cap_is_cut_off(product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = raw.CountingReceive()
    monkeypatch.setattr(gate.Gate, "__call__", count.around(gate.Gate.__call__))
    # One byte too many, and the end never comes: so the answer is not lost in a reset of the connection.
    start = raw.head(product, "POST", MAIN, "Transfer-Encoding: chunked")
    answer = raw.exchange(product, start, b"%x\r\n" % (CAP + 1), b"x" * (CAP + 1))
    assert (answer.status, answer.closed) == (413, True)
    count.bytes = 0
    endless = raw.exchange(product, start, *raw.chunks(64 * 1024, 200))
    assert endless.closed
    # The server buffers 64 KiB, and one read of its event loop may add 256 KiB at once.
    assert CAP < count.bytes <= CAP + (64 + 256) * 1024
    assert not WebhookEvent.objects.exists()


def test_chunked_body_within_the_cap_is_stored(nobody: Api) -> None:
    body = body_of()
    answer = nobody.call("POST", MAIN, data=iter([body[:50], body[50:]]))
    assert answer.status_code == 200
    assert bytes(WebhookEvent.objects.get().body) == body


def test_what_follows_a_length_that_promises_too_little_is_never_read(product: str) -> None:
    lines = raw.head(product, "POST", MAIN, "Content-Length: 4")
    answer = raw.exchange(product, lines, b"1234" + body_of())
    assert (answer.status in {200, 400}, answer.closed) == (True, True)
    assert {bytes(event.body) for event in WebhookEvent.objects.all()} <= {b"1234"}


@pytest.mark.parametrize(
    "lines", [["Content-Length: -1"], ["Content-Length: 5", "Content-Length: 6"], ["Content-Length: x"]]
)
def test_length_that_is_none_is_refused(product: str, lines: list[str]) -> None:
    answer = raw.exchange(product, raw.head(product, "POST", MAIN, *lines), b"12345")
    assert (answer.status, answer.closed) == (400, True)
    assert b"12345" not in {bytes(event.body) for event in WebhookEvent.objects.all()}


def test_body_that_breaks_off_is_not_stored(product: str, nobody: Api) -> None:
    body = body_of()
    raw.exchange(product, raw.head(product, "POST", MAIN, f"Content-Length: {len(body)}"), body[:-1], seconds=0.2)
    assert deliver(nobody, b"after") == OK
    assert [bytes(event.body) for event in WebhookEvent.objects.all()] == [b"after"]


def test_dripping_body_is_cut_off_in_time(product: str, nobody: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.5)
    lines = raw.head(product, "POST", MAIN, "Content-Length: 1000")
    answer = raw.exchange(product, lines, *[b"x"] * 12, pause=0.1)
    assert (answer.status, answer.closed) == (408, True)
    assert not WebhookEvent.objects.exists()
    assert deliver(nobody, body_of()) == OK


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "gzip, identity"])
def test_encoded_body_is_refused(nobody: Api, encoding: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert_refused(deliver(nobody, bomb, **{"Content-Encoding": encoding}), 415, "unsupported_encoding")
    assert not WebhookEvent.objects.exists()


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "nonsense",
        "",
    ],
)
@pytest.mark.usefixtures("anna")
def test_content_type_is_not_looked_at(nobody: Api, content_type: str) -> None:
    assert deliver(nobody, body_of(), **{"Content-Type": content_type}) == OK
    assert settled().status == "processed"


# Bodies nobody can read


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"hello", "not JSON", id="not JSON"),
        pytest.param(b'{"id": ', "not JSON", id="cut off"),
        pytest.param(b'{"id": "\xff\xfe"}', "not UTF-8", id="bad UTF-8"),
        pytest.param(body_of().decode().encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + body_of(), "not JSON", id="BOM"),
        pytest.param(b"\0" * 10, "not JSON", id="zero bytes"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, "nested too deeply", id="nesting of lists"),
        pytest.param(b'{"a":' * 40_000 + b"1" + b"}" * 40_000, "nested too deeply", id="nesting of objects"),
        pytest.param(patched("1768287444", "9" * 5000), "a number out of range", id="5,000 digits"),
        pytest.param(patched("1768287444", "NaN"), "a number out of range", id="NaN"),
        pytest.param(patched("1768287444", "Infinity"), "a number out of range", id="Infinity"),
        pytest.param(patched("1768287444", "-Infinity"), "a number out of range", id="-Infinity"),
        pytest.param(patched("1768287444", "1e999"), "a number out of range", id="1e999"),
        pytest.param(b"[]", "body: not an object", id="empty list"),
        pytest.param(b'[{"id": 1}]', "body: not an object", id="list"),
        pytest.param(b"42", "body: not an object", id="number"),
        pytest.param(b"null", "body: not an object", id="null"),
        pytest.param(b"true", "body: not an object", id="true"),
        pytest.param(b'"text"', "body: not an object", id="string"),
    ],
)
def test_unreadable_body_is_a_dead_letter(nobody: Api, body: bytes, reason: str) -> None:
    assert deliver(nobody, body) == OK
    event = settled()
    assert (event.status, event.error, bytes(event.body)) == ("dead", reason, body)


# Values nobody can use

BAD_IDS: dict[str, Any] = {
    "negative": -5,
    "2^63": 2**63,
    "20 digits": 10**19,
    "fraction": 1.5,
    "text": "seller",
    "digits as text": "94235311",
    "true": True,
    "list": [94235311],
    "object": {"id": 94235311},
}


@pytest.mark.parametrize("field", ["user_id", "author_id", "item_id"])
@pytest.mark.parametrize("bad", BAD_IDS.values(), ids=BAD_IDS)
@pytest.mark.usefixtures("anna")
def test_bad_number_is_a_dead_letter(nobody: Api, field: str, bad: Any) -> None:
    assert deliver(nobody, body_of(**{field: bad})) == OK
    event = settled()
    assert (event.status, event.error) == ("dead", f"{field}: not a number in range")
    assert not Message.objects.exists()


@pytest.mark.parametrize("field", ["id", "chat_id"])
@pytest.mark.parametrize(
    "bad", [None, "", 5, "x" * 256, ["u2i"], True], ids=["null", "empty", "number", "256", "list", "true"]
)
@pytest.mark.usefixtures("anna")
def test_bad_name_is_a_dead_letter(nobody: Api, field: str, bad: Any) -> None:
    assert deliver(nobody, body_of(**{field: bad})) == OK
    event = settled()
    assert (event.status, event.error.partition(":")[0]) == ("dead", field)
    assert not Chat.objects.exists()


@pytest.mark.parametrize("trick", ["..", "../../accounts/1", "a/b", "a\\b", "a\nb"])
@pytest.mark.parametrize("field", ["id", "chat_id"])
@pytest.mark.usefixtures("anna")
def test_name_that_is_a_path_trick_is_a_dead_letter(nobody: Api, field: str, trick: str) -> None:
    assert deliver(nobody, body_of(**{field: trick})) == OK
    assert settled().status == "dead"


@pytest.mark.parametrize(
    "created",
    [-1, 1_795_316_798_000, 253_402_300_800, 10**30, "2026-02-29", "2026-11-22T03:00:00", 1.5, True],
    ids=["before 1970", "milliseconds", "year 10000", "huge", "29 Feb", "no zone", "fraction", "true"],
)
@pytest.mark.usefixtures("anna")
def test_absurd_time_is_a_dead_letter(nobody: Api, created: Any) -> None:
    assert deliver(nobody, body_of(created=created)) == OK
    event = settled()
    assert (event.status, event.error.partition(":")[0]) == ("dead", "created")


@pytest.mark.parametrize(
    "written", ["2026-11-22T03:00:00", "2026-02-29T00:00:00Z", "10000-01-01T00:00:00Z", "yesterday"]
)
@pytest.mark.usefixtures("anna")
def test_absurd_publication_time_is_a_dead_letter(nobody: Api, written: str) -> None:
    assert deliver(nobody, body_of(created=None, published_at=written)) == OK
    event = settled()
    assert (event.status, event.error) == ("dead", "published_at: not a time with a zone")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "value: not an object"),
        ([], "value: not an object"),
        ("text", "value: not an object"),
        ({}, "user_id: missing"),
    ],
)
def test_message_without_its_value_is_a_dead_letter(nobody: Api, value: Any, error: str) -> None:
    body = json.dumps({"id": "1", "payload": {"type": "message", "value": value}}).encode()
    assert deliver(nobody, body) == OK
    event = settled()
    assert (event.status, event.error) == ("dead", error)


# What is odd and yet a message


def stored_text(nobody: Api, body: bytes) -> str:
    assert deliver(nobody, body) == OK
    event = settled()
    assert (event.status, event.error) == ("processed", "")
    return Message.objects.get().text


@pytest.mark.parametrize(
    "text",
    [
        "Большой текст " * 8_000,
        "\u202eтекст справа налево\u202c\u200b\u200d\ufeff",
        "<script>alert(1)</script><img src=x onerror=alert(1)> {{ 7*7 }} %s",
        "👨‍👩‍👧‍👦🏳️‍🌈𝕏",
        "'; DROP TABLE chats_message; --",
        " \t\r\n ",
    ],
    ids=["200 KB", "right to left", "script", "emoji", "SQL", "blanks"],
)
@pytest.mark.usefixtures("anna")
def test_text_is_stored_as_it_is(nobody: Api, text: str) -> None:
    body = json.dumps(message_event(content={"text": text}), ensure_ascii=False).encode()
    assert stored_text(nobody, body) == text


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        pytest.param("ZZ", r"a\u0000b", "a\ufffdb", id="U+0000"),
        pytest.param("ZZ", r"a\ud800b", "a\ufffdb", id="lone high surrogate"),
        pytest.param("ZZ", r"a\udc00b", "a\ufffdb", id="lone low surrogate"),
        pytest.param("ZZ", r"\udc00\ud800", "\ufffd\ufffd", id="a pair the wrong way round"),
        pytest.param("ZZ", r"\ud83d\ude00", "😀", id="a true pair"),
        pytest.param("ZZ", r"\\u0000", r"\u0000", id="an escaped backslash"),
        pytest.param('"version"', r'"\u0000\ud800"', "ZZ", id="in a key"),
    ],
)
@pytest.mark.usefixtures("anna")
def test_what_cannot_be_stored_shows_as_a_replacement(nobody: Api, old: str, new: str, shown: str) -> None:
    body = patched(old, new, content={"text": "ZZ"})
    assert stored_text(nobody, body) == shown
    assert bytes(WebhookEvent.objects.get().body) == body


@pytest.mark.usefixtures("anna")
def test_doubled_key_is_noted_and_the_last_counts(nobody: Api) -> None:
    assert (
        stored_text(nobody, patched('{"text": "ZZ"}', '{"text": "first", "text": "last"}', content={"text": "ZZ"}))
        == "last"
    )
    assert WebhookEvent.objects.get().note == "the body names a key twice"


@pytest.mark.usefixtures("anna")
def test_extra_fields_are_ignored(nobody: Api) -> None:
    event = message_event(surprise={"deep": [1, {"x": None}]})
    assert stored_text(nobody, json.dumps({**event, "more": 1}).encode()) == "Здравствуйте!"


@pytest.mark.parametrize(
    ("body", "type"),
    [
        ({"id": "1", "payload": {"type": "call", "value": {}}}, "call"),
        ({"id": "1", "payload": {"type": 7}}, "7"),
        ({"id": "1", "payload": {"type": "x" * 1000}}, "x" * 64),
        ({"event": "chat.closed", "chat_id": "1"}, "chat.closed"),
        ({"event": ""}, "unknown"),
        ({"anything": "else"}, "unknown"),
        ({"payload": []}, "unknown"),
    ],
)
def test_unknown_type_is_parked(nobody: Api, body: Any, type: str) -> None:
    assert deliver(nobody, json.dumps(body).encode()) == OK
    event = settled()
    assert (event.status, event.type, event.error) == ("ignored", type, "")


def test_event_for_an_unknown_account_waits_for_it(nobody: Api) -> None:
    assert deliver(nobody, body_of()) == OK
    assert settled().status == "unmatched"
    assert not Chat.objects.exists()


def test_event_for_a_deleted_account_waits_too(nobody: Api, anna: Account) -> None:
    anna.delete()
    assert deliver(nobody, body_of()) == OK
    assert settled().status == "unmatched"


@pytest.mark.usefixtures("anna")
def test_same_body_again_has_no_effect(nobody: Api) -> None:
    body = body_of()
    for path in (MAIN, OTHER, MAIN):
        assert deliver(nobody, body, path) == OK
        tasks.process_inbox()
    assert WebhookEvent.objects.get().status == "processed"
    assert Chat.objects.get().unread_count == 1


@pytest.mark.usefixtures("anna")
def test_known_message_with_another_content_is_kept_as_a_conflict(nobody: Api) -> None:
    for text in ("first", "second"):
        assert deliver(nobody, body_of(id="m-1", content={"text": text})) == OK
        tasks.process_inbox()
    assert Message.objects.get().text == "first"
    assert [(event.status, event.note[:8]) for event in WebhookEvent.objects.order_by("id")] == [
        ("processed", ""),
        ("ignored", "conflict"),
    ]


# Not the way to deliver


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused(nobody: Api, method: str) -> None:
    for headers in ({}, {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}):
        answer = nobody.call(method, MAIN, data=None if method == "HEAD" else body_of(), headers=headers)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert not WebhookEvent.objects.exists()


def test_override_headers_do_not_change_the_method(nobody: Api) -> None:
    assert deliver(nobody, body_of(), **{"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "GET"}) == OK
    assert WebhookEvent.objects.count() == 1


def test_forged_host_and_forwarding_change_nothing(nobody: Api, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    forged = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-For": "1.2.3.4, ::1, nonsense",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Prefix": "/../",
        "Forwarded": "for=_hidden;host=evil.example",
    }
    assert deliver(nobody, body_of(), **forged) == OK
    assert WebhookEvent.objects.count() == 1


@pytest.mark.parametrize(
    "lines",
    [["a: b"] * 10_000, [f"x-{number}: y" for number in range(10_000)], ["x: " + "y" * 65_536], ["y" * 65_536 + ": x"]],
    ids=["10,000 times the same", "10,000 headers", "64 KiB value", "64 KiB name"],
)
def test_too_many_headers_are_refused(product: str, lines: list[str]) -> None:
    answer = raw.exchange(product, raw.head(product, "POST", MAIN, *lines, "Content-Length: 0"))
    assert answer.status in {400, 431}
    assert answer.closed
    assert not WebhookEvent.objects.exists()


def test_request_id_of_the_sender_is_kept_with_the_event(nobody: Api) -> None:
    assert deliver(nobody, body_of(), **{"X-Request-ID": "relay-77"}) == OK
    assert WebhookEvent.objects.get().request_id == "relay-77"


def test_the_reader_is_not_held_up_by_what_it_cannot_read(nobody: Api, anna: Account) -> None:
    for body in (b"x", b"[]", b"null", body_of(user_id=5), body_of(id=None)):
        assert deliver(nobody, body) == OK
    assert deliver(nobody, body_of()) == OK
    tasks.process_inbox()
    tasks.process_inbox()
    found = sorted(WebhookEvent.objects.values_list("status", flat=True))
    assert found == ["dead", "dead", "dead", "dead", "processed", "unmatched"]
    assert wait_for(lambda: Chat.objects.filter(account=anna).count()) == 1
