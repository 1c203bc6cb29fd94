"""What a search finds, however few or many have the word; and which digits in a client's words are a phone."""

from typing import Any

import pytest

from chats import search
from chats.models import Chat
from chats.phones import phone_in
from tests.conftest import Api
from tests.factories import make_chat, make_message

CHATS = "/api/v1/avito/chats"


@pytest.fixture(params=["rare", "common"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways must find the same: by the indexes, and chat by chat, two at a time."""
    if request.param == "common":
        monkeypatch.setattr(search, "RARE_MAX", -1)
        monkeypatch.setattr(search, "CHATS_AT_ONCE", 2)
    return str(request.param)


def found(api: Api, **query: object) -> list[int]:
    ids, page = [], api.get(CHATS, **query).json()
    while page:
        ids += [chat["id"] for chat in page["results"]]
        page = api.call("GET", page["next"]).json() if page["next"] else None
    return ids


def a_few() -> dict[str, Chat]:
    chats = {name: make_chat(name="Пётр") for name in ("said", "deleted", "hidden", "other")}
    shapes: dict[str, dict[str, Any]] = {"said": {}, "deleted": {"type": "deleted"}, "hidden": {"is_placeholder": True}}
    for name, fields in shapes.items():
        make_message(chats[name], text="Когда ВЪЕЗД, в пятницу?", **fields)
    make_message(chats["other"], text="100% скидка_тут \\o/")
    return chats | {"named": make_chat(name="Въездов"), "titled": make_chat(item_title="Гараж, отдельный въезд")}


def test_name_title_and_messages_are_searched_but_not_what_is_deleted_or_hidden(colleague: Api, way: str) -> None:
    chats = a_few()
    expected = [chats[name].pk for name in ("titled", "named", "said")]
    assert found(colleague, search="въезд") == expected
    assert found(colleague, search="  ВЪеЗд ", limit=1) == expected
    assert found(colleague, search="въезд", ordering="createdAt", limit=2) == expected[::-1]
    assert found(colleague, search="въезд", status="active,closed", city="") == expected
    assert found(colleague, search="въезд", status="closed") == []


@pytest.mark.parametrize("term", ["100%", "скидка_", "_тут", "\\o/", "% с"])
def test_a_search_term_is_taken_literally(colleague: Api, way: str, term: str) -> None:
    chats = a_few()
    assert found(colleague, search=term) == [chats["other"].pk]


@pytest.mark.parametrize("term", ["%%%", "___", "\\\\\\", "въе_д", "%въезд", "'; drop table", "x" * 200])
def test_a_wildcard_finds_nothing_but_itself(colleague: Api, way: str, term: str) -> None:
    a_few()
    assert found(colleague, search=term) == []


def test_one_can_go_back_through_pages_that_are_short(colleague: Api, way: str) -> None:
    for number in range(9):
        make_message(make_chat(), text="въезд" if number in (0, 1, 5, 8) else "нет")
    forth, page = [], colleague.get(CHATS, search="въезд", limit=1).json()
    while page["next"]:
        forth.append(page["results"])
        page = colleague.call("GET", page["next"]).json()
    back = []
    while page["previous"]:
        page = colleague.call("GET", page["previous"]).json()
        back.append(page["results"])
    assert [one for some in forth for one in some] == [one for some in reversed(back) for one in some]


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("8 (916) 123-45-67", "+79161234567"),
        ("+7 916 1234567", "+79161234567"),
        ("79161234567", "+79161234567"),
        ("мой номер:89161234567, звоните после 18:00", "+79161234567"),
        ("8-916-123-45-67 или 8 925 765 43 21", "+79161234567"),
        ("9161234567", "+79161234567"),
        ("Минск +375 29 123-45-67", "+375291234567"),
        ("отдам за 4 500 000 руб, торг до 4 300 000", ""),
        ("заказ № 4951234567 от 20.11.2026", ""),
        ("https://www.avito.ru/kvartiry_1768287444", ""),
        ("карта 4276 3800 1234 5678", ""),
        ("с 10:00 20.11.2026 до 9:30 12.12.2026", ""),
        ("8 916 123 45", ""),
    ],
)
def test_a_phone_is_told_from_other_digits(text: str, phone: str) -> None:
    assert phone_in(text) == phone
