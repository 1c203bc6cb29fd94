"""Avito's webhooks come in: stored before they are acknowledged, whatever they look like."""

import json
import uuid
from typing import Any

import pytest

from chats.models import WebhookEvent
from tests.conftest import Api

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
