"""What Avito refuses or leaves unanswered: what it means for single days, and how it ends."""

import json
from typing import Any

import pytest

from integrations_str import health
from tests.integrations_str.conftest import Home, assert_agrees, in_both_dialects, work

NO_ANSWER: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 503, "apply": "before"}),
    ("status", {"status": 503, "apply": "never"}),
    ("reset", {"apply": "before"}),
    ("reset", {"apply": "never"}),
    ("cut", {"apply": "before"}),
    ("status", {"status": 200, "body": '{"result": "accepted"}', "apply": "never"}),
    ("rubbish", {"apply": "before"}),
]
"""What tells nothing, whether the call took effect or not."""


@in_both_dialects
def test_after_any_answer_but_success_the_same_state_is_sent_again(home: Home) -> None:
    home.connect_and_push()
    for number, (fault, details) in enumerate(NO_ANSWER):
        for kind in ("prices", "intervals"):
            home.avito.forget_rent_calls()
            home.avito.rent_fault(fault, kind, home.item, times=1, **details)
            if kind == "prices":
                home.set_rate(number, price=2500 + number)
            else:
                home.set_rate(number, closed=True)
            work()
            assert home.calendar(30)[home.day(number)]["sync"] == "pending", f"{fault} {details}"
            home.push_again()
            first, again = home.calls(kind)
            assert first.body == again.body
            assert_agrees(home)
            assert home.connection()["status"] == "ok"


@in_both_dialects
def test_days_that_avito_names_wait_for_their_owner_and_the_others_go_on(home: Home) -> None:
    home.connect_and_push()
    text = "Слишком низкая цена"
    error = {"code": 422, "message": text, "fields": {"prices[1].night_price": text}}
    home.avito.rent_fault("status", "prices", home.item, status=422, times=1, body=json.dumps({"error": error}))
    for day in (10, 20, 30):
        home.set_rate(day, day + 1, price=2500 + day)
    work()
    days = home.calendar(60)
    assert [days[home.day(day)]["sync"] for day in (10, 20, 21, 30)] == ["synced", "failed", "failed", "synced"]
    assert len(home.calls("prices")) == 2
    assert [one["date_from"] for one in home.calls("prices")[1].body["prices"]] == [
        home.day(10).isoformat(),
        home.day(30).isoformat(),
    ]
    assert home.connection()["status"] == "error"
    assert home.connection()["lastError"]["code"] == "avito_rejected"
    assert text in home.connection()["lastError"]["detail"]
    assert home.connection()["pendingDays"] == 2
    health.watch()
    assert home.news() == ["connection_fell"]

    home.avito.forget_rent_calls()
    home.set_rate(40, price=2600)
    work()
    for _ in range(3):
        home.read_now()
        home.push_again()
    assert [len(call.body["prices"]) for call in home.calls("prices")] == [1], "nothing is tried again by itself"
    assert home.connection()["status"] == "error", "the two nights still wait"

    home.set_rate(20, 21, price=2700)
    work()
    assert_agrees(home)
    assert home.connection()["status"] == "ok"
    health.watch()
    assert home.news() == ["connection_fell", "connection_well"]


def test_a_refused_calendar_fails_for_the_nights_that_were_to_change(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("status", "intervals", home.item, status=422, times=1)
    home.set_rate(10, 11, closed=True)
    home.set_rate(20, price=2500)
    work()
    days = home.calendar(60)
    assert [days[home.day(day)]["sync"] for day in (10, 11, 20, 30)] == ["failed", "failed", "pending", "synced"]
    assert len(home.calls("intervals")) == 1
    home.push_again()  # nights that have to close are tried again, and hold up no price for that
    assert_agrees(home)
    home.push_again()
    assert {day["sync"] for day in home.calendar().values()} == {"synced"}
    assert home.connection()["status"] == "ok"


@pytest.mark.parametrize("kind", ["status", "rubbish"])
def test_bookings_that_cannot_be_read_take_nothing_away(home: Home, kind: str) -> None:
    home.connect_and_push()
    home.avito.book(home.item, home.day(10), home.day(12))
    home.read_now()
    home.avito.forget_rent_calls()
    home.avito.rent_fault(kind, "reads", home.item)
    for _ in range(4):
        home.read_now()
    assert [row["status"] for row in home.bookings()] == ["confirmed"]
    assert home.writes() == []
    home.avito.control("DELETE", "/faults")
    home.read_now()
    assert home.connection()["status"] == "ok"
    assert_agrees(home)
