"""Every kind of message has words for people, in their language where the words are ours."""

import re
from typing import Any

import pytest
from django.test import Client

from avito_accounts.models import Account
from chats.models import Chat, Message
from tests.conftest import Api
from tests.factories import make_chat, make_message, make_user
from tests.sandbox.driver import ANNA, Sandbox

KINDS: list[tuple[str, dict[str, Any], str]] = [
    ("text", {"text": "Свободно?"}, "Свободно?"),
    ("image", {"image": {"sizes": {"1280x960": "https://a.b/1"}}}, "Picture"),
    ("voice", {"voice": {"voice_id": "v"}}, "Voice message"),
    ("video", {}, "Video"),
    ("file", {}, "File"),
    ("appCall", {}, "Call in the app"),
    ("call", {"call": {"status": "missed", "target_user_id": 5}}, "Missed call"),
    ("call", {"call": {"status": "answered"}}, "Call"),
    ("call", {"call": None}, "Call"),
    ("item", {"item": {"title": "Студия", "price_string": "3 500 ₽"}}, "Студия, 3 500 ₽"),
    ("item", {}, "Listing"),
    ("location", {"location": {"title": "Офис", "lat": 55.7, "lon": 37.6}}, "Офис"),
    ("location", {"location": {"lat": 55.751244, "lon": 37.618423}}, "55.751244, 37.618423"),
    ("location", {"location": {"lat": "55", "lon": None}}, "Place on the map"),
    ("link", {"link": {"text": "", "url": "https://a.b"}}, "https://a.b"),
    ("link", {}, "Link"),
    ("system", {"flow_id": "flower_161071", "text": "Ответим скоро"}, "Ответим скоро"),
    ("system", {"flow_id": "sbc_seller_notification"}, "Notice from Avito"),
    ("deleted", {}, "The message was deleted."),
]


@pytest.mark.parametrize(("kind", "content", "words"), KINDS)
def test_each_kind_has_its_words_live_and_stored(
    anna: Account, colleague: Api, avito_sandbox: Sandbox, kind: str, content: dict[str, Any], words: str
) -> None:
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", type=kind, text="", content=content)
    make_chat(anna, avito_id=chat_id)
    colleague.session.headers["Accept-Language"] = "en"
    [live] = colleague.get(f"/api/v1/messenger/accounts/{anna.pk}/chats/{chat_id}/messages").json()["messages"]
    stored = colleague.get(f"/api/v1/avito/chats/{chat_id}").json()
    for shown in (live, stored["lastMessage"], stored["messages"][0]):
        assert (shown["type"], shown["text"], shown["content"]) == (kind, words, content)
    if kind not in {"text", "item", "location", "link", "system"}:
        assert Message.objects.get().text == ""  # nobody has said so


def test_a_kind_that_nobody_knows_is_named(anna: Account, colleague: Api) -> None:
    chat = make_chat(anna)
    make_message(chat, type="hologram", text="", content={})
    colleague.session.headers["Accept-Language"] = "en"
    [shown] = colleague.get(f"/api/v1/avito/chats/{chat.avito_id}/messages").json()["results"]
    assert shown["text"] == "Message of an unknown kind: hologram"


def test_a_deleted_message_keeps_its_words_and_shows_them_no_more(anna: Account, colleague: Api) -> None:
    chat = make_chat(anna)
    make_message(chat, type="deleted", text="опечатка")
    colleague.session.headers["Accept-Language"] = "en"
    [shown] = colleague.get(f"/api/v1/avito/chats/{chat.avito_id}/messages").json()["results"]
    assert shown["text"] == "The message was deleted."
    assert Message.objects.get().text == "опечатка"


def in_the_back_office(chat: Chat) -> str:
    browser = Client(headers={"accept-language": "en"})
    root = make_user("root", is_superuser=True, is_staff=True)
    browser.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    pages = (f"/admin/chats/chat/{chat.pk}/change/", "/admin/chats/message/")
    return "".join(browser.get(path).content.decode() for path in pages)


def test_the_back_office_shows_the_same_words(anna: Account) -> None:
    chat = make_chat(anna)
    make_message(chat, type="voice", text="", content={"voice": {"voice_id": "v"}})
    pages = in_the_back_office(chat)
    assert "<em>Voice message</em>" in pages
    assert re.search(r"field-short_text[^>]*>\s*(<[^>]*>\s*)*Voice message", pages)


def test_the_back_office_opens_pictures_in_their_largest_size(anna: Account) -> None:
    chat = make_chat(anna)
    sizes = {"32x32": "https://a.b/small", "1280x960": "https://a.b/large", "640x480": "https://a.b/middle"}
    make_message(chat, type="image", text="", content={"image": {"sizes": sizes}})
    odds: list[Any] = [{"sizes": {"x": "javascript:alert(1)", "9" * 9: 5}}, {"sizes": []}, "image", None]
    for odd in odds:
        make_message(chat, type="image", text="", content={"image": odd})
    page = in_the_back_office(chat)
    assert 'href="https://a.b/large"' in page
    assert "javascript:alert" not in page
    assert page.count("https://a.b") == 1
