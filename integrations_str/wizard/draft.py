"""What was chosen so far, kept in the session."""

import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from django.http import HttpRequest

from integrations_str.models import Property
from integrations_str.wizard.troubles import AUTHORIZE

KEPT_SECONDS = 3600
SESSION_KEY = "str_connect"


@dataclass
class Draft:
    """What was chosen so far. `step`: the furthest that is open; `outlook`: what the check of the item has found."""

    step: int = AUTHORIZE
    account: int = 0
    item: int = 0
    markup: str = ""
    outlook: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0

    @classmethod
    def of(cls, request: HttpRequest, property: Property) -> "Draft":
        kept = request.session.get(SESSION_KEY, {}).get(str(property.pk), {})
        if time.time() - kept.get("at", 0) > KEPT_SECONDS:
            return cls()
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in kept.items() if name in known})

    def keep(self, request: HttpRequest, property: Property) -> None:
        self.at = time.time()
        living = self._others(request, property)
        request.session[SESSION_KEY] = {**living, str(property.pk): asdict(self)}

    @classmethod
    def forget(cls, request: HttpRequest, property: Property) -> None:
        request.session[SESSION_KEY] = cls._others(request, property)

    @staticmethod
    def _others(request: HttpRequest, property: Property) -> dict[str, Any]:
        rows: dict[str, Any] = request.session.get(SESSION_KEY, {})
        since = time.time() - KEPT_SECONDS
        return {key: row for key, row in rows.items() if key != str(property.pk) and row.get("at", 0) > since}
