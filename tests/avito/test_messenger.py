"""Chats and messages as callers see them: lenient reading, pages, limits, words."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from avito import Client, Invalid, Unreadable
from avito.content import image_type, is_subscription_placeholder, render_text
from avito.protocol import Request, Response

FIXTURES = Path(__file__).parents[1] / "fixtures" / "avito"
ME, BUYER, CHAT = 141906442, 94235311, "u2i-Zx~1a_B-c2D3e4F5"
MESSAGE = {"id": "m", "created": 1760000000, "type": "text", "content": {"text": "Да"}}


class Recorder:
    """In place of a transport: keeps requests, answers as told."""

    def __init__(self, answer: Callable[[Request], object]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.deadlines: list[float | None] = []

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        self.requests.append(request)
        self.deadlines.append(deadline_seconds)
        return Response(200, {"Content-Type": "application/json"}, json.dumps(self.answer(request)).encode())


def client(value: object) -> Client:
    return Client("token", Recorder(lambda request: value))


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def test_live_chat_list_is_read() -> None:
    page = client(fixture("chats_with_meta.json")).messenger.chats(ME)
    assert page.has_more
    chat, other = page.chats
    assert chat.id == CHAT
    assert chat.created_at == datetime.fromtimestamp(1759990000, UTC)
    assert chat.updated_at.tzinfo is UTC
    assert [user.name for user in chat.users] == ["Квартиры у моря", "Пётр"]
    assert chat.users[0].avatar_url == "https://avito.ru/default.png"
    assert chat.users[1].profile_url == ""
    assert chat.item is not None
    assert (chat.item.id, chat.item.price_string) == (4341979279, "3 500 ₽ за сутки")
    assert chat.item.image_url == "https://img.avito.ru/140x105/1.jpg"
    assert chat.last_message is not None
    assert (chat.last_message.direction, chat.last_message.text) == ("out", "Да, свободно")
    assert (other.item, other.last_message, other.users[0].id) == (None, None, 0)


def test_messages_come_bare_or_wrapped() -> None:
    wrapped = fixture("messages_with_meta.json")
    page = client(wrapped).messenger.messages(ME, CHAT)
    assert client(wrapped["messages"]).messenger.messages(ME, CHAT) == page
    new_kind, place, text = page.messages
    assert (new_kind.type, new_kind.text, new_kind.content) == ("stickerPack", "", {"sticker": {"id": 1}})
    assert place.text == "Сочи, Приморская, 1"
    assert place.read_at == datetime.fromtimestamp(1760000011, UTC)
    assert (text.text, text.author_id, text.is_read, text.read_at) == ("Свободно?", BUYER, True, None)


@pytest.mark.parametrize(
    ("answer", "limit", "has_more"),
    [
        ({"messages": [], "meta": {"has_more": True}}, 1, True),
        ({"messages": [MESSAGE], "meta": {"has_more": False}}, 1, False),
        ({"messages": [MESSAGE], "meta": {}}, 1, True),
        ({"messages": [MESSAGE], "meta": None}, 2, False),
        ([MESSAGE], 1, True),
        ([], 1, False),
    ],
)
def test_has_more_is_avitos_word_or_a_full_page(answer: object, limit: int, has_more: bool) -> None:
    assert client(answer).messenger.messages(ME, CHAT, limit=limit).has_more is has_more


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"id": 7},
        {"id": "x" * 256},
        {"type": None},
        {"type": 1},
        {"created": None},
        {"created": True},
        {"created": -1},
        {"created": 1760000000000},
        {"created": 1.5},
        {"author_id": "94235311"},
        {"author_id": 2**63},
        {"author_id": -1},
        {"content": []},
        {"read": "yesterday"},
    ],
)
def test_message_that_breaks_its_shape_is_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(Unreadable) as caught:
        client(MESSAGE | change).messenger.send_text(ME, CHAT, "Да")
    assert caught.value.maybe_done
    assert next(iter(change)) in caught.value.message


def test_message_with_least_is_read() -> None:
    message = client({"id": "m", "created": 0, "type": "image", "content": None}).messenger.send_image(ME, CHAT, "1.a")
    assert (message.author_id, message.direction, message.content, message.text) == (None, "out", {}, "")


@pytest.mark.parametrize(
    ("type", "content", "words"),
    [
        ("text", {"text": "Да"}, "Да"),
        ("link", {"link": {"text": "см. https://a.b", "url": "https://a.b"}}, "см. https://a.b"),
        ("link", {"link": {"text": "", "url": "https://a.b"}}, "https://a.b"),
        ("item", {"item": {"title": "Студия", "item_url": "https://a.b"}}, "Студия"),
        ("item", {"item": {"title": "Студия", "price_string": "3 500 ₽"}}, "Студия, 3 500 ₽"),
        ("item", {"item": {"title": None, "price_string": 5}}, ""),
        ("location", {"location": {"lat": 55.75, "lon": -37}}, "55.75, -37"),
        ("location", {"location": {"lat": True, "lon": "37"}}, ""),
        ("location", {"location": {"title": "", "text": "Сочи"}}, "Сочи"),
        ("image", {"image": {"sizes": {"32x32": "https://a.b"}}}, ""),
        ("voice", {"voice": {"voice_id": "1"}}, ""),
        ("call", {"call": {"status": "missed"}}, ""),
        ("appCall", {}, ""),
        ("deleted", {}, ""),
        ("system", {"flow_id": "flower_161071", "text": "Ответим скоро"}, "Ответим скоро"),
        ("text", {"text": 5}, ""),
        ("link", {"link": "https://a.b"}, ""),
        ("новый", {"text": "Слова"}, "Слова"),
    ],
)
def test_every_type_has_its_words(type: str, content: dict[str, Any], words: str) -> None:
    assert render_text(type, content) == words


@pytest.mark.parametrize(
    ("text", "is_placeholder"),
    [
        ("Перейдите на подписку с API мессенджера, чтобы получить доступ к чатам", True),
        ("  перейдите на подписку с\u00a0API мессенджера", True),
        ("«Перейдите на подписку с API-мессенджера»", True),
        ("ПЕРЕЙДИТЕ\nна подписку с “API” мессенджера!", True),
        ("Перей\u200bдите на\u00adподписку с\u2009API мессенджера", False),  # a soft hyphen joins two words
        ("Перей\u200bдите на\u2009подписку с API мессенджера", True),
        ("Пeрeйдитe нa пoдпиcку c АРІ мeccенджepa", True),  # in letters of two alphabets
        ("Перейдите на подписку со доступом к API мессенджера", True),
        ("Вы писали: перейдите на подписку с API мессенджера?", False),
        ("Перейдите на подписку", False),
        ("Перейдите на подписку с API мессенджера. " + "x" * 1000, False),
        ("Здравствуйте!", False),
        ("", False),
    ],
)
def test_advertisement_of_a_subscription_is_no_buyer(text: str, is_placeholder: bool) -> None:
    assert is_subscription_placeholder(text) is is_placeholder


BMP = b"BM" + bytes(12) + (40).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF89a", "image/gif"),
        (BMP, "image/bmp"),
        (bytes(4) + b"ftypheic", "image/heic"),
        (bytes(4) + b"ftypmp42", None),
        (b"BMW X5, 2019", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"RIFF0000WEBP", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_its_bytes(data: bytes, type: str | None) -> None:
    assert image_type(data) == type


def paged(request: Request) -> object:
    """1,500 messages, of which each page repeats the last of the page before, as if one had just come in."""
    query = dict(request.query)
    first = max(0, int(query["offset"]) - 1)
    ids = range(first, min(1500, first + int(query["limit"])))
    return [MESSAGE | {"id": f"m{id}"} for id in ids]


def test_messages_are_read_page_by_page_as_they_are_taken_and_once_each() -> None:
    recorder = Recorder(paged)
    messages = Client("token", recorder).messenger.iter_messages(ME, CHAT)
    assert recorder.requests == []
    assert next(messages).id == "m0"
    assert len(recorder.requests) == 1
    ids = ["m0", *(message.id for message in messages)]
    assert ids == [f"m{number}" for number in range(1099)]
    assert [dict(request.query)["offset"] for request in recorder.requests] == [str(n) for n in range(0, 1001, 100)]


def test_chats_end_where_avito_says_so() -> None:
    chat = {"id": "c", "created": 1, "updated": 2}
    recorder = Recorder(lambda request: {"chats": [chat], "meta": {"has_more": False}})
    chats = Client("token", recorder).messenger.iter_chats(ME, page_size=1, unread_only=True, chat_types=["u2u"])
    assert [chat.id for chat in chats] == ["c"]
    [request] = recorder.requests
    assert dict(request.query) == {"limit": "1", "offset": "0", "unread_only": "true", "chat_types": "u2u"}


@pytest.mark.parametrize(
    "break_limit",
    [
        lambda calls: calls.chats(ME, limit=0),
        lambda calls: calls.chats(ME, limit=101),
        lambda calls: calls.messages(ME, CHAT, offset=-1),
        lambda calls: calls.messages(ME, CHAT, offset=1001),
        lambda calls: calls.send_text(ME, CHAT, ""),
        lambda calls: calls.send_text(ME, CHAT, "я" * 1001),
        lambda calls: calls.upload_image(ME, "a.png", b"", "image/png"),
        lambda calls: calls.upload_image(ME, "a.png", bytes(24 * 1024 * 1024 + 1), "image/png"),
        lambda calls: calls.upload_image(ME, "a.svg", b"<svg/>", "image/svg+xml"),
    ],
)
def test_limits_of_avito_are_kept_without_asking(break_limit: Callable[[Any], object]) -> None:
    recorder = Recorder(lambda request: {})
    with pytest.raises(Invalid) as caught:
        break_limit(Client("token", recorder).messenger)
    assert recorder.requests == []
    assert caught.value.fields
    assert not caught.value.maybe_done


def test_upload_has_more_time_than_other_calls() -> None:
    recorder = Recorder(lambda request: {"1.a": {"32x32": "https://a.b"}})
    assert Client("token", recorder).messenger.upload_image(ME, "a.png", b"1", "image/png") == "1.a"
    assert recorder.deadlines == [60.0]


def test_none_or_two_images_for_one_are_unreadable() -> None:
    answers: list[object] = [{}, {"1.a": {}, "2.b": {}}, []]
    for answer in answers:
        with pytest.raises(Unreadable):
            client(answer).messenger.upload_image(ME, "a.png", b"1", "image/png")


def test_ok_false_is_a_refusal() -> None:
    client({"ok": True}).messenger.mark_read(ME, CHAT)
    with pytest.raises(Invalid):
        client({"ok": False}).messenger.mark_read(ME, CHAT)


def test_no_voice_asks_nothing() -> None:
    recorder = Recorder(lambda request: {})
    assert Client("token", recorder).messenger.voice_urls(ME, []) == {}
    assert recorder.requests == []


def test_balance_is_exact_to_the_kopeck() -> None:
    balance = client({"real": 1234.56, "bonus": 0}).user.balance(ME)
    assert (balance.real, balance.bonus) == (Decimal("1234.56"), Decimal(0))
    for broken in ({"real": 1}, {"real": "1", "bonus": 1}, {"real": True, "bonus": 1}, {"real": 1e30, "bonus": 0}):
        with pytest.raises(Unreadable):
            client(broken).user.balance(ME)


@pytest.mark.parametrize("id", [None, 0, -1, True, "5", 5.0, 2**63])
def test_owner_without_a_sane_id_is_unreadable(id: object) -> None:
    assert client({"id": 2**63 - 1, "phones": []}).user.me().id == 2**63 - 1
    with pytest.raises(Unreadable):
        client({"id": id, "name": "Пётр"}).user.me()
