from celery import shared_task

from notifications import services


@shared_task(ignore_result=True)
def forget_old() -> None:
    """Drop what is older than 90 days."""
    services.forget_old()
