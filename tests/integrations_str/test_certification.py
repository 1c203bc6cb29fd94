"""What a channel manager is certified for, through our API, with Avito's journal counting the calls."""

from tests.integrations_str.conftest import Home, assert_agrees, work


def test_connecting_reads_the_bookings_and_then_writes_three_times(home: Home) -> None:
    home.set_rate(5, 9, price=3000)
    home.set_rate(20, 29, closed=True)
    home.set_rate(40, 60, minStay=3)
    home.connect()
    assert [call.kind for call in home.avito.rent_calls(home.item)] == ["reads"]
    work()
    kinds = [call.kind for call in home.avito.rent_calls(home.item)]
    assert kinds.index("reads") == 0
    assert kinds.count("reads") == 1
    assert sorted(home.writes()) == ["base", "intervals", "prices"]
    assert_agrees(home)
    assert home.connection()["status"] == "ok"


def test_nothing_is_written_while_nothing_changes(home: Home) -> None:
    home.connect_and_push()
    for _ in range(20):
        home.read_now()
    assert home.writes() == []


def test_one_price_of_one_night_is_one_call_of_one_range(home: Home) -> None:
    home.connect_and_push()
    home.set_rate(7, price=333)
    work()
    (call,) = home.avito.rent_calls(home.item)
    assert call.kind == "prices"
    assert len(call.body["prices"]) == 1
    assert_agrees(home)
