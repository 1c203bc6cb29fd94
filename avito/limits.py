"""How often Avito lets itself be called: what it publishes, and what its answers say. Pure.

Source: Avito API, the descriptions of the single calls; X-RateLimit-Limit and X-RateLimit-Remaining count one minute.
"""

import re
from dataclasses import dataclass
from typing import Self

from avito.protocol import Request, Response, retry_after

LIMIT_MAX = 1_000_000
"""A larger "limit" is none."""

_ID = r"[^/]+"
_CALLS: tuple[tuple[str, str, str, int | None], ...] = (
    ("GET", r"/core/v1/items", "items", 25),
    ("GET", rf"/core/v1/accounts/{_ID}/items/{_ID}", "item_info", 500),
    ("POST", rf"/core/v1/items/{_ID}/update_price", "item_price", 150),
    ("POST", rf"/stats/v2/accounts/{_ID}/items", "stats_v2", 1),
    ("POST", rf"/stats/v2/accounts/{_ID}/spendings", "spendings", 1),
    (r"\w+", r"/messenger/.+", "messenger", None),
    (r"\w+", r"/(realty|short_term_rent)/.+", "rent", None),
    ("POST", rf"/core/v1/accounts/{_ID}/items/{_ID}/bookings", "rent", None),
    (r"\w+", r"/stats/.+", "stats", None),
    (r"\w+", rf"/core/v1/accounts/{_ID}/calls/.+", "stats", None),
    (r"\w+", r"/core/v\d/.*(vas|vas_packages)(/.*)?", "promotion", None),
    (r"\w+", rf"/user|/core/v1/accounts/({_ID}|{_ID}/balance)", "user", None),
)
_PATTERNS = tuple((re.compile(rf"({method}) ({path})/?"), section, limit) for method, path, section, limit in _CALLS)
OTHER = "other"

PUBLISHED: dict[str, int] = {section: limit for *_, section, limit in _CALLS if limit is not None}
"""Calls a minute of one account, by section; Avito publishes none for the others."""


def section_of(request: Request) -> str:
    """A short stable word for the calls that Avito counts together, as far as it is known."""
    call = f"{request.method} {request.path}"
    return next((section for pattern, section, _ in _PATTERNS if pattern.fullmatch(call)), OTHER)


def published(request: Request) -> int | None:
    """Calls like this one that an account may make in a minute; None where Avito says nothing."""
    return PUBLISHED.get(section_of(request))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an answer says about further calls of its kind; None for what it does not say, or says in nonsense.

    `is_refused`: this one was too many. `retry_after_seconds`: when the next one may come.
    """

    limit: int | None = None
    remaining: int | None = None
    retry_after_seconds: int | None = None
    is_refused: bool = False

    @classmethod
    def from_response(cls, response: Response) -> Self:
        limit = _count(response.header("X-RateLimit-Limit")) or None
        remaining = _count(response.header("X-RateLimit-Remaining"))
        if limit is not None and remaining is not None and remaining > limit:
            limit = remaining = None
        # A wait of nothing says nothing: a refused call would come back at once.
        pause = retry_after(response.header("Retry-After")) or None if response.status >= 400 else None
        return cls(limit, remaining, pause, response.status == 429)


def _count(value: str) -> int | None:
    written = value.strip()
    if not re.fullmatch(r"\d{1,7}", written, re.ASCII) or int(written) > LIMIT_MAX:
        return None
    return int(written)
