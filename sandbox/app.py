"""The whole as one ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from sandbox import control, guest, items, messenger, oauth, pages, presence, rent, rent_control
from sandbox.deliveries import Deliveries
from sandbox.faults import Faults, Front
from sandbox.kept import Kept
from sandbox.settings import Settings
from sandbox.state import World
from sandbox.wire import Refusal, refuse


def create_app(settings: Settings | None = None, state: Path | None = None) -> ASGIApp:
    """A sandbox with a state of its own, kept in the file `state`; without `settings` they come from the environment.

    To be served by uvicorn: faults that end connections reach into its transport.
    """
    world = World(settings or Settings.from_env())
    deliveries, faults = Deliveries(world), Faults()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        kept = Kept(world, state) if state else None
        if kept:
            kept.load()
        keeping = asyncio.create_task(kept.keep()) if kept else None
        yield
        deliveries.close()
        if kept and keeping:
            keeping.cancel()
            kept.save()

    app = Starlette(
        routes=[
            *oauth.ROUTES,
            *rent.ROUTES,
            *messenger.ROUTES,
            *presence.ROUTES,
            *items.ROUTES,
            *control.ROUTES,
            *rent_control.ROUTES,
            *pages.ROUTES,
            *guest.ROUTES,
        ],
        exception_handlers={HTTPException: refuse, Refusal: refuse},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.world, app.state.deliveries, app.state.faults = world, deliveries, faults
    return Front(app, world, faults)
