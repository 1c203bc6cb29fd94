"""`/avito/chats`: stored conversations, as people read them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from chats.models import Chat
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_message, make_user

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


def test_every_chat_that_keeps_still_is_seen_once_while_others_become_active(colleague: Api) -> None:
    made = chats(24)
    moving = {chat.pk for chat in made[::5]}
    seen: list[int] = []
    page = colleague.get(CHATS, limit=4).json()
    while page:
        seen += [chat["id"] for chat in page["results"]]
        for pk in moving:  # messages arrive in chats seen and not yet seen, and a new chat begins
            activity_at = NOON + timedelta(days=1, seconds=len(seen))
            Chat.objects.filter(pk=pk).update(activity_at=activity_at, last_message_at=activity_at)
        make_chat(activity_at=NOON + timedelta(days=2))
        page = colleague.call("GET", page["next"]).json() if page["next"] else None
    assert [pk for pk in seen if pk not in moving] == [chat.pk for chat in reversed(made) if chat.pk not in moving]
    assert len(seen) == len(set(seen))


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
    me = User.objects.get(username="colleague")
    fits: dict[str, Any] = {
        "account": account,
        "name": "Мария",
        "unread_count": 2,
        "city": "Тверь",
        "phone": "+79161234567",
        "tags": ["vip", "срочно"],
        "assignee": me,
    }
    wanted = make_chat(**fits)
    others: list[dict[str, Any]] = [
        {"account": make_account()},
        {"name": "Пётр"},
        {"unread_count": 0},
        {"city": "Уфа"},
        {"status": "closed"},
    ]
    others += [{"phone": "+79161234568"}, {"tags": ["не vip"]}, {"assignee": None}, {"assignee": make_user("other")}]
    for other in others:
        make_chat(**{**fits, **other})
    make_chat(**fits)
    Chat.objects.filter(pk=wanted.pk + len(others) + 1).update(updated_at=NOON)
    found = colleague.get(
        CHATS,
        accountId=account.pk,
        unread="true",
        search="мАРИ",
        status="active,archived",
        city="тВЕРЬ",
        phone="8 (916) 123-45-67",
        assignee="me",
        tag="vip",
        updatedAfter="2026-11-21T00:00:00Z",
        ordering="updatedAt",
        somethingElse="x",
    )
    assert [chat["id"] for chat in found.json()["results"]] == [wanted.pk]


@pytest.mark.parametrize("spelling", ["8 (916) 123-45-67", "+79161234567", "79161234567", "9161234567", "8 916 123",
                                      "(916)123", "4567", "+7 916", "7916123"])  # fmt: skip
def test_a_phone_is_found_in_any_spelling_whole_or_in_part(colleague: Api, spelling: str) -> None:
    wanted = make_chat(phone="+79161234567")
    make_chat(phone="+79031112233")
    make_chat()
    assert [chat["id"] for chat in colleague.get(CHATS, phone=spelling).json()["results"]] == [wanted.pk]


@pytest.mark.parametrize("unread", ["true", "1"])
def test_chats_without_unread_messages_and_of_nobody_are_asked_for_too(colleague: Api, unread: str) -> None:
    read, unread_one = make_chat(), make_chat(unread_count=1, assignee=make_user("other"))
    found = {query: [chat["id"] for chat in colleague.get(CHATS, **dict([query])).json()["results"]]
             for query in [("unread", "false"), ("unread", unread), ("assignee", "none"), ("search", "")]}  # fmt: skip
    assert list(found.values()) == [[read.pk], [unread_one.pk], [read.pk], [unread_one.pk, read.pk]]


@pytest.mark.parametrize(("ordering", "ahead"), [("lastMessageAt", 1), ("-createdAt", -1), ("createdAt", 1)])
def test_the_order_may_be_another_one_and_pages_follow_it(colleague: Api, ordering: str, ahead: int) -> None:
    made = [chat.pk for chat in chats(7)]
    pages = walk(colleague, CHATS, limit=3, ordering=ordering)
    assert [chat["id"] for page in pages for chat in page] == made[::ahead]


def test_pages_of_several_statuses_go_through_all_of_them(colleague: Api) -> None:
    made = [make_chat(status=("active", "closed", "archived")[n % 3], activity_at=NOON + timedelta(hours=n)).pk
            for n in range(12)]  # fmt: skip
    pages = walk(colleague, CHATS, limit=3, status="archived, active")
    assert [chat["id"] for page in pages for chat in page] == [pk for n, pk in enumerate(made) if n % 3 != 1][::-1]


def test_a_cursor_of_another_filter_is_refused_and_unknown_parameters_do_not_matter(colleague: Api) -> None:
    chats(4, city="Тверь")
    link = colleague.get(CHATS, limit=1, city="Тверь").json()["next"]
    assert colleague.call("GET", f"{link}&_=17").status_code == 200
    for wrong in (link.replace("city", "town"), f"{link}&unread=false", f"{link}&ordering=createdAt"):
        assert colleague.call("GET", wrong).json()["errors"][0]["attr"] == "cursor"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "open"),
        ("accountId", "x"),
        ("accountId", str(2**63)),
        ("updatedAfter", "soon"),
        ("updatedAfter", "10000-01-01"),
        ("unread", "maybe"),
        ("assignee", "nobody"),
        ("phone", "91"),
        ("phone", "call me"),
        ("tag", "x" * 51),
        ("city", "Мос\0ква"),
        ("search", "ab"),
        ("search", "x" * 201),
        ("search", "abc\0"),
        ("ordering", "name"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_by_its_name(colleague: Api, name: str, value: str) -> None:
    answer = colleague.get(CHATS, **{name: value})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, name)


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
