"""What is done by itself: scheduled tasks and sweeps, when they ran and what came of it."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django_celery_beat.models import PeriodicTask

from avito_accounts.admin import shown
from avito_accounts.admin.overview import Problem
from config import routines
from config.models import Routine
from config.system.processes import ago
from integrations_str.admin import queue

GRACE = timedelta(seconds=90)
"""So much later than due is not late yet: beat ticks every few seconds, and workers have other things to do."""
JUST_NOW = timedelta(seconds=1.5 * routines.WRITTEN_EVERY_SECONDS)
NAMED = 5


@dataclass(frozen=True)
class Told:
    """A routine as the page tells of it. `key`: its entry in the schedule, empty for a sweep."""

    name: str
    rhythm: str
    row: Routine | None
    is_on: bool
    is_late: bool
    is_under_way: bool
    key: str = ""
    href: str = ""
    due_at: datetime | None = None

    @property
    def title(self) -> str:
        return routines.title(self.name)

    @property
    def meaning(self) -> str:
        return routines.meaning(self.name)

    @property
    def is_failing(self) -> bool:
        return self.is_on and self.row is not None and self.row.is_failing

    @property
    def label(self) -> str:
        if not self.is_on:
            return shown.label("default", _("disabled"))
        if self.is_failing:
            return shown.label("danger", _("failing"))
        if self.is_late:
            return shown.label("danger", _("late"))
        if self.is_under_way:
            return shown.label("info", _("under way"))
        return shown.label("success", _("in time")) if self.row else shown.label("info", _("has not run yet"))

    @property
    def last(self) -> str:
        if self.row is None:
            return _("not since runs are written down")
        if self.row.ended_at is None or self.row.seconds is None:
            return format_html("{} {}", _("begun"), ago(self.row.started_at))
        text = format_html("{}, {}", ago(self.row.ended_at), _("took %(time)s") % {"time": _took(self.row.seconds)})
        if not self.is_under_way:
            return text
        return format_html("{}; {} {}", text, _("next one begun"), ago(self.row.started_at))

    @property
    def failure(self) -> str:
        """When and why it last failed, nothing if it never has."""
        if self.row is None or self.row.failed_at is None:
            return ""
        return format_html("{}. {}", ago(self.row.failed_at), routines.cause(self.row.error))

    @property
    def next(self) -> str:
        if not self.is_on:
            return _("never, it is switched off")
        if self.due_at is None:
            return _("once beat is alive")
        if self.due_at <= timezone.now():
            return _("now")
        if self.due_at - timezone.now() < timedelta(hours=1):
            return queue.when(self.due_at)
        return shown.moment(self.due_at)


def scheduled(ran: dict[str, Routine], alive: dict[str, list[Any]]) -> list[Told]:
    known = {task.name: task for task in PeriodicTask.objects.filter(name__in=settings.CELERY_BEAT_SCHEDULE)}
    began = min((beat.started_at for beat in alive["beat"]), default=None)
    told = []
    for key, entry in settings.CELERY_BEAT_SCHEDULE.items():
        row, task = ran.get(entry["task"]), known.get(key)
        is_on = task is None or task.enabled
        due_at = _due_at(entry["schedule"], _base(row, task) or began)
        is_under_way = _is_under_way(row, alive)
        is_late = is_on and not is_under_way and _is_late(due_at, began)
        href = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk]) if task else ""
        rhythm = rhythm_of(entry["schedule"])
        told.append(Told(entry["task"], rhythm, row, is_on, is_late, is_under_way, key, href, due_at))
    return told


def _base(row: Routine | None, task: PeriodicTask | None) -> datetime | None:
    """From when the next run is told: the last one, or when it was switched on again."""
    if task is not None and task.last_run_at is None:
        return max(task.date_changed, row.started_at) if row else None
    if row is None:
        return task.last_run_at if task else None
    return row.started_at


def _due_at(schedule: Any, base: datetime | None) -> datetime | None:
    if base is None:
        return None
    if isinstance(schedule, timedelta):
        return base + schedule
    due_at: datetime = timezone.now() + schedule.remaining_estimate(base) + timedelta(seconds=0.5)
    return due_at.replace(microsecond=0)


def sweeps(ran: dict[str, Routine], alive: dict[str, list[Any]]) -> list[Told]:
    began = min((worker.started_at for worker in alive["worker"]), default=None)
    told = []
    for name in dict.fromkeys(settings.DATABASE_SWEEPS):
        row = ran.get(name)
        seconds = settings.DATABASE_SWEEP_RHYTHMS.get(name, settings.DATABASE_SWEEP_SECONDS)
        base = row.started_at if row else began
        is_under_way = _is_under_way(row, alive)
        is_late = not is_under_way and base is not None and _is_late(base + timedelta(seconds=seconds), began)
        told.append(Told(name, every(seconds), row, True, is_late, is_under_way))
    return told


def _is_late(due_at: datetime | None, began: datetime | None) -> bool:
    """What came due while nobody was there to do it is late from when somebody is."""
    return due_at is not None and max(due_at, began or due_at) + GRACE < timezone.now()


def _is_under_way(row: Routine | None, alive: dict[str, list[Any]]) -> bool:
    """Has it begun in a worker that still lives, longer ago than the diary takes to say that it has ended?"""
    if row is None or not row.is_open or timezone.now() - row.started_at < JUST_NOW:
        return False
    return any(worker.started_at <= row.started_at for worker in alive["worker"])


def problems_of(told: list[Told], *, is_served: bool) -> list[Problem]:
    found = [
        Problem(
            _("“%(name)s” failed the last time. %(cause)s")
            % {"name": one.title, "cause": routines.cause(one.row.error)},
            f"#{one.name}",
            _("Show it"),
        )
        for one in told
        if one.is_failing and one.row
    ]
    late = [one for one in told if one.is_late and not one.is_failing]
    if late and is_served:  # else the reason stands there already
        names = ", ".join(one.title for one in late[:NAMED]) + (", …" if len(late) > NAMED else "")
        text = _(
            "Late: %(names)s. The workers have too much to do, or Redis does not ring. The log of the worker knows."
        )
        found.append(Problem(text % {"names": names}, f"#{late[0].name}", _("Show it")))
    return found


def rhythm_of(schedule: Any) -> str:
    """Of a timedelta or a crontab."""
    if isinstance(schedule, timedelta):
        return every(schedule.total_seconds())
    if len(schedule.hour) == len(schedule.minute) == 1:
        [hour], [minute] = schedule.hour, schedule.minute
        at = timezone.localtime(datetime.now(UTC).replace(hour=hour, minute=minute))
        return _("daily at %(time)s") % {"time": date_format(at, "TIME_FORMAT")}
    return every(60) if len(schedule.hour) == 24 and len(schedule.minute) == 60 else str(schedule)


def every(seconds: float) -> str:
    if seconds < 60:
        return _("every second") if seconds == 1 else _("every %(count)s s") % {"count": f"{seconds:g}"}
    if seconds < 3600:
        return _("every minute") if seconds == 60 else _("every %(count)s min") % {"count": f"{seconds / 60:g}"}
    return _("every hour") if seconds == 3600 else _("every %(count)s h") % {"count": f"{seconds / 3600:g}"}


def _took(seconds: float) -> str:
    if seconds < 1:
        return _("%(count)s ms") % {"count": shown.number(math.ceil(seconds * 1000))}
    return _("%(count)s s") % {"count": shown.number(round(seconds))}
