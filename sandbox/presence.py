"""The call that says "I am online". Avito's documents do not know it; a setting says whether this Avito does."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.state import Seller
from sandbox.wire import Refusal, operation, world_of


async def report_online(request: Request, seller: Seller) -> Response:
    if not world_of(request).settings.status_online_known:
        raise Refusal(404, "Not found")
    return JSONResponse({"ok": True})


ROUTES = [operation("POST", "/messenger/v2/accounts/{user_id:int}/status/online", "messenger:read", report_online)]
