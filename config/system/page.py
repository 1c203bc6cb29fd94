"""The page, and the button that starts a task."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import kombu.exceptions
import redis
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from api.roles import permissions_of
from avito_accounts.admin.overview import Problem
from config import routines
from config.celery import app
from config.models import Process, Routine
from config.system import places, queues, schedule
from config.system.places import Place
from config.system.processes import KINDS, Life
from config.system.queues import Queue
from config.system.schedule import GRACE, Told

NOT_ALIVE = {
    "worker": gettext_lazy(
        "No worker is alive: nothing is sent, received or checked. Start it (make run, or the container)."
    ),
    "beat": gettext_lazy("Beat is not alive: what is due by time waits. Start it (make run, or the container)."),
}


def system(request: HttpRequest) -> HttpResponse:
    """The whole page, or with `?part` what of it changes by itself."""
    _let_in(request)
    state = state_of_all()
    if "part" in request.GET:
        return TemplateResponse(request, "config/system_state.html", {"state": state})
    context = {**admin.site.each_context(request), "title": _("System state"), "state": state, "is_fullwidth": "1"}
    return TemplateResponse(request, "config/system.html", context)


@require_POST
def run_now(request: HttpRequest) -> HttpResponse:
    """Ring for a scheduled task; doing it once more harms nothing."""
    _let_in(request)
    entry = settings.CELERY_BEAT_SCHEDULE.get(request.POST.get("name", ""))
    if entry is None:
        raise Http404
    told = {"name": routines.title(entry["task"])}
    try:
        app.send_task(entry["task"], retry=False, expires=int(GRACE.total_seconds()))
    except (kombu.exceptions.OperationalError, redis.RedisError, OSError):
        messages.error(request, _("“%(name)s” could not be started: Redis does not answer. Try again later.") % told)
    else:
        messages.success(request, _("“%(name)s” is started; how it went stands here within seconds.") % told)
    return HttpResponseRedirect(reverse("system") + "#by-the-clock")


def _let_in(request: HttpRequest) -> None:
    if "accounts.manage" not in permissions_of(request.user):
        raise PermissionDenied


@dataclass(frozen=True)
class State:
    problems: list[Problem]
    remarks: list[str]
    places: list[Place]
    processes: list[Life]
    scheduled: list[Told]
    sweeps: list[Told]
    queues: list[Queue]
    at: datetime


def state_of_all() -> State:
    """Seven queries, however much there is."""
    held_by = places.all_of_them()
    processes: list[Any] = list(Process.objects.saying_if_alive().order_by("-is_alive", "kind", "host", "pid"))
    alive = {kind: [one for one in processes if one.is_alive and one.kind == kind] for kind in KINDS}
    ran = {row.name: row for row in Routine.objects.all()}
    scheduled = schedule.scheduled(ran, alive)
    swept = schedule.sweeps(ran, alive)
    waiting = queues.all_of_them()
    problems = [Problem(place.advice) for place in held_by if not place.is_well]
    problems += [Problem(str(text)) for kind, text in NOT_ALIVE.items() if not alive[kind]]
    problems += schedule.problems_of([*scheduled, *swept], is_served=all(alive.values()))
    problems += [Problem(one.trouble, one.href + one.stuck, _("Show them")) for one in waiting if one.trouble]
    remarks = []
    if len(alive["beat"]) > 1:
        remarks.append(
            _(
                "Several beats are alive. One is enough: each rings by itself, so a task may be started twice, and the "
                "second time finds nothing to do. Nothing is sent to a client twice. End all but one."
            )
        )
    return State(
        problems, remarks, held_by, [Life(one) for one in processes], scheduled, swept, waiting, timezone.now()
    )
