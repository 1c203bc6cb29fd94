"""Strictness: what a call must look like to be understood, and the shape of a refusal."""

import asyncio
import datetime as dt
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.state import Grant, Seller, World

Handler = Callable[[Request, Seller], Awaitable[Response]]


class Refusal(Exception):
    """Answered as `{"error": {"code", "message"}}`, with `fields` where a value is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        fields: dict[str, str] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.fields, self.headers = status, message, fields, headers

    def response(self) -> Response:
        if self.status == 402:  # Live it is flat, unlike the document's purchasingError.
            return JSONResponse({"code": 402, "message": self.message}, 402)
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if self.fields:
            error["fields"] = self.fields
        return JSONResponse({"error": error}, self.status, self.headers)


def invalid(field: str, problem: str) -> Refusal:
    return Refusal(400, "Validation error", {field: problem})


async def refuse(_: Request, error: Exception) -> Response:
    """The exception handler of refusals and of the router's own 404 and 405."""
    if isinstance(error, Refusal):
        return error.response()
    assert isinstance(error, HTTPException)
    answer = Refusal(error.status_code, error.detail).response()
    answer.headers.update(error.headers or {})
    return answer


def world_of(request: Request) -> World:
    world = request.app.state.world
    assert isinstance(world, World)
    return world


def admit(world: World, limit: str, who: int | None, at: float) -> None:
    """Count a call against the setting `limit` (0: none), or refuse it, which leaves it uncounted."""
    most, seconds = getattr(world.settings, limit), world.settings.limit_window_seconds
    if most == 0 or world.windows.admit((limit, who), most, seconds, at):
        return
    headers = {"X-RateLimit-Limit": f"{most:g}", "X-RateLimit-Remaining": "0"}
    if world.settings.retry_after_seconds:
        headers["Retry-After"] = f"{world.settings.retry_after_seconds:g}"
    raise Refusal(429, "Too many requests", headers=headers)


def operation(
    method: str, path: str, scope: str, handler: Handler, query: tuple[str, ...] = (), *, limit: str = ""
) -> Route:
    """A documented call: `scope` is needed with an authorization-code token, `query` are its only query parameters.

    `limit`: the setting that says how often a seller may call. Checked in this order: the token, `{user_id}` of the
    path, the scope, the limit, the query.
    """

    async def endpoint(request: Request) -> Response:
        grant = _bearer(request)
        seller = world_of(request).sellers[grant.seller_id]
        if request.path_params.get("user_id", seller.id) != seller.id:
            # Documented for the balance and the statistics alone: 404 "Неверный user_id в запросе".
            is_documented = path.endswith("/balance/") or path.startswith("/stats/")
            raise Refusal(404, "Not found") if is_documented else Refusal(403, "Forbidden")
        if grant.scopes is not None and scope not in grant.scopes:
            raise Refusal(403, f"Forbidden: scope {scope} is missing")
        if limit:
            admit(world_of(request), limit, seller.id, time.time())
        check_query(request, query)
        return await handler(request, seller)

    # A list of methods would add HEAD to GET.
    route = Route(path, endpoint, methods=[method])
    route.methods = {method}
    return route


def _bearer(request: Request) -> Grant:
    world = world_of(request)
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    grant = world.grants.get(text) if kind.lower() == "bearer" else None
    if grant is None or grant.kind != "access" or not grant.alive or grant.seller_id not in world.sellers:
        raise Refusal(401, "Unauthorized")
    if grant.expires_at <= time.time():
        raise Refusal(world.settings.expired_status, "access token expired")
    return grant


# Query and dates


def check_query(request: Request, allowed: tuple[str, ...]) -> None:
    for name in request.query_params:
        if name not in allowed:
            raise invalid(name, "unknown parameter")


def query_int(request: Request, name: str, default: int, low: int, high: int) -> int:
    values = request.query_params.getlist(name)
    if not values:
        return default
    if len(values) > 1 or not values[0].isdecimal() or not low <= int(values[0]) <= high:
        raise invalid(name, f"one whole number from {low} to {high}")
    return int(values[0])


def query_bool(request: Request, name: str) -> bool:
    values = request.query_params.getlist(name) or ["false"]
    if len(values) > 1 or values[0] not in {"true", "false"}:
        raise invalid(name, "true or false")
    return values[0] == "true"


def query_list(request: Request, name: str) -> list[str]:
    """An array, as `a,b` (the document's examples) or as a repeated parameter (OpenAPI's default)."""
    words = [word for value in request.query_params.getlist(name) for word in value.split(",")]
    if "" in words:
        raise invalid(name, "empty element")
    return words


def day(field: str, written: str) -> dt.date:
    """YYYY-MM-DD and nothing else that ISO 8601 allows."""
    try:
        found = dt.datetime.strptime(written, "%Y-%m-%d").date()
    except ValueError:
        raise invalid(field, "YYYY-MM-DD") from None
    if found.isoformat() != written:
        raise invalid(field, "YYYY-MM-DD")
    return found


# Bodies


async def no_body(request: Request) -> None:
    """For calls documented without a body; `{}` is let through, since many clients cannot post nothing."""
    if await request.body() not in {b"", b"{}"}:
        raise Refusal(400, "Bad Request: this call has no body")


async def json_body(request: Request, fields: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object with exactly `fields`: name to type, or to a nested dict of the same sort; `optional` may lack."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(400, "Bad Request: Content-Type must be application/json")
    try:
        value = json.loads(await request.body())
    except ValueError:
        raise Refusal(400, "Bad Request: the body is no JSON") from None
    given = {name: kind for name, kind in (optional or {}).items() if isinstance(value, dict) and name in value}
    return fitting_object(value, {**fields, **given}, "")


def fitting_object(value: object, fields: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(where or "body", "must be an object")
    for name in value:
        if name not in fields:
            raise invalid(f"{where}{name}", "unknown field")
    for name, kind in fields.items():
        if name not in value:
            raise invalid(f"{where}{name}", "required")
        if isinstance(kind, dict):
            fitting_object(value[name], kind, f"{where}{name}.")
        elif not isinstance(value[name], kind) or (kind is int and isinstance(value[name], bool)):
            raise invalid(f"{where}{name}", f"must be {kind.__name__}")
    return value


async def pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
