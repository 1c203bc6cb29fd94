"""The state of the system, as the person in charge sees it."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

import doorbell
from avito_accounts.models import Job
from chats.models import WebhookEvent
from config import routines
from config.celery import DatabaseSweep, beat_heart
from config.models import Process, Routine
from notifications import tasks as news_tasks
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_message, make_proxy, make_user
from tests.sandbox.driver import wait_for

PAGE = "/admin/system/"
PERIODIC = "/admin/django_celery_beat/periodictask/"
QUERIES_MAX = 15
"""Seven of the page itself, the others for the session, the person and the frame."""
pytestmark = pytest.mark.django_db


def in_charge(language: str = "en") -> Client:
    client = Client(headers={"accept-language": language})
    client.force_login(make_user("boss", "admin", is_staff=True), backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def boss() -> Client:
    return in_charge()


def open_page(client: Client, query: str = "") -> str:
    answer = client.get(PAGE + query)
    assert answer.status_code == 200
    return answer.content.decode()


def problems_of(page: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", one).strip() for one in re.findall(r"data-problem>(.*?)</p>", page, re.DOTALL)]


def part_of(page: str, routine: str) -> str:
    """What the page tells of one routine, as text."""
    found = re.search(rf'data-routine="{re.escape(routine)}">(.*?)</li>', page, re.DOTALL)
    assert found, routine
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def make_process(kind: str, pid: int, *, silent: timedelta = timedelta(0)) -> Process:
    now = timezone.now()
    return Process.objects.create(
        kind=kind, host="box", pid=pid, started_at=now - timedelta(hours=1) - silent, beat_at=now - silent
    )


def make_routine(name: str, *, ago: timedelta = timedelta(0), **fields: Any) -> Routine:
    at = timezone.now() - ago
    return Routine.objects.create(**{"name": name, "started_at": at, "ended_at": at, "seconds": 0.02, **fields})


def all_is_well(settings: LazySettings) -> None:
    make_process("worker", 1)
    make_process("beat", 2)
    for name in {*settings.DATABASE_SWEEPS, *(entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values())}:
        make_routine(name)


# Who lives


@pytest.mark.usefixtures("product")
def test_an_installation_that_lives_says_so(boss: Client, settings: LazySettings) -> None:
    all_is_well(settings)
    page = open_page(boss)
    assert "The service is running." in page
    assert "data-problem" not in page
    assert page.count('data-process="') == 2
    assert page.count("data-routine=") == len(settings.CELERY_BEAT_SCHEDULE) + len({*settings.DATABASE_SWEEPS})
    assert "Not a part of this service" not in page  # each has words of its own


def test_without_processes_it_says_what_to_start(boss: Client) -> None:
    page = open_page(boss)
    assert [one.split(":")[0] for one in problems_of(page) if "alive" in one] == [
        "No worker is alive",
        "Beat is not alive",
    ]
    assert "No process has been heard of within a day" in page


def test_a_silent_worker_beside_one_that_lives_is_marked_and_no_alarm(boss: Client) -> None:
    make_process("worker", 1)
    make_process("worker", 2, silent=timedelta(minutes=5))
    make_process("beat", 3)
    page = open_page(boss)
    rows = re.findall(r'data-process="worker">(.*?)</tr>', page, re.DOTALL)
    assert ["silent" in row for row in rows] == [False, True]
    assert not [one for one in problems_of(page) if "alive" in one]
    assert "data-remark" not in page


def test_two_beats_are_told_of_with_what_it_means(boss: Client) -> None:
    make_process("beat", 1)
    make_process("beat", 2, silent=timedelta(minutes=1))
    assert "data-remark" not in open_page(boss)
    make_process("beat", 3)
    page = open_page(boss)
    assert "Several beats are alive" in page
    assert "the second time finds nothing to do" in page


def test_whoever_beats_forgets_those_silent_for_a_day() -> None:
    make_process("worker", 1, silent=timedelta(hours=25))
    make_process("worker", 2, silent=timedelta(hours=23))
    beat_heart("worker")
    beat_heart("worker")
    assert Process.objects.filter(host="box").get().pid == 2
    assert Process.objects.exclude(host="box").count() == 1


# What is done by itself


@pytest.fixture
def worker(transactional_db: None, settings: LazySettings) -> Iterator[DatabaseSweep]:
    """What each worker does beside its tasks, in this process."""
    settings.DATABASE_SWEEPS = ["tests.config.test_system.sweep_that_fails", "notifications.tasks.sweep_events"]
    settings.DATABASE_SWEEP_SECONDS = 0.05
    sweep = DatabaseSweep(None)
    sweep.start(None)
    yield sweep
    sweep.stop(None)
    doorbell.stopping.clear()


def sweep_that_fails() -> None:
    raise ValueError("the password is 1234")


def test_a_worker_tells_how_its_work_goes_and_goes_without_a_trace(worker: DatabaseSweep) -> None:
    news_tasks.forget_old.apply()
    wait_for(lambda: Routine.objects.filter(name__endswith="sweep_that_fails").exists())
    [process] = Process.objects.alive()
    assert process.kind == "worker"
    worker.stop(None)
    assert not Process.objects.exists()
    by_name = {row.name: row for row in Routine.objects.all()}
    failed = by_name["tests.config.test_system.sweep_that_fails"]
    assert failed.is_failing
    assert re.fullmatch(r"ValueError tests/config/test_system\.py:\d+", failed.error)
    done = by_name["notifications.tasks.forget_old"]
    assert done.ended_at is not None
    assert not done.failed_at
    assert not by_name["notifications.tasks.sweep_events"].is_failing


def test_a_task_that_failed_stands_there_with_its_cause(boss: Client, settings: LazySettings) -> None:
    all_is_well(settings)
    now = timezone.now()
    failed = {"failed_at": now, "ended_at": now, "error": "OperationalError chats/sync.py:12"}
    Routine.objects.filter(name="notifications.tasks.forget_old").update(**failed)
    page = open_page(boss)
    [told] = [one for one in problems_of(page) if "notifications" in one]
    assert "failed the last time. PostgreSQL was away" in told
    assert "chats/sync.py:12" in part_of(page, "notifications.tasks.forget_old")
    Routine.objects.filter(name="notifications.tasks.forget_old").update(ended_at=now + timedelta(seconds=1))
    page = open_page(boss)
    assert not [one for one in problems_of(page) if "failed the last time" in one]
    assert "Last failure" in part_of(page, "notifications.tasks.forget_old")


def test_late_ones_are_named_but_not_those_that_are_off_or_under_way(boss: Client, settings: LazySettings) -> None:
    all_is_well(settings)
    every = IntervalSchedule.objects.create(every=1, period="minutes")
    task = PeriodicTask.objects.create(
        name="queue-checks", task="avito_accounts.tasks.queue_checks", interval=every, last_run_at=timezone.now()
    )
    long_ago = timezone.now() - timedelta(minutes=10)
    for name in ("avito_accounts.tasks.queue_checks", "chats.tasks.sweep_chats"):
        Routine.objects.filter(name=name).update(started_at=long_ago, ended_at=long_ago)
    busy = Routine.objects.filter(name="avito_accounts.tasks.work_jobs")
    busy.update(started_at=long_ago, ended_at=long_ago - timedelta(minutes=1))
    [late] = [one for one in problems_of(open_page(boss)) if one.startswith("Late:")]
    assert late.startswith("Late: Check of connections, Reading of chats.")
    PeriodicTask.objects.filter(pk=task.pk).update(enabled=False)
    page = open_page(boss)
    assert "Late: Reading of chats." in page
    assert "disabled" in part_of(page, "avito_accounts.tasks.queue_checks")
    assert f"{PERIODIC}{task.pk}/change/" in page
    assert "under way" in part_of(page, "avito_accounts.tasks.work_jobs")
    anew = timezone.now() - timedelta(minutes=3)  # another one: the old one died over it
    Process.objects.filter(kind="worker").update(started_at=anew)
    assert "late" in part_of(open_page(boss), "avito_accounts.tasks.work_jobs")


def test_what_came_due_while_all_was_switched_off_is_not_late_the_moment_it_starts(
    boss: Client, settings: LazySettings
) -> None:
    all_is_well(settings)
    Routine.objects.update(started_at=timezone.now() - timedelta(hours=9))
    Process.objects.update(started_at=timezone.now())
    assert not [one for one in problems_of(open_page(boss)) if one.startswith("Late:")]


def test_what_was_never_run_says_so_and_when_it_is_due(boss: Client) -> None:
    make_process("beat", 1)
    told = part_of(open_page(boss), "notifications.tasks.forget_old")
    assert "has not run yet" in told
    assert "every 6 h" in told
    assert "Next run" in told


@pytest.mark.usefixtures("product")
def test_run_now_rings_for_a_task_of_the_schedule_and_no_other(boss: Client, settings: LazySettings) -> None:
    assert boss.get(f"{PAGE}run/").status_code == 405
    assert boss.post(f"{PAGE}run/", {"name": "chats.tasks.deliver"}).status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = boss.cookies
    assert strict.post(f"{PAGE}run/", {"name": "tidy-jobs"}).status_code == 403
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        before = broker.llen("celery")
        answer = boss.post(f"{PAGE}run/", {"name": "tidy-jobs"})
        assert answer.status_code == 302
        assert broker.llen("celery") > before
    [said] = [str(message) for message in get_messages(answer.wsgi_request)]
    assert said.startswith("“Tidying of bulk operations” is started")


# Queues


def test_a_delivery_that_cannot_be_used_leads_to_its_list(boss: Client) -> None:
    make_event("dead", digest=b"1")
    make_event("received", digest=b"2", received_at=timezone.now() - timedelta(minutes=7))
    page = open_page(boss)
    assert 'href="/admin/chats/webhookevent/?status__exact=dead"' in page
    [told] = [one for one in problems_of(page) if "Deliveries from Avito" in one]
    assert "1. Show them" in told
    assert re.search(r'class="is-bad">The oldest was due <time[^>]*>7', page)


def make_event(status: str, **fields: Any) -> WebhookEvent:
    return WebhookEvent.objects.create(status=status, **{"body": b"{}", "received_at": timezone.now(), **fields})


@pytest.mark.usefixtures("product")
def test_it_costs_the_same_queries_however_much_there_is(boss: Client) -> None:
    def fill(numbers: range) -> None:
        for number in numbers:
            account = make_account(eternal_online_enabled=True, online_due_at=timezone.now() - timedelta(hours=1))
            Job.objects.create(account=account, kind="check")
            make_message(make_chat(account), direction="outbound", delivery_status="failed")
            make_proxy(port=number + 1, status="error")
            make_event("dead", digest=b"%d" % number)
            make_process("worker", number)
            make_routine(f"foreign.{number}")

    def queries() -> int:
        open_page(boss)
        with CaptureQueriesContext(connection) as spent:
            open_page(boss)
        return len(spent)

    fill(range(2))
    few = queries()
    fill(range(2, 20))
    assert queries() == few <= QUERIES_MAX
    figures = re.findall(r"<dd>(?:<a[^>]*>)?([^<]+)", open_page(boss))
    assert figures.count("20") >= 5


# Around it


@pytest.mark.usefixtures("product")
def test_a_silent_redis_is_told_of_and_breaks_nothing(boss: Client, settings: LazySettings) -> None:
    all_is_well(settings)
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    settings.AVITO_API_BASE_URL = "http://127.0.0.1:9"
    [silent, avito] = problems_of(open_page(boss))
    assert silent.startswith("Redis does not answer. Nothing is lost")
    assert avito.startswith("Avito cannot be reached at 127.0.0.1:9")


def test_only_those_in_charge_may_look(product: str, colleague: Api) -> None:
    operator = Client()
    operator.force_login(make_user("desk", "operator", is_staff=True))
    for path in (PAGE, PERIODIC):
        assert operator.get(path).status_code == 403
        assert Client().get(path).status_code == 302
    assert operator.post(f"{PAGE}run/", {"name": "tidy-jobs"}).status_code == 403
    assert PAGE not in operator.get("/admin/").content.decode()


def test_the_part_that_refreshes_is_the_part_of_the_page(boss: Client) -> None:
    page, part = open_page(boss), open_page(boss, "?part")
    assert "<html" not in part
    parts = re.findall(r'data-live id="([\w-]+)"', part)
    assert parts == re.findall(r'data-live id="([\w-]+)"', page)
    assert {"verdict", "processes", "queues", "by-the-clock", "all-the-time"} <= {*parts}
    assert f'href="{PAGE}"' in open_page(boss)  # in the sidebar
    assert PAGE in boss.get("/admin/").content.decode()


def test_periodic_tasks_speak_of_themselves_and_are_switched() -> None:
    boss = in_charge("ru")
    every = IntervalSchedule.objects.create(every=6, period="hours")
    tasks = [
        PeriodicTask.objects.create(name=name, task=task, interval=every)
        for name, task in (("forget-old-rent", "integrations_str.tasks.forget_old"), ("mine", "somewhere.else"))
    ]
    make_routine(tasks[0].task, failed_at=timezone.now() + timedelta(seconds=1), error="KeyError chats/desk.py:1")
    page = boss.get(PERIODIC).content.decode()
    assert "Уборка посуточной аренды" in page
    assert "каждые 6 ч" in page
    form = boss.get(f"{PERIODIC}{tasks[0].pk}/change/").content.decode()
    assert "KeyError chats/desk.py:1" in form
    assert boss.post(f"{PERIODIC}{tasks[0].pk}/change/", {}).status_code == 302
    assert not PeriodicTask.objects.get(pk=tasks[0].pk).enabled
    boss.post(PERIODIC, {"action": "switch_on", "_selected_action": [tasks[0].pk]})
    assert PeriodicTask.objects.get(pk=tasks[0].pk).enabled
    assert boss.post(f"{PERIODIC}{tasks[0].pk}/delete/", {"post": "yes"}).status_code == 403  # it would come back
    assert boss.post(f"{PERIODIC}{tasks[1].pk}/delete/", {"post": "yes"}).status_code == 302
    assert boss.get(f"{PERIODIC}add/").status_code == 403


def test_every_entry_of_the_code_has_its_words(settings: LazySettings) -> None:
    done = {*settings.DATABASE_SWEEPS, *(entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values())}
    assert done <= {*routines.WORDS}
