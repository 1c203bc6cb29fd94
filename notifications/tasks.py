from celery import shared_task

from notifications import events, services


@shared_task(ignore_result=True)
def forget_old() -> None:
    """Drop what is older than 90 days."""
    services.forget_old()


@shared_task(ignore_result=True)
def forget_old_events() -> None:
    """Drop what is older than two hours."""
    events.forget_old()


def sweep_events() -> None:
    """Positions do not wait for listeners: so the first one who comes does not wait for the positions of hours."""
    events.place()
