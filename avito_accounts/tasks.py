"""Doors for Celery. Each may run twice, or late, without harm."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone

from avito_accounts import checks, jobs, proxies, services, tokens, webhooks
from avito_accounts.models import Account, AuthorizationRequest, Job, Proxy
from doorbell import ring

PROXIES_AT_ONCE, PROXY_HANDS = 64, 16
TICK_SECONDS = 60
"""How often the beat calls whatever queues accounts that are due."""
SUBSCRIBE_SECONDS, CHECK_WEBHOOK_SECONDS = 300, 3600
"""How often a webhook that is not subscribed is tried, and one that is, looked at."""


@shared_task(ignore_result=True)
def refresh_expiring_tokens() -> None:
    """Ring for every pair whose end is near."""
    due = Account.objects.filter(authorization__dead_reason="", authorization__refresh_at__lte=timezone.now())
    for account_id in due.filter(authorization__refresh_sent_at=None).values_list("pk", flat=True):
        ring(refresh_token, account_id)


@shared_task(ignore_result=True)
def refresh_token(account_id: int) -> None:
    account = Account.objects.filter(pk=account_id).first()
    if account is not None:
        services.try_quietly(tokens.renew_ahead, account)


@shared_task(ignore_result=True)
def forget_old_authorization_requests() -> None:
    """Consents that were never finished, and those finished long ago."""
    AuthorizationRequest.objects.filter(created_at__lt=timezone.now() - timedelta(days=30)).delete()


@shared_task(ignore_result=True)
def queue_checks() -> None:
    """Queue the accounts whose last check is long ago."""
    _queue_due(Job.Kind.CHECK, Account.objects.usable(), settings.AVITO_CHECK_SECONDS, "connection_checked_at")


@shared_task(ignore_result=True)
def queue_syncs() -> None:
    """Queue the accounts whose figures are old."""
    _queue_due(Job.Kind.SYNC, Account.objects.usable(), settings.AVITO_SYNC_SECONDS, "sync_tried_at")


@shared_task(ignore_result=True)
def subscribe_webhooks() -> None:
    """Queue the accounts whose messages Avito does not deliver here yet."""
    _queue_due(Job.Kind.SUBSCRIBE, webhooks.to_subscribe(), SUBSCRIBE_SECONDS, "webhook_checked_at")


@shared_task(ignore_result=True)
def check_webhooks() -> None:
    """Queue the accounts whose subscription was last looked at long ago."""
    _queue_due(Job.Kind.SUBSCRIBE, webhooks.to_check(), CHECK_WEBHOOK_SECONDS, "webhook_checked_at")


@shared_task(ignore_result=True)
def queue_nightly_syncs() -> None:
    """After midnight in Moscow every account is read once, so that each day gets its last figures."""
    jobs.queue(Job.Kind.SYNC, Account.objects.usable())


def _queue_due(kind: str, accounts: QuerySet[Account], seconds: int, at_field: str) -> None:
    # A tick may take twice its share, so that a backlog goes away, but not at once.
    share = 2 * TICK_SECONDS / seconds
    jobs.queue_due(kind, accounts, every=timedelta(seconds=seconds), at_field=at_field, share=share)


@shared_task(ignore_result=True)
def tidy_jobs() -> None:
    """End runs that have lost their last account, forget old ones."""
    jobs.tidy()


def work_jobs() -> None:
    """One lane of each worker: checks, figures and webhooks of accounts. Listed as often as there shall be lanes."""
    jobs.work()


def check_proxies() -> None:
    """Proxies of which nothing was heard for a while, or that have fallen; dead ones cost time, so several at once."""
    due = [proxy for proxy in proxies.due_for_a_check()[:PROXIES_AT_ONCE] if proxies.claim_check(proxy)]
    if due:
        with ThreadPoolExecutor(PROXY_HANDS) as pool:
            list(pool.map(_check_proxy, due))


def _check_proxy(proxy: Proxy) -> None:
    try:
        checks.check_proxy(proxy, by_person=False, is_certain=False)
    finally:
        connections.close_all()
