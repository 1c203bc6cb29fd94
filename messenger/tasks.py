"""Doors for Celery, and the sweep that keeps accounts online. Each may run twice, or late, without harm."""

from celery import shared_task

from messenger import presence, services


@shared_task(ignore_result=True)
def forget_old_keys() -> None:
    """Delete the idempotency keys that no longer hold."""
    services.forget_old_keys()


def keep_online() -> None:
    """What every worker looks for by itself: accounts whose slot has come."""
    presence.keep_online()


@shared_task(ignore_result=True)
def forget_old_attempts() -> None:
    presence.forget_old()
