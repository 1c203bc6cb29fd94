"""Is the process alive, can the installation work, and what is measured."""

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone

from config.models import Process
from tests.conftest import Api

PARTS = {"database": "ok", "redis": "ok", "worker": "ok", "beat": "ok", "migrations": "ok"}


@pytest.fixture
def beating(product: str) -> None:
    for name in ("worker", "beat"):
        now = timezone.now()
        Process.objects.create(kind=name, host="box", pid=1, started_at=now, beat_at=now)


def test_alive_says_so_to_anybody(nobody: Api) -> None:
    answer = nobody.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["X-Request-ID"]
    assert nobody.call("HEAD", "/health").status_code == 200
    assert nobody.post("/health").status_code in {403, 405}


@pytest.mark.usefixtures("beating")
def test_ready_when_every_part_is(nobody: Api) -> None:
    answer = nobody.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, PARTS)


@pytest.mark.usefixtures("beating")
@pytest.mark.parametrize("part", ["worker", "beat"])
def test_silent_process_is_named(nobody: Api, part: str) -> None:
    long_ago = timezone.now() - timedelta(seconds=31)
    Process.objects.filter(kind=part).update(beat_at=long_ago)
    answer = nobody.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {**PARTS, part: "failed"})
    now = timezone.now()
    Process.objects.create(kind=part, host="other", pid=1, started_at=now, beat_at=now)
    assert nobody.get("/health/ready").json() == PARTS  # one that lives is enough
    Process.objects.filter(kind=part).delete()
    assert nobody.get("/health/ready").json()[part] == "failed"


@pytest.mark.usefixtures("beating")
def test_silent_redis_is_named(nobody: Api, settings: LazySettings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    answer = nobody.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {**PARTS, "redis": "failed"})


def test_metrics_are_prometheus(nobody: Api) -> None:
    nobody.post("/api/v1/webhooks/avito", {})
    answer = nobody.get("/metrics")
    assert answer.status_code == 200
    assert 'avito_webhook_answers_total{status="200"}' in answer.text
