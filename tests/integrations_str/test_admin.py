"""Short-term rent in the back office: hosts see and change their own rows alone, the staff in charge everything."""

import datetime as dt
import itertools
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from api.roles import HOSTS
from avito_accounts.models import Authorization
from integrations_str import bookings, log, services
from integrations_str.models import (
    Access,
    Booking,
    ChannelDay,
    Conflict,
    Integration,
    Property,
    QuarantinedBooking,
    SyncTask,
    computed,
)
from tests.factories import authorize, make_account, make_user
from tests.integrations_str.conftest import Home, assert_agrees, integration_of, work
from tests.test_admin import signed_in, text_of

BASE = "/admin/integrations_str/"
PROPERTIES, BOOKINGS, CONFLICTS = f"{BASE}property/", f"{BASE}booking/", f"{BASE}conflict/"
CONNECTIONS, QUEUE = f"{BASE}integration/", f"{BASE}synctask/"
LISTS = (PROPERTIES, BOOKINGS, CONFLICTS, CONNECTIONS)
PROPERTY_FORM = {
    "name": "Дом у реки", "address": "", "timezone": "Europe/Moscow", "base_price": "4000", "min_stay": "2",
    "max_guests": "4",
}  # fmt: skip
pytestmark = pytest.mark.django_db


def host_client(user: User) -> Client:
    user.groups.add(Group.objects.get_or_create(name=HOSTS)[0])
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client(headers={"accept-language": "en"})
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@dataclass
class Estate:
    """All that a host can have: a property, two bookings that claim the same night, a connection in trouble."""

    owner: User
    property: Property
    by_hand: Booking
    from_avito: Booking
    conflict: Conflict
    connection: Integration

    @computed
    def pages(self) -> dict[str, int]:
        return {
            PROPERTIES: self.property.pk,
            BOOKINGS: self.by_hand.pk,
            CONFLICTS: self.conflict.pk,
            CONNECTIONS: self.connection.pk,
        }

    @computed
    def buttons(self) -> list[str]:
        connection, booking = f"{CONNECTIONS}{self.connection.pk}/", f"{BOOKINGS}{self.by_hand.pk}/"
        names = ("sync-now", "agree", "pause", "go-on", "reconnect")
        return [f"{booking}cancel/", *(f"{connection}{name}/" for name in names)]


def day(number: int) -> dt.date:
    """So many days from Moscow's today."""
    return Property(timezone="Europe/Moscow").today() + timedelta(days=number)


_items = itertools.count(70_000)


def make_estate(name: str, *, title: str = "") -> Estate:
    owner = User.objects.filter(username=name).first() or make_user(name)
    title = title or f"Flat of {name}"
    place = services.add_property(owner, name=title, base_price=2000, address=f"{title} street")
    account = make_account()
    authorize(account)
    Access.objects.create(account=account, user=owner)
    connection = Integration.objects.create(
        property=place, account=account, item_id=next(_items), horizon_from=day(0), last_pull_at=timezone.now()
    )
    SyncTask.objects.create(
        integration=connection,
        pull_at=timezone.now() + timedelta(hours=1),
        push_error_code="avito_timeout",
    )
    by_hand = bookings.book(
        place, check_in=day(10), check_out=day(12), guest_name=f"Guest of {name}", guest_phone="+79161234567"
    )
    from_avito = Booking.objects.create(
        property=place, source="avito", avito_booking_id=connection.item_id + 1, item_id=connection.item_id,
        raw_status="active", check_in=day(11), check_out=day(14), guest_name=f"Avito guest of {name}",
        total_price=9000, deposit=1800, commission=900, owner_amount=900,
    )  # fmt: skip
    bookings.settle(place, closes=False)
    SyncTask.objects.filter(integration=connection).update(
        dead_at=timezone.now(), push_at=timezone.now(), push_failures=12
    )
    QuarantinedBooking.objects.create(
        integration=connection, avito_booking_id=5, fingerprint=title, reason="no_dates",
        raw=f'{{"contact": "Secret guest of {name}"}}',
    )  # fmt: skip
    log.Entry(connection, "set_prices", {"days": 3, "first": "2027-01-01", "last": "2027-01-03"}).write()
    return Estate(owner, place, by_hand, from_avito, Conflict.objects.get(property=place), connection)


@pytest.fixture
def mine() -> Estate:
    return make_estate("mira")


@pytest.fixture
def theirs() -> Estate:
    return make_estate("boris")


@pytest.fixture
def mira(mine: Estate) -> Client:
    return host_client(mine.owner)


@pytest.fixture
def boss() -> Client:
    return signed_in("boss", "admin")


def russian(client: Client, path: str) -> str:
    return text_of(client.get(path, headers={"accept-language": "ru"}))


def ids(answer: Any) -> list[int]:
    return sorted(row.pk for row in answer.context["cl"].result_list)


def is_missing(answer: Any) -> bool:
    """As the back office answers for what does not exist."""
    return bool(answer.status_code == 404 or (answer.status_code == 302 and answer["Location"] == "/admin/"))


# Who sees what


def test_the_group_of_hosts_is_there_after_the_migrations(transactional_db: None) -> None:
    from django.db.migrations.executor import MigrationExecutor

    Group.objects.filter(name=HOSTS).delete()
    executor = MigrationExecutor(database)
    executor.migrate([("api", "0002_roles_exist")])
    executor = MigrationExecutor(database)
    executor.migrate([("api", "0003_hosts_exist")])
    assert Group.objects.filter(name=HOSTS).exists()


def test_a_host_sees_only_what_is_the_own(mira: Client, mine: Estate, theirs: Estate) -> None:
    for path, pk in mine.pages.items():
        answer = mira.get(path)
        assert pk in ids(answer)
        assert theirs.pages[path] not in ids(answer)
        for page in (path, f"{path}{pk}/change/"):
            shown = text_of(mira.get(page))
            assert "Flat of mira" in shown
            assert "boris" not in shown
    assert "integrations_str/synctask" not in text_of(mira.get("/admin/"))
    assert mira.get(QUEUE).status_code == 403
    assert "Secret guest" not in text_of(mira.get(f"{CONNECTIONS}{mine.connection.pk}/change/")), "raw rows are staff's"


def test_another_hosts_row_answers_as_one_that_does_not_exist(mira: Client, theirs: Estate) -> None:
    before = list(SyncTask.objects.values()), list(Booking.objects.order_by("pk").values())
    for path, pk in theirs.pages.items():
        for page in ("change/", "history/", "delete/"):
            theirs_answer, missing = mira.get(f"{path}{pk}/{page}"), mira.get(f"{path}987654/{page}")
            assert theirs_answer.status_code == missing.status_code
            if missing.status_code != 403:
                assert is_missing(theirs_answer), (path, page)
                assert is_missing(missing), (path, page)
        assert mira.post(f"{path}{pk}/change/", PROPERTY_FORM).status_code in (302, 403)
        assert mira.post(f"{path}{pk}/delete/", {"post": "yes"}).status_code in (302, 403)
    said = {re.sub(r"\d+", "", str(message)) for message in mira.get("/admin/").context["messages"]}
    assert len(said) == 4, "the same words for what is another's and for what is not there"
    for button in theirs.buttons:
        assert is_missing(mira.get(button)), button
        assert is_missing(mira.post(button)), button
    assert is_missing(mira.get(f"{CONNECTIONS}{theirs.connection.pk}/state/"))
    assert before == (list(SyncTask.objects.values()), list(Booking.objects.order_by("pk").values()))
    assert Property.objects.filter(pk=theirs.property.pk, name="Flat of boris").exists()


def test_no_question_of_a_host_finds_anothers_rows(mira: Client, mine: Estate, theirs: Estate) -> None:
    other = theirs.property.pk
    for query in (f"{PROPERTIES}?q=boris", f"{BOOKINGS}?q=boris", f"{BOOKINGS}?property={other}",
                  f"{BOOKINGS}?q={theirs.from_avito.avito_booking_id}", f"{BOOKINGS}?property__id__exact={other}",
                  f"{CONFLICTS}?property={other}", f"{CONFLICTS}?q=boris",
                  f"{CONNECTIONS}?q={theirs.connection.item_id}"):  # fmt: skip
        answer = mira.get(query)
        assert answer.status_code == 200, query
        assert ids(answer) == [], query
        assert "Flat of boris" not in text_of(answer), query
    field = {"app_label": "integrations_str", "model_name": "booking", "field_name": "property"}
    found = mira.get("/admin/autocomplete/", {**field, "term": "Flat"}).json()["results"]
    assert [row["id"] for row in found] == [str(mine.property.pk)]
    page = text_of(mira.get(f"{BOOKINGS}add/?property={other}"))
    assert "Flat of boris" not in page
    form = {"property": other, "check_in": day(40).isoformat(), "check_out": day(41).isoformat()}
    refused = mira.post(f"{BOOKINGS}add/", form)
    assert refused.context["adminform"].form.errors["property"]
    assert not Booking.objects.filter(check_in=day(40)).exists()


def test_a_host_cannot_give_a_property_to_somebody_else_nor_take_anothers(mira: Client, mine: Estate) -> None:
    other = make_user("other")
    assert mira.post(f"{PROPERTIES}add/", {**PROPERTY_FORM, "owner": other.pk}).status_code == 302
    assert Property.objects.get(name="Дом у реки").owner == mine.owner
    mira.post(f"{PROPERTIES}{mine.property.pk}/change/", {**PROPERTY_FORM, "owner": other.pk, "name": "Моё"})
    mine.property.refresh_from_db()
    assert (mine.property.owner, mine.property.name) == (mine.owner, "Моё")


def test_the_staff_in_charge_sees_everything(boss: Client, mine: Estate, theirs: Estate) -> None:
    for client in (boss, signed_in("root", is_superuser=True)):
        for path in LISTS:
            assert {mine.pages[path], theirs.pages[path]} <= set(ids(client.get(path)))
            for estate in (mine, theirs):
                answer = client.get(f"{path}{estate.pages[path]}/change/")
                assert answer.status_code == 200
                assert not re.search(r"\(&#x27;\w+&#x27;, ", text_of(answer)), "a label shows as Python's tuple"
        assert len(ids(client.get(QUEUE))) == 2
        assert "Secret guest of boris" in text_of(client.get(f"{CONNECTIONS}{theirs.connection.pk}/change/"))
        assert ids(client.get(f"{PROPERTIES}?q=boris")) == [theirs.property.pk]


def test_other_roles_and_people_outside_see_nothing_of_it(mine: Estate) -> None:
    stranger = signed_in("stranger")
    for client in (signed_in("clerk", "operator"), signed_in("director", "director"), stranger):
        for path, pk in {**mine.pages, QUEUE: SyncTask.objects.get().pk}.items():
            for page in (path, f"{path}{pk}/change/"):
                assert client.get(page).status_code == 403, page
        assert {client.post(button).status_code for button in mine.buttons} <= {403}
        assert "integrations_str" not in text_of(client.get("/admin/"))
    assert {Client().get(path).status_code for path in (*LISTS, QUEUE)} == {302}
    not_staff = Client()
    mine.owner.groups.add(Group.objects.get(name=HOSTS))
    not_staff.force_login(mine.owner, backend="django.contrib.auth.backends.ModelBackend")
    assert not_staff.get(PROPERTIES).status_code == 302


def test_somebody_of_the_desk_who_is_a_host_too_sees_the_own_rows(theirs: Estate) -> None:
    clerk = make_user("clerk", "operator")
    estate = make_estate("clerk")
    assert ids(host_client(clerk).get(PROPERTIES)) == [estate.property.pk]


# Properties


def test_a_changed_price_reaches_the_queue_and_an_unchanged_form_does_not(mira: Client, mine: Estate) -> None:
    page = f"{PROPERTIES}{mine.property.pk}/change/"
    form = {**PROPERTY_FORM, "name": "Flat of mira", "address": "x", "base_price": "2000", "min_stay": "1"}
    wanted = SyncTask.objects.get().wanted
    assert mira.post(page, form).status_code == 302
    assert SyncTask.objects.get().wanted == wanted, "an address is nothing to Avito"
    assert mira.post(page, {**form, "base_price": "2500"}).status_code == 302
    task = SyncTask.objects.get()
    assert (task.wanted, task.dead_at) == (wanted + 1, None)
    assert "beyond the year" in text_of(mira.post(page, {**form, "base_price": "2500", "min_stay": "9"}, follow=True))
    assert mira.post(page, {**form, "min_stay": "31"}).context["adminform"].form.errors["min_stay"]
    assert mira.post(page, {**form, "timezone": "Mars/Olympus"}).context["adminform"].form.errors["timezone"]


def test_a_connected_property_is_not_deleted_and_another_one_goes_with_its_bookings(mira: Client, mine: Estate) -> None:
    page = f"{PROPERTIES}{mine.property.pk}/delete/"
    shown = text_of(mira.get(page))
    assert "Disconnect it first" in shown
    assert f'href="/admin/properties/{mine.property.pk}/connect/?edit=disconnect"' in shown
    assert f'href="{PROPERTIES}{mine.property.pk}/change/"' in shown
    mira.post(page, {"post": "yes"})
    assert Property.objects.filter(pk=mine.property.pk).exists()
    Integration.objects.update(disconnected_at=timezone.now(), account=None)
    assert "Flat of mira" in text_of(mira.get(page))
    mira.post(page, {"post": "yes"})
    assert not Property.objects.exists()
    assert not Booking.objects.exists()


def test_the_list_says_how_the_connection_fares_and_who_comes_next(mira: Client, mine: Estate) -> None:
    page = text_of(mira.get(PROPERTIES))
    for shown in ("trouble", "Avito did not answer in time.", "bookings overlap", f"{BOOKINGS}{mine.by_hand.pk}/"):
        assert shown in page
    bookings.cancel(mine.by_hand)
    page = text_of(mira.get(PROPERTIES))
    assert f"{BOOKINGS}{mine.from_avito.pk}/" in page
    assert "bookings overlap" not in page
    services.add_property(mine.owner, name="Without anything", base_price=1)
    assert len(ids(mira.get(f"{PROPERTIES}?connection=no"))) == 1
    assert ids(mira.get(f"{PROPERTIES}?connection=yes")) == [mine.property.pk]
    assert len(ids(mira.get(f"{PROPERTIES}?bookings=none"))) == 1


# Bookings


def post_booking(client: Client, path: str, check_in: int, check_out: int, **fields: Any) -> Any:
    dates = {"check_in": day(check_in).isoformat(), "check_out": day(check_out).isoformat()}
    return client.post(path, {**dates, "guest_name": "", "guest_phone": "", "guest_email": "", **fields})


def test_a_booking_by_hand_is_made_changed_and_cancelled(mira: Client, mine: Estate) -> None:
    SyncTask.objects.update(is_closing=False, push_at=None)
    answer = post_booking(
        mira, f"{BOOKINGS}add/", 20, 22, property=mine.property.pk, guest_name="Анна", guest_phone="8 916 123-45-67"
    )
    assert answer.status_code == 302
    booking = Booking.objects.get(check_in=day(20))
    assert (booking.guest_name, booking.guest_phone, booking.source) == ("Анна", "+79161234567", "manual")
    assert SyncTask.objects.get().is_closing, "its nights close ahead of everything else"
    page = f"{BOOKINGS}{booking.pk}/change/"
    assert post_booking(mira, page, 20, 24, guest_name="Анна", guest_phone="+79161234567").status_code == 302
    booking.refresh_from_db()
    assert booking.nights == booking.held_nights.count() == 4
    shown = text_of(mira.get(page))
    assert "Анна" in shown
    assert "→" in shown[shown.index('id="revisions"') :]
    asked = text_of(mira.get(f"{BOOKINGS}{booking.pk}/cancel/"))
    assert asked.count('method="post"')
    assert "at Avito too. This cannot be undone." in asked
    assert Booking.objects.get(pk=booking.pk).status == "confirmed", "looking at a button changes nothing"
    assert "nights are free again" in text_of(mira.post(f"{BOOKINGS}{booking.pk}/cancel/", follow=True))
    assert not booking.held_nights.exists()
    post_booking(mira, page, 30, 31, guest_name="Анна")
    booking.refresh_from_db()
    assert booking.check_in == day(20), "a cancelled one stays where it was"


def test_taken_dates_are_an_error_of_the_form_that_names_who_holds_them(mira: Client, mine: Estate) -> None:
    answer = post_booking(mira, f"{BOOKINGS}add/", 9, 11, property=mine.property.pk, guest_name="Анна")
    assert answer.status_code == 200
    page = text_of(answer)
    assert "Another booking holds one of these nights." in page
    assert f"{BOOKINGS}{mine.by_hand.pk}/change/" in page
    assert "Анна" in page, "what was typed stays"
    assert Booking.objects.count() == 2
    other = bookings.book(mine.property, check_in=day(20), check_out=day(22))
    assert "Another booking holds" in text_of(post_booking(mira, f"{BOOKINGS}{other.pk}/change/", 13, 15))
    other.refresh_from_db()
    assert other.check_in == day(20)


@pytest.mark.parametrize(
    ("check_in", "check_out", "fields", "field"),
    [
        (20, 20, {}, "check_out"), (20, 800, {}, "check_out"), (21, 22, {"guest_phone": "12"}, "guest_phone"),
        (21, 22, {"guest_email": "a"}, "guest_email"), (21, 22, {"guests": "0"}, "guests"),
        (21, 22, {"total_price": "-1"}, "total_price"), (21, 22, {"property": ""}, "property"),
    ],
)  # fmt: skip
def test_the_form_refuses_what_the_api_refuses(
    mira: Client, mine: Estate, check_in: int, check_out: int, fields: dict[str, str], field: str
) -> None:
    said = {"property": mine.property.pk, **fields}
    answer = post_booking(mira, f"{BOOKINGS}add/", check_in, check_out, **said)
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert Booking.objects.count() == 2


def test_of_avitos_booking_only_the_guest_is_written_here(mira: Client, mine: Estate) -> None:
    page = f"{BOOKINGS}{mine.from_avito.pk}/change/"
    shown = text_of(mira.get(page))
    assert 'name="check_in"' not in shown
    assert "1,800" in shown
    post_booking(mira, page, 30, 31, guest_name="Ирина", total_price="1", property="0")
    mine.from_avito.refresh_from_db()
    booking = Booking.objects.get(pk=mine.from_avito.pk)
    assert (booking.guest_name, booking.check_in, booking.total_price) == ("Ирина", day(11), 9000)
    assert "cancelled at Avito" in text_of(mira.post(f"{BOOKINGS}{booking.pk}/cancel/", follow=True))
    assert f"{BOOKINGS}{booking.pk}/cancel/" not in shown
    assert Booking.objects.get(pk=booking.pk).status == "confirmed"


def test_guests_are_named_where_bookings_are_and_can_be_called_on_the_page_of_theirs(
    mira: Client, mine: Estate, settings: Any
) -> None:
    assert "Guest of mira" in text_of(mira.get(f"{BOOKINGS}{mine.by_hand.pk}/change/"))
    naming = (BOOKINGS, CONFLICTS, f"{CONFLICTS}{mine.conflict.pk}/change/")
    for path in (*naming, PROPERTIES, CONNECTIONS, f"{CONNECTIONS}{mine.connection.pk}/change/"):
        shown = text_of(mira.get(path))
        assert ("Guest of mira" in shown) == (path in naming)
        assert "9161234567" not in shown
    settings.FIELD_ENCRYPTION_KEYS = ["another"]
    assert [mira.get(path).status_code for path in naming] == [200] * 3
    page = f"{BOOKINGS}{mine.by_hand.pk}/change/"
    assert "no key in FIELD_ENCRYPTION_KEYS opens" in text_of(mira.get(page))
    assert post_booking(mira, page, 10, 11).status_code == 302
    assert Booking.objects.get(pk=mine.by_hand.pk).check_out == day(11)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("when=ahead", "ABU"), ("when=now", "N"), ("when=over", "O"), ("when=today", "N"),
        ("look=conflict", "AB"), ("look=unseen", "U"), ("look=strange", "U"), ("source=avito", "BU"),
        ("source=manual", "ACNO"), ("state=cancelled", "C"), ("q=mira", "ABCNOU"),
    ],
)  # fmt: skip
def test_filters_are_questions(mira: Client, mine: Estate, query: str, found: str) -> None:
    place = mine.property
    names = {mine.by_hand.pk: "A", mine.from_avito.pk: "B"}
    cancelled = bookings.book(place, check_in=day(50), check_out=day(51))
    names[bookings.cancel(cancelled).pk] = "C"
    names[bookings.book(place, check_in=day(0), check_out=day(2)).pk] = "N"
    names[bookings.book(place, check_in=day(-5), check_out=day(-3)).pk] = "O"
    unseen = Booking.objects.create(
        property=place, source="avito", avito_booking_id=9, status="pending", raw_status="overbook",
        check_in=day(60), check_out=day(61), unseen_polls=bookings.UNSEEN_POLLS,
    )  # fmt: skip
    names[unseen.pk] = "U"
    answer = mira.get(f"{BOOKINGS}?{query}")
    assert "".join(sorted(names[pk] for pk in ids(answer))) == found


def test_what_comes_next_stands_first(mira: Client, mine: Estate) -> None:
    soon = bookings.book(mine.property, check_in=day(1), check_out=day(2))
    long_ago = bookings.book(mine.property, check_in=day(-50), check_out=day(-48))
    lately = bookings.book(mine.property, check_in=day(-5), check_out=day(-4))
    rows = [row.pk for row in mira.get(BOOKINGS).context["cl"].result_list]
    assert rows == [soon.pk, mine.by_hand.pk, mine.from_avito.pk, lately.pk, long_ago.pk]


# Conflicts


def test_a_conflict_shows_both_bookings_and_what_to_do_until_it_is_solved(mira: Client, mine: Estate) -> None:
    page = f"{CONFLICTS}{mine.conflict.pk}/change/"
    shown = text_of(mira.get(page))
    for link in (mine.by_hand.pk, mine.from_avito.pk):
        assert f"{BOOKINGS}{link}/change/" in shown
    assert "cancel or move the booking made by hand here" in shown
    assert mira.post(page, {"start": "2020-01-01"}).status_code == 403
    assert page in text_of(mira.get(f"{BOOKINGS}{mine.by_hand.pk}/change/"))
    mira.post(f"{BOOKINGS}{mine.by_hand.pk}/cancel/")
    assert "cancel or move" not in text_of(mira.get(page))
    assert ids(mira.get(f"{CONFLICTS}?state=open")) == []
    assert ids(mira.get(f"{CONFLICTS}?state=solved")) == [mine.conflict.pk]


# Connections


def test_a_connection_says_what_is_wrong_and_a_button_helps(mira: Client, mine: Estate) -> None:
    page = f"{CONNECTIONS}{mine.connection.pk}/change/"
    shown = text_of(mira.get(page))
    for text in ("Given up on", "Avito did not answer in time.", "+15\N{NBSP}%", "Prices of 3 nights",
                 "it has no dates", "365 nights differ from what Avito has."):  # fmt: skip
        assert text in shown, text
    assert f"{CONNECTIONS}{mine.connection.pk}/state/" in shown
    assert "<html" not in text_of(mira.get(f"{CONNECTIONS}{mine.connection.pk}/state/"))
    sync = f"{CONNECTIONS}{mine.connection.pk}/sync-now/"
    assert mira.get(sync).status_code == 200
    assert SyncTask.objects.get().dead_at, "looking at the address of a button changes nothing"
    assert "in a moment" in text_of(mira.post(sync, follow=True))
    task = SyncTask.objects.get()
    assert (task.dead_at, task.push_failures) == (None, 0)
    assert task.push_at is not None


def test_a_connection_is_paused_and_goes_on(mira: Client, mine: Estate) -> None:
    page = f"{CONNECTIONS}{mine.connection.pk}/"
    assert "go-on" not in text_of(mira.get(f"{page}change/"))
    mira.post(f"{page}pause/")
    assert not Integration.objects.get().is_active
    shown = text_of(mira.get(f"{page}change/"))
    assert "go-on" in shown
    assert "sync-now" not in shown
    assert "paused" in shown
    mira.post(f"{page}go-on/")
    assert Integration.objects.get().is_active
    assert SyncTask.objects.get().push_at is not None


def test_a_dead_authorisation_asks_to_connect_again(mira: Client, boss: Client, mine: Estate) -> None:
    Authorization.objects.update(dead_reason="invalid_grant")
    page = f"{CONNECTIONS}{mine.connection.pk}/"
    shown = text_of(mira.get(f"{page}change/"))
    assert "Token expired. Please reconnect." in shown
    assert f"{page}reconnect/" in shown
    assert "/api/v1/" in mira.post(f"{page}reconnect/")["Location"]
    account = mine.connection.account
    assert account
    assert boss.post(f"{page}reconnect/")["Location"] == f"/api/v1/auth/avito/authorize/{account.pk}"


def test_a_disconnected_one_is_history_without_buttons(mira: Client, mine: Estate) -> None:
    Integration.objects.update(disconnected_at=timezone.now(), account=None, is_active=False)
    SyncTask.objects.all().delete()
    page = f"{CONNECTIONS}{mine.connection.pk}/"
    shown = text_of(mira.get(f"{page}change/"))
    assert "disconnected" in shown
    assert "sync-now" not in shown
    assert {mira.post(f"{page}{name}/").status_code for name in ("sync-now", "agree", "pause", "go-on")} == {404}
    assert ids(mira.get(f"{CONNECTIONS}?state=over")) == [mine.connection.pk]
    assert "not connected" in text_of(mira.get(PROPERTIES))


def test_buttons_need_a_post_with_a_token_against_forgery(mira: Client, mine: Estate) -> None:
    careful = Client(enforce_csrf_checks=True)
    careful.cookies = mira.cookies
    assert {careful.post(button).status_code for button in mine.buttons} == {403}


def test_a_host_agrees_pauses_and_changes_and_avito_follows(product: str, home: Home, host: User) -> None:
    client, booked = host_client(host), home.avito.book(home.item, home.day(5), home.day(8))
    home.book(6, 7)
    home.connect()
    work()
    connection = integration_of(home)
    page = f"{CONNECTIONS}{connection.pk}/"
    assert "Agree to the first push" in text_of(client.get(f"{page}change/"))
    assert home.writes() == []
    client.post(f"{page}agree/")
    work()
    conflict = Conflict.objects.get(property=home.id)
    ours = Booking.objects.get(property=home.id, source="manual")
    assert conflict.second.avito_booking_id == booked.id
    client.post(f"{BOOKINGS}{ours.pk}/cancel/")
    form = {**PROPERTY_FORM, "base_price": "3100"}
    assert client.post(f"{PROPERTIES}{home.id}/change/", form).status_code == 302
    post_booking(client, f"{BOOKINGS}add/", 20, 23, property=home.id)
    work()
    assert_agrees(home)
    theirs = home.avito.calendar(home.item)
    assert (theirs[home.day(21)].open, theirs[home.day(30)].price) == (0, 3565)
    assert "Nothing: Avito has every night as it should be." in text_of(client.get(f"{page}change/"))


# The queue


def test_the_queue_shows_what_fails_and_revives_it(boss: Client, mine: Estate, theirs: Estate) -> None:
    SyncTask.objects.filter(integration=theirs.connection).update(
        dead_at=None, push_failures=0, push_error_code="", push_at=None
    )
    page = text_of(boss.get(QUEUE))
    for text in ("given up", "push: Avito did not answer in time.", "failures in a row: 12", "waiting for its turn"):
        assert text in page, text
    task = SyncTask.objects.get(integration=mine.connection)
    assert ids(boss.get(f"{QUEUE}?state=dead")) == [task.pk]
    assert boss.get(f"{QUEUE}{task.pk}/change/")["Location"] == f"{CONNECTIONS}{mine.connection.pk}/change/"
    answer = boss.post(QUEUE, {"action": "revive", "_selected_action": [task.pk]}, follow=True)
    assert "1 connection is due now." in text_of(answer)
    task.refresh_from_db()
    assert task.dead_at is None
    assert ids(boss.get(f"{QUEUE}?state=dead")) == []
    assert task.pk in ids(boss.get(f"{QUEUE}?state=due"))


# Words


def test_empty_lists_say_what_to_do_first() -> None:
    client = host_client(make_user("newcomer"))
    for path, english, in_russian in (
        (PROPERTIES, "a name and the price of a night are enough", "достаточно названия и цены за ночь"),
        (BOOKINGS, "no property to book", "Сначала добавьте объект"),
        (CONFLICTS, "No two bookings", "Пересекающихся броней нет"),
        (CONNECTIONS, "Nothing is connected", "пока ничего не подключено"),
    ):
        assert english in text_of(client.get(path))
        assert in_russian in russian(client, path)
    assert "The queue is empty" in text_of(signed_in("boss", "admin").get(QUEUE))


# Cost


@pytest.mark.parametrize("path", [*LISTS, QUEUE])
def test_a_list_costs_as_many_queries_for_fifty_rows_as_for_five(boss: Client, path: str) -> None:
    def cost(count: int) -> int:
        for _ in range(count):
            make_estate(f"host-{count}", title=f"Flat {Property.objects.count()}")
        boss.get(path)
        with CaptureQueriesContext(database) as queries:
            assert len(ids(boss.get(path))) == min(50, Property.objects.count() * (2 if path == BOOKINGS else 1))
        return len(queries)

    few, many = cost(5), cost(45)
    assert few == many
    assert many <= 20


def test_a_page_of_a_connection_costs_the_same_with_a_long_log(boss: Client, mine: Estate) -> None:
    def cost() -> int:
        with CaptureQueriesContext(database) as queries:
            assert boss.get(f"{CONNECTIONS}{mine.connection.pk}/change/").status_code == 200
        return len(queries)

    cost()
    few = cost()
    for number in range(60):
        log.Entry(mine.connection, "set_base", {"price": number}).write()
        ChannelDay.objects.create(integration=mine.connection, date=day(number), price=1)
    assert cost() == few <= 25
