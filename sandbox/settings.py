"""What may be set: by `SANDBOX_*` variables at start, and by the control API later."""

import json
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any
from zoneinfo import available_timezones

# Numbers that may fall below zero.
SIGNED = {"clock_shift_seconds"}


def _one_of(*choices: str) -> Any:
    """A setting with a few values; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices})


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
    # Whether every answer to a call with a bearer token tells where `calls_per_minute` stands, as X-RateLimit-*.
    rate_limit_headers: bool = False
    # How far "today" of the rent calendars is ahead of this machine's clock. Tokens and limits keep to the clock.
    clock_shift_seconds: float = 0
    # Short-term rent; a single listing may have any of these otherwise. Where its days begin and end:
    rent_timezone: str = "Europe/Moscow"
    # A price range without minimal_duration leaves the stays that were there, or returns them to the base.
    rent_minimal_duration_omitted: str = _one_of("keep", "clear")
    # Whether canceled bookings stay in the answer. If not, they vanish.
    rent_canceled_stay: bool = True
    # What becomes of a booking whose time to pay is over: no longer in the answer, or `canceled`.
    rent_expired: str = _one_of("vanish", "cancel")
    # Whether the answer holds stays that began before its date_start.
    rent_stays_in_progress: bool = True
    # Whether nights that the owner closed come back among the bookings, as rows without an id and a contact.
    rent_closed_rows: bool = False
    # Whether nights of a booking given up are for sale again, as far as the last intervals had them open.
    rent_cancellation_reopens: bool = True
    # Whether the ranges without a conflict are closed all the same when others of the call are refused by 409.
    rent_blocks_partial: bool = True
    # Whether a call that blocks nights takes the earlier blocks away; if not, it adds to them.
    rent_blocks_replace: bool = False
    # Whether bookings tell `total_for_buyer`, as since 2026-09-01.
    rent_total_for_buyer: bool = False
    # Whether bookings carry fields that no document knows.
    rent_extra_fields: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read `SANDBOX_ACCESS_TOKEN_SECONDS` and the like; values are JSON, else plain text (lists: by commas)."""
        settings = cls()
        given = {f.name: environ.get(f"SANDBOX_{f.name.upper()}") for f in fields(cls)}
        settings.update({camel(name): _from_text(getattr(settings, name), t) for name, t in given.items() if t})
        return settings

    def update(self, changes: Mapping[str, Any]) -> None:
        """Set camelCase `changes`, all or none; raises ValueError for a name or a type that does not fit."""
        for name, value in self.fitting(changes).items():
            setattr(self, name, value)

    def fitting(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """camelCase `changes` under the names of the fields; raises ValueError for what does not fit."""
        known = {camel(f.name): f for f in fields(self)}
        checked = {}
        for key, value in changes.items():
            if key not in known:
                raise ValueError(f"unknown setting {key}; known: {', '.join(known)}")
            checked[known[key].name] = _fitting(key, known[key], getattr(self, known[key].name), value)
        return checked

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


def _fitting(key: str, described: "Field[Any]", current: object, value: Any) -> Any:
    if isinstance(current, bool):
        good = isinstance(value, bool)
    elif isinstance(current, (int, float)):
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = good and (value >= 0 or described.name in SIGNED)
    elif key == "webhookRetrySeconds":
        good = isinstance(value, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    elif key == "rentTimezone":
        good = value in available_timezones()
    else:
        good = isinstance(value, type(current)) and value in described.metadata.get("choices", (value,))
    if not good:
        raise ValueError(f"{key}: {value!r} does not fit")
    return value
