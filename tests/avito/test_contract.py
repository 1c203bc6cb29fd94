"""Every request the client can make, held against Avito's own documents; answers made of their examples."""

import inspect
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avito import Client, FreeInterval, NotFound, PriceRange, auth
from avito.items import STATUSES, ItemCalls
from avito.messenger import MessengerCalls
from avito.protocol import Request, Response
from avito.rent import RentCalls
from avito.statistics import StatisticsCalls
from avito.user import UserCalls
from tests.avito.documents import Operation, operations

ME, CHAT, FLAT = 141906442, "u2i-Zx~1a_B-c2D3e4F5", 4341979279
SINCE, UNTIL = date(2026, 11, 21), date(2027, 11, 21)
SECTIONS = ("auth", "user", "messenger", "items", "short-term-rent")
KEYS = {"client_id": "id", "client_secret": "secret"}


class Judge:
    """In place of a transport: judges each request by the documents and answers by their example."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        operation = self._operation(request)
        operation.judge(request)
        self.asked.append(operation.name)
        return Response(200, {"content-type": "application/json"}, operation.example())

    @staticmethod
    def _operation(request: Request) -> Operation:
        known = [one for name in SECTIONS for one in operations(name)]
        fitting = [one for one in known if one.matches(request)]
        if request.path == "/token":
            form = (request.body or b"").decode()
            grant = {
                one.resolved(media["schema"])["properties"]["grant_type"]["default"]: one
                for one in fitting
                for media in one.body.values()
            }
            return next(one for default, one in grant.items() if f"grant_type={default}&" in form)
        assert fitting, f"{request.method} {request.path} is in no document"
        return min(fitting, key=lambda one: one.path.count("{"))  # .../messages/image is no message called "image"


CALLS: dict[str, tuple[str, Callable[[Client], Any]]] = {
    "UserCalls.me": ("getUserInfoSelf", lambda client: client.user.me()),
    "UserCalls.balance": ("getUserBalance", lambda client: client.user.balance(ME)),
    "MessengerCalls.chats": (
        "getChatsV2",
        lambda client: client.messenger.chats(
            ME, limit=1, offset=1000, unread_only=True, item_ids=[4341979279, 2], chat_types=["u2i", "u2u", "a2u"]
        ),
    ),
    "MessengerCalls.iter_chats": ("getChatsV2", lambda client: list(client.messenger.iter_chats(ME))),
    "MessengerCalls.chat": ("getChatByIdV2", lambda client: client.messenger.chat(ME, CHAT)),
    "MessengerCalls.messages": ("getMessagesV3", lambda client: client.messenger.messages(ME, CHAT, limit=100)),
    "MessengerCalls.iter_messages": ("getMessagesV3", lambda client: list(client.messenger.iter_messages(ME, CHAT))),
    "MessengerCalls.send_text": ("postSendMessage", lambda client: client.messenger.send_text(ME, CHAT, "я" * 1000)),
    "MessengerCalls.upload_image": (
        "uploadImages",
        lambda client: client.messenger.upload_image(ME, "вид.png", b"\x89PNG\r\n--", "image/png"),
    ),
    "MessengerCalls.send_image": ("postSendImageMessage", lambda client: client.messenger.send_image(ME, CHAT, "1.a")),
    "MessengerCalls.delete_message": (
        "deleteMessage",
        lambda client: client.messenger.delete_message(ME, CHAT, "bdcc5bac2d00345f1cc66fa657813958"),
    ),
    "MessengerCalls.mark_read": ("chatRead", lambda client: client.messenger.mark_read(ME, CHAT)),
    "MessengerCalls.voice_urls": ("getVoiceFiles", lambda client: client.messenger.voice_urls(ME, ["a", "b"])),
    "MessengerCalls.blacklist": (
        "postBlacklistV2",
        lambda client: client.messenger.blacklist(ME, blocked_user_id=94235311, item_id=4341979279, reason_id=1),
    ),
    "MessengerCalls.subscribe": ("postWebhookV3", lambda client: client.messenger.subscribe("https://a.example/k")),
    "MessengerCalls.unsubscribe": (
        "postWebhookUnsubscribe",
        lambda client: client.messenger.unsubscribe("https://a.example/k"),
    ),
    "MessengerCalls.subscriptions": ("getSubscriptions", lambda client: client.messenger.subscriptions()),
    "ItemCalls.page": ("getItemsInfo", lambda client: client.items.page(page=2, per_page=1, statuses=STATUSES)),
    "ItemCalls.iter_all": ("getItemsInfo", lambda client: list(client.items.iter_all())),
    "StatisticsCalls.items": (
        "itemStatsShallow",
        lambda client: client.statistics.items(ME, [4341979279], since=date(2026, 2, 24), until=date(2026, 11, 21)),
    ),
    "RentCalls.check_item": ("getRealtyBookings", lambda client: client.rent.check_item(ME, FLAT)),
    "RentCalls.bookings": ("getRealtyBookings", lambda client: client.rent.bookings(ME, FLAT, start=SINCE, end=UNTIL)),
    "RentCalls.set_prices": (
        "postRealtyPrices",
        lambda client: client.rent.set_prices(ME, FLAT, [PriceRange(SINCE, UNTIL, 1990, 30)]),
    ),
    "RentCalls.set_free": (
        "putIntervals",
        lambda client: client.rent.set_free(ME, FLAT, [FreeInterval(SINCE, UNTIL)]),
    ),
    "RentCalls.set_base": ("postBaseParams", lambda client: client.rent.set_base(FLAT, night_price=1990, min_stay=7)),
}
# Paid promotion, prices that rent does not have, figures nobody asks for; busy dates, as the free ones say it all.
LEFT_OUT = {
    "putBookingsInfo",
    "postOperationsHistory",
    "vasPrices",
    "postCallsStats",
    "getItemInfo",
    "putItemVas",
    "updatePrice",
    "putItemVasPackageV2",
    "applyVas",
    "itemAnalytics",
    "accountSpendings",
}

GRANTS: dict[str, tuple[str, Callable[[Judge], Any]]] = {
    "exchange_code": ("getAccessTokenAuthorizationCode", lambda judge: auth.exchange_code(judge, **KEYS, code="c")),
    "refresh": ("refreshAccessTokenAuthorizationCode", lambda judge: auth.refresh(judge, **KEYS, refresh_token="r")),
    "client_credentials": ("getAccessToken", lambda judge: auth.client_credentials(judge, **KEYS)),
}


@pytest.mark.parametrize("name", CALLS)
def test_call_is_as_documented(name: str) -> None:
    operation, call = CALLS[name]
    judge = Judge()
    call(Client("token", judge))
    assert judge.asked == [operation]


@pytest.mark.parametrize("name", GRANTS)
def test_grant_is_as_documented(name: str) -> None:
    operation, call = GRANTS[name]
    judge = Judge()
    token = call(judge)
    assert judge.asked == [operation]
    assert token.expires_in == 86400
    assert (token.refresh_token is None) == (name == "client_credentials")
    assert token.scopes == (() if name == "client_credentials" else ("messenger:read", "messenger:write"))


def test_every_call_has_a_row() -> None:
    methods = {
        f"{calls.__name__}.{name}"
        for calls in (UserCalls, MessengerCalls, ItemCalls, StatisticsCalls, RentCalls)
        for name, _ in inspect.getmembers(calls, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods == set(CALLS)


def test_every_grant_has_a_row() -> None:
    takers_of_transport = {
        name
        for name, function in inspect.getmembers(auth, inspect.isfunction)
        if function.__module__ == auth.__name__ and not name.startswith("_")
    }
    assert takers_of_transport - {"authorize_url"} == set(GRANTS)


def test_every_operation_of_the_documents_is_called_or_left_out_on_purpose() -> None:
    documented = {one.name for name in SECTIONS for one in operations(name)}
    called = {operation for operation, _ in [*CALLS.values(), *GRANTS.values()]}
    assert documented - called == LEFT_OUT


def test_examples_of_the_documents_are_read_whole() -> None:
    client = Client("token", Judge())
    owner = client.user.me()
    assert (owner.id, owner.name, owner.phone) == (94235311, "Петр", "71112223344")
    [chat] = client.messenger.chats(ME).chats
    assert chat.item is not None
    assert chat.item.image_url.endswith("5815183159.jpg")
    assert chat.last_message is not None
    assert chat.users
    [message] = client.messenger.messages(ME, CHAT).messages
    assert message.direction == "out"
    assert message.read_at is not None
    assert message.read_at.timestamp() == 123
    assert client.messenger.send_image(ME, CHAT, "1.a").content["image"]["sizes"]
    assert client.messenger.upload_image(ME, "a", b"1", "image/png") == "12345.12345abcdefghijklm"
    assert client.messenger.subscriptions()[0].version == "3"
    assert client.messenger.voice_urls(ME, ["abc"]) == {"abc": "https://avito.ru/voice_url"}
    [listing] = client.items.page().listings
    assert (listing.id, listing.price, listing.category) == (24122231, 35000, "Вакансии")
    [statistics] = client.statistics.items(ME, [1], since=date(2026, 11, 21), until=date(2026, 11, 21))
    assert statistics.days[0].date == date(2026, 11, 21)
    [booking] = client.rent.bookings(ME, FLAT, start=SINCE, end=UNTIL).bookings
    assert (booking.id, booking.base_price, booking.guests, booking.payout) == (11111, 8000, 1, 4500)
    assert (booking.check_out - booking.check_in).days == 3
    assert (booking.guest_name, booking.guest_phone) == ("Иван", "9997770000")


@given(chat_id=st.text(max_size=300))
def test_no_chat_id_leads_to_another_call(chat_id: str) -> None:
    judge = Judge()
    client = Client("token", judge)
    try:
        client.messenger.messages(ME, chat_id)
    except NotFound:
        assert judge.asked == []
        assert chat_id in ("", ".", "..") or len(chat_id) > 255
    else:
        assert judge.asked == ["getMessagesV3"]


def test_no_message_id_leads_to_another_call() -> None:
    judge = Judge()
    with pytest.raises(NotFound):
        Client("token", judge).messenger.delete_message(ME, CHAT, "image")
    assert judge.asked == []


@pytest.mark.parametrize("chat_id", ["", ".", "..", "x" * 256, "\ud800"])
def test_impossible_id_is_not_found_without_asking(chat_id: str) -> None:
    judge = Judge()
    with pytest.raises(NotFound):
        Client("token", judge).messenger.mark_read(ME, chat_id)
    assert judge.asked == []
