"""OAuth: the token endpoint and the page on which a seller agrees."""

import ipaddress
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox.pages import page
from sandbox.state import SCOPES, Application, World
from sandbox.wire import pause, world_of

# Field names of each grant, all required and no others. Source: Avito API, Авторизация.
GRANT_FIELDS = {
    "client_credentials": {"grant_type", "client_id", "client_secret"},
    "authorization_code": {"grant_type", "client_id", "client_secret", "code"},
    "refresh_token": {"grant_type", "client_id", "client_secret", "refresh_token"},
}
CONSENT_PARAMETERS = {"response_type", "pro_users_flow", "client_id", "scope", "state", "redirect_uri", "lang"}


class TokenError(Exception):
    """Avito's documents show no token errors; the shape is that of RFC 6749, 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


async def token(request: Request) -> Response:
    world = world_of(request)
    try:
        answer = _issue(world, await _token_fields(request))
    except TokenError as error:
        return JSONResponse({"error": error.error, "error_description": error.description}, error.status)
    await pause(world.settings.token_delay_seconds)
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def _token_fields(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise TokenError("invalid_request", "Content-Type must be application/x-www-form-urlencoded")
    pairs = parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True)
    fields = dict(pairs)
    known = GRANT_FIELDS.get(fields.get("grant_type", ""))
    if known is None:
        raise TokenError("unsupported_grant_type", "grant_type is unknown")
    if len(pairs) != len(fields) or set(fields) != known or request.query_params:
        raise TokenError("invalid_request", f"the fields must be {', '.join(sorted(known))}")
    return fields


def _issue(world: World, fields: dict[str, str]) -> dict[str, object]:
    application = world.applications.get(fields["client_id"])
    if application is None or application.client_secret != fields["client_secret"]:
        raise TokenError("invalid_client", "client_id or client_secret is wrong", 401)
    if fields["grant_type"] == "client_credentials":
        return _issue_for_own_key(world, application)
    kind = "code" if fields["grant_type"] == "authorization_code" else "refresh"
    text = fields["code" if kind == "code" else "refresh_token"]
    grant = world.usable(kind, text, application.client_id)
    if grant is None:
        raise TokenError("invalid_grant", "the code or refresh token is unknown, used or expired")
    grant.alive = False
    scopes = grant.scopes or ()
    answer = _access(world, application, grant.seller_id, scopes)
    seconds = world.settings.refresh_token_seconds
    answer["refresh_token"] = world.grant("refresh", application.client_id, grant.seller_id, scopes, seconds)
    answer["scope"] = ",".join(scopes)
    return answer


def _issue_for_own_key(world: World, application: Application) -> dict[str, object]:
    if application.seller_id is None:
        raise TokenError("unauthorized_client", "this application acts for others only: use authorization_code")
    return _access(world, application, application.seller_id, None)


def _access(
    world: World, application: Application, seller_id: int, scopes: tuple[str, ...] | None
) -> dict[str, object]:
    if world.settings.old_tokens_die:
        for grant in world.grants.values():
            if (grant.kind, grant.client_id, grant.seller_id) == ("access", application.client_id, seller_id):
                grant.alive = False
    seconds = world.settings.access_token_seconds
    text = world.grant("access", application.client_id, seller_id, scopes, seconds)
    return {"access_token": text, "expires_in": int(seconds), "token_type": "Bearer"}


# The consent page


class BadConsent(Exception):
    """The request for consent cannot be shown; the text is for people."""


async def consent(request: Request) -> Response:
    """Show who asks for what (GET), or take the decision and go back with a code or an error (POST)."""
    world = world_of(request)
    form = await request.form() if request.method == "POST" else request.query_params
    asked = {name: value for name, value in form.items() if isinstance(value, str)}
    try:
        application, scopes, redirect_uri = _checked(world, asked, request.method)
    except BadConsent as problem:
        return page(request, "consent_error.html", {"problem": str(problem)}, status=400)
    if request.method == "GET":
        shown = {"application": application, "scopes": [(s, SCOPES[s]) for s in scopes], "asked": asked}
        return page(request, "consent.html", {**shown, "redirect_uri": redirect_uri, "sellers": world.sellers.values()})
    answer = {"error": "access_denied"}
    if asked.get("decision") == "allow":
        seller_id = _chosen_seller(world, asked)
        answer = {"code": authorize(world, application.client_id, seller_id, scopes)}
    if "state" in asked:
        answer["state"] = asked["state"]
    joint = "&" if urlsplit(redirect_uri).query else "?"
    return RedirectResponse(f"{redirect_uri}{joint}{urlencode(answer)}", 303)


def authorize(world: World, client_id: str, seller_id: int, scopes: list[str]) -> str:
    """The authorization code of a seller who agreed."""
    return world.grant("code", client_id, seller_id, scopes, world.settings.code_seconds)


def _chosen_seller(world: World, asked: dict[str, str]) -> int:
    chosen = asked.get("user_id", "")
    if chosen.isdecimal() and int(chosen) in world.sellers:
        return int(chosen)
    return world.add_seller(asked.get("name") or f"Новый продавец {world.next_number()}").id


def _checked(world: World, asked: dict[str, str], method: str) -> tuple[Application, list[str], str]:
    unknown = set(asked) - CONSENT_PARAMETERS - ({"decision", "user_id", "name"} if method == "POST" else set())
    if unknown:
        raise BadConsent(f"Неизвестные параметры: {', '.join(sorted(unknown))}")
    if asked.get("response_type") != "code":
        raise BadConsent("response_type должен быть code")
    application = world.applications.get(asked.get("client_id", ""))
    if application is None:
        raise BadConsent("Приложение с таким client_id не зарегистрировано")
    scopes = asked.get("scope", "").split(",")
    if any(scope not in SCOPES for scope in scopes):
        raise BadConsent("scope: неизвестное право доступа; права перечисляются через запятую")
    return application, scopes, _redirect_uri(world, asked.get("redirect_uri"))


def _redirect_uri(world: World, given: str | None) -> str:
    registered = world.settings.redirect_uris
    if registered:
        if given is not None and given not in registered:
            raise BadConsent("redirect_uri не совпадает с зарегистрированным")
        return given or registered[0]
    if given is None:
        raise BadConsent("Для приложения не зарегистрирован redirect_uri, а в запросе его нет")
    parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not _is_loopback(parts.hostname or ""):
        raise BadConsent("redirect_uri должен вести на этот же компьютер")
    return given


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


ROUTES = [
    Route("/token", token, methods=["POST"]),
    Route("/oauth", consent, methods=["GET", "POST"]),
]
