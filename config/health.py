"""`/health` says that this process answers; `/health/ready` says whether the whole installation can work."""

from collections.abc import Callable

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from config.models import Process


@require_safe
def alive(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when every part is `ok`, else 503; each part by name."""
    checks: dict[str, Callable[[], bool]] = {
        "database": _database,
        "redis": redis_answers,
        "worker": lambda: Process.objects.alive().filter(kind="worker").exists(),
        "beat": lambda: Process.objects.alive().filter(kind="beat").exists(),
        "migrations": _migrations,
    }
    parts: dict[str, str] = {}
    for name, check in checks.items():
        # Most of the others ask the database: when it is silent, once is enough to wait for it.
        reachable = name == "redis" or parts.get("database") != "failed"
        parts[name] = "ok" if reachable and _holds(check) else "failed"
    return JsonResponse(parts, status=200 if set(parts.values()) == {"ok"} else 503)


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (DatabaseError, redis.RedisError, OSError):
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def redis_answers() -> bool:
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1) as client:
        return bool(client.ping())


def _migrations() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
