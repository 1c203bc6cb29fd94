"""Work on many accounts: queued once, done by lanes, watched by people, not lost with a worker."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from avito_accounts import jobs, limits, tasks
from avito_accounts.models import Account, Authorization, Job, Run
from tests.conftest import Api
from tests.factories import make_account, make_proxy
from tests.sandbox.driver import Sandbox, wait_for

ACCOUNTS = "/api/v1/accounts"


def sellers(sandbox: Sandbox, count: int, kind: str = "") -> list[Account]:
    """Accounts with keys of their own, each of another seller."""
    made = []
    for number in range(count):
        keys = {"clientId": f"id-{kind}{number}", "clientSecret": f"secret-{number}"}
        sandbox.control("POST", "/sellers", name=f"Продавец {number}", **keys)
        made.append(make_account(client_id=keys["clientId"], client_secret=keys["clientSecret"], avito_user_id=None))
    return made


def lanes(count: int) -> None:
    def lane(_number: int) -> None:
        tasks.work_jobs()
        connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lane, range(count)))


def run(api: Api, number: int | None = None) -> Any:
    return api.get(f"{ACCOUNTS}/runs").json()["results"][0] if number is None else api.get(f"{ACCOUNTS}/runs/{number}")


def test_all_accounts_are_checked_by_workers_and_people_watch(owner: Api, avito_sandbox: Sandbox) -> None:
    sellers(avito_sandbox, 5)
    make_account(name="Never connected")
    answer = owner.post(f"{ACCOUNTS}/check-all")
    assert (answer.status_code, answer.json()) == (202, {"queued": 6})
    begun = run(owner)
    assert (begun["kind"], begun["total"], begun["done"], begun["failed"]) == ("check", 6, 0, 0)
    assert begun["finishedAt"] is None
    lanes(3)
    ended = run(owner)
    assert (ended["total"], ended["done"], ended["failed"]) == (6, 6, 1)
    assert ended["finishedAt"] is not None
    assert owner.get(f"{ACCOUNTS}/runs/{ended['id']}").json() == ended
    statuses = [account["connectionStatus"] for account in owner.get(ACCOUNTS).json()["results"]]
    assert sorted(statuses) == ["connected"] * 5 + ["error"]


def test_figures_of_all_accounts_are_read_by_workers(owner: Api, avito_sandbox: Sandbox) -> None:
    sellers(avito_sandbox, 4)
    assert owner.post(f"{ACCOUNTS}/sync-all").json() == {"queued": 4}
    lanes(2)
    ended = run(owner)
    assert (ended["kind"], ended["done"], ended["failed"]) == ("sync", 4, 0)
    assert all(account["adsCount"] == 1 for account in owner.get(ACCOUNTS).json()["results"])
    assert list(Run.objects.values_list("started_by__username", flat=True)) == ["owner"]


def test_webhooks_of_all_accounts_are_subscribed_by_workers_also_where_a_person_has_taken_them_off(
    owner: Api, avito_sandbox: Sandbox
) -> None:
    def subscribed() -> list[bool]:
        return [bool(seller["webhooks"]) for seller in avito_sandbox.control("GET", "/sellers")[-3:]]

    _one, taken_off, other = sellers(avito_sandbox, 3)
    make_account(name="Never connected")
    webhook = "/api/v1/messenger/accounts/{}/webhook"
    owner.delete(webhook.format(taken_off.pk))
    answer = owner.post(f"{ACCOUNTS}/subscribe-all")
    assert (answer.status_code, answer.json()) == (202, {"queued": 4})
    owner.delete(webhook.format(other.pk))  # who says so later is heard
    lanes(2)
    ended = run(owner)
    assert (ended["kind"], ended["total"], ended["done"], ended["failed"]) == ("subscribe", 4, 4, 1)
    assert subscribed() == [True, True, False]
    tasks.check_webhooks()
    tasks.subscribe_webhooks()
    assert not Job.objects.filter(run=None).exists()


def test_with_no_account_there_is_nothing_to_do(owner: Api) -> None:
    assert owner.post(f"{ACCOUNTS}/check-all").json() == {"queued": 0}
    assert run(owner)["finishedAt"] is not None
    assert owner.post(f"{ACCOUNTS}/check-all").status_code == 202


def test_who_asks_again_joins_the_run_that_is_under_way(owner: Api, avito_sandbox: Sandbox) -> None:
    sellers(avito_sandbox, 3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: owner.post(f"{ACCOUNTS}/check-all").json(), range(8)))
    assert answers == [{"queued": 3}] * 8
    assert (Run.objects.count(), Job.objects.count()) == (1, 3)
    make_account()
    assert owner.post(f"{ACCOUNTS}/check-all").json() == {"queued": 4}
    assert owner.post(f"{ACCOUNTS}/sync-all").json() == {"queued": 4}  # another kind is another run
    lanes(2)
    assert Run.objects.filter(finished_at=None).count() == 0


def test_lanes_take_each_job_once(owner: Api, avito_sandbox: Sandbox) -> None:
    sellers(avito_sandbox, 12)
    owner.post(f"{ACCOUNTS}/check-all")
    lanes(6)
    asked = [call["userId"] for call in avito_sandbox.journal() if call["path"].endswith("self")]
    assert (len(asked), len(set(asked))) == (12, 12)


def test_a_job_that_nobody_watches_leaves_nothing_behind(anna: Account) -> None:
    assert jobs.queue(Job.Kind.CHECK, Account.objects.all()) == 1
    assert jobs.queue(Job.Kind.CHECK, Account.objects.all()) == 0
    lanes(1)
    assert Job.objects.count() == 0
    assert Account.objects.get(pk=anna.pk).connection_checked_at is not None


WORKER = """
import django, os, time
django.setup()
from avito_accounts import jobs
job = jobs.claim()
print(job.pk, flush=True)
time.sleep(60)
"""


def test_the_job_of_a_killed_worker_is_done_by_another(owner: Api, anna: Account, settings: LazySettings) -> None:
    owner.post(f"{ACCOUNTS}/check-all")
    database = settings.DATABASES["default"]
    place = (
        f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}&port={database['PORT'] or 5432}"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": place}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline().strip() == str(Job.objects.get().pk)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    lanes(1)
    assert Job.objects.get().finished_at is None  # its claim still holds
    Job.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    lanes(1)
    done = Job.objects.get()
    assert (done.finished_at is not None, done.deaths, done.error_code) == (True, 1, "")


def test_a_job_that_kills_its_workers_is_given_up_and_the_others_are_done(owner: Api, avito_sandbox: Sandbox) -> None:
    accounts = sellers(avito_sandbox, 3)
    owner.post(f"{ACCOUNTS}/check-all")
    poison = Job.objects.get(account=accounts[0])
    for _death in range(jobs.DEATHS_MAX):
        Job.objects.exclude(pk=poison.pk).update(due_at=timezone.now() + timedelta(hours=1))
        assert jobs.claim() == poison
        Job.objects.update(due_at=timezone.now())
        Job.objects.filter(pk=poison.pk).update(claimed_until=timezone.now() - timedelta(seconds=1))
    lanes(1)
    assert dict(Job.objects.values_list("account_id", "error_code")) == {
        accounts[0].pk: "worker_died", accounts[1].pk: "", accounts[2].pk: "",
    }  # fmt: skip


def test_a_worker_that_slept_too_long_does_not_overwrite_the_outcome(owner: Api, anna: Account) -> None:
    owner.post(f"{ACCOUNTS}/check-all")
    stale = jobs.claim()
    assert stale is not None
    Job.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    lanes(1)
    jobs._finish(stale, "error")
    assert Job.objects.get().error_code == ""


def test_a_pause_that_avito_asks_for_puts_the_job_off(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    owner.post(f"{ACCOUNTS}/check-all")
    avito_sandbox.fault("429", "self$", seconds=200)
    lanes(1)
    job = Job.objects.get()
    assert (job.finished_at, job.claimed_until) == (None, None)
    assert job.due_at > timezone.now() + timedelta(seconds=100)
    avito_sandbox.control("DELETE", "/faults")
    limits.reset()
    Job.objects.update(due_at=timezone.now())
    lanes(1)
    assert Job.objects.get().error_code == ""


def test_an_account_that_goes_takes_its_job_along_and_the_run_ends(owner: Api, anna: Account) -> None:
    other = make_account()
    owner.post(f"{ACCOUNTS}/check-all")
    Account.objects.exclude(pk=other.pk).update(proxy=None)
    lanes(1)
    assert Run.objects.get().finished_at is not None
    owner.post(f"{ACCOUNTS}/check-all")
    owner.delete(f"{ACCOUNTS}/{anna.pk}")
    owner.delete(f"{ACCOUNTS}/{other.pk}")
    tasks.tidy_jobs()
    assert not Run.objects.filter(finished_at=None).exists()


def test_a_dead_proxy_fails_its_own_account_alone(owner: Api, avito_sandbox: Sandbox) -> None:
    accounts = sellers(avito_sandbox, 4)
    Account.objects.filter(pk=accounts[0].pk).update(proxy=make_proxy())
    owner.post(f"{ACCOUNTS}/sync-all")
    lanes(2)
    assert dict(Job.objects.values_list("account_id", "error_code")) == {
        accounts[0].pk: "proxy_failed", **{account.pk: "" for account in accounts[1:]},
    }  # fmt: skip


# What comes due by itself


def test_accounts_come_due_by_their_last_check_and_not_before(anna: Account, avito_sandbox: Sandbox) -> None:
    sellers(avito_sandbox, 2)
    make_account(name="Never connected")
    Account.objects.filter(pk=anna.pk).update(connection_checked_at=timezone.now())
    tasks.queue_checks()
    tasks.queue_checks()
    assert Job.objects.filter(kind="check").count() == 2
    lanes(1)
    tasks.queue_checks()
    assert Job.objects.count() == 0
    Account.objects.update(connection_checked_at=timezone.now() - timedelta(hours=1))
    tasks.queue_checks()
    assert Job.objects.filter(kind="check").count() == 3


def test_many_that_are_due_together_are_spread_over_the_ticks(product: str) -> None:
    Account.objects.bulk_create(Account(name=f"a{number}", client_id="x", client_secret="y") for number in range(100))
    tasks.queue_checks()
    assert Job.objects.count() == 20  # of 100 every ten minutes, twice a minute's share
    Job.objects.all().delete()
    tasks.queue_syncs()
    assert Job.objects.count() == 10  # never less than that


def test_the_night_reads_every_account_that_can_be_read(anna: Account, avito_sandbox: Sandbox) -> None:
    sellers(avito_sandbox, 1)
    dead = make_account()
    Authorization.objects.create(
        account=dead, kind="oauth", access_token="x", expires_at=timezone.now(), refresh_at=timezone.now(),
        renewed_at=timezone.now(), dead_reason="invalid_grant",
    )  # fmt: skip
    tasks.queue_nightly_syncs()
    tasks.queue_nightly_syncs()
    assert Job.objects.filter(kind="sync").count() == 2
    lanes(2)
    assert Account.objects.filter(last_sync_at__isnull=False).count() == 2


def test_a_new_connection_is_read_soon(owner: Api, product: str) -> None:
    owner.post(ACCOUNTS, {"name": "Анна", "clientId": "anna-client", "clientSecret": "anna-secret"})
    assert list(Job.objects.values_list("kind", flat=True)) == ["subscribe", "sync"]
    lanes(1)
    assert Account.objects.get().webhook_subscribed_at is not None
    assert Account.objects.get().ads_count is None  # first the person who has connected it
    Job.objects.update(due_at=timezone.now())
    lanes(1)
    assert Account.objects.get().ads_count == 5


def test_figures_that_a_person_has_just_read_are_not_read_again_by_themselves(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    jobs.queue(Job.Kind.SYNC, Account.objects.all(), after=jobs.FRESH)
    owner.post(f"{ACCOUNTS}/{anna.pk}/sync-stats")
    avito_sandbox.control("DELETE", "/journal")
    Job.objects.update(due_at=timezone.now())
    lanes(1)
    assert (Job.objects.count(), avito_sandbox.journal()) == (0, [])


def test_queries_of_a_job_are_as_many_for_the_hundredth_account_as_for_the_first(
    owner: Api, avito_sandbox: Sandbox
) -> None:
    def queries(count: int) -> float:
        Account.objects.all().delete()
        sellers(avito_sandbox, count, f"{count}-")
        owner.post(f"{ACCOUNTS}/check-all")
        with CaptureQueriesContext(connection) as caught:
            tasks.work_jobs()
        return len(caught) / count

    assert queries(20) <= queries(5) + 1


def test_old_runs_are_forgotten(owner: Api, anna: Account) -> None:
    owner.post(f"{ACCOUNTS}/check-all")
    lanes(1)
    Run.objects.update(finished_at=timezone.now() - timedelta(days=31))
    tasks.tidy_jobs()
    assert (Run.objects.count(), Job.objects.count()) == (0, 0)


def test_a_held_job_stays_held_while_its_worker_waits(anna: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LEASE_SECONDS", 0.3)
    jobs.queue(Job.Kind.CHECK, Account.objects.all())
    job = jobs.claim()
    assert job is not None
    with jobs._holding(job):
        first = Job.objects.get().claimed_until
        wait_for(lambda: Job.objects.get().claimed_until != first)
        assert jobs.claim() is None


def test_joining_a_run_while_its_jobs_end_blocks_nobody(owner: Api, product: str) -> None:
    Account.objects.bulk_create(Account(name=f"a{number}") for number in range(80))
    owner.post(f"{ACCOUNTS}/check-all")
    with ThreadPoolExecutor(2) as pool:
        working = pool.submit(lanes, 4)
        joins = [owner.post(f"{ACCOUNTS}/check-all").status_code for _time in range(6)]
        working.result()
    lanes(1)
    assert joins == [202] * 6
    assert not Run.objects.filter(finished_at=None).exists()
    assert set(Job.objects.values_list("deaths", flat=True)) == {0}


def test_a_pause_that_never_ends_ends_the_job(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    owner.post(f"{ACCOUNTS}/check-all")
    avito_sandbox.fault("429", "self$", seconds=3000)
    for _time in range(jobs.PUT_OFFS_MAX + 1):
        assert Job.objects.get().finished_at is None
        lanes(1)
        Job.objects.update(due_at=timezone.now())
    assert Job.objects.get().error_code == "avito_rate_limited"
    assert Run.objects.get().finished_at is not None
