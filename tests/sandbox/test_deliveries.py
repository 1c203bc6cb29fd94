import hashlib
import hmac
import json
import time
import uuid
from typing import Any

from tests.sandbox.conftest import Client, Receiver
from tests.sandbox.driver import ANNA, Sandbox, wait_for


def write(sandbox: Sandbox, chat_id: str, text: str, **details: Any) -> str:
    id: str = sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text=text, **details)["id"]
    return id


def received(receiver: Receiver) -> list[str]:
    return [json.loads(body)["payload"]["value"]["id"] for _, body in receiver.requests]


def outcomes(sandbox: Sandbox) -> list[tuple[int, int | str]]:
    return [(row["attempt"], row["status"]) for row in sandbox.control("GET", "/deliveries")]


def settled(sandbox: Sandbox) -> bool:
    under_way: int = sandbox.control("GET", "/health")["underWay"]
    return under_way == 0


def test_buyers_message_is_delivered_as_documented(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    id = write(sandbox, chat_id, "Здравствуйте")
    headers, raw = wait_for(lambda: receiver.requests)[0]
    body = json.loads(raw)
    assert set(body) == {"id", "version", "timestamp", "payload"}
    assert str(uuid.UUID(body["id"])) == body["id"]
    assert (body["version"], body["payload"]["type"]) == ("v3.0.0", "message")
    value = body["payload"]["value"]
    assert (value["id"], value["chat_id"], value["user_id"]) == (id, chat_id, ANNA)
    assert value["author_id"] != ANNA
    assert (value["type"], value["chat_type"], value["item_id"]) == ("text", "u2i", 1768287444)
    assert value["content"] == {"text": "Здравствуйте"}
    assert value["published_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value["created"]))
    assert value["read"] is None
    assert int(id, 16) >= 0
    assert len(id) == 32
    signature = hmac.new(b"sandbox-webhook-secret", raw, hashlib.sha256).hexdigest()
    assert headers["x-avito-messenger-signature"] == signature


def test_own_message_comes_back(anna: Client, chat_id: str, receiver: Receiver) -> None:
    id = anna.send(chat_id, "ответ").json()["id"]
    value = json.loads(wait_for(lambda: receiver.requests)[0][1])["payload"]["value"]
    assert (value["id"], value["author_id"], value["user_id"]) == (id, ANNA, ANNA)


def test_failed_delivery_is_tried_again(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    receiver.statuses = [500, 204]
    id = write(sandbox, chat_id, "а")
    wait_for(lambda: len(receiver.requests) == 3)
    assert received(receiver) == [id] * 3
    assert len({body for _, body in receiver.requests}) == 1
    wait_for(lambda: outcomes(sandbox) == [(1, 500), (2, 204), (3, 200)])


def test_delivery_is_given_up_in_the_end(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    receiver.statuses = [500] * 9
    write(sandbox, chat_id, "а")
    wait_for(lambda: outcomes(sandbox) == [(1, 500), (2, 500), (3, 500), (0, "given up")])


def test_unreachable_receiver_is_noted(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    anna.call("POST", "/messenger/v3/webhook", json={"url": "http://127.0.0.1:9/"})
    write(sandbox, chat_id, "а")
    wait_for(lambda: (1, "ConnectionError") in outcomes(sandbox))


def test_delivery_may_come_several_times(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    id = write(sandbox, chat_id, "а", copies=3)
    wait_for(lambda: received(receiver) == [id] * 3)


def test_delivery_may_come_late(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    late = write(sandbox, chat_id, "раньше", delaySeconds=0.3)
    early = write(sandbox, chat_id, "позже")
    wait_for(lambda: received(receiver) == [early, late])


def test_held_deliveries_come_in_reverse(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    sandbox.control("POST", "/deliveries/hold")
    ids = [write(sandbox, chat_id, text) for text in "абвг"]
    assert receiver.requests == []
    assert sandbox.control("POST", "/deliveries/release", order="reverse") == {"released": 4}
    wait_for(lambda: received(receiver) == ids[::-1])
    assert write(sandbox, chat_id, "дальше") == wait_for(lambda: received(receiver)[4:])[0]


def test_delivery_may_be_lost(sandbox: Sandbox, anna: Client, chat_id: str, receiver: Receiver) -> None:
    lost = write(sandbox, chat_id, "один", drop=True)
    sandbox.control("POST", "/deliveries/drop", next=1)
    write(sandbox, chat_id, "два")
    kept = write(sandbox, chat_id, "три")
    wait_for(lambda: received(receiver) == [kept])
    assert wait_for(lambda: settled(sandbox))
    assert outcomes(sandbox) == [(0, "dropped"), (0, "dropped"), (1, 200)]
    assert lost in [message["id"] for message in anna.messages(chat_id)]


def test_all_are_lost_with_probability_one(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    sandbox.control("PATCH", "/settings", webhookDropProbability=1)
    write(sandbox, chat_id, "а", copies=2)
    assert outcomes(sandbox) == [(0, "dropped")] * 2


def test_unsubscribed_address_hears_no_more(sandbox: Sandbox, anna: Client, chat_id: str, receiver: Receiver) -> None:
    anna.call("POST", "/messenger/v1/webhook/unsubscribe", json={"url": receiver.url})
    write(sandbox, chat_id, "а")
    assert outcomes(sandbox) == []


def test_nothing_of_the_time_before_a_reset_comes_after_it(sandbox: Sandbox, chat_id: str, receiver: Receiver) -> None:
    receiver.statuses, receiver.pause_seconds = [500] * 9, 0.3
    write(sandbox, chat_id, "в пути")
    write(sandbox, chat_id, "позже", delaySeconds=60)
    assert receiver.begun.wait(5)
    sandbox.control("POST", "/reset")
    assert len(receiver.requests) == 1
    assert settled(sandbox)
    assert outcomes(sandbox) == []
