"""The web server's entry: the gate in front, Avito's webhooks to their own endpoint, the rest to Django.

Of a stream of live events Django sees the beginning: whom it lets in, `notifications.stream` goes on to serve.
"""

import os
import resource
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django: Any = get_asgi_application()

from chats.intake import Intake  # noqa: E402  needs Django to be set up
from config.gate import Gate  # noqa: E402
from notifications.stream import Hub, Stream, end_with_the_server  # noqa: E402

OPEN_FILES = 65_536  # a listener holds one for as long as it listens

intake = Intake()
hub = Hub()
gate = Gate(Stream(django, hub), intake)


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "http":
        await gate(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close"})


async def _lifespan(receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            _allow_many_files()
            end_with_the_server(hub)
            await send({"type": "lifespan.startup.complete"})
        else:
            hub.close()
            await intake.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _allow_many_files() -> None:
    """What the system lets us have without asking, which is often more than we begin with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
