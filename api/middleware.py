"""For people: Moscow time, which is Avito's own, where the API speaks UTC; and pages that travel compressed."""

import zoneinfo
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.utils import timezone

MOSCOW = zoneinfo.ZoneInfo("Europe/Moscow")


class MoscowTimeForPeople:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/api/"):
            return self.get_response(request)
        with timezone.override(MOSCOW):
            return self.get_response(request)


class CompressedPages(GZipMiddleware):
    """A list of fifty rows has 300 kB of HTML and travels as 15. The API's answers and its stream stay as they are."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.streaming or not response.get("Content-Type", "").startswith("text/html"):
            return response
        return super().process_response(request, response)
