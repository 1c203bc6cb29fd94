"""Ringing for a worker: the row is the truth, the task only says "look now".

A ring that nobody hears fails neither the commit nor the caller, because a sweep finds the row a little later.
"""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog
from celery import Task
from django.db import connections, transaction

log = structlog.get_logger(__name__)

EXPIRES_SECONDS = 60  # by then the sweep has been there
SILENCE_SECONDS = 15  # after a failure: a broker that hangs shall not hold up one caller after the other

HANDS = 4  # of a sweep that works by itself

_silent_until = 0.0

stopping = threading.Event()
"""Set when the worker is to stop: whoever goes from one piece of work to the next takes no more."""


def ring(task: "Task[Any, Any]", *args: int) -> bool:
    """Wake a worker now. False when the broker did not take it, or has just failed to."""
    global _silent_until
    if time.monotonic() < _silent_until:
        return False
    try:
        task.apply_async(args, retry=False, expires=EXPIRES_SECONDS)
    except Exception as error:  # each of kombu's transports raises errors of its own
        _silent_until = time.monotonic() + SILENCE_SECONDS
        log.warning("doorbell_unheard", task=task.name, error=type(error).__name__)
        return False
    return True


def ring_on_commit(task: "Task[Any, Any]", *args: int) -> None:
    """Wake a worker once what the transaction wrote can be seen."""
    transaction.on_commit(partial(ring, task, *args))


def ring_or_run(task: "Task[Any, Any]", row_ids: Iterable[int]) -> None:
    """For a sweep inside a worker: hand rows out, or do the work here while the broker is away.

    A row that fails here fails alone; the next sweep finds it again.
    """
    unheard = [row_id for row_id in row_ids if not ring(task, row_id)]
    if unheard:
        with ThreadPoolExecutor(HANDS) as pool:
            list(pool.map(partial(_run, task), unheard))


def _run(task: "Task[Any, Any]", row_id: int) -> None:
    try:
        task(row_id)
    except Exception:
        log.exception("task_failed", task=task.name, row_id=row_id)
    finally:
        connections.close_all()
