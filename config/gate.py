"""What every request passes before any of our code: an id, limits, one spelling of the path, one log line.

Plain ASGI, since Django would spool a body of any size before its first middleware sees it, and since the webhook
endpoint does not go through Django's request cycle at all.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
from django.http import HttpRequest
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger("request")

JSON_BYTES_MAX = 1024 * 1024
WEBHOOK_BYTES_MAX = 256 * 1024
IMAGE_BYTES_MAX = 25 * 1024 * 1024  # Avito takes images up to 24 MB; the rest is multipart's own
HEADER_BYTES_MAX = 32 * 1024
BODY_SECONDS = 10
IMAGE_BODY_SECONDS = 120

_sane_id = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_webhook_path = re.compile(r"/api/v1/webhooks?/avito(/.*)?")
_image_path = re.compile(r"/api/v1/messenger/accounts/\d+/chats/[^/]+/send/*")
_private_path = re.compile(r"(/api/v1/webhooks?/avito|/api/v1/avito/chats/by-phone)/.*")


class Refused(Exception):
    """The request does not get in; carries the answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(code)
        self.status, self.code, self.detail = status, code, detail


class Gate:
    """ASGI app: lets a request through to `webhook` or to `app`, or answers it itself."""

    def __init__(self, app: App, webhook: App) -> None:
        self.app, self.webhook = app, webhook

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        scope["request_id"] = request_id
        status, started = 500, time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        is_webhook = _webhook_path.fullmatch(scope["path"]) is not None
        try:
            await self._pass(scope, headers, receive, send_with_id, is_webhook=is_webhook)
        except Refused as refused:
            await answer_error(send_with_id, refused.status, refused.code, _in_language(headers, refused.detail))
        finally:
            if not (is_webhook and status == 200):  # thousands a second; the metrics count them
                milliseconds = round((time.monotonic() - started) * 1000)
                log.info(
                    "request", method=scope["method"], path=_loggable(scope["path"]), status=status, ms=milliseconds
                )

    async def _pass(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send, *, is_webhook: bool
    ) -> None:
        # As on the wire: a line has ": " and an end, so thousands of tiny ones are large too.
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > HEADER_BYTES_MAX:
            raise Refused(431, "headers_too_large", gettext_noop("The request's headers are too large."))
        if is_webhook:
            maximum, seconds = WEBHOOK_BYTES_MAX, BODY_SECONDS
        elif headers.get(b"content-type", b"").lower().startswith(b"multipart/") and _image_path.fullmatch(
            scope["path"]
        ):
            maximum, seconds = IMAGE_BYTES_MAX, IMAGE_BODY_SECONDS
        else:
            maximum, seconds = JSON_BYTES_MAX, BODY_SECONDS
        if headers.get(b"content-encoding", b"identity").lower() not in {b"", b"identity"}:
            raise Refused(415, "unsupported_encoding", gettext_noop("Send the body without a Content-Encoding."))
        body = await _read(receive, headers, maximum=maximum, seconds=seconds)
        if is_webhook:
            scope["body"] = body
            await self.webhook(scope, receive, send)
            return
        if scope["path"].startswith(("/api/", "/health")):
            # The same path with a slash behind it works too, without a redirect.
            scope["path"] = scope["path"].rstrip("/")
        scope["headers"] = _with_length(scope["headers"], len(body))
        await self.app(scope, _replay(body, receive), send)


async def answer_error(
    send: Send, status: int, code: str, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """An error in the one shape of the whole API; the connection is closed behind it."""
    kind = "server_error" if status >= 500 else "client_error"
    content = {"type": kind, "errors": [{"code": code, "detail": detail, "attr": None}]}
    body = json.dumps(content, ensure_ascii=False).encode()
    start = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*start, *headers]})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive, headers: dict[bytes, bytes], *, maximum: int, seconds: int) -> bytes:
    """The whole body, at most `maximum` bytes of it, within `seconds`."""
    too_large = Refused(413, "body_too_large", gettext_noop("The request's body is too large."))
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > maximum:
        raise too_large
    chunks, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "incomplete_body", gettext_noop("The request ended before its body did."))
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > maximum:
                    raise too_large
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        raise Refused(408, "body_too_slow", gettext_noop("The request's body did not arrive in time.")) from None


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    """A body that came in chunks has a length by now; without one DRF takes it for an empty body."""
    if not any(name == b"transfer-encoding" for name, _value in headers):
        return headers
    kept = [pair for pair in headers if pair[0] not in {b"transfer-encoding", b"content-length"}]
    return [*kept, (b"content-length", str(length).encode())]


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _request_id(value: bytes) -> str:
    text = value.decode("latin-1")
    return text if _sane_id.fullmatch(text) else uuid.uuid4().hex


def _loggable(path: str) -> str:
    """The path without a webhook's key or a phone; queries (tickets, codes, states) are never logged at all."""
    match = _private_path.fullmatch(path)
    return f"{match[1]}/…" if match else path


def _in_language(headers: dict[bytes, bytes], text: str) -> str:
    request = HttpRequest()
    request.META["HTTP_ACCEPT_LANGUAGE"] = headers.get(b"accept-language", b"").decode("latin-1")
    with translation.override(translation.get_language_from_request(request)):
        return _(text)
