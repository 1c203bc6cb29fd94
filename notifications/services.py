"""Telling people, once for each trouble, and remembering what they have read."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Literal

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from api.roles import Permission
from notifications import events
from notifications.models import Notification, NotificationQuerySet, Person, Problem

KEPT = timedelta(days=90)
BATCH = 1000
Level = Literal["info", "warning", "error"]


def tell(
    kind: str,
    *,
    needs: Permission | Literal[""],
    params: Mapping[str, object] | None = None,
    path: str = "",
    level: Level = "info",
    user: User | None = None,
) -> Notification:
    """Tell the holders of the permission `needs`, or one `user`, or both.

    `params`: what fills the words of `kind`; numbers stay numbers, all else becomes text; never a secret.
    `path`: a path of the back office, or "".
    """
    if path and not url_has_allowed_host_and_scheme(path, allowed_hosts=None):
        raise ValueError("The path of a notification stays in the back office.")
    told = {name: _storable(value) for name, value in (params or {}).items()}
    with transaction.atomic():
        news = Notification.objects.create(kind=kind, needs=needs, params=told, path=path, level=level, user=user)
        events.emit("notification.created", news.pk, needs=needs, user=user)
    return news


def raise_problem(
    key: str,
    kind: str,
    *,
    needs: Permission | Literal[""],
    params: Mapping[str, object] | None = None,
    path: str = "",
    level: Level = "error",
    user: User | None = None,
) -> bool:
    """Open the problem `key` and tell of it; False when it is open already, and then nobody hears of it again."""
    if _open(key).exists():
        return False
    with transaction.atomic():
        problem_id = _insert(key)
        if problem_id is None:  # somebody else has raised it since we looked
            return False
        notification = tell(kind, needs=needs, params=params, path=path, level=level, user=user)
        Problem.objects.filter(pk=problem_id).update(notification=notification)
        return True


def solve_problem(
    key: str,
    kind: str,
    *,
    needs: Permission | Literal[""],
    params: Mapping[str, object] | None = None,
    path: str = "",
    level: Level = "info",
    user: User | None = None,
) -> bool:
    """Close the problem `key` and tell that it is over; False when none is open, which costs one query."""
    if not _open(key).exists():
        return False
    with transaction.atomic():
        if not solve_problems([key]):  # somebody else has solved it since we looked
            return False
        tell(kind, needs=needs, params=params, path=path, level=level, user=user)
        return True


def solve_problems(keys: Iterable[str]) -> int:
    """Close those of these problems that are open without a word, as when their subject is gone; their number."""
    return Problem.objects.filter(key__in=list(keys), solved_at=None).update(solved_at=timezone.now())


def mark_read(notifications: NotificationQuerySet, *, user: Person) -> int:
    """Remember that the person has read these; the number of those that were unread."""
    ids = list(notifications.unread_by(user).values_list("pk", flat=True))
    with connection.cursor() as cursor:
        # The lock keeps a row that is about to be forgotten from being read in the same instant.
        cursor.execute(
            "INSERT INTO notifications_reading (notification_id, user_id, read_at)"
            " SELECT id, %s, %s FROM notifications_notification WHERE id = ANY(%s) FOR KEY SHARE"
            " ON CONFLICT DO NOTHING",
            [user.pk, timezone.now(), ids],
        )
        return int(cursor.rowcount)


def forget_old() -> int:
    """Delete what is older than 90 days, but for problems that are still open; the number of notifications."""
    old = Notification.objects.settled().filter(created_at__lt=timezone.now() - KEPT)
    count = 0
    while forgotten := _forget(old):
        count += forgotten
    return count


def _forget(notifications: NotificationQuerySet) -> int:
    with transaction.atomic():
        locked = notifications.order_by("pk").select_for_update(of=("self",))
        ids = list(locked.values_list("pk", flat=True)[:BATCH])
        Notification.objects.filter(pk__in=ids).delete()
        return len(ids)


def _open(key: str) -> QuerySet[Problem]:
    return Problem.objects.filter(key=key, solved_at=None)


def _insert(key: str) -> int | None:
    """The id of a new open problem; None when there is one. Of many callers at once exactly one gets an id."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_problem (key, since) VALUES (%s, %s)"
            " ON CONFLICT (key) WHERE solved_at IS NULL DO NOTHING RETURNING id",
            [key, timezone.now()],
        )
        row = cursor.fetchone()
        return row[0] if row else None


def _storable(value: object) -> int | float | str:
    """What PostgreSQL takes as JSON: names and errors from outside may hold characters that it refuses."""
    if isinstance(value, int | float):
        return value
    return str(value).encode(errors="replace").decode().replace("\0", "")
