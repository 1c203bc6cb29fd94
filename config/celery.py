"""The Celery app; its workers look into the database by themselves, so background work survives a silent broker."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.signals import setup_logging, task_failure, task_postrun, task_prerun
from django.db import connection
from django.utils.module_loading import import_string

import doorbell

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

log = structlog.get_logger(__name__)
app = Celery("avito-service")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

LAST_WORDS_SECONDS = 2.0
_began = time.monotonic()


@setup_logging.connect
def keep_django_logging(**_: Any) -> None:
    """Celery would install its own handlers; Django's settings already say how logs look."""


# Who lives


def beat_heart(kind: str) -> None:
    """Write down that this process is alive now; whoever has been silent for a day is forgotten."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM config_process WHERE beat_at < now() - interval '1 day'")
        cursor.execute(
            "INSERT INTO config_process (kind, host, pid, started_at, beat_at)"
            " VALUES (%s, %s, %s, now() - make_interval(secs => %s), now())"
            " ON CONFLICT (kind, host, pid) DO UPDATE SET"
            " started_at = excluded.started_at, beat_at = excluded.beat_at",
            [kind, socket.gethostname(), os.getpid(), time.monotonic() - _began],
        )


def end_heart(kind: str) -> None:
    """This process ends in order: nobody shall wonder where it is."""
    with suppress(Exception), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM config_process WHERE kind = %s AND host = %s AND pid = %s",
            [kind, socket.gethostname(), os.getpid()],
        )


# How scheduled tasks go; a task that is rung for its row is told of by the row

_under_way: dict[str, float] = {}


@task_prerun.connect
def note_beginning(task_id: str, task: Any, **_: Any) -> None:
    from config.routines import WORDS, diary

    if task.name in WORDS:
        _under_way[task_id] = diary.begin(task.name)


@task_failure.connect
def note_failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    from config.routines import diary

    if (began := _under_way.pop(task_id, None)) is not None:
        diary.end(sender.name, began, exception)


@task_postrun.connect
def note_end(task_id: str, task: Any, **_: Any) -> None:
    from config.routines import diary

    if (began := _under_way.pop(task_id, None)) is not None:
        diary.end(task.name, began)


class DatabaseSweep(bootsteps.StartStopStep):
    """Threads in each worker that look for waiting rows every few seconds, broker or no broker.

    One thread a sweep, so that a slow one (Avito does not answer) does not hold up the others. One more says that the
    worker is alive, and writes down how the sweeps and the scheduled tasks went.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._live, name="heart", daemon=True)

    def start(self, parent: Any) -> None:
        from django.conf import settings

        self._heart.start()
        for path in settings.DATABASE_SWEEPS:
            seconds = settings.DATABASE_SWEEP_RHYTHMS.get(path, settings.DATABASE_SWEEP_SECONDS)
            threading.Thread(target=self._sweep, args=[path, seconds], name=path, daemon=True).start()

    def stop(self, parent: Any) -> None:
        doorbell.stopping.set()
        self._stopped.set()
        if self._heart.is_alive():
            self._heart.join(LAST_WORDS_SECONDS)

    terminate = stop

    def _live(self) -> None:
        from django.conf import settings

        from config.routines import diary

        def beat() -> None:
            beat_heart("worker")
            diary.write()

        self._repeat("heart", beat, settings.DATABASE_SWEEP_SECONDS)
        with suppress(Exception):
            diary.write(at_once=True)
        end_heart("worker")
        with suppress(Exception):
            connection.close()

    def _sweep(self, path: str, seconds: float) -> None:
        from config.routines import diary

        work = import_string(path)

        def sweep() -> None:
            began = diary.begin(path)
            try:
                work()
            except Exception as error:
                diary.end(path, began, error)
                raise
            diary.end(path, began)

        self._repeat(work.__name__, sweep, seconds)

    def _repeat(self, name: str, sweep: Callable[[], None], seconds: float) -> None:
        from config.routines import told

        while not self._stopped.is_set():
            try:
                sweep()
            except Exception as error:  # the database may be away: say so and look again
                log.warning("sweep_failed", sweep=name, error=told(error))
            with suppress(Exception):  # a thread that ends here would sweep no more
                connection.close()
            self._stopped.wait(seconds)


app.steps["worker"].add(DatabaseSweep)
