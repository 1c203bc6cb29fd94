"""Avito's HTTP API in Python: no framework, no database.

    transport = Transport("https://api.avito.ru", proxy)
    token = refresh(transport, client_id=..., client_secret=..., refresh_token=...)
    Client(token.access_token, transport).messenger.send_text(user_id, chat_id, "Здравствуйте!")

Every call returns a value or raises one of these; what the caller should do:

    AvitoError                .maybe_done: could it have taken effect? then look before repeating
      NoAnswer
        NotConnected          not done: repeat later
          TooLate             not done: who set the moment knows
          ProxyFailed         not done: repeat later through the proxy, never without; .reason is for its owner
        TimedOut              maybe done: look, then repeat
      Refused                 .status, .code
        Unauthorized          refresh the token once, repeat
        InvalidGrant          ask the owner to reconnect the account
        InvalidClient         correct the application's id and secret
        SubscriptionRequired  show Avito's text to the owner; do not repeat
        Forbidden             refresh only an old token; else show it
        NotFound              gone or not ours: do not repeat
        Invalid               do not repeat unchanged; .fields tells what is wrong
        RateLimited           not done: repeat after .retry_after_seconds
        Broken                maybe done: look, then repeat later
      Unreadable              maybe done: look, then repeat later; tell the developers
"""

from avito.auth import authorize_url, client_credentials, exchange_code, refresh
from avito.client import Client
from avito.errors import (
    AvitoError,
    Broken,
    Forbidden,
    Invalid,
    InvalidClient,
    InvalidGrant,
    NoAnswer,
    NotConnected,
    NotFound,
    ProxyFailed,
    RateLimited,
    Refused,
    SubscriptionRequired,
    TimedOut,
    TooLate,
    Unauthorized,
    Unreadable,
)
from avito.rent import FreeInterval, PriceRange
from avito.transport import Transport, Transports
from avito.types import Proxy, RentBlock, RentBooking, Snapshot, Token, UnreadableBooking

__all__ = [
    "AvitoError",
    "Broken",
    "Client",
    "Forbidden",
    "FreeInterval",
    "Invalid",
    "InvalidClient",
    "InvalidGrant",
    "NoAnswer",
    "NotConnected",
    "NotFound",
    "PriceRange",
    "Proxy",
    "ProxyFailed",
    "RateLimited",
    "Refused",
    "RentBlock",
    "RentBooking",
    "Snapshot",
    "SubscriptionRequired",
    "TimedOut",
    "Token",
    "TooLate",
    "Transport",
    "Transports",
    "Unauthorized",
    "Unreadable",
    "UnreadableBooking",
    "authorize_url",
    "client_credentials",
    "exchange_code",
    "refresh",
]
