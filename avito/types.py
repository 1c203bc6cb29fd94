"""The things Avito speaks of. Unknown keys are ignored; a missing required one raises Unreadable."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Self

from avito import wire
from avito.content import render_text
from avito.errors import Unreadable

Direction = Literal["in", "out"]
ProxyType = Literal["http", "https", "socks4", "socks5"]
PRICE_MAX = 10**15
"""Roubles; anything above is nonsense."""
GUESTS_MAX = 1000
"""Of one booking; ours to bound the columns."""
YEARS = range(2000, 2200)
"""In which a stay may lie; ours, so that arithmetic with its days stays within a calendar."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that carries all calls of an account. Names are resolved by the proxy, also with SOCKS."""

    type: ProxyType
    host: str
    port: int
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """What the token endpoint gives. `expires_in`: seconds from now. `refresh_token`: None for client credentials."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: int
    scopes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "token")
        refresh_token = source.get("refresh_token")
        return cls(
            access_token=_secret(source, "access_token"),
            refresh_token=None if refresh_token is None else _secret(source, "refresh_token"),
            expires_in=_seconds(source.get("expires_in")),
            scopes=tuple(wire.text(source, "scope", "").replace(",", " ").split()),
        )


def _secret(source: dict[str, Any], key: str) -> str:
    """A token, which must be fit for a header."""
    value = wire.text(source, key)
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise Unreadable(f"{key}: not a token")
    return value


def _seconds(value: Any) -> int:
    """The spec types a lifetime as a number, perhaps with a fraction."""
    whole = int(value) if isinstance(value, float) else value
    return wire.number(whole, "expires_in", least=1, most=10**9)


@dataclass(frozen=True, slots=True)
class Owner:
    """The account that a token belongs to. `id` is the `user_id` of all calls; the rest may be empty."""

    id: int
    name: str = ""
    email: str = ""
    phone: str = ""
    profile_url: str = ""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "account")
        shown = {key: wire.label(source, key) for key in ("name", "email", "phone", "profile_url")}
        return cls(id=wire.account_id(source, "id"), **shown)


@dataclass(frozen=True, slots=True)
class Balance:
    """Roubles: `real` money and `bonus` ones."""

    real: Decimal
    bonus: Decimal

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "balance")
        return cls(real=_roubles(source, "real"), bonus=_roubles(source, "bonus"))


def _roubles(source: dict[str, Any], key: str) -> Decimal:
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 10**12:
        raise Unreadable(f"{key}: not a sum of money")
    return Decimal(str(value))


@dataclass(frozen=True, slots=True)
class User:
    """Someone in a chat. `id` is opaque and not the number in a profile's address; 0 is nobody in particular."""

    id: int
    name: str = ""
    avatar_url: str = ""
    profile_url: str = ""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "user")
        profile = wire.child(source, "public_user_profile")
        return cls(
            id=wire.number(source.get("id"), "users.id", least=0, most=wire.ID_MAX),
            name=wire.label(source, "name"),
            avatar_url=wire.label(wire.child(profile, "avatar"), "default"),
            profile_url=wire.label(profile, "url"),
        )


@dataclass(frozen=True, slots=True)
class Item:
    """The listing that a chat is about. `price_string`: as Avito shows it, with its currency."""

    id: int
    title: str = ""
    price_string: str = ""
    url: str = ""
    image_url: str = ""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "item")
        pictures = wire.child(wire.child(source, "images"), "main")
        return cls(
            id=wire.account_id(source, "id"),
            title=wire.label(source, "title"),
            price_string=wire.label(source, "price_string"),
            url=wire.label(source, "url"),
            image_url=next((wire.label(pictures, size) for size in pictures), ""),
        )


@dataclass(frozen=True, slots=True)
class Message:
    """A message as Avito keeps it.

    `direction`: seen from the account. `author_id`: None for nobody in particular.
    `type`: text, image, link, item, location, call, deleted, voice, system, or a new one of Avito's.
    `text`: its words for people (`render_text`). `content`: the parts by type, as Avito wrote them.
    `is_read`: by the account that asks. `read_at`: by the other side. Times are aware, UTC.
    """

    id: str
    author_id: int | None
    direction: Direction
    type: str
    text: str
    content: dict[str, Any]
    created_at: datetime
    is_read: bool | None = None
    read_at: datetime | None = None

    @classmethod
    def from_json(cls, value: Any, *, user_id: int) -> Self:
        """`user_id`: the account; it has written what bears its number, and what Avito calls outgoing."""
        source = wire.mapping(value, "message")
        author_id = wire.optional_id(source, "author_id")
        is_ours = source.get("direction") == "out" or author_id == user_id
        type, content = wire.word(source, "type"), wire.child(source, "content")
        is_read = source.get("is_read")
        return cls(
            id=wire.name(source, "id"),
            author_id=author_id,
            direction="out" if is_ours else "in",
            type=type,
            text=render_text(type, content),
            content=content,
            created_at=wire.moment(source, "created"),
            is_read=is_read if isinstance(is_read, bool) else None,
            read_at=wire.optional_moment(source, "read"),
        )


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation. `users` holds both sides. `item`: None where the chat is about no listing."""

    id: str
    created_at: datetime
    updated_at: datetime
    users: tuple[User, ...] = ()
    item: Item | None = None
    last_message: Message | None = None

    @classmethod
    def from_json(cls, value: Any, *, user_id: int) -> Self:
        """`user_id`: the account."""
        source = wire.mapping(value, "chat")
        context, last = wire.child(source, "context"), wire.child(source, "last_message")
        is_about_item = context.get("type") == "item" and wire.child(context, "value")
        return cls(
            id=wire.name(source, "id"),
            created_at=wire.moment(source, "created"),
            updated_at=wire.moment(source, "updated"),
            users=tuple(map(User.from_json, wire.children(source, "users"))) if source.get("users") else (),
            item=Item.from_json(context["value"]) if is_about_item else None,
            last_message=Message.from_json(last, user_id=user_id) if last else None,
        )


@dataclass(frozen=True, slots=True)
class ChatPage:
    """Some chats, the latest first. `has_more`: does the next offset hold any?"""

    chats: tuple[Chat, ...]
    has_more: bool

    @classmethod
    def from_json(cls, value: Any, *, user_id: int, limit: int) -> Self:
        source = wire.mapping(value, "chats")
        chats = tuple(Chat.from_json(chat, user_id=user_id) for chat in wire.children(source, "chats"))
        return cls(chats, _has_more(source, len(chats), limit))


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Some messages of a chat, the latest first. `has_more`: does the next offset hold any?"""

    messages: tuple[Message, ...]
    has_more: bool

    @classmethod
    def from_json(cls, value: Any, *, user_id: int, limit: int) -> Self:
        """Accepts the bare list of the specification and the object that the live API sends."""
        source = {"messages": value} if isinstance(value, list) else wire.mapping(value, "messages")
        found = wire.children(source, "messages")
        messages = tuple(Message.from_json(message, user_id=user_id) for message in found)
        return cls(messages, _has_more(source, len(messages), limit))


def _has_more(source: dict[str, Any], count: int, limit: int) -> bool:
    """What Avito says, though its specification does not mention it; else a full page promises another."""
    said = wire.child(source, "meta").get("has_more")
    return said if isinstance(said, bool) else count == limit


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook address of the account. `version` ("3") decides the shape of what is delivered."""

    url: str
    version: str

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "subscription")
        return cls(url=wire.text(source, "url"), version=wire.label(source, "version"))


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing in the account's own list. `price`: whole roubles, None where none is named. Texts may be empty.

    `status`: active, removed, old, blocked, rejected, or a new one of Avito's.
    """

    id: int
    title: str
    price: int | None
    status: str
    url: str
    address: str
    category: str
    category_id: int | None

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "listing")
        price, category = source.get("price"), wire.child(source, "category")
        shown = {key: wire.label(source, key) for key in ("title", "url", "address")}
        return cls(
            id=wire.account_id(source, "id"),
            price=None if price is None else wire.number(price, "price", least=0, most=PRICE_MAX),
            status=wire.word(source, "status"),
            category=wire.label(category, "name"),
            category_id=wire.optional_id(category, "id"),
            **shown,
        )


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Some listings. `page`: its number, from 1. `per_page`: how many a full one holds."""

    listings: tuple[Listing, ...]
    page: int
    per_page: int

    @property
    def is_last(self) -> bool:
        """Avito names no total: the first page that is not full ends the list."""
        return len(self.listings) < self.per_page

    @classmethod
    def from_json(cls, value: Any, *, page: int, per_page: int) -> Self:
        """`page`, `per_page`: as asked; Avito may say that its pages are smaller."""
        source = wire.mapping(value, "items")
        said = wire.child(source, "meta").get("per_page")
        if isinstance(said, int) and not isinstance(said, bool) and 0 < said < per_page:
            per_page = said
        return cls(tuple(map(Listing.from_json, wire.children(source, "resources"))), page, per_page)


@dataclass(frozen=True, slots=True)
class DayStatistics:
    """What people did with a listing on one day, each of them counted once."""

    date: date
    views: int
    contacts: int
    favorites: int

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "stats")
        return cls(
            date=wire.day(source, "date"),
            views=wire.count(source, "uniqViews"),
            contacts=wire.count(source, "uniqContacts"),
            favorites=wire.count(source, "uniqFavorites"),
        )


@dataclass(frozen=True, slots=True)
class ItemStatistics:
    """A listing's days, as Avito orders them; a day may be missing."""

    item_id: int
    days: tuple[DayStatistics, ...]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        source = wire.mapping(value, "statistics")
        days = wire.children(source, "stats") if source.get("stats") else ()
        return cls(item_id=wire.account_id(source, "itemId"), days=tuple(map(DayStatistics.from_json, days)))


@dataclass(frozen=True, slots=True)
class RentBooking:
    """A stay that was booked on Avito: the nights of [check_in, check_out). What is about the guest is in no repr.

    `status`: active, canceled, pending, or another one of Avito's; empty where it names none. Money: whole roubles,
    None where unknown. `base_price`: of the whole stay. Of the `prepayment` the owner gets the `payout` and Avito the
    `commission`. `guest_*`: as sent, at most NAME_MAX characters, perhaps empty; a phone has ten digits and no country.
    `raw`: the row as Avito wrote it.
    """

    id: int
    status: str
    check_in: date
    check_out: date
    guests: int | None
    base_price: int | None
    prepayment: int | None
    payout: int | None
    commission: int | None
    guest_name: str = field(repr=False)
    guest_email: str = field(repr=False)
    guest_phone: str = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False, hash=False)

    @classmethod
    def from_json(cls, source: dict[str, Any], *, id: int, check_in: date, check_out: date) -> Self:
        """Everything but the id and the dates may be missing or nonsense."""
        deposit, contact = _object(source, "safe_deposit"), _object(source, "contact")
        name, email, phone = (wire.label(contact, key)[: wire.NAME_MAX] for key in ("name", "email", "phone"))
        return cls(
            id=id,
            status=wire.label(source, "status")[: wire.WORD_MAX],
            check_in=check_in,
            check_out=check_out,
            guests=_whole(source.get("guest_count"), least=1, most=GUESTS_MAX),
            base_price=_whole(source.get("base_price"), least=0, most=PRICE_MAX),
            prepayment=_whole(deposit.get("total_amount"), least=0, most=PRICE_MAX),
            payout=_whole(deposit.get("owner_amount"), least=0, most=PRICE_MAX),
            commission=_whole(deposit.get("tax"), least=0, most=PRICE_MAX),
            guest_name=name,
            guest_email=email,
            guest_phone=phone,
            raw=source,
        )


@dataclass(frozen=True, slots=True)
class RentBlock:
    """Nights of [start, end) that are closed in Avito's calendar by no booking of Avito's."""

    start: date
    end: date


@dataclass(frozen=True, slots=True)
class UnreadableBooking:
    """A row that stands for something, but not for certain nights of a certain booking. `raw`: as Avito wrote it.

    `reason`: not_an_object, bad_id, id_repeated (rows that differ have the same id), no_dates, bad_dates or
    dates_reversed (not one night).
    """

    avito_id: int | None
    reason: str
    raw: Mapping[str, Any] = field(repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Avito's calendar of a listing holds. Each id is in `bookings` once; no row hides another."""

    bookings: tuple[RentBooking, ...] = ()
    blocks: tuple[RentBlock, ...] = ()
    unreadable: tuple[UnreadableBooking, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Self:
        rows = wire.mapping(value, "bookings").get("bookings")
        if not isinstance(rows, list):
            raise Unreadable("bookings: not a list")
        read = list(map(_rent_row, rows))
        by_id: defaultdict[int, list[RentBooking]] = defaultdict(list)
        for one in read:
            if isinstance(one, RentBooking) and one not in by_id[one.id][:1]:
                by_id[one.id].append(one)
        unreadable = [one for one in read if isinstance(one, UnreadableBooking)]
        for id, said in by_id.items():
            if len(said) > 1:
                unreadable += [UnreadableBooking(id, "id_repeated", one.raw) for one in said]
        return cls(
            tuple(said[0] for said in by_id.values() if len(said) == 1),
            tuple(one for one in read if isinstance(one, RentBlock)),
            tuple(unreadable),
        )


def _rent_row(row: Any) -> RentBooking | RentBlock | UnreadableBooking:
    if not isinstance(row, dict):
        return UnreadableBooking(None, "not_an_object", {"row": row})
    written = row.get("avito_booking_id")
    id = 0 if written is None else _whole(written, least=0, most=wire.ID_MAX)
    if id is None:
        return UnreadableBooking(None, "bad_id", row)
    try:
        start, end = _nights(row)
    except Unreadable as error:
        return UnreadableBooking(id or None, error.message, row)
    return RentBooking.from_json(row, id=id, check_in=start, check_out=end) if id else RentBlock(start, end)


def _nights(row: dict[str, Any]) -> tuple[date, date]:
    """When a stay begins and ends; raises Unreadable with the reason as its message."""
    if row.get("check_in") is None or row.get("check_out") is None:
        raise Unreadable("no_dates")
    try:
        start, end = wire.day(row, "check_in"), wire.day(row, "check_out")
    except Unreadable:
        raise Unreadable("bad_dates") from None
    if start.year not in YEARS or end.year not in YEARS:
        raise Unreadable("bad_dates")
    if start >= end:
        raise Unreadable("dates_reversed")
    return start, end


def _whole(value: Any, *, least: int, most: int) -> int | None:
    """A whole number in range, be it written with quotes or a ".0"; None for anything else."""
    is_digits = isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit()
    if is_digits or (isinstance(value, float) and value.is_integer() and abs(value) < 2**53):
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and least <= value <= most else None


def _object(source: dict[str, Any], key: str) -> dict[str, Any]:
    value = source.get(key)
    return value if isinstance(value, dict) else {}
