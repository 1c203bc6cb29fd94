"""People see Moscow time, which is Avito's own; the API speaks UTC."""

import zoneinfo
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
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
