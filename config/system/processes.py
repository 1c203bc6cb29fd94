"""Workers and beats, alive or silent."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from avito_accounts.admin import shown

KINDS = {"worker": gettext_lazy("worker"), "beat": gettext_lazy("beat")}


@dataclass(frozen=True)
class Life:
    """A process as the page tells of it."""

    row: Any

    @property
    def name(self) -> str:
        return str(KINDS.get(self.row.kind, self.row.kind))

    @property
    def heard_of(self) -> str:
        return ago(self.row.beat_at)

    @property
    def label(self) -> str:
        if self.row.is_alive:
            return shown.label("success", _("alive"))
        hint = _("It was killed, or cannot reach PostgreSQL. Its row goes after a day of silence.")
        return shown.label("danger", _("silent"), hint)


def ago(at: datetime | None) -> SafeString | str:
    """Like `shown.ago`, in seconds at first."""
    seconds = -1 if at is None else (timezone.now() - at).total_seconds()
    if at is None or seconds >= 90:
        return shown.ago(at)
    text = _("%(count)s s ago") % {"count": max(0, round(seconds))}
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), shown.moment(at), text)
