"""What may be set: by `SANDBOX_*` variables at start, and by the control API later."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Settings:
    """Behaviours of Avito that are undocumented, or that a test wants to see both ways."""

    access_token_seconds: float = 86400
    refresh_token_seconds: float = 365 * 86400
    code_seconds: float = 600
    # Undocumented at Avito: whether issuing a token kills the earlier ones of the same seller and application.
    old_tokens_die: bool = False
    # The error schemas say 401, the auth guide says 403.
    expired_status: int = 401
    # How long the answer of /token is held back after the token was issued.
    token_delay_seconds: float = 0
    # The document declares a bare array; live clients see {"messages": [...], "meta": {...}}.
    messages_as_array: bool = False
    # Pauses before the second, third ... attempt of a delivery; after the last one it is given up.
    webhook_retry_seconds: list[float] = field(default_factory=lambda: [1.0, 5.0, 15.0, 60.0])
    webhook_timeout_seconds: float = 2
    # Key of x-avito-messenger-signature, here the hex HMAC-SHA256 of the raw body (Avito's recipe is unpublished).
    webhook_secret: str = "sandbox-webhook-secret"
    webhook_drop_probability: float = 0
    # Whether this Avito knows POST .../status/online; its documents do not.
    status_online_known: bool = False
    # Redirect addresses registered for `sandbox-client`; empty: any loopback address given in the request.
    redirect_uris: list[str] = field(default_factory=list)
    # How many calls a window lets through; 0: any number. The first two count for each seller apart, as published.
    items_per_minute: int = 25
    item_info_per_minute: int = 500
    # All calls with a bearer token, of all sellers together. Avito publishes no such number.
    calls_per_minute: int = 0
    # The length of that minute, for those who cannot wait.
    limit_window_seconds: float = 60
    # What Retry-After a refusal by these limits carries; 0: none, as documented.
    retry_after_seconds: int = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read `SANDBOX_ACCESS_TOKEN_SECONDS` and the like; values are JSON, else plain text (lists: by commas)."""
        settings = cls()
        given = {f.name: environ.get(f"SANDBOX_{f.name.upper()}") for f in fields(cls)}
        settings.update({camel(name): _from_text(getattr(settings, name), t) for name, t in given.items() if t})
        return settings

    def update(self, changes: Mapping[str, Any]) -> None:
        """Set camelCase `changes`, all or none; raises ValueError for a name or a type that does not fit."""
        names = {camel(f.name): f.name for f in fields(self)}
        checked = {}
        for key, value in changes.items():
            if key not in names:
                raise ValueError(f"unknown setting {key}; known: {', '.join(names)}")
            checked[names[key]] = _fitting(key, getattr(self, names[key]), value)
        for name, value in checked.items():
            setattr(self, name, value)

    def as_json(self) -> dict[str, Any]:
        return {camel(f.name): getattr(self, f.name) for f in fields(self)}


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _from_text(current: object, text: str) -> Any:
    if isinstance(current, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text.split(",") if isinstance(current, list) else text


def _fitting(key: str, current: object, value: Any) -> Any:
    if isinstance(current, bool):
        good = isinstance(value, bool)
    elif isinstance(current, (int, float)):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    elif key == "webhookRetrySeconds":
        good = isinstance(value, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    else:
        good = isinstance(value, type(current))
    if not good:
        raise ValueError(f"{key}: {value!r} does not fit")
    return value
