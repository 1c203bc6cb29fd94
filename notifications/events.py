"""Live events: what has changed, who may hear of it, and in which order the changes became visible.

An event is written in the transaction of its change, as a type and an id; what it shows is looked up when it is
delivered. It gets its position, which is its id outside, only after that commit: positions follow each other in the
order in which they become visible, so whoever has heard number 10 will never be told number 9.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import redis
import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.module_loading import import_string
from rest_framework.renderers import JSONRenderer

from api.roles import Permission
from notifications.models import Event, Ticket

log = structlog.get_logger(__name__)

KEPT = timedelta(hours=2)
BATCH = 5000
CHANNEL = "avito-service:events"
WAKE_PAUSE_SECONDS = 0.02
SILENCE_SECONDS = 15

Type = Literal[
    "chat.created", "chat.updated", "message.created", "message.updated", "account.updated",
    "booking.created", "booking.updated", "booking.cancelled", "booking.conflict",
    "integration.updated", "notification.created",
]  # fmt: skip
Show = Callable[[Sequence[int]], Mapping[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Kind:
    needs: Permission | Literal[""]
    show: str


_kinds: dict[str, Kind] = {}


def register(kind: str, *, show: str, needs: Permission | Literal[""] = "") -> None:
    """Say how objects of a kind ("chat" for "chat.created") are shown and who hears of them; their app does so once.

    `show`: the dotted path of a function from ids to the objects as the API shows them, in the present language.
    `needs`: the permission whose holders hear of each of them; "" when each event names its own listeners.
    """
    _kinds[kind] = Kind(needs, show)


def emit(type: Type, *object_ids: int, needs: Permission | Literal[""] = "", user: User | int | None = None) -> None:
    """Let listeners hear that these objects have changed, once the present transaction is committed.

    Belongs into the transaction of the change. Told to the holders of `needs` and to `user`; without both, to those
    whom the kind is registered for.
    """
    emit_all([(type, object_id) for object_id in object_ids], needs=needs, user=user)


def emit_all(
    changes: Iterable[tuple[Type, int]], *, needs: Permission | Literal[""] = "", user: User | int | None = None
) -> None:
    """As `emit`, for several types in one statement."""
    user_id = user.pk if isinstance(user, User) else user
    # The callbacks that wait for the commit are the events of this transaction: one of a savepoint that was rolled
    # back is no longer among them.
    waiting: Iterable[Any] = connection.run_on_commit
    told = {callback for _savepoints, callback, _robust in waiting if isinstance(callback, _Told)}
    new: dict[_Told, Event] = {}
    for type, object_id in changes:
        mark = _Told(type, object_id, user_id)
        if told.isdisjoint({mark, _Told(type.replace(".updated", ".created"), object_id, user_id)}):
            told.add(mark)
            for_whom = needs or ("" if user_id else _kinds[type.partition(".")[0]].needs)
            new[mark] = Event(type=type, object_id=object_id, needs=for_whom, user_id=user_id)
    if new:
        Event.objects.bulk_create(new.values())
    for mark in new:
        transaction.on_commit(mark, robust=True)


@dataclass(frozen=True)
class _Told:
    """An event that is written and waits for its commit. What was created needs no second word on being updated."""

    type: str
    object_id: int
    user_id: int | None

    def __call__(self) -> None:
        _waker.wake()


class _Waker:
    """Calls the web processes to look, from a thread of its own: a silent Redis holds up nobody who commits."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._starts = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        self._asked.set()
        with self._starts:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="event-waker", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
        while True:
            self._asked.wait()
            self._asked.clear()
            try:
                client.publish(CHANNEL, b"")
            except (redis.RedisError, OSError) as error:  # they look by themselves, a little later
                log.warning("event_wake_unheard", error=type(error).__name__)
                time.sleep(SILENCE_SECONDS)
            time.sleep(WAKE_PAUSE_SECONDS)


_waker = _Waker()


@dataclass(slots=True)
class Entry:
    """An event that has its position; `frames`: as it is sent, by language, once somebody wanted it."""

    position: int
    type: str
    object_id: int
    needs: str
    user_id: int | None
    frames: dict[str, bytes] = field(default_factory=dict)

    def is_for(self, user_id: int, rights: Collection[str]) -> bool:
        return self.needs in rights or self.user_id == user_id


ENTRY = ("position", "type", "object_id", "needs", "user_id")

# One round trip and no client in the middle: who is stopped here cannot hold the lock against the others. Each
# statement of the block sees what was committed when it began, so the UPDATE sees all positions given before its own.
# The numbers come from the sequence of the ids: unique and growing is all that they have to be.
PLACE = f"""
DO $$ BEGIN
IF EXISTS (SELECT FROM notifications_event WHERE position IS NULL) THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('notifications_event', 0));
    WITH waiting AS MATERIALIZED (
        SELECT id FROM notifications_event WHERE position IS NULL ORDER BY id LIMIT {BATCH}
    ), numbered AS MATERIALIZED (
        SELECT id, nextval(pg_get_serial_sequence('notifications_event', 'id')) AS position FROM waiting
    )
    UPDATE notifications_event AS event SET position = numbered.position FROM numbered WHERE event.id = numbered.id;
END IF;
END $$
"""  # noqa: S608  a number of our own


def place() -> None:
    """Give the committed events that have none their positions; nothing is written when there is nothing to do."""
    with connection.cursor() as cursor:
        cursor.execute(PLACE)


def placed_after(position: int, *, limit: int) -> list[Entry]:
    """The next events in order, those included that were committed just now."""
    place()
    return _entries(Q(position__gt=position), limit=limit)


def newest(limit: int) -> list[Entry]:
    """The last events, in order."""
    place()
    return _entries(Q(position__isnull=False), "-position", limit=limit)[::-1]


def kept_for(user_id: int, rights: Iterable[str], *, after: int, until: int, limit: int) -> list[Entry]:
    """What the person may hear of the events between two positions, in order; the latter is included."""
    mine = Q(needs__in=list(rights)) | Q(user_id=user_id)
    return _entries(mine & Q(position__gt=after, position__lte=until), limit=limit)


def _entries(wanted: Q, order: str = "position", *, limit: int) -> list[Entry]:
    rows: Iterable[Any] = Event.objects.filter(wanted).order_by(order).values_list(*ENTRY)[:limit]
    return [Entry(*row) for row in rows]


def render(entries: Sequence[Entry], language: str) -> None:
    """Give each entry its frame in the language, with its object as it is now; one that is gone shows its id alone."""
    ids: defaultdict[str, set[int]] = defaultdict(set)
    for entry in entries:
        ids[_kind_of(entry)].add(entry.object_id)
    with translation.override(language):
        shown = {kind: _shown(kind, sorted(wanted)) for kind, wanted in ids.items()}
    for entry in entries:
        data = shown[_kind_of(entry)].get(entry.object_id) or _json({"id": entry.object_id})
        frame = b"id: %d\nevent: %s\ndata: %s\n\n"  # JSON has no line breaks of its own
        entry.frames[language] = frame % (entry.position, entry.type.encode(), data)


def _shown(kind: str, ids: Sequence[int]) -> Mapping[int, bytes]:
    if kind not in _kinds:  # written by a newer version of ours
        return {}
    try:
        show: Show = import_string(_kinds[kind].show)
        return {object_id: _json(data) for object_id, data in show(ids).items()}
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # one object that cannot be shown must not silence all that comes after it
        log.exception("event_not_shown", kind=kind)
        return {}


def _json(data: Mapping[str, Any]) -> bytes:
    rendered: bytes = JSONRenderer().render(data)
    return rendered


def _kind_of(entry: Entry) -> str:
    return entry.type.partition(".")[0]


def forget_old() -> int:
    """Delete the events of more than two hours ago, and tickets that nobody has used; the number of events."""
    Ticket.objects.filter(expires_at__lt=timezone.now()).delete()
    before, count = timezone.now() - KEPT, 0
    while True:
        oldest = list(Event.objects.order_by("pk").values_list("pk", "created_at")[:BATCH])
        old = [pk for pk, created_at in oldest if created_at < before]
        count += Event.objects.filter(pk__in=old).delete()[0]
        if len(old) < BATCH:
            return count
