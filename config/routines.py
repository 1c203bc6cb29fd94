"""What the service does by itself: what each routine is for, in words, and the diary of how it went."""

import json
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

WRITTEN_EVERY_SECONDS = 10.0

WORDS: dict[str, tuple[Any, Any]] = {
    "avito_accounts.tasks.refresh_expiring_tokens": (
        gettext_lazy("Renewing of tokens"),
        gettext_lazy("Renews the consents of accounts before they run out, so that Avito goes on answering."),
    ),
    "avito_accounts.tasks.subscribe_webhooks": (
        gettext_lazy("Subscription of webhooks"),
        gettext_lazy("Asks Avito to deliver new messages here, for accounts of which it does not yet."),
    ),
    "avito_accounts.tasks.check_webhooks": (
        gettext_lazy("Check of webhooks"),
        gettext_lazy("Looks whether Avito still delivers messages here, each account once an hour."),
    ),
    "avito_accounts.tasks.queue_checks": (
        gettext_lazy("Check of connections"),
        gettext_lazy("Queues accounts whose connection to Avito was last checked a while ago."),
    ),
    "avito_accounts.tasks.queue_syncs": (
        gettext_lazy("Reading of figures"),
        gettext_lazy("Queues accounts whose balance, views and contacts are old."),
    ),
    "avito_accounts.tasks.queue_nightly_syncs": (
        gettext_lazy("Nightly reading of figures"),
        gettext_lazy("Reads every account after midnight, so that each day gets its last figures."),
    ),
    "avito_accounts.tasks.tidy_jobs": (
        gettext_lazy("Tidying of bulk operations"),
        gettext_lazy("Ends bulk operations that have nothing left to do and forgets old ones."),
    ),
    "avito_accounts.tasks.forget_old_authorization_requests": (
        gettext_lazy("Forgetting of unfinished consents"),
        gettext_lazy("Deletes consents at Avito that nobody has finished within a month."),
    ),
    "chats.tasks.reconcile_due_accounts": (
        gettext_lazy("Catch-up of chats"),
        gettext_lazy("Reads chats at Avito, so that messages appear even where a webhook never came."),
    ),
    "messenger.tasks.forget_old_keys": (
        gettext_lazy("Forgetting of send keys"),
        gettext_lazy(
            "Deletes the keys that keep a message of the API from being sent twice, once they no longer hold."
        ),
    ),
    "messenger.tasks.forget_old_attempts": (
        gettext_lazy("Forgetting of signs of life"),
        gettext_lazy("Deletes the log of eternal online that is older than a few days."),
    ),
    "integrations_str.tasks.forget_old": (
        gettext_lazy("Tidying of short-term rent"),
        gettext_lazy("Deletes old lines of the log, conflicts that are over and contacts of guests of long ago."),
    ),
    "notifications.tasks.forget_old": (
        gettext_lazy("Forgetting of notifications"),
        gettext_lazy("Deletes notifications that are older than 90 days."),
    ),
    "notifications.tasks.forget_old_events": (
        gettext_lazy("Forgetting of live events"),
        gettext_lazy("Deletes what open pages were told more than two hours ago."),
    ),
    "celery.backend_cleanup": (
        gettext_lazy("Celery’s own tidying"),
        gettext_lazy("Came with Celery and finds nothing here: it may be deleted."),
    ),
    "chats.tasks.sweep_inbox": (
        gettext_lazy("Webhook inbox"),
        gettext_lazy("Turns what Avito has delivered into chats and messages."),
    ),
    "chats.tasks.sweep_replies": (
        gettext_lazy("Delivery of replies"),
        gettext_lazy("Sends replies that wait, and finds out what became of those without an answer."),
    ),
    "chats.tasks.sweep_chats": (
        gettext_lazy("Reading of chats"),
        gettext_lazy("Reads chats at Avito of which something new was heard."),
    ),
    "avito_accounts.tasks.check_proxies": (
        gettext_lazy("Check of proxies"),
        gettext_lazy("Tries proxies of which nothing was heard for a while, or that have failed."),
    ),
    "avito_accounts.tasks.work_jobs": (
        gettext_lazy("Background jobs of accounts"),
        gettext_lazy("Does the checks, readings and subscriptions that are queued; several at the same time."),
    ),
    "messenger.tasks.keep_online": (
        gettext_lazy("Eternal online"),
        gettext_lazy("Gives signs of life for accounts that are to stay online."),
    ),
    "notifications.tasks.sweep_events": (
        gettext_lazy("Live events"),
        gettext_lazy("Puts in order what open pages are told at once."),
    ),
    "integrations_str.tasks.tick": (
        gettext_lazy("Sync queue"),
        gettext_lazy("Sends prices and nights to Avito and reads bookings, for every connection whose time has come."),
    ),
    "integrations_str.tasks.watch": (
        gettext_lazy("Watch over connections"),
        gettext_lazy("Tells owners when their connection to Avito is in trouble, and when that is over."),
    ),
}
"""Title and meaning of everything that is done by itself, by the path of its function."""

CAUSES: dict[str, Any] = {
    **dict.fromkeys(
        ("OperationalError", "InterfaceError", "PoolTimeout"),
        gettext_lazy("PostgreSQL was away, or broke off what it was asked."),
    ),
    **dict.fromkeys(
        ("ConnectionError", "TimeoutError", "BusyLoadingError"), gettext_lazy("Redis did not answer, or not in time.")
    ),
    **dict.fromkeys(
        ("NotConnected", "TimedOut", "Broken", "Unreadable"), gettext_lazy("Avito did not answer as it should.")
    ),
    "RateLimited": gettext_lazy("Avito asked for a pause."),
}
"""What an exception comes to, by its class; any other is a fault of the program."""


def title(name: str) -> str:
    return str(WORDS[name][0]) if name in WORDS else name


def meaning(name: str) -> str:
    return str(WORDS[name][1]) if name in WORDS else _("Not a part of this service: somebody has added it.")


def cause(error: str) -> str:
    """Why a run failed, in words, with the class and place for whoever mends it."""
    kind = error.partition(" ")[0]
    text = CAUSES.get(kind, gettext_lazy("A fault in the program."))
    return f"{text} ({error})"


def told(error: BaseException) -> str:
    """An exception by its class and the last place in our code. Messages may quote secrets or people: they stay out."""
    kind = type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(settings.BASE_DIR) and "site-packages" not in path.parts and path.parent != HERE:
            return f"{kind} {path.relative_to(settings.BASE_DIR)}:{frame.lineno}"[:200]
    return kind[:200]


HERE = Path(__file__).parent
"""Whatever runs routines is not the place where one fails."""

WRITE = """
INSERT INTO config_routine AS known (name, started_at, ended_at, seconds, failed_at, error)
SELECT name, now() - make_interval(secs => started), now() - make_interval(secs => ended), seconds,
       now() - make_interval(secs => failed), error
FROM jsonb_to_recordset(%s)
    AS note (name text, started float8, ended float8, seconds float8, failed float8, error text)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET
    started_at = GREATEST(known.started_at, excluded.started_at),
    ended_at = GREATEST(known.ended_at, excluded.ended_at),
    seconds = CASE WHEN excluded.ended_at >= COALESCE(known.ended_at, '-infinity')
              THEN excluded.seconds ELSE known.seconds END,
    failed_at = GREATEST(known.failed_at, excluded.failed_at),
    error = CASE WHEN excluded.failed_at >= COALESCE(known.failed_at, '-infinity')
            THEN excluded.error ELSE known.error END
"""


@dataclass
class Note:
    """Moments are this process's monotonic seconds: in the row the database's own clock counts."""

    started: float
    ended: float | None = None
    seconds: float | None = None
    failed: float | None = None
    error: str = ""


class Diary:
    """What this process has done by itself, in memory until its heart writes it down.

    So no work waits for a write or fails with it, and what happens every second is written every ten.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: dict[str, Note] = {}
        self._failing: set[str] = set()
        self._is_urgent = False
        self._written = 0.0

    def begin(self, name: str) -> float:
        """Returns what `end` wants to know."""
        now = time.monotonic()
        with self._lock:
            self._note(name, now).started = now
        return now

    def end(self, name: str, began: float, error: BaseException | None = None) -> None:
        now = time.monotonic()
        with self._lock:
            note = self._note(name, began)
            note.ended, note.seconds = now, now - began
            if error is not None:
                note.failed, note.error = now, told(error)
            self._is_urgent |= (error is not None) != (name in self._failing)
            (self._failing.discard if error is None else self._failing.add)(name)

    def _note(self, name: str, began: float) -> Note:
        return self._notes.setdefault(name, Note(began))

    def write(self, *, at_once: bool = False) -> None:
        """Write down what is new: every ten seconds, or at once where something began or ceased to fail."""
        now = time.monotonic()
        with self._lock:
            is_time = at_once or self._is_urgent or now - self._written >= WRITTEN_EVERY_SECONDS
            if not self._notes or not is_time:
                return
            notes, self._notes, self._is_urgent = self._notes, {}, False
        try:
            with connection.cursor() as cursor:
                cursor.execute(WRITE, [json.dumps([_row(name, note, now) for name, note in notes.items()])])
        except Exception:
            with self._lock:  # what has come meanwhile is newer, but may not know of a failure
                for name, note in notes.items():
                    newer = self._notes.setdefault(name, note)
                    if newer.failed is None:
                        newer.failed, newer.error = note.failed, note.error
            raise
        self._written = now


def _row(name: str, note: Note, now: float) -> dict[str, Any]:
    ages = {key: None if at is None else now - at for key, at in vars(note).items() if key not in ("seconds", "error")}
    return {"name": name, **ages, "seconds": note.seconds, "error": note.error}


diary = Diary()
