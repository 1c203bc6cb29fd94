"""Doors for Celery, and the sweep that keeps accounts online."""

from celery import shared_task

from messenger import presence


def keep_online() -> None:
    """What every worker looks for by itself: accounts whose slot has come."""
    presence.keep_online()


@shared_task(ignore_result=True)
def forget_old_attempts() -> None:
    presence.forget_old()
