"""News in the back office: read there, by those whom it concerns, and nothing else is done to it."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from notifications import services
from notifications.models import Notification, Reading
from tests.factories import make_user

NEWS = "/admin/notifications/notification/"
pytestmark = pytest.mark.django_db


def signed_in(name: str, role: Any = None, language: str = "en", **fields: Any) -> Client:
    client = Client(headers={"accept-language": language})
    user = make_user(name, role, is_staff=True, **fields)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", "operator")


def tell(name: str = "Анна", **details: Any) -> Notification:
    return services.tell("test_fell", **{"needs": "accounts.read", "params": {"name": name, "reason": "x"}, **details})


def text_of(answer: Any) -> str:
    text: str = answer.content.decode()
    return text


def badge(client: Client, page: str = "/admin/") -> str | None:
    """What stands beside the entry of the sidebar."""
    entries = re.findall(rf'<a href="{NEWS}"[^>]*>(.*?)</a>', text_of(client.get(page)), re.DOTALL)
    (entry,) = [entry for entry in entries if "material-symbols" in entry]
    found = re.search(r"<span[^>]*uppercase[^>]*>(.*?)</span>", entry, re.DOTALL)
    return found[1].strip() if found else None


# Seeing


def test_everybody_in_the_staff_sees_what_concerns_them() -> None:
    clerk, boss, stranger = signed_in("clerk", "operator"), signed_in("boss", "admin"), signed_in("stranger")
    tell("Для всех")
    tell("Для начальства", needs="accounts.manage")
    tell("Для одного", needs="", user=User.objects.get(username="stranger"))
    names = ("Для всех", "Для начальства", "Для одного")
    seen = [[name in text_of(client.get(NEWS)) for name in names] for client in (clerk, boss, stranger)]
    assert seen == [[True, False, False], [True, True, False], [False, False, True]]
    assert Client().get(NEWS).status_code == 302


def test_news_stands_there_newest_first_in_words_with_a_way_to_its_place(operator: Client) -> None:
    tell("Первая <b>", level="info")
    tell("Вторая", level="error", path="/admin/chats/chat/5/change/")
    page = text_of(operator.get(NEWS))
    assert page.index("Вторая: the tokens were not renewed. x") < page.index("Первая &lt;b&gt;")
    assert "Token expired. Please reconnect." in page
    assert 'href="/admin/chats/chat/5/change/"' in page
    assert "<b>" not in page


def test_nobody_is_led_to_a_page_that_is_closed_to_them(operator: Client) -> None:
    path = "/admin/avito_accounts/proxy/5/change/"
    tell("Прокси", path=path)
    for page in (NEWS, "/admin/"):
        seen = [text_of(client.get(page)) for client in (operator, signed_in(f"boss{len(page)}", "admin"))]
        assert [path in text for text in seen] == [False, True]
        assert all("Прокси: the tokens were not renewed" in text for text in seen)


def test_the_page_speaks_the_readers_language() -> None:
    tell()
    page = text_of(signed_in("clerk", "operator", language="ru").get(NEWS))
    assert "Анна: токены не обновлены. Причина: x" in page
    assert "Срок действия доступа истёк" in page


def test_a_page_of_one_says_the_same_to_those_who_may_see_it(operator: Client) -> None:
    row, hidden = tell(), tell(needs="accounts.manage")
    page = operator.get(f"{NEWS}{row.pk}/change/")
    assert page.status_code == 200
    assert "the tokens were not renewed" in text_of(page)
    assert "(&#x27;" not in text_of(page), "a label shows as Python's tuple"
    assert operator.get(f"{NEWS}{hidden.pk}/change/").status_code == 302
    assert not Reading.objects.exists()


def test_without_news_the_page_says_so(operator: Client) -> None:
    page = text_of(operator.get(NEWS))
    assert "There is no news." in page
    assert "read-all" not in page
    tell()
    assert "There is no news." not in text_of(operator.get(NEWS))
    filtered = text_of(operator.get(f"{NEWS}?problems=open"))
    assert "There is no news." not in filtered
    assert "Nothing fits" in filtered


def test_open_problems_are_marked_and_found(operator: Client) -> None:
    for name in ("Открытая", "Закрытая"):
        services.raise_problem(
            name, "test_fell", needs="accounts.read", params={"name": name, "reason": "x"}, path="/admin/"
        )
    tell("Просто новость")
    services.solve_problems(["Закрытая"])
    assert text_of(operator.get(NEWS)).lower().count("still open") == 1
    found = operator.get(f"{NEWS}?problems=open")
    assert [row.params["name"] for row in found.context["cl"].result_list] == ["Открытая"]


def test_the_list_costs_the_same_however_long_it_is(operator: Client) -> None:
    costs = []
    for numbers in (range(1), range(1, 40)):
        for number in numbers:
            services.raise_problem(str(number), "test_fell", needs="accounts.read")
        operator.get(NEWS)
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(NEWS).status_code == 200
        costs.append(len(queries))
    assert costs[0] == costs[1]


# Reading


def test_what_is_not_read_is_marked_and_counted_until_it_is(operator: Client) -> None:
    assert badge(operator) is None
    first, _second, _hidden = tell(), tell(), tell(needs="accounts.manage")
    assert text_of(operator.get(NEWS)).count("data-unread") == 2
    assert badge(operator) == badge(operator, NEWS) == "2"
    answer = operator.post(NEWS, {"action": "mark_as_read", "_selected_action": [first.pk]}, follow=True)
    assert "1 notification is now read." in text_of(answer)
    assert text_of(answer).count("data-unread") == 1
    assert badge(operator) == "1"
    found = operator.get(f"{NEWS}?unread=yes").context["cl"].result_list
    assert first.pk not in {row.pk for row in found}


def test_a_badge_has_room_for_two_digits(operator: Client) -> None:
    Notification.objects.bulk_create(Notification(kind="test_fell", needs="accounts.read") for _ in range(100))
    assert badge(operator) == "99+"


def test_the_badge_costs_one_query_for_the_news(operator: Client) -> None:
    tell()
    with CaptureQueriesContext(connection) as queries:
        operator.get("/admin/avito_accounts/account/")  # the first page shows the news themselves, too
    assert sum("notifications_notification" in query["sql"] for query in queries) == 1


def test_a_button_marks_all_as_read(operator: Client) -> None:
    tell(), tell(), tell(needs="accounts.manage")
    assert f'action="{NEWS}read-all/"' in text_of(operator.get(NEWS))
    answer = operator.post(f"{NEWS}read-all/", follow=True)
    assert "2 notifications are now read." in text_of(answer)
    assert "data-unread" not in text_of(answer)
    assert "read-all" not in text_of(answer)
    assert badge(operator) is None
    assert Reading.objects.count() == 2


def test_reading_needs_a_post_and_a_token_against_forgery(operator: Client) -> None:
    row = tell()
    assert operator.get(f"{NEWS}read-all/").status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="operator"), backend="django.contrib.auth.backends.ModelBackend")
    assert strict.post(f"{NEWS}read-all/").status_code == 403
    assert strict.post(NEWS, {"action": "mark_as_read", "_selected_action": [row.pk]}).status_code == 403
    assert Client().post(f"{NEWS}read-all/").status_code == 302
    assert not Reading.objects.exists()


def test_nobody_marks_what_they_may_not_see(operator: Client) -> None:
    hidden = tell(needs="accounts.manage")
    operator.post(NEWS, {"action": "mark_as_read", "_selected_action": [hidden.pk]})
    assert not Reading.objects.exists()


# Nothing else


@pytest.mark.parametrize("superuser", [True, False])
def test_news_can_be_neither_added_nor_changed_nor_deleted(superuser: bool) -> None:
    client, row = signed_in("root", "admin", is_superuser=superuser), tell()
    for answer in (
        client.get(f"{NEWS}add/"),
        client.post(f"{NEWS}add/", {"kind": "x"}),
        client.post(f"{NEWS}{row.pk}/change/", {"kind": "x", "level": "info"}),
        client.get(f"{NEWS}{row.pk}/delete/"),
        client.post(f"{NEWS}{row.pk}/delete/", {"post": "yes"}),
    ):
        assert answer.status_code == 403
    client.post(NEWS, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert [stored.kind for stored in Notification.objects.all()] == ["test_fell"]
