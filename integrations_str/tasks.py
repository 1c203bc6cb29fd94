"""Doors for Celery, and what every worker looks for by itself. Each may run twice, or late, without harm."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from integrations_str import bookings, health, log, serving


@shared_task(ignore_result=True)
def serve() -> None:
    """Look at the queue now."""
    serving.serve()


def tick() -> None:
    """The safety net behind the doorbell: whatever is due."""
    serving.serve()


def watch() -> None:
    """Tell owners of connections in trouble, and when that is over."""
    health.watch()


@shared_task(ignore_result=True)
def forget_old() -> None:
    """Old lines of the log, conflicts that are over, and the guests of stays that are long over."""
    log.forget_old()
    bookings.forget_past_conflicts()
    kept = timedelta(days=settings.AVITO_STR_CONTACTS_KEPT_DAYS)
    bookings.erase_contacts(before=timezone.now().date() - kept)
