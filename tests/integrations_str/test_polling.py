"""How often bookings are read, by what goes on with a connection."""

from integrations_str.models import SyncTask
from tests.integrations_str.conftest import Home


def test_guests_booking_is_no_edit_of_the_owners(home: Home) -> None:
    home.connect_and_push()
    SyncTask.objects.update(edited_at=None)

    home.avito.book(home.item, home.day(100), home.day(102))
    home.read_now()
    assert [row["source"] for row in home.bookings()] == ["avito"]
    assert SyncTask.objects.get().edited_at is None

    home.book(10, 12)
    assert SyncTask.objects.get().edited_at is not None
