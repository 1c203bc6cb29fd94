"""Beat: the schedule in the database, where the admin may switch entries off, and a heartbeat."""

import atexit
from typing import Any

import structlog
from django.db import connection
from django_celery_beat.schedulers import DatabaseScheduler

from config.celery import beat_heart, end_heart
from config.routines import told

log = structlog.get_logger(__name__)

TICK_SECONDS = 5.0


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # django-celery-beat ships no types
    """A database or a broker that is away costs ticks, never the process."""

    is_known = False

    def tick(self, *args: Any, **kwargs: Any) -> float:
        try:
            beat_heart("beat")
            if not self.is_known:
                # Not in `close`: Celery calls that from its signal handler, in the middle of whatever is asked.
                atexit.register(end_heart, "beat")
                self.is_known = True
            return min(float(super().tick(*args, **kwargs)), TICK_SECONDS)
        except Exception as error:
            log.warning("beat_tick_failed", error=told(error))
            connection.close()
            return TICK_SECONDS
