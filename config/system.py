"""The state of the system on one page: does the installation live, what is late, failing or given up, what to do."""

import math
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import kombu.exceptions
import redis
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Count, F, Min, Q, QuerySet, prefetch_related_objects
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from django_celery_beat.models import PeriodicTask

from api.roles import permissions_of
from avito_accounts.admin import shown
from avito_accounts.admin.overview import Problem
from avito_accounts.models import IS_LEFT_ALONE, IS_ONLINE, Account, Job, Proxy
from chats.models import Message, WebhookEvent
from config import routines
from config.celery import app
from config.health import redis_answers
from config.models import Process, Routine
from integrations_str.admin import queue
from integrations_str.models import SyncTask
from messenger.admin import IS_ENABLED, IS_FAILING

ANSWER_SECONDS = 1.0
GRACE = timedelta(seconds=90)
"""So much later than due is not late yet: beat ticks every few seconds, and workers have other things to do."""
JUST_NOW = timedelta(seconds=1.5 * routines.WRITTEN_EVERY_SECONDS)
LONG = timedelta(minutes=5)
"""What waits longer than that in a queue is marked."""
MANY = 10_000
"""Nobody counts further: a queue of more is long, and how long is its age to tell."""
NAMED = 5

NOT_ALIVE = {
    "worker": gettext_lazy(
        "No worker is alive: nothing is sent, received or checked. Start it (make run, or the container)."
    ),
    "beat": gettext_lazy("Beat is not alive: what is due by time waits. Start it (make run, or the container)."),
}
KINDS = {"worker": gettext_lazy("worker"), "beat": gettext_lazy("beat")}

_hands = {name: ThreadPoolExecutor(2, f"reach-{name}") for name in ("redis", "avito")}


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
    if isinstance(request.user, User):  # one query a request, however often the sidebar asks
        prefetch_related_objects([request.user], "groups")
    if "accounts.manage" not in permissions_of(request.user):
        raise PermissionDenied


@dataclass(frozen=True)
class State:
    problems: list[Problem]
    remarks: list[str]
    places: list["Place"]
    processes: list["Life"]
    scheduled: list["Told"]
    sweeps: list["Told"]
    queues: list["Queue"]
    at: datetime


def state_of_all() -> State:
    """Seven queries, however much there is."""
    places = [_postgres(), *_reachable()]
    processes: list[Any] = list(Process.objects.saying_if_alive().order_by("-is_alive", "kind", "host", "pid"))
    alive = {kind: [one for one in processes if one.is_alive and one.kind == kind] for kind in KINDS}
    ran = {row.name: row for row in Routine.objects.all()}
    scheduled = _scheduled(ran, alive)
    sweeps = _sweeps(ran, alive)
    queues = _queues()
    problems = [Problem(place.advice) for place in places if not place.is_well]
    problems += [Problem(str(text)) for kind, text in NOT_ALIVE.items() if not alive[kind]]
    problems += _of_routines([*scheduled, *sweeps], is_served=all(alive.values()))
    problems += [Problem(one.trouble, one.href + one.stuck, _("Show them")) for one in queues if one.trouble]
    remarks = []
    if len(alive["beat"]) > 1:
        remarks.append(
            _(
                "Several beats are alive. One is enough: each rings by itself, so a task may be started twice, and the "
                "second time finds nothing to do. Nothing is sent to a client twice. End all but one."
            )
        )
    return State(problems, remarks, places, [Life(one) for one in processes], scheduled, sweeps, queues, timezone.now())


# What everything stands on


@dataclass(frozen=True)
class Place:
    """Something outside of the service. `advice`: what follows when it does not answer, and what to do."""

    name: str
    meaning: str
    is_well: bool
    advice: str = ""

    @property
    def label(self) -> str:
        return shown.label("success", _("reachable")) if self.is_well else shown.label("danger", _("not reachable"))


def _postgres() -> Place:
    """It has let the reader in; without it there is no page."""
    return Place("PostgreSQL", _("keeps everything"), is_well=True)


def _reachable() -> list[Place]:
    checks: dict[str, Callable[[], bool]] = {"redis": redis_answers, "avito": avito_answers}
    asked = {name: _hands[name].submit(check) for name, check in checks.items()}
    well = {}
    for name, answer in asked.items():
        try:
            well[name] = answer.result(timeout=ANSWER_SECONDS)
        except (redis.RedisError, OSError, ValueError, TooLate):
            answer.cancel()
            well[name] = False
    place = "{}:{}".format(*_address_of_avito())
    return [
        Place(
            "Redis",
            _("rings for workers, shares the budget of calls"),
            well["redis"],
            _(
                "Redis does not answer. Nothing is lost: workers look into the database by themselves, but tasks by "
                "the clock wait. Start Redis, or correct REDIS_URL."
            ),
        ),
        Place(
            f"Avito, {place}",
            _("whether a connection opens from this server, without a proxy"),
            well["avito"],
            _(
                "Avito cannot be reached at %(place)s. Nothing is lost: what waits goes out by itself later. Check the "
                "network of this server; accounts with a proxy may work all the same."
            )
            % {"place": place},
        ),
    ]


def avito_answers() -> bool:
    """Does a connection open? No call is made: Avito counts them."""
    with socket.create_connection(_address_of_avito(), timeout=ANSWER_SECONDS):
        return True


def _address_of_avito() -> tuple[str, int]:
    url = urlsplit(settings.AVITO_API_BASE_URL)
    return url.hostname or "", url.port or (80 if url.scheme == "http" else 443)


# Processes


@dataclass(frozen=True)
class Life:
    """A process as the page tells of it."""

    row: Any

    @property
    def name(self) -> str:
        return str(KINDS.get(self.row.kind, self.row.kind))

    @property
    def heard_of(self) -> str:
        return _ago(self.row.beat_at)

    @property
    def label(self) -> str:
        if self.row.is_alive:
            return shown.label("success", _("alive"))
        hint = _("It was killed, or cannot reach PostgreSQL. Its row goes after a day of silence.")
        return shown.label("danger", _("silent"), hint)


def _ago(at: datetime | None) -> SafeString | str:
    """Like `shown.ago`, in seconds at first."""
    seconds = -1 if at is None else (timezone.now() - at).total_seconds()
    if at is None or seconds >= 90:
        return shown.ago(at)
    text = _("%(count)s s ago") % {"count": max(0, round(seconds))}
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), shown.moment(at), text)


# What is done by itself


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
            return format_html("{} {}", _("begun"), _ago(self.row.started_at))
        text = format_html("{}, {}", _ago(self.row.ended_at), _("took %(time)s") % {"time": _took(self.row.seconds)})
        if not self.is_under_way:
            return text
        return format_html("{}; {} {}", text, _("next one begun"), _ago(self.row.started_at))

    @property
    def failure(self) -> str:
        """When and why it last failed, nothing if it never has."""
        if self.row is None or self.row.failed_at is None:
            return ""
        return format_html("{}. {}", _ago(self.row.failed_at), routines.cause(self.row.error))

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


def _scheduled(ran: dict[str, Routine], alive: dict[str, list[Any]]) -> list[Told]:
    known = {task.name: task for task in PeriodicTask.objects.filter(name__in=settings.CELERY_BEAT_SCHEDULE)}
    began = min((beat.started_at for beat in alive["beat"]), default=None)
    now, told = timezone.now(), []
    for key, entry in settings.CELERY_BEAT_SCHEDULE.items():
        row, task = ran.get(entry["task"]), known.get(key)
        is_on = task is None or task.enabled
        due_at = _due_at(entry["schedule"], _base(row, task) or began)
        is_under_way = _is_under_way(row, alive)
        is_late = is_on and not is_under_way and due_at is not None and due_at + GRACE < now
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


def _sweeps(ran: dict[str, Routine], alive: dict[str, list[Any]]) -> list[Told]:
    began = min((worker.started_at for worker in alive["worker"]), default=None)
    now, told = timezone.now(), []
    for name in dict.fromkeys(settings.DATABASE_SWEEPS):
        row = ran.get(name)
        seconds = settings.DATABASE_SWEEP_RHYTHMS.get(name, settings.DATABASE_SWEEP_SECONDS)
        base = row.started_at if row else began
        is_under_way = _is_under_way(row, alive)
        is_late = not is_under_way and base is not None and base + timedelta(seconds=seconds) + GRACE < now
        told.append(Told(name, every(seconds), row, True, is_late, is_under_way))
    return told


def _is_under_way(row: Routine | None, alive: dict[str, list[Any]]) -> bool:
    """Has it begun in a worker that still lives, longer ago than the diary takes to say that it has ended?"""
    if row is None or not row.is_open or timezone.now() - row.started_at < JUST_NOW:
        return False
    return any(worker.started_at <= row.started_at for worker in alive["worker"])


def _of_routines(told: list[Told], *, is_served: bool) -> list[Problem]:
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
        return _("daily at %(time)s") % {"time": at.strftime("%H:%M")}
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


# Queues


@dataclass(frozen=True)
class Figure:
    text: Any
    count: int
    query: str
    is_bad: bool = False

    @property
    def shown(self) -> str:
        return (
            _("more than %(count)s") % {"count": shown.number(MANY)} if self.count > MANY else shown.number(self.count)
        )

    @property
    def alarms(self) -> bool:
        return self.is_bad and self.count > 0


@dataclass(frozen=True)
class Queue:
    """A queue in figures. `advice`: what to do with what has stuck. `trouble`: what waits for a person."""

    title: str
    href: str
    figures: list[Figure]
    oldest: datetime | None = None
    advice: str = ""
    trouble: str = ""

    @property
    def stuck(self) -> str:
        """The way to what waits for a person: the worst stands last."""
        return next((figure.query for figure in reversed(self.figures) if figure.alarms), "")

    @property
    def alarms(self) -> bool:
        return any(figure.alarms for figure in self.figures)

    @property
    def is_slow(self) -> bool:
        return self.oldest is not None and self.oldest < timezone.now() - LONG

    @property
    def waits(self) -> str:
        return _ago(self.oldest)


def _queues() -> list[Queue]:
    found = _at_once()
    return [_sync(), _webhooks(found), _replies(found), _jobs(found), _presence(), _proxies()]


def _of_status(status: str) -> QuerySet[WebhookEvent]:
    # A range rather than an equality, and the index's whole order: PostgreSQL would otherwise walk the primary key when
    # it takes the status for a frequent one, past millions of rows that are long processed.
    return WebhookEvent.objects.filter(status__gte=status, status__lte=status).order_by("-status", "id")


def _at_once() -> dict[str, Any]:
    """Everything about the tables that grow long, each part in the order of its own index, to MANY; in one query."""
    status, delivery = WebhookEvent.Status, Message.DeliveryStatus
    counted: dict[str, QuerySet[Any]] = {
        "received": _of_status(status.RECEIVED),
        "tried": WebhookEvent.objects.filter(status=status.RECEIVED, attempts__gt=0).order_by("retry_at", "id"),
        "dead": _of_status(status.DEAD),
        "unmatched": _of_status(status.UNMATCHED),
        **{
            one.value: Message.objects.filter(delivery_status=one).order_by("chat_id", "id")
            for one in (delivery.QUEUED, delivery.SENDING, delivery.UNKNOWN)
        },
        "failed": Message.objects.filter(delivery_status=delivery.FAILED).order_by("-id"),
        "jobs": Job.objects.filter(finished_at=None).order_by("due_at"),
        "jobs_due": Job.objects.filter(finished_at=None, due_at__lte=Now()).order_by("due_at"),
        "jobs_held": Job.objects.filter(finished_at=None, claimed_until__gt=Now()).order_by("due_at"),
        "jobs_lost": Job.objects.filter(finished_at=None, deaths__gt=0).order_by("due_at"),
    }
    oldest: dict[str, QuerySet[Any]] = {
        "oldest_received": _of_status(status.RECEIVED).values("received_at")[:1],
        "oldest_queued": counted["queued"].order_by("created_at").values("created_at")[:1],
        "oldest_job": counted["jobs_due"].values("due_at")[:1],
    }
    parts: list[str] = []
    params: list[Any] = []
    for question in counted.values():
        text, values = question.values("pk")[: MANY + 1].query.sql_with_params()
        parts.append(f"(SELECT count(*) FROM ({text}) AS found)")  # noqa: S608  Django's own SQL
        params += values
    for question in oldest.values():
        text, values = question.query.sql_with_params()
        parts.append(f"({text})")
        params += values
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", params)
        [row] = cursor.fetchall()
    return dict(zip([*counted, *oldest], row, strict=True))


def _sync() -> Queue:
    answers = queue.StateFilter.answers
    words = ("due", "running", "failing", "dead")
    due = queue.IS_ON & Q(pull_at__lte=Now())
    found: dict[str, Any] = SyncTask.objects.aggregate(
        **{word: Count("pk", filter=answers[word][1]) for word in words},
        pull=Min("pull_at", filter=due),
        push=Min("push_at", filter=queue.IS_ON & Q(push_at__lte=Now(), dead_at=None)),
    )
    figures = [Figure(answers[word][0], found[word], f"?state={word}", word in ("failing", "dead")) for word in words]
    trouble = _("Connections that the sync queue has given up: %(count)s.") % {"count": shown.number(found["dead"])}
    return Queue(
        _("Sync queue"),
        reverse("admin:integrations_str_synctask_changelist"),
        figures,
        min(filter(None, (found["pull"], found["push"])), default=None),
        _("Mend the reason that stands in the list, choose the rows and “Try again now”."),
        trouble if found["dead"] else "",
    )


def _webhooks(found: dict[str, Any]) -> Queue:
    figures = [
        Figure(_("waiting"), found["received"], "?status__exact=received"),
        Figure(_("being tried again"), found["tried"], "?status__exact=received", is_bad=True),
        Figure(_("of unknown accounts"), found["unmatched"], "?status__exact=unmatched"),
        Figure(_("cannot be used"), found["dead"], "?status__exact=dead", is_bad=True),
    ]
    trouble = _("Deliveries from Avito that could not be used: %(count)s.") % {"count": figures[-1].shown}
    return Queue(
        _("Webhook inbox"),
        reverse("admin:chats_webhookevent_changelist"),
        figures,
        found["oldest_received"],
        _("Open one to read why, mend that, choose the rows and “Process again”: nothing is doubled by it."),
        trouble if found["dead"] else "",
    )


def _replies(found: dict[str, Any]) -> Queue:
    names = {
        "queued": _("waiting"),
        "sending": _("being sent"),
        "unknown": _("being checked"),
        "failed": _("not sent"),
    }
    figures = [
        Figure(text, found[key], f"?delivery_status__exact={key}", key == "failed") for key, text in names.items()
    ]
    return Queue(
        _("Replies to buyers"),
        reverse("admin:chats_message_changelist"),
        figures,
        found["oldest_queued"],
        _("Whoever is still to be answered: choose the messages in the list and “Send failed ones again”."),
    )


def _jobs(found: dict[str, Any]) -> Queue:
    figures = [
        Figure(_("waiting"), found["jobs"] - found["jobs_held"], ""),
        Figure(_("due now"), found["jobs_due"], ""),
        Figure(_("under way"), found["jobs_held"], ""),
        Figure(_("their worker was lost"), found["jobs_lost"], "", is_bad=True),
    ]
    return Queue(
        _("Background jobs of accounts"),
        reverse("admin:avito_accounts_run_changelist"),
        figures,
        found["oldest_job"],
        _("Nothing to do: another worker takes such a job within a minute, and gives it up after three losses."),
    )


def _presence() -> Queue:
    slack = F("online_keep_alive_interval") * timedelta(seconds=0.05) + timedelta(seconds=5)
    is_late = IS_ENABLED & ~IS_LEFT_ALONE & Q(online_due_at__lt=Now() - slack)
    found = Account.objects.aggregate(
        enabled=Count("pk", filter=IS_ENABLED),
        online=Count("pk", filter=IS_ENABLED & IS_ONLINE),
        late=Count("pk", filter=is_late),
        failing=Count("pk", filter=IS_FAILING),
        left=Count("pk", filter=IS_LEFT_ALONE),
        oldest=Min("online_due_at", filter=is_late),
    )
    figures = [
        Figure(_("switched on"), found["enabled"], "?enabled=yes"),
        Figure(_("online now"), found["online"], "?enabled=yes"),
        Figure(_("late"), found["late"], "?enabled=yes", is_bad=True),
        Figure(_("failing"), found["failing"], "?state=failing", is_bad=True),
        Figure(_("left alone"), found["left"], "?state=left-alone", is_bad=True),
    ]
    return Queue(
        _("Eternal online"),
        reverse("admin:messenger_presence_changelist"),
        figures,
        found["oldest"],
        _("The list says why: an account that is left alone has to be connected again."),
    )


def _proxies() -> Queue:
    status = Proxy.Status
    found = Proxy.objects.aggregate(
        working=Count("pk", filter=Q(status=status.WORKING)),
        fallen=Count("pk", filter=Q(status=status.ERROR)),
        not_checked=Count("pk", filter=Q(status=status.NOT_CHECKED)),
    )
    figures = [
        Figure(_("working"), found["working"], "?state=working"),
        Figure(_("not working"), found["fallen"], "?state=fallen", is_bad=True),
        Figure(_("not checked yet"), found["not_checked"], "?state=not_checked"),
    ]
    return Queue(
        _("Proxies"),
        reverse("admin:avito_accounts_proxy_changelist"),
        figures,
        None,
        _("The list says why. Correct the address or the password, or ask the provider; then “Check now”."),
    )
