"""How a connection fares: one word, its cause, and what to do; and telling owners when that changes for the worse."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from django.utils import timezone

from integrations_str import news
from integrations_str.models import ITEM_ERRORS, Integration, SyncTask
from notifications.models import Problem

Status = Literal["syncing", "ok", "error", "needs_reconnect", "item_unavailable", "off"]
STATUSES = get_args(Status)
FAILURES_TOLD = 3
TOLD_ANEW = ("token_expired", "closing_late", *ITEM_ERRORS)
"""What asks for something else to be done than whatever was told before."""
IMPORT_LATE, CLOSING_LATE = timedelta(minutes=5), timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Health:
    """`code` and `text`: what is wrong, as `news.TROUBLES` has it, or empty. `is_told`: worth waking people."""

    status: Status
    code: str = ""
    text: str = ""
    is_told: bool = False

    @property
    def detail(self) -> str:
        """In the reader's language."""
        return str(news.TROUBLES.get(self.code, self.code)) % {"text": self.text or "—"}


def health_of(integration: Integration, *, now: datetime | None = None) -> Health:
    """How a connection fares; it comes with its task, its account and the account's authorisation."""
    now = now or timezone.now()
    task: SyncTask = integration.task
    if not integration.is_active:
        return Health("off")
    if not is_usable(integration):
        return Health("needs_reconnect", "token_expired", is_told=True)
    for code, text in (task.pull_error_code, task.pull_error_detail), (task.push_error_code, task.push_error_detail):
        if code in ITEM_ERRORS:
            return Health("item_unavailable", code, text, is_told=True)
    if task.waits_for_consent:  # also when nights have to close: nothing else would help
        return Health("error", "consent_needed", is_told=True)
    if task.is_closing and task.dirty_since and now - task.dirty_since > CLOSING_LATE:
        return Health("error", "closing_late", is_told=True)
    if task.dead_at:
        return Health("error", task.push_error_code, task.push_error_detail, is_told=True)
    if task.push_error_code:
        is_lasting = not task.push_failures or task.push_failures >= FAILURES_TOLD
        is_told = not task.push_failures
        return Health("error" if is_lasting else "syncing", task.push_error_code, task.push_error_detail, is_told)
    since = integration.last_pull_at or integration.connected_at
    if task.pull_error_code:
        is_late = now - since > IMPORT_LATE
        status: Status = "error" if is_late or task.pull_failures >= FAILURES_TOLD else "syncing"
        return Health(status, task.pull_error_code, task.pull_error_detail, is_late)
    if now - since > IMPORT_LATE and now - task.pull_at > IMPORT_LATE:
        return Health("error", "import_late", is_told=True)
    return Health("syncing" if task.push_at or not integration.first_pushed_at else "ok")


def is_usable(integration: Integration) -> bool:
    """May Avito be asked for it? The account's tokens live, as far as we know; the queue asks the same of the rows."""
    return integration.account is not None and may_be_asked(integration.account)


def may_be_asked(account: Any) -> bool:
    """Do the account's tokens or keys live, as far as we know?"""
    if account.avito_user_id is None or account.connection_error_code == "invalid_client":
        return False
    if account.connection_status == account.ConnectionStatus.NEEDS_RECONNECT:
        return False
    authorization = getattr(account, "authorization", None)
    return account.has_own_keys if authorization is None else not authorization.dead_reason


def watch(*, now: datetime | None = None) -> None:
    """Compare how all connections fare with what their owners have been told."""
    connected = Integration.objects.connected().select_related("task", "property__owner", "account__authorization")
    problems = Problem.objects.filter(key__startswith="str:", solved_at=None)
    told = dict(problems.values_list("key", "notification__params__reason"))
    for integration in connected.iterator(chunk_size=500):
        health, reason = health_of(integration, now=now), told.get(news.problem_key(integration.pk))
        if reason is not None and health.code in TOLD_ANEW and health.code != reason:
            news.forget_connection(integration)
            reason = None
        if health.is_told and reason is None:
            news.connection_fell(integration, health.code, health.text)
        elif reason is not None and health.status in ("ok", "off"):
            news.connection_well(integration)
