"""The webhook of an account: seen, subscribed and taken off over the API; looked after by itself."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest
import requests
from django.conf import LazySettings
from django.utils import timezone

from avito_accounts import limits, tasks, webhooks
from avito_accounts.models import Account, Authorization, Job
from notifications.models import Notification, Problem
from tests.conftest import Api
from tests.factories import look_after_webhook, make_account
from tests.messenger.conftest import failure
from tests.sandbox.driver import ANNA, Sandbox
from tests.test_secrets import Told

KEY = "webhook-key-0123456789"
Webhook = Callable[[str], requests.Response]


@pytest.fixture
def webhook(owner: Api, account_url: str) -> Webhook:
    return lambda method: owner.call(method, f"{account_url}/webhook")


@pytest.fixture
def address(settings: LazySettings, anna: Account) -> str:
    """Ours, with its key."""
    settings.AVITO_WEBHOOK_KEYS = [KEY]
    return f"{settings.PUBLIC_URL}/api/v1/webhooks/avito/{KEY}"


def at_avito(sandbox: Sandbox) -> list[str]:
    [anna] = [seller for seller in sandbox.control("GET", "/sellers") if seller["id"] == ANNA]
    urls: list[str] = anna["webhooks"]
    return urls


def as_anna(sandbox: Sandbox, call: str, url: str) -> None:
    """Do it at Avito, past us."""
    headers = {"Authorization": f"Bearer {Authorization.objects.get().access_token}"}
    sandbox.call("POST", f"/messenger/{call}", json={"url": url}, headers=headers).raise_for_status()


def told() -> list[str]:
    return list(Notification.objects.order_by("id").values_list("kind", flat=True))


def asked(sandbox: Sandbox) -> list[str]:
    return [row["path"].rpartition("/")[2] for row in sandbox.journal() if "messenger" in row["path"]]


# Over the API


def test_it_is_subscribed_shown_and_taken_off(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, settings: LazySettings
) -> None:
    foreign = "https://another.example/hook"
    as_anna(avito_sandbox, "v3/webhook", foreign)
    masked = f"{settings.PUBLIC_URL}/api/v1/webhooks/avito/…"
    theirs, ours = ({"url": url, "version": "3", "isOurs": url == masked} for url in (foreign, masked))
    without = {"subscriptions": [theirs], "subscribed": False, "url": masked}
    subscribed = {"subscriptions": [theirs, ours], "subscribed": True, "url": masked}
    steps = (("GET", without), ("POST", subscribed), ("GET", subscribed), ("POST", subscribed),
             ("DELETE", without), ("GET", without), ("DELETE", without), ("POST", subscribed))  # fmt: skip
    for method, expected in steps:
        answer = webhook(method)
        if method == "DELETE":
            assert (answer.status_code, answer.content) == (204, b"")
        else:
            assert (answer.status_code, answer.json()) == (200, expected), method
        assert KEY not in answer.text
    assert at_avito(avito_sandbox) == [foreign, address]


def test_without_a_key_the_address_is_shown_whole(
    webhook: Webhook, avito_sandbox: Sandbox, anna: Account, settings: LazySettings
) -> None:
    url = f"{settings.PUBLIC_URL}/api/v1/webhooks/avito"
    assert webhook("POST").json() == {
        "subscriptions": [{"url": url, "version": "3", "isOurs": True}],
        "subscribed": True,
        "url": url,
    }


def test_an_address_with_an_older_key_is_ours_but_not_the_present_one(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, settings: LazySettings
) -> None:
    webhook("POST")
    settings.AVITO_WEBHOOK_KEYS = ["newer-key-0123456789", KEY]
    shown = webhook("GET").json()
    assert (shown["subscribed"], [one["isOurs"] for one in shown["subscriptions"]]) == (False, [True])
    assert webhook("POST").json()["subscribed"] is True
    assert at_avito(avito_sandbox) == [address.replace(KEY, "newer-key-0123456789")]


def test_a_conflict_at_avito_means_that_it_is_done(webhook: Webhook, avito_sandbox: Sandbox, address: str) -> None:
    avito_sandbox.fault("status", "v3/webhook$", status=409, apply="before")
    assert webhook("POST").json()["subscribed"] is True
    assert not webhooks.to_subscribe().exists()


def test_the_key_stays_out_of_avitos_complaints(webhook: Webhook, avito_sandbox: Sandbox, address: str) -> None:
    body = json.dumps({"error": {"code": 400, "message": f'the address "{address}" does not answer'}})
    avito_sandbox.fault("status", "v3/webhook$", status=400, body=body)
    answer = webhook("POST")
    assert failure(answer) == (422, "avito_rejected")
    assert "webhooks/avito/…" in answer.text
    assert KEY not in answer.text


def test_no_key_in_any_spelling_stays_in_what_people_see(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, anna: Account, settings: LazySettings
) -> None:
    settings.AVITO_WEBHOOK_KEYS = [KEY, "older+key/0123456789", f"{KEY}-longer"]
    alias = address.replace("webhooks", "webhook").replace(KEY, "forgotten-key")
    texts = (
        *(
            quote(address, safe=""),
            quote(quote(address, safe=""), safe=""),
            address.replace("/", "\\/"),
            "…" * 480 + KEY,
        ),
        *(alias, quote(alias, safe="").lower(), f"{KEY} и {KEY.upper()}", f"{KEY}-longer", "older+key/0123456789"),
        *(quote("older+key/0123456789", safe=""), "".join(f"%{ord(character):02x}" for character in KEY)),
    )
    for text in texts:
        body = json.dumps({"error": {"code": 400, "message": f"Не годится: {text}"}})
        avito_sandbox.fault("status", "v3/webhook$", status=400, body=body, times=1)
        answer = webhook("POST")
        assert failure(answer) == (422, "avito_rejected")
        for seen in (answer.text, Account.objects.get(pk=anna.pk).webhook_error_detail):
            assert "Не годится" in seen
            assert "…" in seen
            assert not re.search(r"webhook-key|0123|longer|forgotten|older|%77%65%62", seen, re.IGNORECASE)


def test_the_key_stays_out_of_the_log(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, anna: Account, everything_told: Told
) -> None:
    for method in ("POST", "GET", "DELETE", "POST"):
        webhook(method)
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    look_after_webhook(anna.pk)
    assert "webhook_vanished" in everything_told.places["log"]
    assert KEY not in everything_told.places["log"]


def test_for_the_owner_of_another_token_nothing_is_subscribed(owner: Api, avito_sandbox: Sandbox) -> None:
    account = make_account(avito_user_id=5, client_id="anna-client", client_secret="anna-secret")
    answer = owner.post(f"/api/v1/messenger/accounts/{account.pk}/webhook")
    assert failure(answer) == (409, "account_not_authorized")
    assert at_avito(avito_sandbox) == []


def test_what_a_person_has_taken_off_stays_off(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, anna: Account, settings: LazySettings
) -> None:
    webhook("POST")
    webhook("DELETE")
    settings.AVITO_WEBHOOK_KEYS = ["newer-key-0123456789"]
    look_after_webhook(anna.pk)
    assert (at_avito(avito_sandbox), webhooks.to_subscribe().exists(), told()) == ([], False, [])
    webhook("POST")
    assert len(at_avito(avito_sandbox)) == 1


def test_taking_it_off_that_fails_leaves_it_on(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, anna: Account
) -> None:
    webhook("POST")
    avito_sandbox.fault("status", "unsubscribe$", status=403, times=1)
    assert failure(webhook("DELETE")) == (403, "avito_forbidden")
    look_after_webhook(anna.pk)
    assert len(at_avito(avito_sandbox)) == 1
    assert webhook("DELETE").status_code == 204
    look_after_webhook(anna.pk)
    assert at_avito(avito_sandbox) == []


@pytest.mark.parametrize("effect", ["before", "never"])
def test_taking_it_off_without_an_answer_is_brought_about_soon(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, anna: Account, effect: str
) -> None:
    webhook("POST")
    avito_sandbox.fault("reset", "unsubscribe$", times=1, apply=effect)
    assert failure(webhook("DELETE")) == (504, "avito_timeout")
    assert Account.objects.get(pk=anna.pk).webhook_checked_at is None  # so its turn is next
    look_after_webhook(anna.pk)
    assert (at_avito(avito_sandbox), told()) == ([], [])


OTHER_SPELLINGS = (
    "https://crm.example/api/v1/webhook/avito", f"https://crm.example/api/v1/webhook/avito/{KEY}",
    f"HTTPS://CRM.example:443/api/v1/webhooks/avito/{KEY}/", "https://crm.example/api/v1/webhooks/avito/older/",
    f"https://crm.example/api/v1/webhook%73/avito/{KEY}?x=1",
)  # fmt: skip
LOOKALIKES = (
    f"https://crm.example:8443/api/v1/webhooks/avito/{KEY}", f"http://crm.example/api/v1/webhooks/avito/{KEY}",
    f"https://crm.example.org/api/v1/webhooks/avito/{KEY}", f"https://crm.example/api/v1/webhooks/avitor/{KEY}",
    "https://other.example/?url=https://crm.example/api/v1/webhooks/avito",
)  # fmt: skip


def test_every_path_and_spelling_of_ours_is_known_as_ours_and_no_other(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, settings: LazySettings
) -> None:
    settings.PUBLIC_URL = "https://crm.example"
    for url in (*OTHER_SPELLINGS, *LOOKALIKES):
        as_anna(avito_sandbox, "v3/webhook", url)
    shown = webhook("GET").json()["subscriptions"]
    assert [one["isOurs"] for one in shown] == [True] * len(OTHER_SPELLINGS) + [False] * len(LOOKALIKES)
    assert KEY not in json.dumps(shown)
    webhook("POST")
    assert at_avito(avito_sandbox) == [OTHER_SPELLINGS[2], *LOOKALIKES]
    webhook("DELETE")
    assert at_avito(avito_sandbox) == list(LOOKALIKES)


def test_the_present_address_in_avitos_own_spelling_is_no_loss(
    webhook: Webhook, avito_sandbox: Sandbox, anna: Account, address: str, settings: LazySettings
) -> None:
    settings.PUBLIC_URL = "https://Пример.рф:443"
    assert webhook("POST").json()["subscribed"] is True
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", webhooks.url())
    spelled = f"https://xn--e1afmkfd.xn--p1ai/api/v1/webhooks/avito/{KEY}/"
    as_anna(avito_sandbox, "v3/webhook", spelled)
    look_after_webhook(anna.pk)
    assert (at_avito(avito_sandbox), told(), webhook("GET").json()["subscribed"]) == ([spelled], [], True)


# Looked after


@pytest.fixture
def subscribed(anna: Account, avito_sandbox: Sandbox, address: str) -> Account:
    look_after_webhook(anna.pk)
    avito_sandbox.control("DELETE", "/journal")
    return anna


def test_a_check_costs_one_call_while_all_is_well(subscribed: Account, avito_sandbox: Sandbox) -> None:
    for _twice in range(2):
        look_after_webhook(subscribed.pk)
    assert (asked(avito_sandbox), told()) == (["subscriptions"] * 2, [])


def test_a_subscription_that_vanished_is_restored_and_each_time_told_of_once(
    subscribed: Account, avito_sandbox: Sandbox, address: str
) -> None:
    for times in (1, 2):
        as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
        for _each in range(3):
            look_after_webhook(subscribed.pk)
        assert at_avito(avito_sandbox) == [address]
        assert told() == ["webhook_restored"] * times
    assert subscribed.name in Notification.objects.all()[0].title
    assert KEY not in json.dumps(list(Notification.objects.values("params", "path")))


def test_two_checks_at_once_tell_of_it_once(subscribed: Account, avito_sandbox: Sandbox, address: str) -> None:
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    first, second = (webhooks.to_check().get() for _each in range(2))
    webhooks.look_after(first)
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    webhooks.look_after(second)  # has looked before the first one wrote
    assert (at_avito(avito_sandbox), told()) == ([address], ["webhook_restored"])


def test_a_check_that_a_person_overtakes_leaves_nothing_subscribed(
    subscribed: Account, webhook: Webhook, avito_sandbox: Sandbox, address: str
) -> None:
    overtaken = webhooks.to_check().get()
    webhook("DELETE")
    webhooks.look_after(overtaken)  # finds nothing at Avito, and has not seen that a person wants it so
    assert (at_avito(avito_sandbox), told()) == ([], [])


def test_what_a_dead_worker_has_left_subscribed_is_taken_off(
    subscribed: Account, webhook: Webhook, avito_sandbox: Sandbox, address: str
) -> None:
    webhook("DELETE")
    as_anna(avito_sandbox, "v3/webhook", address)
    Account.objects.update(webhook_checked_at=timezone.now() - timedelta(hours=1))
    tasks.check_webhooks()
    tasks.work_jobs()
    assert (at_avito(avito_sandbox), told()) == ([], [])


def test_an_old_address_that_stays_is_no_loss_and_is_taken_off_later(
    subscribed: Account, webhook: Webhook, avito_sandbox: Sandbox, address: str
) -> None:
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    as_anna(avito_sandbox, "v3/webhook", address.replace(KEY, "older"))
    avito_sandbox.fault("status", "unsubscribe$", status=500, times=1)
    assert webhook("POST").json()["subscribed"] is True
    assert (len(at_avito(avito_sandbox)), told()) == (2, ["webhook_restored"])
    look_after_webhook(subscribed.pk)
    assert (at_avito(avito_sandbox), told()) == ([address], ["webhook_restored"])


def test_one_that_cannot_be_restored_is_a_problem_until_it_is(
    subscribed: Account, avito_sandbox: Sandbox, address: str
) -> None:
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    avito_sandbox.fault("status", "v3/webhook$", status=500)
    look_after_webhook(subscribed.pk)
    for _each in range(2):
        look_after_webhook(subscribed.pk)
    assert told() == ["webhook_lost"]
    assert list(webhooks.to_subscribe()) == [subscribed]
    avito_sandbox.control("DELETE", "/faults")
    look_after_webhook(subscribed.pk)
    assert told() == ["webhook_lost", "webhook_restored"]
    assert not Problem.objects.filter(solved_at=None).exists()
    assert at_avito(avito_sandbox) == [address]


def test_a_check_that_gets_no_answer_judges_nothing(subscribed: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "subscriptions$", status=500)
    look_after_webhook(subscribed.pk)
    assert (told(), list(webhooks.to_check())) == ([], [subscribed])


def test_a_pause_that_avito_asks_for_is_no_loss(subscribed: Account, avito_sandbox: Sandbox, address: str) -> None:
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    avito_sandbox.fault("429", "v3/webhook$", seconds=200, times=1)
    look_after_webhook(subscribed.pk)
    assert (told(), Job.objects.filter(kind="subscribe").count()) == ([], 1)
    limits.reset()
    Job.objects.update(due_at=timezone.now())
    tasks.work_jobs()
    assert (at_avito(avito_sandbox), told()) == ([address], ["webhook_restored"])


def test_nothing_is_restored_for_the_owner_of_another_token(
    subscribed: Account, avito_sandbox: Sandbox, address: str
) -> None:
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    Account.objects.update(avito_user_id=5)
    look_after_webhook(subscribed.pk)
    assert (at_avito(avito_sandbox), told()) == ([], ["webhook_lost"])
    assert not (webhooks.to_check() | webhooks.to_subscribe()).exists()  # a person has to correct it


# When


def queued() -> list[int]:
    """The accounts that two ticks of the beat have queued."""
    for tick in (tasks.check_webhooks, tasks.subscribe_webhooks) * 2:
        tick()
    return list(Job.objects.filter(kind="subscribe").order_by("account").values_list("account", flat=True))


def test_whoever_was_asked_about_an_hour_ago_is_next_however_late_the_tick_comes(
    subscribed: Account, webhook: Webhook, avito_sandbox: Sandbox
) -> None:
    make_account()
    assert queued() == []
    for minutes in (61, 5000):
        Account.objects.update(webhook_checked_at=timezone.now() - timedelta(minutes=minutes))
        assert queued() == [subscribed.pk]
        tasks.work_jobs()
        assert queued() == []
    assert (asked(avito_sandbox), told()) == (["subscriptions"] * 2, [])
    Account.objects.update(webhook_checked_at=None)
    Authorization.objects.update(dead_reason="invalid_grant")
    assert queued() == []


def test_what_failed_is_tried_again_after_some_minutes_and_a_new_address_at_once(
    anna: Account, avito_sandbox: Sandbox, address: str, settings: LazySettings
) -> None:
    avito_sandbox.fault("status", "v3/webhook$", status=500, times=1)
    assert queued() == [anna.pk]
    tasks.work_jobs()
    assert (at_avito(avito_sandbox), queued()) == ([], [])
    Account.objects.update(webhook_checked_at=timezone.now() - timedelta(minutes=5))
    assert queued() == [anna.pk]
    tasks.work_jobs()
    assert (at_avito(avito_sandbox), queued()) == ([address], [])


def test_many_that_are_due_together_are_spread_over_the_ticks(product: str) -> None:
    own_keys = {"client_id": "a", "client_secret": "b", "webhook_fingerprint": webhooks.fingerprint()}
    Account.objects.bulk_create(Account(name=f"a{number}", **own_keys) for number in range(600))
    tasks.check_webhooks()
    assert Job.objects.count() == 20  # of 600 every hour, twice a minute's share
    Account.objects.update(webhook_fingerprint="")
    tasks.subscribe_webhooks()
    assert Job.objects.count() == 20 + 240  # those without a webhook do not wait for an hour
