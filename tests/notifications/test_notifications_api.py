"""`/notifications`: who sees which news, in which language, and what is read."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.test import Client
from rest_framework_simplejwt.tokens import AccessToken

from notifications import services
from notifications.models import Notification, Reading
from tests.conftest import Api
from tests.factories import make_user

NEWS = "/api/v1/notifications"
ENGLISH = {"Accept-Language": "en"}


def tell(name: str = "Анна", **details: Any) -> Notification:
    return services.tell("test_fell", **{"needs": "accounts.read", "params": {"name": name, "reason": "x"}, **details})


def shown(api: Api, **query: Any) -> list[int]:
    return [row["id"] for row in api.get(NEWS, **query).json()["results"]]


def refusal(answer: requests.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()


# The list


def test_news_is_shown_newest_first_with_words_and_a_place_to_look(colleague: Api) -> None:
    first = tell()
    second = tell("Борис", level="error", path="/admin/avito_accounts/account/5/change/")
    answer = colleague.call("GET", NEWS, headers=ENGLISH).json()
    assert (answer["count"], answer["next"], answer["previous"]) == (2, None, None)
    assert [row["id"] for row in answer["results"]] == [second.pk, first.pk]
    row = answer["results"][0]
    assert row.pop("createdAt").endswith("Z")
    assert row == {
        "id": second.pk,
        "kind": "test_fell",
        "level": "error",
        "title": "Борис: the tokens were not renewed. x",
        "detail": "Token expired. Please reconnect.",
        "path": "/admin/avito_accounts/account/5/change/",
        "isRead": False,
    }


@pytest.mark.parametrize(
    ("language", "title", "detail"),
    [
        ("ru", "Анна: токены не обновлены. Причина: x", "Срок действия доступа истёк. Подключите заново."),
        ("en", "Анна: the tokens were not renewed. x", "Token expired. Please reconnect."),
        ("fr", "Анна: токены не обновлены. Причина: x", "Срок действия доступа истёк. Подключите заново."),
    ],
)
def test_the_same_news_is_read_in_the_readers_language(colleague: Api, language: str, title: str, detail: str) -> None:
    tell()
    row = colleague.call("GET", NEWS, headers={"Accept-Language": language}).json()["results"][0]
    assert (row["title"], row["detail"]) == (title, detail)


def test_a_code_within_the_words_is_told_in_words_too(colleague: Api) -> None:
    for code in ("late", "other"):
        services.tell("test_coded", needs="accounts.read", params={"text": code})
    other, late = colleague.get(NEWS).json()["results"]
    assert late["title"] == "Авито отказывает: Авито не ответил вовремя."
    assert other["title"] == "Авито отказывает: other"


@pytest.mark.parametrize(
    ("kind", "params", "title", "detail"),
    [
        ("test_never_registered", {"a": 1}, "test_never_registered", ""),
        ("test_fell", {}, "?: the tokens were not renewed. ?", "Token expired. Please reconnect."),
        ("test_returned", {"name": "a\0b\ud800", "more": object}, "ab?: the tokens were renewed.", ""),
        ("test_returned", {"name": "100%(x)s"}, "100%(x)s: the tokens were renewed.", ""),
        ("test_number", {"count": 5}, "5% of them", "100% sure"),
        ("test_number", {"count": "five"}, "five% of them", "100% sure"),
    ],
)
def test_odd_news_harms_nothing(colleague: Api, kind: str, params: dict[str, object], title: str, detail: str) -> None:
    services.tell(kind, needs="accounts.read", params=params)
    answer = colleague.call("GET", NEWS, headers=ENGLISH)
    assert answer.status_code == 200
    row = answer.json()["results"][0]
    assert (row["title"], row["detail"]) == (title, detail)


@pytest.mark.parametrize(("language", "day"), [("ru", "14.08.2026"), ("en", "14 Aug 2026")])
def test_a_date_within_the_words_is_written_as_the_reader_writes_dates(colleague: Api, language: str, day: str) -> None:
    tell("2026-08-14")
    tell("2026-02-31")
    no_day, shown_day = colleague.call("GET", NEWS, headers={"Accept-Language": language}).json()["results"]
    assert day in shown_day["title"]
    assert "2026-02-31" in no_day["title"]


def test_the_list_comes_in_pages(colleague: Api) -> None:
    rows = [tell(str(number)).pk for number in range(5)]
    first = colleague.get(NEWS, pageSize=2).json()
    assert (first["count"], first["previous"]) == (5, None)
    second = colleague.call("GET", first["next"]).json()
    assert [row["id"] for page in (first, second) for row in page["results"]] == rows[:0:-1]
    assert colleague.get(NEWS, page=9).status_code == 404


def test_the_list_costs_the_same_however_long_it_is(
    client: Client, db: None, django_assert_num_queries: Callable[[int], Any]
) -> None:
    user = make_user("colleague", "operator")
    headers = {"Authorization": f"Bearer {AccessToken.for_user(user)}"}
    for count in (1, 30):
        for _ in range(count):
            tell()
        Reading.objects.create(user=user, notification=tell(), read_at=tell().created_at)
        with django_assert_num_queries(4):  # the caller, the role, the count, the page
            assert client.get(NEWS, headers=headers).json()["count"] > count


# Who sees what


def test_people_see_what_their_role_may_see_and_what_is_for_them(owner: Api, colleague: Api, stranger: Api) -> None:
    someone = User.objects.get(username="stranger")
    for_all, for_admins = tell(), tell(needs="accounts.manage")
    for_one, for_both = tell(needs="", user=someone), tell(needs="accounts.manage", user=someone)
    assert shown(owner) == [for_both.pk, for_admins.pk, for_all.pk]
    assert shown(colleague) == [for_all.pk]
    assert shown(stranger) == [for_both.pk, for_one.pk]


def test_a_role_lost_takes_its_news_along(colleague: Api) -> None:
    tell()
    User.objects.get(username="colleague").groups.clear()
    assert shown(colleague) == []


def test_nobody_reads_anything(nobody: Api) -> None:
    row = tell()
    answers = [nobody.get(NEWS), nobody.post(f"{NEWS}/{row.pk}/read"), nobody.post(f"{NEWS}/read-all")]
    assert [answer.status_code for answer in answers] == [401] * 3
    assert not Reading.objects.exists()


def test_news_can_be_neither_made_nor_changed_nor_deleted(owner: Api) -> None:
    row = tell()
    answers = [owner.post(NEWS, {"kind": "x"}), owner.get(f"{NEWS}/{row.pk}/read"), owner.get(f"{NEWS}/read-all")]
    assert [answer.status_code for answer in answers] == [405] * 3
    assert [owner.call(m, f"{NEWS}/{row.pk}", json={}).status_code for m in ("GET", "PUT", "DELETE")] == [404] * 3
    assert Notification.objects.count() == 1


# Reading


def test_one_is_read_once_by_one_person_however_often_it_is_said(owner: Api, colleague: Api) -> None:
    older, newer = tell(), tell()
    for _ in range(2):
        answer = colleague.post(f"{NEWS}/{older.pk}/read")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert shown(colleague, unread="true") == [newer.pk]
    assert shown(colleague, unread="false") == [older.pk]
    assert {row["id"]: row["isRead"] for row in colleague.get(NEWS).json()["results"]} == {
        older.pk: True,
        newer.pk: False,
    }
    assert shown(owner, unread="true") == [newer.pk, older.pk]
    assert Reading.objects.count() == 1


def test_all_are_read_at_once_and_only_those_one_sees(owner: Api, colleague: Api) -> None:
    tell(), tell(), tell(needs="accounts.manage")
    answer = colleague.post(f"{NEWS}/read-all")
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "read": 2})
    assert colleague.post(f"{NEWS}/read-all").json() == {"ok": True, "read": 0}
    assert shown(colleague, unread="true") == []
    assert len(shown(owner, unread="true")) == 3
    newer = tell()
    assert shown(colleague, unread="true") == [newer.pk]


def test_what_one_may_not_see_answers_as_what_is_not_there(colleague: Api, stranger: Api) -> None:
    hidden, private = tell(needs="accounts.manage"), tell(needs="", user=make_user("somebody"))
    missing = refusal(colleague.post(f"{NEWS}/987654321/read"))
    assert missing[0] == 404
    for api in (colleague, stranger):
        for row in (hidden, private):
            assert refusal(api.post(f"{NEWS}/{row.pk}/read")) == missing
    assert not Reading.objects.exists()


@pytest.mark.parametrize("odd", ["0", "x", "-1", "9" * 18, "9" * 19, "1.5", "%00"])
def test_an_odd_number_names_no_news(colleague: Api, odd: str) -> None:
    assert colleague.post(f"{NEWS}/{odd}/read").status_code == 404


def test_staff_reads_by_session_only_with_a_token_against_forgery(db: None) -> None:
    user = make_user("clerk", "operator", is_staff=True)
    row, browser = tell(), Client(enforce_csrf_checks=True)
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    assert browser.get(NEWS).json()["count"] == 1
    assert browser.post(f"{NEWS}/{row.pk}/read").status_code == browser.post(f"{NEWS}/read-all").status_code == 403
    assert not Reading.objects.exists()


def test_news_of_a_person_goes_with_the_person(db: None) -> None:
    user = make_user("somebody", "operator")
    tell(needs="", user=user)
    shared = tell()
    Reading.objects.create(user=user, notification=shared, read_at=shared.created_at)
    user.delete()
    assert list(Notification.objects.all()) == [shared]
    assert not Reading.objects.exists()
