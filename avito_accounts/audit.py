"""Who changed what in accounts and proxies. The history keeps no secret, only that one has changed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from avito_accounts.models import Account, Proxy

MODELS: dict[str, type[Account] | type[Proxy]] = {"account": Account, "proxy": Proxy}
NOTES: dict[str, Any] = {
    "client_id": gettext_lazy("The client id has changed; it is secret."),
    "client_secret": gettext_lazy("The client secret has changed; it is secret."),
    "password": gettext_lazy("The password has changed; it is secret."),
    "consent": gettext_lazy("Consent was given at Avito."),
    "tokens_renewed": gettext_lazy("The tokens were renewed by hand."),
}
"""What a history's reason says of a change that no field shows."""

Entry = tuple[str, int]


@dataclass(frozen=True)
class FieldChange:
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Change:
    """One entry of the trail. `what`: "+" added, "~" changed, "-" deleted; `who` is empty for the service itself."""

    at: datetime
    who: str
    what: str
    kind: str
    id: int
    name: str
    is_there: bool
    fields: list[FieldChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def note(account: Account, reason: str, *, user: User | None) -> None:
    """Write into the account's history what no field of it shows; `reason` is a key of NOTES."""
    row = Account.objects.filter(pk=account.pk).first()  # the history copies the row: it must be the present one
    if row is not None:
        row._change_reason, row._history_user = reason, user  # type: ignore[attr-defined]
        row.save(update_fields=["updated_at"])


def entries(kind: str = "", pk: int | None = None) -> QuerySet[Any, Any]:
    """The trail's entries, newest first: of everything, or of one account or proxy."""
    if kind:
        return _entries(kind).filter(id=pk).order_by("-history_date", "-history_id")
    first, *others = (_entries(kind) for kind in MODELS)
    return first.union(*others, all=True).order_by("-history_date", "-history_id")


def _entries(kind: str) -> QuerySet[Any, Any]:
    rows = _history(kind).annotate(kind=Value(kind))
    return rows.order_by().values_list("kind", "history_id", "history_date")  # type: ignore[no-any-return]


def read(found: Iterable[tuple[Any, ...]]) -> list[Change]:
    """The changes behind entries, in their order, with a number of queries that does not grow."""
    order: list[Entry] = [(kind, pk) for kind, pk, *_rest in found]
    rows: dict[Entry, Any] = {}
    before: dict[Entry, Any] = {}
    living: set[Entry] = set()
    for kind in MODELS:
        some = _rows(kind, [pk for its, pk in order if its == kind])
        rows |= {(kind, row.pk): row for row in some}
        before |= {(kind, pk): row for pk, row in _history(kind).in_bulk([row.previous for row in some]).items()}
        ids = MODELS[kind].objects.filter(pk__in={row.id for row in some})
        living |= {(kind, pk) for pk in ids.values_list("pk", flat=True)}
    names = _proxy_names({getattr(row, "proxy_id", None) for row in (*rows.values(), *before.values())})
    return [
        _change(entry[0], rows[entry], before.get((entry[0], rows[entry].previous)), living, names)
        for entry in order
        if entry in rows
    ]


def _history(kind: str) -> Any:
    return MODELS[kind].history.model.objects


def _rows(kind: str, pks: list[int]) -> list[Any]:
    """Rows of the history, each with the number of the one before it."""
    earlier = _history(kind).filter(id=OuterRef("id"), history_id__lt=OuterRef("history_id")).order_by("-history_id")
    rows = _history(kind).filter(history_id__in=pks).select_related("history_user")
    return list(rows.annotate(previous=Subquery(earlier.values("history_id")[:1])))


def _proxy_names(ids: set[int | None]) -> dict[int, str]:
    """What the proxies were called last, be they gone by now; without the login, which only admins may see."""
    rows = _history("proxy").filter(id__in=ids - {None}).order_by("id", "-history_id").distinct("id")
    return {row.id: f"{row.type}://{row.host}:{row.port}" for row in rows}


def _change(kind: str, row: Any, before: Any, living: set[Entry], names: dict[int, str]) -> Change:
    reasons = (row.history_change_reason or "").split(", ")
    return Change(
        at=row.history_date,
        who=row.history_user.get_username() if row.history_user else "",
        what=row.history_type,
        kind=kind,
        id=row.id,
        name=row.name if kind == "account" else f"{row.type}://{row.host}:{row.port}",
        is_there=(kind, row.id) in living,
        fields=[] if row.history_type == "-" else list(_differences(kind, row, before, names)),
        notes=[str(NOTES[reason]) for reason in reasons if reason in NOTES],
    )


def _differences(kind: str, row: Any, before: Any, names: dict[int, str]) -> Iterable[FieldChange]:
    for tracked in _history(kind).model.tracked_fields:
        new, old = getattr(row, tracked.attname), getattr(before, tracked.attname, None)
        if not tracked.primary_key and (new != old if before else new not in {None, ""}):
            yield FieldChange(str(tracked.verbose_name), _shown(tracked, old, names), _shown(tracked, new, names))


def _shown(tracked: Any, value: Any, names: dict[int, str]) -> str:
    if value is None or value == "":
        return "—"
    if tracked.name == "proxy":
        return names.get(value, f"№ {value}")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(dict(tracked.flatchoices).get(value, value))
