"""Avito's webhooks come in: stored before they are acknowledged, whatever they look like."""

import json
import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection

from chats.models import WebhookEvent
from tests.conftest import Api
from tests.sandbox.driver import wait_for

MAIN = "/api/v1/webhooks/avito"


def message_event(**value: Any) -> dict[str, Any]:
    fields = {
        "id": uuid.uuid4().hex,
        "chat_id": "u2i-abc~1",
        "user_id": 94235311,
        "author_id": 520000009,
        "created": 1_795_316_798,
        "type": "text",
        "chat_type": "u2i",
        "item_id": 1768287444,
        "content": {"text": "Здравствуйте!"},
        **value,
    }
    return {
        "id": str(uuid.uuid4()),
        "version": "v3.0.0",
        "timestamp": 1_795_316_799,
        "payload": {"type": "message", "value": fields},
    }


@pytest.mark.parametrize("path", [MAIN, "/api/v1/webhook/avito", f"{MAIN}/", f"{MAIN}/some-key"])
def test_every_path_stores_the_delivery_before_it_is_acknowledged(nobody: Api, path: str) -> None:
    event = message_event()
    answer = nobody.post(path, event)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert json.loads(bytes(WebhookEvent.objects.get().body)) == event


def test_a_probe_is_acknowledged_and_leaves_nothing(nobody: Api) -> None:
    assert nobody.call("POST", MAIN, data="{}").status_code == 200
    assert not WebhookEvent.objects.exists()


def test_without_the_database_the_sender_is_told_to_repeat_and_later_heard(nobody: Api) -> None:
    assert nobody.post(MAIN, message_event()).status_code == 200
    name = connection.settings_dict["NAME"]
    with psycopg.connect(**{**connection_parameters(), "dbname": "postgres"}, autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'intake' AND datname = %s",
                [name],
            )
            answers = [nobody.post(MAIN, message_event()) for _each in range(2)]
        finally:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert nobody.post(MAIN, message_event()).status_code == 200
    assert WebhookEvent.objects.count() == 2


def test_a_database_that_hangs_is_not_waited_for_longer_than_avito_waits(product: str) -> None:
    event = message_event()
    with psycopg.connect(**connection_parameters()) as other:
        other.execute("LOCK TABLE chats_webhookevent IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _n: Api(product).post(MAIN, event).status_code, range(8)))
    assert answers == [503] * 8
    assert Api(product).post(MAIN, event).status_code == 200
    assert WebhookEvent.objects.count() == 1


def test_a_connection_whose_other_end_is_frozen_is_left_for_another(nobody: Api) -> None:
    assert nobody.post(MAIN, message_event()).status_code == 200
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'intake' AND datname = current_database()"
        )
        [(backend,)] = cursor.fetchall()
    os.kill(backend, signal.SIGSTOP)
    try:
        assert [nobody.post(MAIN, message_event()).status_code for _each in range(2)] == [503, 200]
    finally:
        os.kill(backend, signal.SIGCONT)
    wait_for(lambda: not is_serving(backend))  # what it was told before it was left, it may still write
    assert WebhookEvent.objects.count() in (2, 3)


def test_the_same_bytes_at_the_same_moment_are_one_event(product: str) -> None:
    event = message_event()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _n: Api(product).post(MAIN, event).status_code, range(64)))
    assert answers == [200] * 64
    assert WebhookEvent.objects.count() == 1


def is_serving(backend: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [backend])
        return cursor.fetchone() is not None


def connection_parameters() -> dict[str, Any]:
    wanted = ("host", "port", "dbname", "user", "password")
    given = connection.get_connection_params()
    return {name: given[name] for name in wanted if given.get(name)}


def test_a_connection_that_was_cut_while_it_lay_idle_is_no_reason_to_send_the_sender_away(nobody: Api) -> None:
    assert nobody.post(MAIN, message_event()).status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'intake'")
    assert nobody.post(MAIN, message_event()).status_code == 200
    assert WebhookEvent.objects.count() == 2
