"""`/avito/chats`: stored conversations, as people read them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chats.models import Chat
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_message

CHATS = "/api/v1/avito/chats"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def chats(count: int, **fields: Any) -> list[Chat]:
    return [
        make_chat(name=f"Клиент {number}", activity_at=NOON + timedelta(minutes=number // 3), **fields)
        for number in range(count)
    ]


def walk(api: Api, path: str, **query: Any) -> list[list[dict[str, Any]]]:
    """All pages from the first to the last."""
    pages, answer = [], api.get(path, **query).json()
    while True:
        pages.append(answer["results"])
        if answer["next"] is None:
            return pages
        answer = api.call("GET", answer["next"]).json()


def test_pages_show_each_chat_once_newest_first_also_where_times_are_equal(colleague: Api) -> None:
    made = chats(11)
    pages = walk(colleague, CHATS, limit=4)
    assert [len(page) for page in pages] == [4, 4, 3]
    assert [chat["id"] for page in pages for chat in page] == [chat.pk for chat in reversed(made)]


def test_a_chat_that_becomes_active_meanwhile_neither_repeats_nor_hides_another(colleague: Api) -> None:
    made = chats(9)
    first = colleague.get(CHATS, limit=3).json()
    Chat.objects.filter(pk=made[0].pk).update(activity_at=NOON + timedelta(days=1))
    seen = [chat["id"] for chat in first["results"]]
    page = colleague.call("GET", first["next"]).json()
    while page:
        seen += [chat["id"] for chat in page["results"]]
        page = colleague.call("GET", page["next"]).json() if page["next"] else None
    assert seen == [chat.pk for chat in reversed(made[1:])]


def test_one_can_go_back_to_the_page_before(colleague: Api) -> None:
    chats(7)
    first = colleague.get(CHATS, limit=3).json()
    assert first["previous"] is None
    second = colleague.call("GET", first["next"]).json()
    back = colleague.call("GET", second["previous"]).json()
    assert back["results"] == first["results"]


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "1.5"])
def test_a_limit_that_is_none_is_refused(colleague: Api, limit: str) -> None:
    answer = colleague.get(CHATS, limit=limit)
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "limit")


def test_a_limit_beyond_the_largest_page_gives_the_largest(colleague: Api) -> None:
    chat = make_chat()
    for _each in range(203):
        make_message(chat)
    assert len(colleague.get(f"{CHATS}/{chat.avito_id}/messages", limit=10**8).json()["results"]) == 200


def test_a_cursor_changed_or_taken_from_another_chat_is_refused(colleague: Api) -> None:
    first, second = make_chat(), make_chat()
    for chat in (first, second):
        for _each in range(3):
            make_message(chat)
    link = colleague.get(f"{CHATS}/{first.avito_id}/messages", limit=1).json()["next"]
    for wrong in (link.replace(first.avito_id, second.avito_id), link.replace("cursor=", "cursor=x")):
        answer = colleague.call("GET", wrong)
        assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "cursor")


def test_filters_go_together(colleague: Api) -> None:
    account = make_account()
    wanted = make_chat(account, name="Мария", unread_count=2, item_title="Студия")
    make_chat(account, name="Мария", unread_count=0)
    make_chat(account, name="Мария", unread_count=1, status="closed")
    make_chat(name="Мария", unread_count=1)
    found = colleague.get(CHATS, accountId=account.pk, unread="true", search="мАРИЯ", status="active,archived")
    assert [chat["id"] for chat in found.json()["results"]] == [wanted.pk]


@pytest.mark.parametrize(
    ("name", "value"), [("status", "open"), ("accountId", "x"), ("accountId", str(2**63)), ("updatedAfter", "soon")]
)
def test_a_filter_that_makes_no_sense_is_refused_by_its_name(colleague: Api, name: str, value: str) -> None:
    answer = colleague.get(CHATS, **{name: value})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, name)


@pytest.mark.parametrize("term", ["%", "_", "\\", "%%", "'; drop table"])
def test_a_search_term_is_taken_literally(colleague: Api, term: str) -> None:
    make_chat(name="Мария")
    assert colleague.get(CHATS, search=term).json()["results"] == []


def test_a_chat_shows_its_last_fifty_messages_oldest_first(colleague: Api) -> None:
    chat = make_chat()
    for number in range(55):
        make_message(chat, text=str(number), created_at=NOON + timedelta(seconds=number))
    shown = colleague.get(f"{CHATS}/{chat.avito_id}").json()["messages"]
    assert [message["text"] for message in shown] == [str(number) for number in range(5, 55)]


def test_a_chat_of_two_accounts_of_ours_is_the_one_with_the_newest_activity(colleague: Api) -> None:
    first, second = make_account(), make_account()
    make_chat(first, avito_id="u2u-both", activity_at=NOON)
    make_chat(second, avito_id="u2u-both", activity_at=NOON + timedelta(hours=1))
    assert colleague.get(f"{CHATS}/u2u-both").json()["accountId"] == second.pk


@pytest.mark.parametrize("chat_id", ["nope", "%00", "..%2F..", "u2i-" + "x" * 300, "%F0%9F%98%80"])
def test_a_chat_that_is_not_there_is_a_404(colleague: Api, chat_id: str) -> None:
    assert colleague.get(f"{CHATS}/{chat_id}").status_code == 404


def test_an_id_with_odd_characters_is_found_by_its_percent_encoding(colleague: Api) -> None:
    make_chat(avito_id="u2i-a~b_c-d+e")
    assert colleague.get(f"{CHATS}/u2i-a%7Eb_c-d%2Be").status_code == 200


def test_a_list_costs_the_same_number_of_queries_however_long_it_is(
    colleague: Api, django_assert_max_num_queries: Any
) -> None:
    from django.test import Client

    account = make_account()
    for _each in range(30):
        chat = make_chat(account)
        chat.last_message = make_message(chat)
        chat.save()
    client = Client(headers={"Authorization": str(colleague.session.headers["Authorization"])})
    with django_assert_max_num_queries(5):
        assert len(client.get(CHATS).json()["results"]) == 30
