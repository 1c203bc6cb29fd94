"""What everything stands on: PostgreSQL, Redis, Avito."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.utils.translation import gettext as _

from avito_accounts.admin import shown
from config.health import redis_answers

ANSWER_SECONDS = 1.0

_hands = {name: ThreadPoolExecutor(2, f"reach-{name}") for name in ("redis", "avito")}


@dataclass(frozen=True)
class Place:
    """Something outside of the service. `advice`: what follows when it does not answer, and what to do."""

    name: str
    meaning: str
    is_well: bool
    advice: str = ""

    @property
    def label(self) -> str:
        return shown.label("success", _("reachable")) if self.is_well else shown.label("danger", _("not reachable"))


def all_of_them() -> list[Place]:
    return [_postgres(), *_reachable()]


def _postgres() -> Place:
    """It has let the reader in; without it there is no page."""
    return Place("PostgreSQL", _("keeps everything"), is_well=True)


def _reachable() -> list[Place]:
    checks: dict[str, Callable[[], bool]] = {"redis": redis_answers, "avito": avito_answers}
    asked = {name: _hands[name].submit(check) for name, check in checks.items()}
    well = {}
    for name, answer in asked.items():
        try:
            well[name] = answer.result(timeout=ANSWER_SECONDS)
        except (redis.RedisError, OSError, ValueError, TooLate):
            answer.cancel()
            well[name] = False
    place = urlsplit(settings.AVITO_API_BASE_URL).netloc
    return [
        Place(
            "Redis",
            _("rings for workers, shares the budget of calls"),
            well["redis"],
            _(
                "Redis does not answer. Nothing is lost: workers look into the database by themselves, but tasks by "
                "the clock wait. Start Redis, or correct REDIS_URL."
            ),
        ),
        Place(
            f"Avito, {place}",
            _("whether a connection opens from this server, without a proxy"),
            well["avito"],
            _(
                "Avito cannot be reached at %(place)s. Nothing is lost: what waits goes out by itself later. Check the "
                "network of this server; accounts with a proxy may work all the same."
            )
            % {"place": place},
        ),
    ]


def avito_answers() -> bool:
    """Does a connection open? No call is made: Avito counts them."""
    with socket.create_connection(_address_of_avito(), timeout=ANSWER_SECONDS):
        return True


def _address_of_avito() -> tuple[str, int]:
    url = urlsplit(settings.AVITO_API_BASE_URL)
    return url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
