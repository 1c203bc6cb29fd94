"""The webhook of an account: seen, subscribed and taken off over the API; looked after by itself."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.conf import LazySettings
from django.utils import timezone

from avito_accounts import tasks, webhooks
from avito_accounts.models import Account, Authorization
from notifications.models import Notification, Problem
from tests.conftest import Api
from tests.factories import make_account
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


def test_the_key_stays_out_of_the_log(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, anna: Account, everything_told: Told
) -> None:
    for method in ("POST", "GET", "DELETE", "POST"):
        webhook(method)
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    tasks.check_webhook(anna.pk)
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
    for task in (tasks.subscribe_webhook, tasks.check_webhook):
        task(anna.pk)
    assert (at_avito(avito_sandbox), webhooks.to_subscribe().exists(), told()) == ([], False, [])
    webhook("POST")
    assert len(at_avito(avito_sandbox)) == 1


def test_taking_it_off_that_fails_leaves_it_on(
    webhook: Webhook, avito_sandbox: Sandbox, address: str, anna: Account
) -> None:
    webhook("POST")
    avito_sandbox.fault("status", "unsubscribe$", status=500, times=1)
    assert failure(webhook("DELETE")) == (502, "avito_unavailable")
    assert list(webhooks.to_check()) == [anna]
    assert webhook("DELETE").json()["subscribed"] is False
    assert not webhooks.to_check().exists()


# Looked after


@pytest.fixture
def subscribed(anna: Account, avito_sandbox: Sandbox, address: str) -> Account:
    tasks.subscribe_webhook(anna.pk)
    avito_sandbox.control("DELETE", "/journal")
    return anna


def test_a_check_costs_one_call_while_all_is_well(subscribed: Account, avito_sandbox: Sandbox) -> None:
    for _twice in range(2):
        tasks.check_webhook(subscribed.pk)
    assert (asked(avito_sandbox), told()) == (["subscriptions"] * 2, [])


def test_a_subscription_that_vanished_is_restored_and_each_time_told_of_once(
    subscribed: Account, avito_sandbox: Sandbox, address: str
) -> None:
    for times in (1, 2):
        as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
        for _each in range(3):
            tasks.check_webhook(subscribed.pk)
        assert at_avito(avito_sandbox) == [address]
        assert told() == ["webhook_restored"] * times
    assert subscribed.name in Notification.objects.all()[0].title
    assert KEY not in json.dumps(list(Notification.objects.values("params", "path")))


def test_two_checks_at_once_tell_of_it_once(subscribed: Account, avito_sandbox: Sandbox, address: str) -> None:
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    first, second = (webhooks.to_check().get() for _each in range(2))
    webhooks.check(first)
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    webhooks.check(second)  # has looked before the first one wrote
    assert (at_avito(avito_sandbox), told()) == ([address], ["webhook_restored"])


def test_one_that_cannot_be_restored_is_a_problem_until_it_is(
    subscribed: Account, avito_sandbox: Sandbox, address: str
) -> None:
    as_anna(avito_sandbox, "v1/webhook/unsubscribe", address)
    avito_sandbox.fault("status", "v3/webhook$", status=500)
    tasks.check_webhook(subscribed.pk)
    for _each in range(2):
        tasks.subscribe_webhook(subscribed.pk)
    assert told() == ["webhook_lost"]
    assert list(webhooks.to_subscribe()) == [subscribed]
    avito_sandbox.control("DELETE", "/faults")
    tasks.subscribe_webhook(subscribed.pk)
    assert told() == ["webhook_lost", "webhook_restored"]
    assert not Problem.objects.filter(solved_at=None).exists()
    assert at_avito(avito_sandbox) == [address]


def test_a_check_that_gets_no_answer_judges_nothing(subscribed: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "subscriptions$", status=500)
    tasks.check_webhook(subscribed.pk)
    assert (told(), list(webhooks.to_check())) == ([], [subscribed])


def test_only_accounts_that_work_and_are_subscribed_are_checked(subscribed: Account, avito_sandbox: Sandbox) -> None:
    make_account()
    assert list(webhooks.to_check()) == [subscribed]
    Authorization.objects.update(dead_reason="invalid_grant")
    tasks.check_webhook(subscribed.pk)
    assert (list(webhooks.to_check()), asked(avito_sandbox)) == ([], [])


def test_every_account_has_its_turn_once_an_hour(product: str) -> None:
    now = timezone.now()
    for number in range(150):
        account = make_account(client_id="a", client_secret="b", avito_user_id=10_000 + number)
        mark: Any = {"webhook_fingerprint": webhooks.fingerprint(), "webhook_subscribed_at": now}
        Account.objects.filter(pk=account.pk).update(**mark)
    turns = [set(webhooks.to_check_in(minute).values_list("pk", flat=True)) for minute in range(60)]
    assert sum(map(len, turns)) == len(set.union(*turns)) == 150
    assert max(map(len, turns)) <= 3


def test_the_round_and_the_sweep_ring_without_harm(subscribed: Account) -> None:
    tasks.check_webhooks()
    tasks.subscribe_webhooks()
    assert told() == []
