"""Planted secrets: after a day's work none of them is found in anything that the service stores, says or queues."""

import base64
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, quote_plus, unquote, urlsplit

import pytest
import redis
import structlog
from django.conf import LazySettings
from django.db import connection
from django.test import Client

from avito_accounts.models import Account, Authorization
from avito_accounts.views import BROWSER_COOKIE
from chats import tasks as chat_tasks
from chats.models import Chat, Message
from config.celery import app as celery
from integrations_str import tasks as rent_tasks
from tests.avito.loopback import ProxyServer
from tests.conftest import Api
from tests.factories import look_after_webhook, make_user
from tests.sandbox.driver import ALL_SCOPES, ANNA, Sandbox

CLIENT_SECRET = "anna-sécret +/ of the application"
PROXY_PASSWORD = "pröxy pass+/word"
WEBHOOK_KEY = "webhook-key-0123456789"
SIGNATURE_SECRET = "signature-secret-0123456789"
LOGIN_PASSWORD = "correct horse battery staple"
HOME: dict[str, Any] = {"name": "Дом у моря", "basePrice": 2000}


class Told:
    """Everything that came out, by where it came out."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def add(self, place: str, text: str) -> None:
        self.places[place] = self.places.get(place, "") + text + "\n"

    def holding(self, secret: str) -> list[str]:
        return [
            f"{place}: {form}"
            for place, text in self.places.items()
            for form, shape in shapes(secret).items()
            if shape in text
        ]


def shapes(secret: str) -> dict[str, str]:
    raw = secret.encode()
    # In base64 what stands before shifts the letters; the middle of each shift is the same.
    shifted = {f"base64+{n}": base64.b64encode(b"\0" * n + raw)[4 : -4 or None].decode() for n in range(3)}
    return {
        "clear": secret,
        "base64url": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "quoted": quote(secret, safe=""),
        "quoted, plus": quote_plus(secret),
        "JSON": json.dumps(secret)[1:-1],
        **shifted,
    }


class Everything(logging.Handler):
    """Every record that a product running at DEBUG would write, as it would write it."""

    def __init__(self, told: Told) -> None:
        super().__init__(logging.DEBUG)
        self.told = told
        formatters = [handler.formatter for handler in logging.root.handlers]
        self.setFormatter(next(one for one in formatters if isinstance(one, structlog.stdlib.ProcessorFormatter)))

    def emit(self, record: logging.LogRecord) -> None:
        self.told.add("log", self.format(record))


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    handler = Everything(told)
    # Django's templates are left out: at DEBUG they write whole contexts, so nobody may run them at that level.
    loggers = [logging.root, logging.getLogger("django"), logging.getLogger("django.template")]
    levels = [logger.level for logger in loggers]
    for logger, level in zip(loggers, (logging.DEBUG, logging.DEBUG, logging.INFO), strict=True):
        logger.setLevel(level)
    logging.root.addHandler(handler)
    yield told
    logging.root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def dump(told: Told) -> None:
    """Every table as text."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            told.add("database", "\n".join(row[0] for row in cursor.fetchall()))


def queued(told: Told) -> int:
    """Everything in the broker, byte for byte."""
    with celery.connection_for_read() as broker:
        channel: Any = broker.default_channel
        client: redis.Redis = channel.client
        count = 0
        for key in client.keys("*"):
            kind = client.type(key)
            if kind in (b"list", "list"):
                for item in client.lrange(key, 0, -1):
                    told.add("queue", repr(item))
                    body = json.loads(item).get("body", "")
                    told.add("queue", base64.b64decode(body).decode("latin-1"))
                    count += 1
            elif kind in (b"hash", "hash"):
                told.add("queue", repr(client.hgetall(key)))
            told.add("queue", repr(key))
        return count


def test_no_secret_is_stored_said_or_queued(
    owner: Api, product: str, avito_sandbox: Sandbox, settings: LazySettings, told: Told
) -> None:
    settings.AVITO_WEBHOOK_KEYS = [WEBHOOK_KEY]
    settings.AVITO_WEBHOOK_SIGNATURE_SECRET = SIGNATURE_SECRET
    secrets: dict[str, str] = {
        "client secret": CLIENT_SECRET,
        "proxy password": PROXY_PASSWORD,
        "webhook key": WEBHOOK_KEY,
        "signature secret": SIGNATURE_SECRET,
        "login password": LOGIN_PASSWORD,
        "application secret": settings.AVITO_OAUTH_CLIENT_SECRET,
        "JWT secret": settings.JWT_SECRET,
        "Django's secret": settings.SECRET_KEY,
        **{f"field key {n}": key for n, key in enumerate(settings.FIELD_ENCRYPTION_KEYS)},
    }
    pages: list[tuple[str, Any]] = []

    def said(place: str, answer: Any) -> Any:
        pages.append((place, answer))
        return answer

    # Signing in
    signed = owner.post("/api/v1/auth/token", {"username": "owner", "password": LOGIN_PASSWORD})
    secrets["access JWT"] = str(owner.session.headers["Authorization"]).partition(" ")[2]
    secrets["refresh JWT"] = signed.json()["refresh"]
    said("sign-in refused", owner.post("/api/v1/auth/token", {"username": "owner", "password": LOGIN_PASSWORD + "x"}))

    # An account with a proxy, keys of its own, and a consent
    proxy = ProxyServer(login=("us", PROXY_PASSWORD))
    body = {
        "name": "Арбат",
        "proxyType": "socks5",
        "proxyHost": "127.0.0.1",
        "proxyPort": proxy.port,
        "proxyLogin": "us",
        "proxyPassword": PROXY_PASSWORD,
    }
    account_id = said("account", owner.post("/api/v1/accounts", body)).json()["id"]
    said("keys", owner.post("/api/v1/accounts", {"name": "Ключи", "clientId": "anna", "clientSecret": CLIENT_SECRET}))
    said("bad", owner.put(f"/api/v1/accounts/{account_id}", {"proxyPassword": PROXY_PASSWORD + "\n"}))
    link = owner.post(f"/api/v1/accounts/{account_id}/authorize-link").json()["url"]
    secrets["ticket"] = link.partition("ticket=")[2]
    browser = Api(product)
    to_avito = browser.get(link)
    secrets["state"] = parse_qs(urlsplit(to_avito.headers["Location"]).query)["state"][0]
    secrets["browser"] = browser.session.cookies[BROWSER_COOKIE]
    code = avito_sandbox.control("POST", "/authorize", sellerId=ANNA, scopes=list(ALL_SCOPES))["code"]
    secrets["code"] = code
    callback = {"state": secrets["state"], "code": code}
    assert said("callback", browser.get("/api/v1/auth/avito/callback", **callback)).status_code == 200
    assert said("replay", browser.get("/api/v1/auth/avito/callback", **callback)).status_code == 400
    said("used link", browser.get(link))
    first = Authorization.objects.get()
    secrets.update({"access token": first.access_token, "refresh token": first.refresh_token})

    # Work, and failures of many kinds
    messenger = f"/api/v1/messenger/accounts/{account_id}/chats"
    chat_id = said("chats", owner.get(messenger)).json()["chats"][0]["id"]
    said("messages", owner.get(f"{messenger}/{chat_id}/messages"))
    assert said("send", owner.post(f"{messenger}/{chat_id}/send", {"text": "Да"})).status_code == 201
    for kind, details in (
        ("status", {"status": 500, "body": json.dumps({"error": {"message": first.access_token}})}),
        ("status", {"status": 400, "body": json.dumps({"error": {"message": f"Bearer {first.access_token}"}})}),
        ("reset", {}),
        ("rubbish", {}),
    ):
        avito_sandbox.fault(kind, "chats", **details)
        said(f"failure {kind}", owner.get(messenger))
        said(f"failed send {kind}", owner.post(f"{messenger}/{chat_id}/send", {"text": "Нет"}))
        avito_sandbox.control("DELETE", "/faults")
    avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
    assert said("renewed", owner.get(messenger)).status_code == 200
    second = Authorization.objects.get()
    secrets.update({"second access token": second.access_token, "second refresh token": second.refresh_token})
    look_after_webhook(account_id)
    webhook = f"/api/v1/webhooks/avito/{WEBHOOK_KEY}"
    event = {"event": "message.new", "chat_id": chat_id, "user_id": ANNA, "message": {"id": "m", "text": "Ау"}}
    assert said("webhook", Api(product).post(webhook, event)).status_code == 200
    said("webhook refused", Api(product).post(webhook + "x", event))
    chat_tasks.process_inbox()
    assert said("reply", owner.post(f"/api/v1/avito/chats/{chat_id}/reply", {"text": "Иду"})).status_code == 202
    proxy.close()
    said("proxy failed", owner.get(messenger))
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    Account.objects.filter(pk=account_id).update(proxy=None)
    said("revoked", owner.get(messenger))
    said("refresh refused", owner.post(f"/api/v1/auth/avito/refresh/{account_id}"))

    # What people and machines see
    for path in ("/api/v1/accounts", f"/api/v1/accounts/{account_id}", f"/api/v1/avito/chats/{chat_id}", "/metrics",
                 "/health/ready", "/api/schema", "/api/v1/auth/me"):  # fmt: skip
        said(path, owner.get(path))
    root = Client(headers={"accept-language": "en"})
    root.force_login(
        make_user("root", is_superuser=True, is_staff=True), backend="django.contrib.auth.backends.ModelBackend"
    )
    message, chat = Message.objects.first(), Chat.objects.first()
    assert message is not None
    assert chat is not None
    for path in (
        "/admin/", "/admin/avito_accounts/account/", f"/admin/avito_accounts/account/{account_id}/change/",
        "/admin/avito_accounts/account/add/", f"/admin/avito_accounts/account/{account_id}/history/",
        f"/admin/chats/chat/{chat.pk}/change/", f"/admin/chats/message/{message.pk}/change/",
        "/admin/chats/webhookevent/", "/admin/axes/accessattempt/", "/admin/auth/user/",
    ):  # fmt: skip
        answer = root.get(path)
        assert answer.status_code == 200, path
        told.add(path, answer.content.decode())

    for place, answer in pages:
        told.add(f"answer: {place}", answer.text)
        told.add(f"headers: {place}", repr({k: v for k, v in answer.headers.items() if k != "Set-Cookie"}))
    dump(told)
    assert queued(told) >= 2

    found = {name: told.holding(secret) for name, secret in secrets.items()}
    assert {name: places for name, places in found.items() if places} == {}
    # The search finds what is there, in whatever shape.
    for place, text in (("database", "Арбат"), ("database", chat_id), ("log", "oauth_connected"), ("queue", "deliver")):
        assert text in told.places[place], (place, text)


def test_short_term_rent_tells_neither_its_tokens_nor_its_guests(
    product: str, avito_sandbox: Sandbox, settings: LazySettings, told: Told
) -> None:
    settings.AVITO_OAUTH_SCOPES = list(ALL_SCOPES)
    host, browser, pages = Api(product, make_user("host")), Api(product), []

    def said(place: str, answer: Any) -> Any:
        pages.append((place, answer))
        return answer

    def consent(link: str) -> Any:
        secrets[f"ticket {len(secrets)}"] = unquote(link.partition("ticket=")[2])
        asked = dict(parse_qsl(urlsplit(browser.get(link).headers["Location"]).query))
        secrets[f"state {len(secrets)}"] = asked["state"]
        secrets["browser"] = browser.session.cookies[BROWSER_COOKIE]
        data = {**asked, "decision": "allow", "user_id": ANNA}
        back = browser.call("POST", f"{avito_sandbox.base}/oauth", data=data).headers["Location"]
        secrets[f"code {len(secrets)}"] = dict(parse_qsl(urlsplit(back).query))["code"]
        return browser.get(back)

    def keep_tokens() -> None:
        stored = Authorization.objects.get()
        secrets[f"access {len(secrets)}"] = stored.access_token
        secrets[f"refresh {len(secrets)}"] = stored.refresh_token

    secrets: dict[str, str] = {"application secret": settings.AVITO_OAUTH_CLIENT_SECRET}
    guest: dict[str, Any] = {"name": "Засекреченный Гость", "email": "secret-guest@example.com", "phone": "9035550199"}
    path = f"/api/v1/str/properties/{said('made', host.post('/api/v1/str/properties', HOME)).json()['id']}"
    said("consent", consent(host.post(f"{path}/avito/authorize").json()["url"]))
    keep_tokens()
    item, account = avito_sandbox.make_rent_item(), Account.objects.get()
    today = avito_sandbox.today(item)
    day = [today + timedelta(days=number) for number in range(12)]
    made = avito_sandbox.book(item, day[4], day[6], **guest)
    avito_sandbox.raw_row(item, {**made.row, "avito_booking_id": 9, "check_out": "soon"})
    connected = {"accountId": account.pk, "itemId": str(item)}
    assert said("connected", host.post(f"{path}/avito", connected)).status_code == 201
    rent_tasks.serve()
    own = {"propertyId": int(path.rpartition("/")[2]), "checkIn": str(day[8]), "checkOut": str(day[10])}
    contacts = {"guestName": guest["name"], "guestEmail": guest["email"], "guestPhone": guest["phone"]}
    assert host.post("/api/v1/str/bookings", {**own, **contacts}).status_code == 201
    said("taken", host.post("/api/v1/str/bookings", {**own, **contacts}))
    said("bad", host.post("/api/v1/str/bookings", {**own, **contacts, "guests": 0}))
    token = next(iter(value for name, value in secrets.items() if name.startswith("access")))
    for status in (500, 400):
        fault = json.dumps({"error": {"message": f"Bearer {token}"}})
        avito_sandbox.rent_fault("status", status=status, body=fault, times=2)
        said(f"failure {status}", host.post(f"{path}/avito/check-item", connected))
        host.post(f"{path}/avito/sync")
        rent_tasks.serve()
    avito_sandbox.control("DELETE", "/faults")
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    host.post(f"{path}/avito/sync")
    rent_tasks.serve()
    rent_tasks.watch()
    said("reconnected", consent(host.post(f"{path}/avito/reconnect").json()["url"]))
    keep_tokens()
    for place in (path, f"{path}/avito", f"{path}/avito/log", f"{path}/avito/preview", f"{path}/calendar",
                  f"{path}/avito/accounts", "/api/v1/str/conflicts", "/api/v1/notifications", "/metrics"):  # fmt: skip
        assert said(place, host.get(place)).status_code in (200, 403), place

    for place, answer in pages:
        told.add(f"answer: {place}", answer.text)
        told.add(f"headers: {place}", repr({k: v for k, v in answer.headers.items() if k != "Set-Cookie"}))
    dump(told)
    queued(told)
    found = {name: told.holding(secret) for name, secret in {**secrets, **guest}.items()}
    assert {name: places for name, places in found.items() if places} == {}
    assert len(secrets) == 12
    assert HOME["name"] in told.places["database"]
    assert any(row["guestName"] == guest["name"] for row in host.get("/api/v1/str/bookings").json()["results"])


@pytest.mark.parametrize("shape", ["clear", "base64url", "hex", "quoted", "JSON"])
def test_the_search_would_find_a_secret_in_any_shape(shape: str) -> None:
    told = Told()
    told.add("somewhere", f"..{shapes(CLIENT_SECRET)[shape]}..")
    assert f"somewhere: {shape}" in told.holding(CLIENT_SECRET)


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_search_would_find_a_secret_within_base64(before: str) -> None:
    told = Told()
    told.add("somewhere", base64.b64encode(f"{before}{CLIENT_SECRET} and more".encode()).decode())
    assert told.holding(CLIENT_SECRET)
