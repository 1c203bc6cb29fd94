"""Bytes of deliveries to events. Whatever the bytes, nothing but Unreadable is raised."""

import hashlib
import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avito import Unreadable
from avito.webhooks import Event, parse, signature_matches

FIXTURES = Path(__file__).parents[1] / "fixtures" / "avito"
TEXT = (FIXTURES / "webhook_text.json").read_bytes()
LEGACY: dict[str, Any] = {
    "event": "message.new",
    "chat_id": "c1",
    "user_id": 5,
    "message": {"id": "m1", "text": "Да", "author_id": 7, "from_operator": False},
    "user": {"name": "Пётр", "phone": "+79161234567"},
}


def changed(**value: object) -> bytes:
    """The fixture with other keys in payload.value; ... leaves a key out."""
    delivery = json.loads(TEXT)
    inner = delivery["payload"]["value"] | value
    delivery["payload"]["value"] = {key: one for key, one in inner.items() if one is not ...}
    return json.dumps(delivery).encode()


def legacy(**change: object) -> bytes:
    return json.dumps({key: one for key, one in (LEGACY | change).items() if one is not ...}).encode()


def legacy_message(**change: object) -> bytes:
    return legacy(message={key: one for key, one in (LEGACY["message"] | change).items() if one is not ...})


def message(body: bytes) -> Any:
    found = parse(body).message
    assert found is not None
    return found


def test_real_text_is_read() -> None:
    event = parse(TEXT)
    assert (event.kind, event.type) == ("message", "message")
    assert event.delivery_id == "3b2c6f0e-6f4e-4c55-9a52-0c3f6c1f6f10"
    assert (event.user_id, event.chat_id, event.chat_type) == (141906442, "u2i-Zx~1a_B-c2D3e4F5", "u2i")
    assert event.item_id == 4341979279
    assert not event.duplicate_keys
    found = message(TEXT)
    assert (found.id, found.author_id) == ("bdcc5bac2d00345f1cc66fa657813958", 94235311)
    assert (found.direction, found.type, found.text) == ("in", "text", "Здравствуйте! Свободно на выходные?")
    assert found.created_at == datetime.fromtimestamp(1760000002, UTC)
    assert found.read_at is None


def test_own_message_comes_back_as_outgoing() -> None:
    found = message((FIXTURES / "webhook_own_answer.json").read_bytes())
    assert (found.direction, found.type, found.text) == ("out", "system", "")
    assert found.content == {"flow_id": "flower_161071"}


def test_avitos_check_of_the_address_is_empty() -> None:
    assert parse(b"{}") == Event("empty")
    assert parse(b" {\n} ") == Event("empty")


@pytest.mark.parametrize(
    ("body", "type"),
    [
        ({"id": "d", "payload": {"type": "booking", "value": {"id": -1}}}, "booking"),
        ({"id": "d", "payload": {"type": None}}, ""),
        ({"id": "d", "payload": {}}, ""),
        ({"id": "d", "payload": [1]}, ""),
        ({"event": "chat.closed", "chat_id": 5.5}, "chat.closed"),
        ({"event": "x" * 9999}, "x" * 64),
        ({"event": 5}, ""),
        ({"hello": "world"}, ""),
    ],
)
def test_what_is_not_known_is_parked_under_its_name(body: object, type: str) -> None:
    event = parse(json.dumps(body).encode())
    assert (event.kind, event.type, event.message) == ("unknown", type, None)


def test_unknown_message_type_and_extra_fields_are_read() -> None:
    found = message(changed(type="sticker", content={"sticker": 1}, extra={"a": [1]}))
    assert (found.type, found.text, found.content) == ("sticker", "", {"sticker": 1})


def test_optional_keys_may_be_missing() -> None:
    body = changed(
        **dict.fromkeys(["author_id", "type", "chat_type", "item_id", "read", "content", "published_at"], ...)
    )
    event = parse(body)
    assert (event.chat_type, event.item_id) == ("", None)
    assert event.message is not None
    assert (event.message.author_id, event.message.direction, event.message.content) == (None, "in", {})
    assert message(changed(created=...)).created_at == datetime(2025, 10, 9, 8, 53, 22, tzinfo=UTC)
    assert message(changed(created=..., published_at=...)).created_at is None
    assert message(changed(read=1760000009)).read_at == datetime.fromtimestamp(1760000009, UTC)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b"{}{}",
        b"{'a': 1}",
        b"\xff\xfe\x00",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        TEXT.decode().encode("utf-16"),
        TEXT.decode().encode("utf-16-le"),
        TEXT.decode().encode("utf-32"),
        b"\xef\xbb\xbf" + TEXT,
        b'{"a": "\x00"}',
        b"[]",
        b"[{}]",
        b"5",
        b"null",
        b"true",
        b'"text"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"9" * 5000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"payload": {"type": "message"}}',
        b'{"payload": {"type": "message", "value": []}}',
    ],
)
def test_body_that_is_no_delivery_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        parse(body)
    assert 0 < len(caught.value.message) < 100


BAD_IDS: list[object] = [-1, 2**63, 10**20, 1.0, 1.5, "5", "../5", True, [], {}]


@pytest.mark.parametrize("id", BAD_IDS)
@pytest.mark.parametrize("key", ["user_id", "author_id", "item_id"])
def test_bad_account_or_item_id_is_unreadable(key: str, id: object) -> None:
    with pytest.raises(Unreadable):
        parse(changed(**{key: id}))


@pytest.mark.parametrize("id", [0, None, ...])
def test_delivery_for_nobody_is_unreadable(id: object) -> None:
    with pytest.raises(Unreadable):
        parse(changed(user_id=id))


@pytest.mark.parametrize("id", [None, ..., "", 5, 1.5, True, [], {}, "x" * 256])
@pytest.mark.parametrize("key", ["id", "chat_id"])
def test_bad_chat_or_message_id_is_unreadable(key: str, id: object) -> None:
    with pytest.raises(Unreadable):
        parse(changed(**{key: id}))


@pytest.mark.parametrize(
    "change",
    [
        {"created": 1760000002000},
        {"created": 253402300800},
        {"created": -1},
        {"created": "2025-10-09"},
        {"created": 1.5},
        {"created": True},
        {"read": 1760000002000},
        {"published_at": "2025-10-09T08:53:22"},
        {"published_at": "2025-02-29T08:53:22Z"},
        {"published_at": "10000-01-01T00:00:00Z"},
        {"published_at": "0001-01-01T00:00:00+14:00"},
        {"published_at": "9999-12-31T23:59:59-14:00"},
        {"published_at": 1760000002},
        {"type": 5},
        {"type": "x" * 65},
        {"chat_type": ["u2i"]},
        {"content": "text"},
        {"content": [1]},
    ],
)
def test_absurd_value_is_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        parse(changed(**change))


@pytest.mark.parametrize("text", ["я" * 200_000, "\u202eтекст\u200b", "<script>alert(1)</script>", "😀🏠"])
def test_text_is_kept_whole(text: str) -> None:
    assert message(changed(content={"text": text})).text == text


def test_characters_that_no_database_keeps_are_replaced_in_strings_and_keys() -> None:
    found = message(changed(content={"text": "a\0b\ud800c\udc00😀", "k\0": ["\udfff\ud800"]}))
    assert found.text == "a\ufffdb\ufffdc\ufffd😀"
    assert found.content["k\ufffd"] == ["\ufffd\ufffd"]
    assert message(changed(content={"text": "\\u0000 \\\\ud800"})).text == "\\u0000 \\\\ud800"


def test_duplicate_keys_are_accepted_and_flagged() -> None:
    event = parse(TEXT.replace(b'"read": null', b'"read": null, "read": 1760000009'))
    assert event.duplicate_keys
    assert event.message is not None
    assert event.message.read_at is not None


def test_same_delivery_gives_the_same_event() -> None:
    assert parse(TEXT) == parse(TEXT)


def test_legacy_message_is_read() -> None:
    event = parse(legacy())
    assert (event.kind, event.type, event.user_id, event.chat_id) == ("message", "message.new", 5, "c1")
    assert (event.client_name, event.client_phone) == ("Пётр", "+79161234567")
    assert event.delivery_id == ""
    assert event.message is not None
    assert (event.message.text, event.message.direction, event.message.created_at) == ("Да", "in", None)
    assert event.message.content == {"text": "Да"}


def test_legacy_chat_is_read() -> None:
    event = parse(legacy(event="chat.new", user_id=..., message=...))
    assert (event.kind, event.user_id, event.chat_id, event.message) == ("chat", None, "c1", None)
    assert parse(legacy(event="chat.new", user=None)).client_name == ""
    assert parse(legacy(event="chat.new", user={"name": "x" * 999, "phone": 79161234567})).client_name == "x" * 255


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"text": ..., "content": "Нет"}, "Нет"),
        ({"text": ..., "content": {"text": "Нет"}}, "Нет"),
        ({"text": None, "content": None}, ""),
        ({"text": "Да", "content": "Нет"}, "Да"),
    ],
)
def test_legacy_words_stand_in_text_or_content(change: dict[str, object], text: str) -> None:
    assert message(legacy_message(**change)).text == text


def test_legacy_operator_and_owner_are_outgoing() -> None:
    assert message(legacy_message(from_operator=True)).direction == "out"
    assert message(legacy_message(author_id=5)).direction == "out"
    assert message(legacy_message(author_id="5")).direction == "out"
    assert message(legacy(user_id=..., message=LEGACY["message"] | {"author_id": None})).direction == "in"


def test_legacy_ids_may_be_digits_or_numbers() -> None:
    event = parse(legacy(user_id="141906442", chat_id=77, message={"id": 12, "text": "Да"}))
    assert (event.user_id, event.chat_id) == (141906442, "77")
    assert event.message is not None
    assert (event.message.id, event.message.author_id) == ("12", None)


@pytest.mark.parametrize("id", [-1, 0, 2**63, "9" * 20, "-5", "٣", "5.0", 5.0, "abc", "", True, []])
@pytest.mark.parametrize("key", ["user_id", "author_id"])
def test_bad_legacy_account_id_is_unreadable(key: str, id: object) -> None:
    with pytest.raises(Unreadable):
        parse(legacy(user_id=id) if key == "user_id" else legacy_message(author_id=id))


@pytest.mark.parametrize(
    "body",
    [
        legacy(message=...),
        legacy(message="Да"),
        legacy(chat_id=...),
        legacy(chat_id=""),
        legacy(chat_id=True),
        legacy(user=[1]),
        legacy_message(id=...),
        legacy_message(id=1.5),
        legacy_message(text=5),
        legacy_message(content=[]),
        legacy_message(created=1760000002000),
    ],
)
def test_broken_legacy_delivery_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(body)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_unreadable(body: bytes) -> None:
    with suppress(Unreadable):
        parse(body)


KEYS = ["id", "payload", "type", "value", "message", "chat_id", "user_id", "author_id", "created", "content", "text"]
KEYS += ["event", "user", "name", "phone", "from_operator", "published_at", "read", "item_id", "chat_type"]
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["message", "message.new", "chat.new", "text", "2025-10-09T08:53:22Z", 1760000002])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner), max_leaves=15
)


@given(values)
def test_any_json_is_an_event_or_unreadable(value: object) -> None:
    with suppress(Unreadable):
        parse(json.dumps(value).encode())


@given(st.dictionaries(st.sampled_from(KEYS), values), st.booleans())
def test_any_value_in_a_delivery_is_an_event_or_unreadable(value: dict[str, Any], is_legacy: bool) -> None:
    with suppress(Unreadable):
        event = parse(legacy_message(**value) if is_legacy else changed(**value))
        json.dumps([event.chat_id, event.message and event.message.content]).encode("ascii")
        assert "\0" not in event.chat_id + (event.message.text if event.message else "")


def test_signature_is_hex_of_hmac_sha256() -> None:
    signature = hmac.new(b"secret", TEXT, hashlib.sha256).hexdigest()
    assert signature_matches(TEXT, signature, "secret")
    for position in range(64):
        for bit in range(8):
            flipped = bytearray(signature.encode())
            flipped[position] ^= 1 << bit
            assert not signature_matches(TEXT, flipped.decode("latin-1"), "secret")
    assert not any(
        signature_matches(TEXT[:at] + bytes([TEXT[at] ^ 1]) + TEXT[at + 1 :], signature, "secret")
        for at in range(len(TEXT))
    )


@pytest.mark.parametrize("header", ["", "0", "я", "\ud800", "sha256=" + "0" * 64])
def test_odd_signature_matches_nothing(header: str) -> None:
    assert not signature_matches(TEXT, header, "secret")


def test_no_secret_matches_nothing() -> None:
    assert not signature_matches(TEXT, hmac.new(b"", TEXT, hashlib.sha256).hexdigest(), "")
