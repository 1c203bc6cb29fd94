"""The simple way to tell a browser what is new: each stream asks the database once a second. ASGI.

At its best: asyncio and a pool of connections, no sign-in, no rights, and nothing looked up but the row of the event.
"""

import asyncio
import os
from typing import Any, LiteralString

import environ
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

POLL_SECONDS = 1.0

_url = environ.Env.db_url_config(os.environ["DATABASE_URL"])
_where = make_conninfo(host=_url["HOST"], port=_url["PORT"], user=_url["USER"], dbname=_url["NAME"])
pool = AsyncConnectionPool(_where, min_size=4, max_size=19, open=False, timeout=3600, kwargs={"autocommit": True})


async def _ask(query: LiteralString, *params: int) -> list[tuple[int, str, int]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query, params)).fetchall()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await pool.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    [(last, _type, _object)] = await _ask("SELECT coalesce(max(id), 0), '', 0 FROM notifications_event")
    await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
    while True:
        await asyncio.sleep(POLL_SECONDS)
        query = "SELECT id, type, object_id FROM notifications_event WHERE id > %s ORDER BY id LIMIT 100"
        for row_id, type, object_id in await _ask(query, last):
            last = row_id
            frame = b'id: %d\nevent: %s\ndata: {"id": %d}\n\n' % (row_id, type.encode(), object_id)
            await send({"type": "http.response.body", "body": frame, "more_body": True})
