"""Twenty thousand chats: every filter is answered by an index, in a fixed number of queries.

The rows are those of `python -m bench chats`, which measures the same at a million chats.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import DjangoDbBlocker
from rest_framework_simplejwt.tokens import AccessToken

from avito_accounts.models import Account
from bench.chats_seed import COMMON, RARE, SELDOM, Special, seed
from chats.models import Chat
from tests.factories import make_user

CHATS = "/api/v1/avito/chats"
# Rare and common values of each filter, and values that all lie where the list ends.
FILTERS: list[dict[str, Any]] = [
    *({}, {"status": "active"}, {"status": "closed,archived"}, {"status": "active,archived"}, {"accountId": "first"}),
    *({"unread": "true"}, {"unread": "false"}, {"assignee": "none"}, {"assignee": "me"}, {"assignee": "first"}),
    *({"tag": "vip"}, {"tag": "перезвонить"}, {"tag": "нет такого"}, {"city": "москва"}, {"city": "нет такого"}),
    *({"phone": "8 900 123-45-67"}, {"phone": "4567"}, {"phone": "8 900"}, {"updatedAfter": "2025-01-02T00:00:00Z"}),
    *({"updatedAfter": "2030-01-01T00:00:00Z"}, {"ordering": "lastMessageAt"}, {"ordering": "-updatedAt"}),
    *({"ordering": "createdAt"}, {"search": RARE}, {"search": SELDOM}, {"search": COMMON}, {"search": "!!!"}),
    *({"search": "фёдор 77"}, {"search": "таунхаус, 42"}, {"search": COMMON, "status": "archived", "unread": "true"}),
    {"search": RARE, "accountId": "first", "city": "москва", "status": "active,closed", "assignee": "none"},
]
pytestmark = pytest.mark.django_db


class Desk:
    """Somebody at a desk, and what PostgreSQL is asked meanwhile."""

    def __init__(self) -> None:
        token = AccessToken.for_user(make_user("operator", "operator"))
        self.client = Client(headers={"Authorization": f"Bearer {token}"})
        self.queries: list[tuple[str, Any]] = []
        self.first = {"accountId": Account.objects.first().pk, "assignee": User.objects.first().pk}  # type: ignore[union-attr]

    def get(self, path: str = CHATS, **query: Any) -> Any:
        self.queries.clear()
        query = {name: self.first[name] if value == "first" else value for name, value in query.items()}
        with connection.execute_wrapper(self._note):
            answer = self.client.get(path, query)
        assert answer.status_code == 200, answer.content
        return answer.json()

    def plans(self) -> str:
        """How PostgreSQL answers what it was asked."""
        rows = []
        with connection.cursor() as cursor:
            for sql, values in self.queries:
                if re.search('FROM "chats_', sql) and not sql.startswith("EXPLAIN"):
                    cursor.execute(f"EXPLAIN {sql}", values)
                    rows += [row for (row,) in cursor.fetchall()]
        return "\n".join(rows)

    def _note(self, execute: Any, sql: str, values: Any, *rest: Any) -> Any:
        self.queries.append((sql, values))
        return execute(sql, values, *rest)


@pytest.fixture(scope="module")
def desk(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Desk]:
    with django_db_blocker.unblock():
        seed(chats=20_000, messages=100_000, large=2_000)
        yield Desk()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE chats_chat, avito_accounts_account, auth_user CASCADE")


def test_every_filter_is_answered_by_an_index_in_five_queries(desk: Desk, subtests: pytest.Subtests) -> None:
    for query in FILTERS:
        with subtests.test(str(query)):
            page = desk.get(**query)
            assert len(desk.queries) <= 5
            plans = desk.plans()
            assert "Seq Scan on chats_" not in plans, plans
            if page["next"]:
                desk.get(page["next"])
                assert "Seq Scan on chats_" not in desk.plans()


def test_first_page_of_a_chat_is_found_in_one_way_whatever_its_size_and_age(desk: Desk) -> None:
    oldest, middle, newest = 5, 10_000, 19_990
    plans = set()
    for chat in Chat.objects.filter(pk__in=[*Special, oldest, middle, newest]):
        page = desk.get(f"{CHATS}/{chat.avito_id}/messages")
        assert len(page["results"]) == min(50, chat.messages_count)
        plan = desk.plans().rpartition("Limit")[2]
        assert "Index Scan using message_newest_of_chat" in plan, plan
        assert "Sort" not in plan
        plans.add(re.sub(r"\(.*?\)|'.*?'|\d+", "", plan))
    assert len(plans) == 1


def test_search_finds_every_chat_that_has_the_word_whichever_way_it_goes(desk: Desk) -> None:
    for word in (RARE, SELDOM, COMMON):
        expected = set(Chat.objects.filter(messages__text__icontains=word).values_list("pk", flat=True))
        found: list[int] = []
        page = desk.get(search=word.upper(), limit=200)
        while page:
            found += [chat["id"] for chat in page["results"]]
            page = desk.get(page["next"]) if page["next"] else None
        assert len(found) == len(set(found))
        assert set(found) == expected
