"""The measuring process of `chats`. Times are the database's. Prints; ends with 1 for a page with wrong rows."""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import QuerySet  # noqa: E402
from django.test import Client  # noqa: E402
from rest_framework_simplejwt.tokens import AccessToken  # noqa: E402

from api.pages import KeysetPages  # noqa: E402
from avito_accounts.models import Account  # noqa: E402
from bench import rule  # noqa: E402
from bench.chats_seed import COMMON, RARE, SELDOM, Special, seed  # noqa: E402
from chats.models import Chat, Message  # noqa: E402
from chats.search import Words  # noqa: E402

LIMIT = 51
FILTERS: list[dict[str, Any]] = [
    *({}, {"status": "active"}, {"status": "archived"}, {"status": "closed,archived"}, {"status": "active,archived"}),
    *({"accountId": 1}, {"unread": "true"}, {"unread": "false"}, {"assignee": "none"}, {"assignee": 1}),
    *({"tag": "vip"}, {"tag": "перезвонить"}, {"tag": "архив"}, {"city": "москва"}, {"city": "уфа"}),
    *({"phone": "8 900 123-45-67"}, {"phone": "4567"}, {"phone": "8 912"}, {"updatedAfter": "2025-06-01T00:00:00Z"}),
    *({"ordering": "lastMessageAt"}, {"ordering": "-updatedAt"}, {"ordering": "createdAt"}),
    {"accountId": 1, "status": "active,closed", "city": "москва", "unread": "true", "assignee": "none"},
]
SEARCHES = (RARE, SELDOM, COMMON, "таунхаус", "Мария Иванов", "нет такого слова")


def milliseconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000


def compare(title: str, baseline: Callable[[], object], ours: Callable[[], object], rounds: int) -> float:
    """Print and return how many times faster ours is than the baseline: the median of the rounds."""
    sides, measured = {"baseline": baseline, "ours": ours}, []
    for _warm in range(2):
        ours()
    for index in range(rounds):
        took = {side: min(milliseconds(sides[side]) for _each in range(3)) for side in rule.order(index)}
        measured.append(rule.Round(1000 / took["baseline"], 1000 / took["ours"]))
    base, own = (1000 / median(getattr(one, side) for one in measured) for side in ("baseline", "ours"))
    print(f"  {title:<52} {base:>10.2f} ms {own:>9.2f} ms   {rule.summary(measured)}", flush=True)
    return median(one.ratio for one in measured)


def judged(is_reached: bool, goal: str) -> None:
    print(f"    {'REACHED' if is_reached else 'MISSED'}: the goal is {goal}")


class Asking:
    """An operator's requests, and the database's time in each."""

    def __init__(self) -> None:
        user = User.objects.create(username="bench", is_superuser=True)
        self.client = Client(headers={"Authorization": f"Bearer {AccessToken.for_user(user)}"})
        self.took = 0.0

    def list(self, **query: Any) -> float:
        """Milliseconds that the database took for a page."""
        self.took = 0.0
        with connection.execute_wrapper(self._note):
            answer = self.client.get("/api/v1/avito/chats", query)
        assert answer.status_code == 200, answer.content
        return self.took

    def _note(self, execute: Any, *details: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(*details)
        finally:
            self.took += (time.perf_counter() - begun) * 1000


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(len(values) * 0.95) - 1)]


def pages(depth: int, rounds: int) -> bool:
    print("\nMessages of one chat: the page behind a cursor, and by OFFSET")
    chat = Chat.objects.get(pk=Special.DEEP)
    depth = min(depth, chat.messages_count - LIMIT - 1)
    keyset, messages = KeysetPages(), chat.messages.values_list("id", "text", "created_at")
    newest = keyset.ordered(messages, None, backwards=False)
    edge_id, _text, edge_at = newest[depth - 1]
    position = [edge_at, edge_id]

    def first() -> list[Any]:
        return list(newest[:LIMIT])

    def deep() -> list[Any]:
        return list(keyset.ordered(messages, position, backwards=False)[:LIMIT])

    def offset() -> list[Any]:
        return list(newest[depth : depth + LIMIT])

    ratio = compare(f"OFFSET {depth:,} / cursor at that depth", offset, deep, rounds)
    judged(ratio >= 200, "200x")
    ratio = compare("first page / page at that depth", first, deep, rounds)
    times = [milliseconds(deep) for _each in range(100)]
    judged(ratio >= 0.5 and p95(times) <= 5, f"0.5x, and p95 of 5 ms; p95 is {p95(times):.2f} ms")
    idle, busy = (
        keyset.ordered(Message.objects.filter(chat=pk).values_list("id", "text"), None, backwards=False)[:LIMIT]
        for pk in (Special.IDLE, Special.BUSY)
    )
    ratio = compare(
        "first page of a busy chat / of an idle one", lambda: list(busy.all()), lambda: list(idle.all()), rounds
    )
    judged(ratio >= 0.5, "0.5x")
    return deep() == offset()


def filters(asking: Asking, times: int) -> None:
    print("\nFirst pages of the list of chats, milliseconds in the database")
    first = {"accountId": Account.objects.earliest("pk").pk, "assignee": User.objects.earliest("pk").pk}
    slow = 0
    for query in FILTERS:
        query = {name: first.get(name) if value == 1 else value for name, value in query.items()}
        asking.list(**query)
        took = [asking.list(**query) for _each in range(times)]
        slow += p95(took) > 20
        shown = json.dumps(query, ensure_ascii=False)
        print(f"  {shown:<100} median {median(took):>7.1f}   p95 {p95(took):>7.1f}", flush=True)
    judged(not slow, f"p95 of 20 ms for each filter; {slow} of {len(FILTERS)} take longer")


def search(asking: Asking, rounds: int, times: int) -> None:
    print("\nSearch in names, titles and messages: all that have the word in order, without an index; and ours")
    for word in SEARCHES:
        plain = Words(word, rare_in_messages=True, rare_in_chats=True).among(
            Chat.objects.order_by("-activity_at", "-id")
        )

        def without(plain: QuerySet[Chat] = plain) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET enable_bitmapscan = off")
                list(plain[:LIMIT])
                cursor.execute("SET enable_bitmapscan = on")

        asking.list(search=word)
        took = [asking.list(search=word) for _each in range(times)]
        base = min(milliseconds(without) for _each in range(min(rounds, 2)))
        print(
            f"  {word:<30} {base:>10.1f} ms   median {median(took):>7.1f}   p95 {p95(took):>7.1f} ms   "
            f"{base / median(took):.0f}x",
            flush=True,
        )
        if word in (RARE, COMMON):
            least = 10 if word == RARE else 150
            judged(
                p95(took) <= least and (word != RARE or base / median(took) >= 50),
                f"p95 of {least} ms, of a rare word 50x",
            )


def ingest(rounds: int, rows: int) -> None:
    print("\nStoring messages, by bare SQL: without the search index, and with it")
    with connection.cursor() as cursor:
        for name in ("bench_without", "bench_with"):
            cursor.execute(f"CREATE TABLE {name} (LIKE chats_message INCLUDING ALL)")
            cursor.execute(f"INSERT INTO {name} SELECT * FROM chats_message ORDER BY id LIMIT {rows * 10}")
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'bench_without' AND indexdef LIKE '%gin%'")
        for (index,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX {index}")
        cursor.execute("SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attrelid = 'chats_message'::regclass "
                       "AND attnum > 0 AND attname <> 'id'")  # fmt: skip
        columns = cursor.fetchone()[0]
        stored = {"bench_without": rows * 10, "bench_with": rows * 10}

        def store(name: str, batch: int) -> None:
            for _commit in range(rows // 10 // batch if batch == 1 else rows // batch):
                cursor.execute(
                    f"INSERT INTO {name} (id, {columns}) SELECT id, {columns} FROM chats_message "
                    "WHERE id > %s ORDER BY id LIMIT %s",
                    [stored[name], batch],
                )
                stored[name] += batch

        for batch, title in ((1, "one to a commit, as they arrive"), (100, "a hundred to a commit")):
            ratio = compare(title, partial(store, "bench_without", batch), partial(store, "bench_with", batch), rounds)
            if batch == 1:
                judged(ratio >= 0.5, "0.5x")
        cursor.execute("DROP TABLE bench_without, bench_with")


def main(options: dict[str, int]) -> int:
    begun = time.monotonic()
    seed(chats=options["chats"], messages=options["messages"], large=options["large"])
    print(f"{options['chats']:,} chats and {options['messages']:,} messages, made in {time.monotonic() - begun:.0f} s")
    asking = Asking()
    good = pages(options["depth"], options["rounds"])
    filters(asking, options["times"])
    search(asking, options["rounds"], options["times"])
    ingest(options["rounds"], max(100, min(5_000, options["messages"] // 1000 * 5)))
    print("\nAs promised." if good else "\nBROKEN: a page behind a cursor has other rows than the same page by OFFSET.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
