"""What the sandbox remembers: sellers, buyers, chats, messages, tokens, and the journal of calls."""

import datetime as dt
import hashlib
import secrets
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sandbox.calendar import Booking, Calendar
from sandbox.limits import Windows
from sandbox.settings import Settings

SCOPES = {
    "messenger:read": ("Чтение сообщений в мессенджере Авито", "Read messages"),
    "messenger:write": ("Модифицирование сообщений в мессенджере Авито", "Write and delete messages"),
    "user:read": ("Получение информации о пользователе", "Read the user's profile"),
    "user_balance:read": ("Получение баланса пользователя", "Read the balance"),
    "user_operations:read": ("Получение истории операций пользователя", "Read the history of operations"),
    "items:info": ("Получение информации об объявлениях", "Read listings"),
    "items:apply_vas": ("Применение дополнительных услуг", "Apply paid services"),
    "stats:read": ("Получение статистики объявлений", "Read statistics of listings"),
    "short_term_rent:read": ("Получение информации об объявлениях краткосрочной аренды", "Read short-term rent"),
    "short_term_rent:write": ("Изменение объявлений краткосрочной аренды", "Change short-term rent"),
    "autoload:reports": ("Получение отчетов Автозагрузки", "Read Autoload reports"),
    "job:write": ("Изменение объявлений вертикали Работа", "Change job listings"),
    "job:cv": ("Получение информации резюме", "Read CVs"),
    "job:vacancy": ("Работа с вакансиями", "Work with vacancies"),
    "job:applications": ("Получение информации об откликах на вакансии", "Read job applications"),
}
ITEM_STATUSES = ("active", "removed", "old", "blocked", "rejected")
FLATS = (24, "Квартиры")
HOUSES = (25, "Дома, дачи, коттеджи")
JOURNAL_LENGTH = 20_000
RENT_CALLS_LENGTH = 100_000


@dataclass
class Item:
    """A listing; `category`: id and name, `updated`: unix seconds."""

    id: int
    seller_id: int
    title: str
    price: int
    address: str = "Москва"
    category: tuple[int, str] = FLATS
    status: str = "active"
    updated: float = field(default_factory=time.time)

    @property
    def price_string(self) -> str:
        return f"{self.price:,} ₽".replace(",", " ")


@dataclass(frozen=True)
class Figures:
    """How many people saw a listing on a day, wrote or called about it, and put it among their favourites."""

    views: int
    contacts: int
    favorites: int


@dataclass
class Seller:
    """An Avito user who sells; the owner of tokens, listings, chats and webhook subscriptions."""

    id: int
    name: str
    email: str
    phone: str
    balance_real: float = 0
    balance_bonus: float = 0
    # A test may switch the paid subscription off: reading and sending messages then answer 402.
    messenger_paid: bool = True
    webhooks: list[str] = field(default_factory=list)
    blacklist: set[int] = field(default_factory=set)


@dataclass
class Buyer:
    id: int
    name: str


@dataclass
class Message:
    id: str
    number: int
    author_id: int
    created: int
    type: str
    content: dict[str, Any]
    # When the other side read it, unix seconds.
    read: int | None = None


@dataclass
class Chat:
    id: str
    type: str
    seller_id: int
    buyer_id: int
    item_id: int | None
    created: int
    messages: list[Message] = field(default_factory=list)

    @property
    def updated(self) -> int:
        return max((m.created for m in self.messages), default=self.created)

    def newest_first(self) -> list[Message]:
        return sorted(self.messages, key=lambda m: (m.created, m.number), reverse=True)

    def has_unread(self) -> bool:
        """Is there something the seller has not read?"""
        return any(m.author_id != self.seller_id and m.read is None for m in self.messages)

    def mark_read(self, reader_id: int) -> None:
        now = int(time.time())
        for message in self.messages:
            if message.author_id != reader_id and message.read is None:
                message.read = now


@dataclass
class Application:
    """A registered API application; `seller_id` is set for a seller's own key (client_credentials)."""

    client_id: str
    client_secret: str
    name: str
    seller_id: int | None = None


@dataclass
class Grant:
    """An authorization code, an access token or a refresh token: what it allows and until when."""

    kind: str
    client_id: str
    seller_id: int
    # None: everything, as with client_credentials.
    scopes: tuple[str, ...] | None
    expires_at: float
    alive: bool = True


class World:
    """The whole state. Only the event loop's thread touches it."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._initial_settings = settings.as_json() if settings else {}
        self.reset()

    def reset(self) -> None:
        """Everything back to the seeds and to the settings of the start."""
        self.settings = Settings()
        self.settings.update(self._initial_settings)
        self.applications: dict[str, Application] = {}
        self.sellers: dict[int, Seller] = {}
        self.buyers: dict[int, Buyer] = {}
        self.items: dict[int, Item] = {}
        # What the control API has set, over the invented figures.
        self.figures: dict[tuple[int, dt.date], Figures] = {}
        self.windows = Windows()
        self.chats: dict[str, Chat] = {}
        self.grants: dict[str, Grant] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        self.images: dict[str, tuple[int, dict[str, str]]] = {}
        self.journal: deque[dict[str, Any]] = deque(maxlen=JOURNAL_LENGTH)
        # The calendar of a listing is made when somebody first asks for it.
        self.calendars: dict[int, Calendar] = {}
        self.bookings: dict[int, Booking] = {}
        # Calls for short-term rent: the entry of the journal, and the body.
        self.rent_calls: deque[tuple[dict[str, Any], bytes]] = deque(maxlen=RENT_CALLS_LENGTH)
        self._number = 0
        seed(self)

    def next_number(self) -> int:
        self._number += 1
        return self._number

    # People and listings

    def add_seller(self, name: str, *, id: int | None = None, item_title: str = "Квартира-студия посуточно") -> Seller:
        """A new seller with one listing."""
        number = self.next_number()
        seller_id = id if id is not None else 310_000_000 + number
        login = f"seller{seller_id}"
        seller = Seller(seller_id, name, f"{login}@example.com", f"7900{seller_id % 10_000_000:07d}", 1000.0, 50.0)
        self.sellers[seller.id] = seller
        self.add_item(seller.id, item_title, 3500)
        return seller

    def add_item(self, seller_id: int, title: str, price: int, *, id: int | None = None, **details: Any) -> Item:
        item = Item(id if id is not None else 4_350_000_000 + self.next_number(), seller_id, title, price, **details)
        self.items[item.id] = item
        return item

    def add_buyer(self, name: str) -> Buyer:
        buyer = Buyer(520_000_000 + self.next_number(), name)
        self.buyers[buyer.id] = buyer
        return buyer

    def items_of(self, seller_id: int) -> list[Item]:
        return [item for item in self.items.values() if item.seller_id == seller_id]

    def name_of(self, user_id: int) -> str:
        return (self.sellers.get(user_id) or self.buyers[user_id]).name

    # Short-term rent

    def calendar(self, item_id: int) -> Calendar:
        """The calendar of a listing that exists."""
        found = self.calendars.get(item_id)
        if found is None:
            found = self.calendars[item_id] = Calendar(item_id, self.items[item_id].price, self.settings)
        return found

    def book(
        self, item_id: int, check_in: dt.date, check_out: dt.date, status: str = "active", **details: Any
    ) -> Booking:
        """A booking that nobody checks: whether the nights are for sale is asked before."""
        calendar = self.calendar(item_id)
        details.setdefault("id", 70_000_000 + self.next_number())
        details.setdefault("base_price", calendar.price_of(check_in, check_out))
        booking = Booking(item_id=item_id, check_in=check_in, check_out=check_out, status=status, **details)
        calendar.bookings[booking.id] = self.bookings[booking.id] = booking
        return booking

    # Chats

    def add_chat(self, seller_id: int, buyer_id: int, item_id: int | None, type: str = "u2i") -> Chat:
        """`item_id` is kept for chats on listings (u2i) only."""
        id = f"{type}-{secrets.token_urlsafe(12)}~{secrets.token_urlsafe(4)}"
        chat = Chat(id, type, seller_id, buyer_id, item_id if type == "u2i" else None, int(time.time()))
        self.chats[chat.id] = chat
        return chat

    def chats_of(self, seller_id: int) -> Iterator[Chat]:
        return (chat for chat in self.chats.values() if chat.seller_id == seller_id)

    def add_message(
        self, chat: Chat, author_id: int, type: str, content: dict[str, Any], *, created: int | None = None
    ) -> Message:
        created = int(time.time()) if created is None else created
        message = Message(uuid.uuid4().hex, self.next_number(), author_id, created, type, content)
        chat.messages.append(message)
        return message

    # Tokens

    def grant(self, kind: str, client_id: str, seller_id: int, scopes: Iterable[str] | None, seconds: float) -> str:
        """Make a code or a token and return its text."""
        text = secrets.token_urlsafe(32)
        kept = None if scopes is None else tuple(scopes)
        self.grants[text] = Grant(kind, client_id, seller_id, kept, time.time() + seconds)
        return text

    def usable(self, kind: str, text: str, client_id: str) -> Grant | None:
        """The grant if this application may use it now."""
        grant = self.grants.get(text)
        if grant is None or grant.kind != kind or grant.client_id != client_id or not grant.alive:
            return None
        return grant if grant.expires_at > time.time() else None


def fingerprint(secret: str) -> str:
    """A short mark by which a token can be recognised but not used."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def seed(world: World) -> None:
    """Two sellers with a handful of listings, three buyers, a chat for two of them, a stay, and the applications."""
    anna = Seller(94235311, "Анна Смирнова", "anna@example.com", "79161234567", 12500.5, 300.0)
    oleg = Seller(4294967311, "Апартаменты «Уют»", "uyut@example.com", "79037654321", 780.0, 0.0)
    for seller in (anna, oleg):
        world.sellers[seller.id] = seller
    flat, loft = _seed_items(world, anna, oleg)
    world.applications = {
        app.client_id: app
        for app in (
            Application("sandbox-client", "sandbox-secret", "Бэк-офис"),
            Application("anna-client", "anna-secret", "Ключ Анны Смирновой", anna.id),
            Application("uyut-client", "uyut-secret", "Ключ апартаментов «Уют»", oleg.id),
        )
    }
    ivan, maria, _ = (world.add_buyer(name) for name in ("Иван Петров", "Мария Кузнецова", "Дмитрий Орлов"))
    now = int(time.time())
    first = world.add_chat(anna.id, ivan.id, flat.id)
    world.add_message(first, ivan.id, "text", {"text": "Здравствуйте! Свободно на выходные?"}, created=now - 7200)
    world.add_message(first, anna.id, "text", {"text": "Добрый день! Да, заезд после 14:00."}, created=now - 7000)
    first.mark_read(anna.id)
    second = world.add_chat(oleg.id, maria.id, loft.id)
    world.add_message(second, maria.id, "text", {"text": "Можно ли с собакой?"}, created=now - 3600)
    _seed_calendars(world)
    for chat in (first, second):
        chat.created = min(m.created for m in chat.messages)


def _seed_items(world: World, anna: Seller, oleg: Seller) -> tuple[Item, Item]:
    """Five active listings of Anna's and six of Oleg's, and one that each let run out; gives the first of both."""
    flat = world.add_item(
        anna.id, "1-к. квартира посуточно, 38 м², Арбат", 4500, id=1768287444, address="Москва, ул. Арбат, 12"
    )
    loft = world.add_item(
        oleg.id,
        "Апартаменты-лофт у метро Сокол, 45 м²",
        6200,
        id=4341979279,
        address="Москва, Ленинградский проспект, 74",
    )
    for id, owner, title, price, address in (
        (1768287512, anna, "Квартира-студия посуточно, 26 м², Таганская", 3300, "Москва, Таганская ул., 31"),
        (1803345120, anna, "2-к. квартира посуточно, 54 м², Чистые пруды", 6900, "Москва, Покровка, 19"),
        (2250917733, anna, "2-к. квартира посуточно, 61 м², Фрунзенская", 7400, "Москва, Комсомольский проспект, 40"),
        (4388120467, anna, "Квартира-студия посуточно, 22 м², ВДНХ", 2900, "Москва, ул. Бориса Галушкина, 17"),
        (4341979301, oleg, "Апартаменты-студия у метро Аэропорт, 30 м²", 4800, "Москва, ул. Черняховского, 9"),
        (4341979344, oleg, "Апартаменты с террасой, 72 м², Сокол", 9800, "Москва, Ленинградский проспект, 74"),
        (4341979388, oleg, "Апартаменты для семьи, 58 м², Войковская", 6500, "Москва, ул. Космонавта Волкова, 5"),
        (4402255610, oleg, "1-к. апартаменты, 40 м², Водный стадион", 5200, "Москва, Кронштадтский бульвар, 6"),
    ):
        world.add_item(owner.id, title, price, id=id, address=address)
    cottage = "Коттедж посуточно, 140 м², Пирогово"
    world.add_item(oleg.id, cottage, 18500, id=4419930072, address="Мытищи, дер. Пирогово", category=HOUSES)
    world.add_item(anna.id, "Комната посуточно, 14 м², Сокольники", 1900, id=1650023871, status="old")
    world.add_item(oleg.id, "Апартаменты посуточно, 35 м², Щукинская", 4100, id=3977612045, status="old")
    return flat, loft


def _seed_calendars(world: World) -> None:
    """A flat of Anna's that a guest has paid for, next week; at both her flats the coming weekend is dearer."""
    for item_id in (1803345120, 2250917733):
        calendar = world.calendar(item_id)
        friday = calendar.today() + dt.timedelta(days=(4 - calendar.today().weekday()) % 7)
        dearer = calendar.base["night_price"] * 6 // 5
        calendar.set_prices(friday, friday + dt.timedelta(days=1), price=dearer, stay=2, fee=None)
    soon = calendar.today() + dt.timedelta(days=7)
    world.book(1803345120, soon, soon + dt.timedelta(days=3), name="Мария Кузнецова", email="maria@example.com")
