"""A back office with something in it: accounts, chats, figures, properties and their troubles, by way of the sandbox.

Nothing is written into the tables by hand: Avito's side is played at the sandbox, and ours is what the service itself
makes of it.
"""

import json
import time
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import QueryDict

from avito_accounts import checks, jobs, oauth, proxies, services, statistics
from avito_accounts import tasks as account_tasks
from avito_accounts.models import Account, Job
from chats import replies, sync
from chats import services as chats
from chats import tasks as chat_tasks
from chats.models import CannedReply, Chat
from integrations_str import bookings, connecting, queue
from integrations_str import services as rent
from integrations_str import tasks as rent_tasks
from integrations_str.models import Integration, Property, SyncTask
from messenger import presence
from messenger import tasks as presence_tasks

ANNA, COSY = 94235311, 4294967311
"""The sellers that every sandbox begins with."""
PATIENCE_SECONDS = 60
SANDBOX_SECONDS = 10

TALKS = (
    (ANNA, "Ольга Семёнова", 190, ("Добрый день! Можно заехать в десять утра?",)),
    (ANNA, "Игорь", 95, ("Здравствуйте, квартира свободна с пятницы по воскресенье?", "Нас двое, без животных.")),
    (COSY, "Наталья В.", 34, ("Подскажите, есть ли парковка рядом с домом?",)),
    (COSY, "Тимур", 1500, ("Спасибо, всё понравилось!", "Ключи оставили в ящике.")),
    (ANNA, "Светлана", 2900, ("Вышлите, пожалуйста, адрес ещё раз.",)),
)
"""Whom the buyer writes to, their name, how many minutes ago, and what they say."""
CANNED = (
    ("Заезд и выезд", "Здравствуйте, {name}! Заезд после 14:00, выезд до 12:00."),
    ("Парковка", "{name}, во дворе есть бесплатная парковка, шлагбаум откроем."),
)
FLATS = (
    ("Квартира на Арбате", "Москва, ул. Арбат, 12", "Europe/Moscow", 4500, 2, ANNA, "15"),
    ("Студия у моря", "Светлогорск, ул. Ленина, 30", "Europe/Kaliningrad", 3200, 1, ANNA, "0"),
    ("Лофт на Соколе", "Москва, Ленинградский проспект, 74", "Europe/Moscow", 6200, 2, COSY, "12.5"),
    ("Дом у озера", "Тверская область, Осташков", "Europe/Moscow", 9800, 3, None, "0"),
)
"""Name, address, time zone, price of a night, minimum stay, the seller of the listing (None: not connected), markup."""


class NotEmpty(Exception):
    """There are accounts already: a demonstration would mix with somebody's work."""


def fill(user: User, *, say: Callable[[str], object]) -> None:
    """Fill an empty installation; all properties are the user's. `say` hears each step. Raises NotEmpty."""
    if Account.objects.exists() or Property.objects.exists():
        raise NotEmpty
    _avito("POST", "/reset")  # an empty installation knows nothing of what was played there before
    say("Buyers write to the sellers")
    _buyers_write()
    say("The accounts give their consent")
    anna, cosy = (_connect(name, seller, user) for name, seller in (("Анна Смирнова", ANNA), ("Уют", COSY)))
    poor = _connect("Пётр Волков", _seller("Пётр Волков", balanceReal=180), user)
    lost = _connect("Гостевой дом «Клён»", _seller("Гостевой дом «Клён»"), user)
    say("Statistics are read")
    for account in (anna, cosy, poor, lost):
        statistics.sync(account, with_owner=True, with_missed_days=True)
    say("The accounts are kept online")
    for account in (anna, cosy):
        presence.enable(account, interval=120)
    presence_tasks.keep_online()
    say("Chats are read and answered")
    _read_and_answer((anna, cosy), user)
    say("Properties are connected and rented")
    _rent(user, {ANNA: anna, COSY: cosy})
    say("Something goes wrong")
    _break(poor, lost, user)


def _avito(method: str, path: str, **body: Any) -> Any:
    """Play Avito's side: a call of the sandbox's control."""
    request = Request(  # noqa: S310  the sandbox's own address
        f"{settings.SANDBOX_URL}/_sandbox{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
        method=method,
    )
    with urlopen(request, timeout=SANDBOX_SECONDS) as answer:  # noqa: S310
        return json.load(answer)


def _seller(name: str, **fields: Any) -> int:
    seller: int = _avito("POST", "/sellers", name=name)["id"]
    if fields:
        _avito("PATCH", f"/sellers/{seller}", **fields)
    return seller


def _connect(name: str, seller: int, user: User) -> Account:
    """The whole walk of a consent, but for the browser."""
    account = services.save(Account(name=name), set())
    address = oauth.consent_url(oauth.request_for(account, user=user), browser="demo")
    consent = QueryDict(mutable=True)
    consent["state"] = parse_qs(urlsplit(address).query)["state"][0]
    consent["code"] = _avito("POST", "/authorize", sellerId=seller)["code"]
    return oauth.finish(consent, browser="demo")[0]


def _buyers_write() -> None:
    for seller, name, minutes, texts in TALKS:
        chat = _avito("POST", "/chats", sellerId=seller, buyerName=name)["chatId"]
        for number, text in enumerate(texts):
            written = int(time.time()) - minutes * 60 + number * 40
            _avito("POST", f"/chats/{chat}/buyer-message", text=text, createdAt=written)


def _read_and_answer(accounts: tuple[Account, ...], user: User) -> None:
    for account in accounts:
        sync.claim_reconcile(account)
        sync.reconcile(account)
    due = Chat.objects.filter(sync_due_at__isnull=False)
    _until(due, lambda: [chat_tasks.sync_chat(chat.pk) for chat in due.all()])
    for title, text in CANNED:
        CannedReply.objects.create(title=title, text=text)
    for name, text in (("Тимур", "Спасибо, что были у нас! Будем рады видеть снова."), ("Светлана", "Арбат, 12.")):
        chat = Chat.objects.get(name=name)
        chats.mark_read(chat)
        chat_tasks.deliver(replies.reply(chat, text=text, author=user).pk)


def _rent(user: User, accounts: dict[int, Account]) -> None:
    made: list[tuple[Property, int]] = []
    for name, address, zone, price, stay, seller, markup in FLATS:
        fields = {"name": name, "address": address, "timezone": zone, "base_price": price, "min_stay": stay}
        flat = rent.add_property(user, **fields, max_guests=4)
        rent.set_rates(flat, _weekends(flat, price))
        if seller:
            title = f"{name}, посуточно"
            item: int = _avito("POST", "/rent/items", sellerId=seller, title=title, price=price)["ids"][0]
            connecting.connect(flat, accounts[seller], item_id=item, markup_percent=Decimal(markup), consents=True)
            made.append((flat, item))
    _agree()
    (arbat, item), (studio, sea), (_loft, gone) = made
    day = arbat.today()
    bookings.book(arbat, check_in=_on(day, 9), check_out=_on(day, 13), guest_name="Родители Ильи", total_price=18000)
    bookings.book(studio, check_in=_on(day, 4), check_out=_on(day, 6), guest_name="Кирилл", status="pending")
    _guest(item, _on(day, 2), _on(day, 5), name="Елена Крылова")
    _guest(item, _on(day, 16), _on(day, 20), name="Павел Зимин", status="pending")
    _guest(sea, _on(day, 10), _on(day, 17), name="Семья Орловых", guestCount=4)
    _guest(item, _on(day, 11), _on(day, 14), name="Виктор", force=True)
    _avito("PATCH", f"/items/{gone}", status="removed")
    _agree()


def _weekends(flat: Property, price: int) -> list[rent.RateRange]:
    """Fridays and Saturdays cost more, and a few nights are the owner's own."""
    days = [flat.today() + timedelta(days=number) for number in range(120)]
    dear = [rent.RateRange(one, one, {"price": price * 6 // 5}) for one in days if one.weekday() in (4, 5)]
    return [
        *dear,
        rent.RateRange(days[24], days[26], {"closed": True}),
        rent.RateRange(days[38], days[47], {"min_stay": 5}),
    ]


def _guest(item: int, check_in: date, check_out: date, **details: Any) -> None:
    dates = {"checkIn": check_in.isoformat(), "checkOut": check_out.isoformat()}
    _avito("POST", "/rent/bookings", itemId=item, **dates, **{"status": "active", **details})


def _agree() -> None:
    """All bookings are read, and Avito knows everything it can be told."""
    for integration in Integration.objects.connected():
        queue.due_now(integration)
    waiting = SyncTask.objects.filter(Q(push_at__isnull=False) | Q(pull_at__lte=Now()), dead_at=None)
    waiting = waiting.filter(push_failures=0, pull_failures=0)
    _until(waiting, rent_tasks.serve)


def _break(poor: Account, lost: Account, user: User) -> None:
    """A proxy that does not answer, and a profile that has taken its consent back."""
    address = proxies.Address("http", "127.0.0.1", 9, "", "")
    services.save(poor, {"proxy"}, proxy_address=address)
    _avito("POST", "/tokens/revoke", sellerId=lost.avito_user_id)
    jobs.start_run(Job.Kind.CHECK, user=user)
    _until(Job.objects.filter(kind=Job.Kind.CHECK, finished_at=None), account_tasks.work_jobs)
    poor.refresh_from_db()
    if poor.proxy:
        checks.check_proxy(poor.proxy)


def _on(day: date, number: int) -> date:
    return day + timedelta(days=number)


def _until(waiting: QuerySet[Any], work: Callable[[], object]) -> None:
    """Do what waits. Workers that run beside us may have it in hand: then it is awaited."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while waiting.exists():
        work()
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)
