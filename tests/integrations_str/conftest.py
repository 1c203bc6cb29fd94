"""A host with a property, an item at the sandbox, and a worker that does what is due."""

import datetime as dt
import os
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import LazySettings, settings
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from avito.rent import YEAR_DAYS
from avito_accounts.models import Account
from config.settings import BASE_DIR
from integrations_str import calendar, queue, tasks
from integrations_str.models import Access, ChannelDay, Integration, Property, SyncTask
from tests.avito_accounts.test_tokens import product_environment
from tests.conftest import Api
from tests.factories import make_user
from tests.sandbox.driver import RentCall, Sandbox

DIALECT = os.environ.get("STR_DIALECT", "")
"""`guide` or `official`: this folder's tests run in that one alone."""
in_both_dialects = pytest.mark.parametrize(
    "dialect", [DIALECT] if DIALECT else ["official", "guide"], indirect=True, ids=str
)
"""For tests of what is sent. The guide's dialect has no call for the base price."""


@dataclass
class Home:
    """A host's property and the item at Avito that it may be connected to."""

    api: Api
    avito: Sandbox
    account: Account
    id: int
    item: int
    zone: str = "Europe/Moscow"

    @property
    def path(self) -> str:
        return f"/api/v1/str/properties/{self.id}"

    @property
    def today(self) -> dt.date:
        """Asks no database, for threads of a test would keep its connections."""
        return dt.datetime.now(ZoneInfo(self.zone)).date()

    def day(self, number: int) -> dt.date:
        """So many days from today."""
        return self.today + dt.timedelta(days=number)

    def connect(self, **body: Any) -> dict[str, Any]:
        said = {"accountId": self.account.pk, "itemId": str(self.item), **body}
        answer = self.api.post(f"{self.path}/avito", said)
        assert answer.status_code == 201, answer.text
        connection: dict[str, Any] = answer.json()
        return connection

    def connect_and_push(self, **body: Any) -> dict[str, Any]:
        """Connected, and Avito knows everything; the journal begins anew."""
        connection = self.connect(**body)
        work()
        self.avito.forget_rent_calls()
        return connection

    def connection(self) -> dict[str, Any]:
        connection: dict[str, Any] = self.api.get(f"{self.path}/avito").json()
        return connection

    def set_rates(self, *ranges: dict[str, Any]) -> None:
        answer = self.api.put(f"{self.path}/rates", {"ranges": list(ranges)})
        assert answer.status_code == 200, answer.text

    def set_rate(self, first: int, last: int | None = None, **values: Any) -> None:
        """Nights by their distance from today, both included."""
        last = first if last is None else last
        self.set_rates({"from": self.day(first).isoformat(), "to": self.day(last).isoformat(), **values})

    def book(self, check_in: int, check_out: int, **fields: Any) -> Any:
        body = {
            "propertyId": self.id,
            "checkIn": self.day(check_in).isoformat(),
            "checkOut": self.day(check_out).isoformat(),
            **fields,
        }
        return self.api.post("/api/v1/str/bookings", body)

    def bookings(self, **query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.api.get("/api/v1/str/bookings", propertyId=self.id, **query).json()["results"]
        return rows

    def calendar(self, days: int = 365) -> dict[dt.date, dict[str, Any]]:
        query = {"from": self.today.isoformat(), "to": self.day(days - 1).isoformat()}
        rows = self.api.get(f"{self.path}/calendar", **query).json()
        return {dt.date.fromisoformat(row["date"]): row for row in rows}

    def writes(self) -> list[str]:
        """The kinds of the calls that have written, in their order."""
        return [call.kind for call in self.avito.rent_calls(self.item) if call.kind not in ("reads", "checks")]

    def read_now(self) -> None:
        """The next reading of bookings comes at once."""
        self.tasks.update(pull_at=Now())
        work()

    @property
    def tasks(self) -> QuerySet[SyncTask]:
        """The queue's row."""
        return SyncTask.objects.filter(integration__property=self.id)

    def push_again(self) -> None:
        """What waits to be sent, or to be sent again, has waited long enough."""
        self.tasks.filter(push_at__isnull=False).update(push_at=Now())
        work()

    def calls(self, kind: str) -> list[RentCall]:
        return self.avito.rent_calls(self.item, kind)

    def news(self) -> list[str]:
        """The kinds of what its owner was told, in order."""
        rows = self.api.get("/api/v1/notifications").json()["results"]
        return [row["kind"] for row in reversed(rows)]


def each(name: str, *values: Any) -> list[tuple[str, Any]]:
    """The name beside each of the values, for a table of what is refused."""
    return [(name, value) for value in values]


def assert_agrees(home: Home) -> None:
    """Avito's calendar is, day by day, what the host's says."""
    theirs = home.avito.calendar(home.item, start=home.today)
    ours = home.calendar()
    differences = {
        day: (wanted, theirs[day])
        for day, wanted in ours.items()
        if (wanted["channelPrice"], wanted["minStay"], wanted["open"])
        != (theirs[day].price, theirs[day].minimal_duration, theirs[day].open > 0)
    }
    assert not differences


def work() -> None:
    """A worker looks at the queue, and waits for what waits for more of its kind."""
    tasks.serve()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes wait for more changes, but not for long."""
    monkeypatch.setattr(queue, "QUIET_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def dialect(request: pytest.FixtureRequest, settings: LazySettings) -> str:
    """In whose paths Avito is asked."""
    spoken: str = getattr(request, "param", DIALECT or "official")
    settings.AVITO_STR_DIALECT = spoken
    return spoken


@pytest.fixture
def host(product: str) -> User:
    """Somebody without any role who owns properties."""
    return make_user("host")


@pytest.fixture
def home(product: str, avito_sandbox: Sandbox, anna: Account, host: User) -> Home:
    """The host's property, and an item of an account that the host may use; not connected yet."""
    return make_home(product, avito_sandbox, anna, host)


def make_home(product: str, avito: Sandbox, account: Account, owner: User, **fields: Any) -> Home:
    api = Api(product, owner)
    created = api.post("/api/v1/str/properties", {"name": "Квартира на Арбате", "basePrice": 2000, **fields})
    assert created.status_code == 201, created.text
    Access.objects.get_or_create(account=account, user=owner)
    return Home(api, avito, account, created.json()["id"], avito.make_rent_item(), created.json()["timezone"])


def integration_of(home: Home) -> Integration:
    return Integration.objects.connected().get(property=home.id)


def first_writes() -> list[str]:
    """The kinds of the calls that tell Avito everything, sorted."""
    return ["base", "intervals", "prices"] if settings.AVITO_STR_DIALECT == "official" else ["intervals", "prices"]


def make_connected(
    product: str, avito: Sandbox, account: Account, owner: User, count: int, *, days: int = YEAR_DAYS
) -> list[Home]:
    """So many homes of an owner of which Avito knows everything, or only some days, without a call."""
    Access.objects.get_or_create(account=account, user=owner)
    api, now = Api(product, owner), timezone.now()
    properties = Property.objects.bulk_create(
        Property(owner=owner, name=f"Квартира {number}", base_price=2000) for number in range(count)
    )
    homes = [
        Home(api, avito, account, one.pk, item)
        for one, item in zip(properties, avito.make_rent_items(count, price=2300), strict=True)
    ]
    connections = Integration.objects.bulk_create(
        Integration(
            property=one,
            account=account,
            item_id=home.item,
            horizon_from=one.today(),
            base_price=2300,
            base_min_stay=1,
            first_pushed_at=now,
            last_pull_at=now,
        )
        for home, one in zip(homes, properties, strict=True)
    )
    SyncTask.objects.bulk_create(SyncTask(integration=one, pull_at=now + dt.timedelta(hours=1)) for one in connections)
    price = calendar.channel_price(2000, Decimal(15))
    known = list(calendar.span(homes[0].today, homes[0].day(days)))
    ChannelDay.objects.bulk_create(
        ChannelDay(integration=one, date=day, price=price, min_stay=1, is_open=True)
        for one in connections
        for day in known
    )
    return homes


def start_worker(avito: Sandbox, code: str) -> subprocess.Popen[str]:
    """A worker in a process of its own, that can be killed; `code` runs in the product once it is set up."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import django\ndjango.setup()\n{code}"],
        env={**product_environment(avito), "AVITO_STR_DIALECT": settings.AVITO_STR_DIALECT},
        stdout=subprocess.PIPE,
        text=True,
        cwd=BASE_DIR,
    )
