"""What waits, by queue, and for how long."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, F, Min, Q, QuerySet
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from avito_accounts.admin import shown
from avito_accounts.models import IS_LEFT_ALONE, IS_ONLINE, Account, Job, Proxy
from chats.models import Message, WebhookEvent
from config.system.processes import ago
from integrations_str.admin import queue
from integrations_str.models import SyncTask
from messenger.admin import IS_ENABLED, IS_FAILING

LONG = timedelta(minutes=5)
"""What waits longer than that in a queue is marked."""
MANY = 10_000
"""Nobody counts further: a queue of more is long, and how long is its age to tell."""


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
        return ago(self.oldest)


def all_of_them() -> list[Queue]:
    found = _at_once()
    return [_sync(), _webhooks(found), _replies(found), _jobs(found), _presence(), _proxies()]


def of_status(status: str) -> QuerySet[WebhookEvent]:
    # A range rather than an equality, and the index's whole order: PostgreSQL would otherwise walk the primary key when
    # it takes the status for a frequent one, past millions of rows that are long processed.
    return WebhookEvent.objects.filter(status__gte=status, status__lte=status).order_by("-status", "id")


def _at_once() -> dict[str, Any]:
    """Everything about the tables that grow long, each part in the order of its own index, to MANY; in one query."""
    status, delivery = WebhookEvent.Status, Message.DeliveryStatus
    counted: dict[str, QuerySet[Any]] = {
        "received": of_status(status.RECEIVED),
        "tried": WebhookEvent.objects.filter(status=status.RECEIVED, attempts__gt=0).order_by("retry_at", "id"),
        "dead": of_status(status.DEAD),
        "unmatched": of_status(status.UNMATCHED),
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
        "oldest_received": of_status(status.RECEIVED).values("received_at")[:1],
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
