"""Doors for Celery. Each may run twice, or late, without harm."""

from celery import shared_task

from messenger import services


@shared_task(ignore_result=True)
def forget_old_keys() -> None:
    """Delete the idempotency keys that no longer hold."""
    services.forget_old_keys()
