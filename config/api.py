"""One shape of errors for the whole API, and what each failure of Avito's becomes there."""

import ipaddress
from typing import Any

import structlog
from django.contrib import admin
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views import defaults
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework.exceptions import APIException

import avito
from avito_accounts import errors as accounts

log = structlog.get_logger(__name__)

NAME_LENGTH = 255
SOMETHING_BROKE = _("Something broke on our side. The log has the request's id.")


class ApiError(APIException):
    """An error with its own status and code, and optionally the seconds after which a repeat makes sense."""

    def __init__(self, status: int, code: str, detail: Any, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.wait = retry_after_seconds  # DRF's handler sends it as Retry-After


class Handler(ExceptionHandler):
    """drf-standardized-errors' handler, which also learns our failures and Avito's."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        return translated(super().convert_known_exceptions(exc))

    def convert_unhandled_exceptions(self, exc: Exception) -> APIException:
        return exc if isinstance(exc, APIException) else ApiError(500, "error", SOMETHING_BROKE)


def translated(exception: Exception) -> Exception:
    """Our and Avito's failures as errors of the API; all others as they are."""
    match exception:
        case accounts.AccountUnusable() | avito.AvitoError():
            return _account_error(exception)
        case OperationalError() | InterfaceError():
            log.error("database_unavailable", error=type(exception).__name__)
            return ApiError(503, "database_unavailable", _("The database does not answer. Try again soon."), 2)
        case RequestDataTooBig():
            return ApiError(413, "body_too_large", _("The request's body is too large."))
    return exception


# The status of each code of `accounts.code_of`.
ACCOUNT_ERRORS = {
    "account_not_authorized": 409,
    "reconnect_required": 409,
    "missing_avito_secrets": 503,
    "secrets_unreadable": 503,
    "avito_rejected": 422,
    "avito_subscription_required": 402,
    "avito_forbidden": 403,
    "avito_not_found": 404,
    "avito_rate_limited": 503,
    "avito_unavailable": 502,
    "avito_timeout": 504,
    "proxy_failed": 502,
    "error": 500,
}


def _account_error(error: Exception) -> ApiError:
    code = accounts.code_of(error)
    wait = (error.retry_after_seconds or 30) if isinstance(error, avito.RateLimited) else None
    return ApiError(ACCOUNT_ERRORS[code], code, accounts.words(code, accounts.text_of(error)), wait)


def name_tried(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str | None:
    """Whose password is tried, as far as Axes has room for it: nobody's name is longer."""
    name = (credentials or getattr(request, "data", request.POST)).get("username")
    return None if name is None else str(name)[:NAME_LENGTH]


def address_of(request: HttpRequest) -> str | None:
    """Whence, as the server in front says it; what is no address is none."""
    try:
        return str(ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")))
    except ValueError:
        return None


def locked_out(request: HttpRequest, *_args: Any, **_kwargs: Any) -> HttpResponse:
    """Too many wrong passwords for this name from this address."""
    detail = str(_("Too many wrong tries. Wait 15 minutes."))
    if not _is_api(request):
        return _page(request, 429, _("Signing in is closed for a while"), detail)
    return _plain(429, "too_many_attempts", detail)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _plain(400, "bad_request", str(_("The request makes no sense.")))
    return defaults.bad_request(request, exception)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if _is_api(request):
        return _plain(403, "permission_denied", str(_("The CSRF token is missing or wrong.")))
    text = _("The form is too old, or cookies are switched off. Open the page anew and try again.")
    return _page(request, 403, _("This was not accepted"), text)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _plain(404, "not_found", str(_("There is nothing here.")))
    text = _("Perhaps it was deleted, or the address has a mistake.")
    return _page(request, 404, _("There is no such page"), text)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _plain(403, "permission_denied", str(_("This is not for your role.")))
    text = _("Your role does not open it. Ask an administrator, if you need it.")
    return _page(request, 403, _("This page is not for you"), text)


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_api(request):
        return _plain(500, "error", str(SOMETHING_BROKE))
    return defaults.server_error(request)


def _page(request: HttpRequest, status: int, title: Any, text: Any) -> HttpResponse:
    """For people: what happened, and the way on."""
    context = {**admin.site.each_context(request), "title": title, "text": text}
    return render(request, "error.html", context, status=status)


def _is_api(request: HttpRequest) -> bool:
    return request.path == "/api" or request.path.startswith("/api/")


def _plain(status: int, code: str, detail: str) -> JsonResponse:
    kind = "server_error" if status >= 500 else "client_error"
    content = {"type": kind, "errors": [{"code": code, "detail": detail, "attr": None}]}
    return JsonResponse(content, status=status, json_dumps_params={"ensure_ascii": False})
