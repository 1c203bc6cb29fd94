"""Troubles are told of once when they begin and once when they are over, and old news is forgotten."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

import notifications
from notifications import services, tasks
from notifications.models import Notification, Problem, Reading
from tests.factories import make_user

pytestmark = pytest.mark.django_db
KEY = "proxy:5"


def fell(key: str = KEY, **details: Any) -> bool:
    return services.raise_problem(key, "test_fell", **{"needs": "accounts.read", **details})


def returned(key: str = KEY) -> bool:
    return services.solve_problem(key, "test_returned", needs="accounts.read")


def told() -> list[str]:
    return list(Notification.objects.order_by("id").values_list("kind", flat=True))


def all_at_once(count: int, work: Callable[[], Any]) -> list[Any]:
    start = threading.Barrier(count)

    def run(_number: int) -> Any:
        try:
            start.wait()
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def of_long_ago(**days: int) -> None:
    for kind, age in days.items():
        Notification.objects.filter(kind=kind).update(created_at=timezone.now() - timedelta(days=age))


# Problems


def test_a_problem_is_told_once_and_its_end_once() -> None:
    assert not returned()
    assert [fell(), fell(), fell()] == [True, False, False]
    assert told() == ["test_fell"]
    assert [returned(), returned()] == [True, False]
    assert told() == ["test_fell", "test_returned"]
    assert fell()
    assert told() == ["test_fell", "test_returned", "test_fell"]
    assert Problem.objects.filter(solved_at=None).count() == 1


def test_a_problem_knows_what_was_told_and_since_when() -> None:
    fell(params={"name": "Анна"}, path="/admin/")
    problem = Problem.objects.select_related("notification").get()
    assert problem.notification is not None
    assert (problem.notification.kind, problem.notification.params) == ("test_fell", {"name": "Анна"})
    assert (problem.notification.level, problem.notification.path) == ("error", "/admin/")
    assert problem.since <= problem.notification.created_at


def test_problems_of_other_keys_are_other_problems() -> None:
    assert fell("proxy:5")
    assert fell("proxy:6")
    assert returned("proxy:6")
    assert [problem.key for problem in Problem.objects.filter(solved_at=None)] == ["proxy:5"]


def test_what_is_told_already_costs_one_query(django_assert_num_queries: Callable[[int], Any]) -> None:
    with django_assert_num_queries(1):
        assert not returned()
    fell()
    with django_assert_num_queries(1):
        assert not fell()


def test_a_problem_whose_subject_is_gone_closes_without_a_word() -> None:
    fell("a"), fell("b"), fell("c")
    assert services.solve_problems(["a", "b", "never"]) == 2
    assert services.solve_problems(["a"]) == services.solve_problems([]) == 0
    assert told() == ["test_fell"] * 3
    assert not returned("a")
    assert returned("c")


def test_a_change_that_fails_takes_the_news_of_it_back() -> None:
    def change() -> None:
        with transaction.atomic():
            fell()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert (told(), Problem.objects.count()) == ([], 0)
    assert fell()


@pytest.mark.django_db(transaction=True)
def test_of_twenty_who_raise_a_problem_at_once_one_tells() -> None:
    for _ in range(5):
        assert sorted(all_at_once(20, fell)) == [False] * 19 + [True]
        assert sorted(all_at_once(20, returned)) == [False] * 19 + [True]
    assert told() == ["test_fell", "test_returned"] * 5
    assert not Problem.objects.filter(notification=None).exists()


@pytest.mark.django_db(transaction=True)
def test_raised_and_solved_in_a_muddle_each_beginning_has_at_most_one_end() -> None:
    turns = iter([fell, returned] * 100)
    outcomes = all_at_once(10, lambda: [(work, work()) for work in [next(turns) for _ in range(10)]])
    began = sum(done for row in outcomes for work, done in row if work is fell)
    ended = sum(done for row in outcomes for work, done in row if work is returned)
    assert (told().count("test_fell"), told().count("test_returned")) == (began, ended)
    assert Problem.objects.filter(solved_at=None).count() == began - ended
    assert began - ended in {0, 1}


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_another_that_gives_up_tells_instead() -> None:
    def wait_and_tell() -> bool:
        try:
            return fell()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert fell()
            other = pool.submit(wait_and_tell)
            transaction.set_rollback(True)
        assert other.result()
    assert told() == ["test_fell"]


@pytest.mark.django_db(transaction=True)
def test_what_is_marked_as_read_by_many_hands_at_once_is_counted_once() -> None:
    user = make_user("colleague", "operator")
    for _ in range(30):
        services.tell("test_fell", needs="accounts.read")
    counts = all_at_once(8, lambda: services.mark_read(Notification.objects.visible_to(user), user=user))
    assert (sum(counts), Reading.objects.count()) == (30, 30)


# What may be told


@pytest.mark.parametrize("path", ["https://example.com/", "//example.com/", "javascript:alert(1)", "/\\example.com"])
def test_news_leads_nowhere_but_into_the_back_office(path: str) -> None:
    with pytest.raises(ValueError, match="back office"):
        services.tell("test_fell", needs="accounts.read", path=path)
    assert not Notification.objects.exists()


def test_news_is_for_somebody() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        services.tell("test_fell", needs="")


def test_a_kind_has_its_words_once() -> None:
    with pytest.raises(ValueError, match="test_fell"):
        notifications.register("test_fell", title="other")


# Forgetting


def test_news_is_kept_for_ninety_days_and_that_of_an_open_problem_until_it_is_solved() -> None:
    user = make_user("colleague", "operator")
    for kind in ("test_old", "test_young"):
        services.tell(kind, needs="accounts.read")
    services.raise_problem("a", "test_open", needs="accounts.read")
    services.raise_problem("b", "test_solved", needs="accounts.read")
    services.solve_problems(["b"])
    services.mark_read(Notification.objects.visible_to(user), user=user)
    of_long_ago(test_old=91, test_young=89, test_open=400, test_solved=91)
    for _ in range(2):
        tasks.forget_old()
        assert set(told()) == {"test_young", "test_open"}
        assert [problem.key for problem in Problem.objects.all()] == ["a"]
        assert Reading.objects.count() == 2
    services.solve_problems(["a"])
    tasks.forget_old()
    assert told() == ["test_young"]
    assert User.objects.count() == 1


def test_old_news_is_forgotten_however_much_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "BATCH", 2)
    for _ in range(5):
        services.tell("test_old", needs="accounts.read")
    of_long_ago(test_old=91)
    assert services.forget_old() == 5
    assert told() == []


@pytest.mark.django_db(transaction=True)
def test_news_that_is_forgotten_while_it_is_read_harms_nobody() -> None:
    user = make_user("colleague", "operator")
    for _ in range(50):
        services.tell("test_old", needs="accounts.read")
    of_long_ago(test_old=91)
    turns: Iterator[Callable[[], Any]] = iter(
        [tasks.forget_old, lambda: services.mark_read(Notification.objects.all(), user=user)] * 4
    )
    all_at_once(8, lambda: next(turns)())
    assert (Notification.objects.count(), Reading.objects.count()) == (0, 0)
