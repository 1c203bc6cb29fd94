"""The Celery app; its workers look into the database by themselves, so background work survives a silent broker."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.signals import setup_logging
from django.db import connection
from django.utils.module_loading import import_string

import doorbell

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

log = structlog.get_logger(__name__)
app = Celery("avito-service")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def keep_django_logging(**_: Any) -> None:
    """Celery would install its own handlers; Django's settings already say how logs look."""


def beat_heart(name: str) -> None:
    """Write down that a process of this kind is alive now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO config_heartbeat (name, beat_at) VALUES (%s, now())"
            " ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at",
            [name],
        )


class DatabaseSweep(bootsteps.StartStopStep):
    """Threads in each worker that look for waiting rows every few seconds, broker or no broker.

    One thread a sweep, so that a slow one (Avito does not answer) does not hold up the others.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stopped = threading.Event()

    def start(self, parent: Any) -> None:
        from django.conf import settings

        sweeps = [(_worker_heartbeat, settings.DATABASE_SWEEP_SECONDS)]
        for path in settings.DATABASE_SWEEPS:
            rhythm = settings.DATABASE_SWEEP_RHYTHMS.get(path, settings.DATABASE_SWEEP_SECONDS)
            sweeps.append((import_string(path), rhythm))
        for sweep, seconds in sweeps:
            threading.Thread(target=self._repeat, args=[sweep, seconds], name=sweep.__name__, daemon=True).start()

    def stop(self, parent: Any) -> None:
        doorbell.stopping.set()
        self._stopped.set()

    terminate = stop

    def _repeat(self, sweep: Callable[[], None], seconds: float) -> None:
        while not self._stopped.is_set():
            try:
                sweep()
            except Exception as error:  # the database may be away: say so and look again
                log.warning("sweep_failed", sweep=sweep.__name__, error=repr(error))
            with suppress(Exception):  # a thread that ends here would sweep no more
                connection.close()
            self._stopped.wait(seconds)


def _worker_heartbeat() -> None:
    beat_heart("worker")


app.steps["worker"].add(DatabaseSweep)
