"""What Avito publishes about its limits, and what its answers say."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avito import protocol
from avito.limits import PUBLISHED, Allowance, published, section_of
from avito.protocol import Request, Response


@pytest.mark.parametrize(
    ("method", "path", "section", "limit"),
    [
        ("GET", "/core/v1/items", "items", 25),
        ("GET", "/core/v1/accounts/94235311/items/24122231/", "item_info", 500),
        ("GET", "/core/v1/accounts/94235311/items/24122231", "item_info", 500),
        ("POST", "/core/v1/items/24122231/update_price", "item_price", 150),
        ("POST", "/stats/v2/accounts/94235311/items", "stats_v2", 1),
        ("POST", "/stats/v2/accounts/94235311/spendings", "spendings", 1),
        ("POST", "/stats/v1/accounts/94235311/items", "stats", None),
        ("POST", "/core/v1/accounts/94235311/calls/stats/", "stats", None),
        ("GET", "/core/v1/accounts/self", "user", None),
        ("GET", "/core/v1/accounts/94235311/balance/", "user", None),
        ("POST", "/core/v1/accounts/operations_history/", "user", None),
        ("GET", "/messenger/v2/accounts/94235311/chats", "messenger", None),
        ("POST", "/messenger/v1/accounts/94235311/chats/u2i-~a%2Fb/messages", "messenger", None),
        ("POST", "/messenger/v3/webhook", "messenger", None),
        ("POST", "/core/v1/accounts/94235311/items/24122231/bookings", "rent", None),
        ("GET", "/realty/v1/accounts/94235311/items/24122231/bookings", "rent", None),
        ("POST", "/realty/v1/items/intervals", "rent", None),
        ("PUT", "/short_term_rent/accounts/1/items/2/prices", "rent", None),
        ("GET", "/user", "user", None),
        ("PUT", "/core/v2/items/24122231/vas/", "promotion", None),
        ("POST", "/core/v1/accounts/94235311/vas/prices", "promotion", None),
        ("POST", "/core/v1/items", "other", None),
        ("GET", "/new/thing", "other", None),
    ],
)
def test_every_call_belongs_to_a_section(method: str, path: str, section: str, limit: int | None) -> None:
    request = Request(method, path, query=(("page", "1"),))
    assert section_of(request) == section
    assert published(request) == limit


def test_each_published_number_is_reachable() -> None:
    assert PUBLISHED == {"items": 25, "item_info": 500, "item_price": 150, "stats_v2": 1, "spendings": 1}


def said(status: int = 200, **headers: str) -> Allowance:
    return Allowance.from_response(Response(status, {name.replace("_", "-"): value for name, value in headers.items()}))


def test_the_headers_are_read_in_any_spelling() -> None:
    assert said(X_RateLimit_Limit="60", X_RateLimit_Remaining=" 59 ") == Allowance(60, 59)
    assert said(x_ratelimit_limit="60", x_ratelimit_remaining="0") == Allowance(60, 0)
    assert said() == Allowance()


@pytest.mark.parametrize(
    "nonsense", ["", "-1", "1.5", "many", "0x10", "٣", "99999999", "1000001", "60, 60;w=60", "1e3"]
)
def test_nonsense_says_nothing(nonsense: str) -> None:
    assert said(X_RateLimit_Limit=nonsense, X_RateLimit_Remaining=nonsense) == Allowance()


def test_a_limit_of_nothing_and_more_left_than_allowed_say_nothing() -> None:
    assert said(X_RateLimit_Limit="0") == Allowance()
    assert said(X_RateLimit_Limit="10", X_RateLimit_Remaining="11") == Allowance()


def test_a_refusal_says_when_to_come_back() -> None:
    assert said(429, Retry_After="7") == Allowance(retry_after_seconds=7, is_refused=True)
    assert said(503, Retry_After="7") == Allowance(retry_after_seconds=7)
    assert said(429, Retry_After="0") == said(429, Retry_After="soon") == said(429) == Allowance(is_refused=True)
    later = said(429, Retry_After=format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert later.retry_after_seconds is not None
    assert 3000 < later.retry_after_seconds <= 3600
    assert said(200, Retry_After="7") == Allowance()


@given(st.integers(100, 599), st.text(), st.text(), st.text())
def test_no_headers_break_it(status: int, limit: str, remaining: str, wait: str) -> None:
    allowance = said(status, X_RateLimit_Limit=limit, X_RateLimit_Remaining=remaining, Retry_After=wait)
    assert (allowance.limit or 1) > 0
    assert allowance.retry_after_seconds is None or 0 < allowance.retry_after_seconds <= protocol.RETRY_AFTER_MAX
