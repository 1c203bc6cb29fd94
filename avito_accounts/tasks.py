"""Doors for Celery. Each may run twice, or late, without harm."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from avito_accounts import services, tokens
from avito_accounts.models import Account, AuthorizationRequest
from doorbell import ring


@shared_task(ignore_result=True)
def subscribe_webhook(account_id: int) -> None:
    """Subscribe one account's webhook at Avito; the sweep below tries again what fails here."""
    account = Account.objects.filter(pk=account_id).first()
    if account is not None:
        services.try_quietly(services.subscribe_webhook, account)


@shared_task(ignore_result=True)
def subscribe_webhooks() -> None:
    """Ring for every usable account whose webhook is not subscribed to the present address."""
    for account in services.accounts_to_subscribe().only("pk"):
        ring(subscribe_webhook, account.pk)


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
