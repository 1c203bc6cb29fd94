"""The sandbox's answers against Avito's own OpenAPI documents, read from AVITO_OPENAPI_DIR."""

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.sandbox.conftest import Client, Receiver
from tests.sandbox.driver import OLEG, Sandbox, wait_for
from tests.sandbox.test_messenger import PNG

FOLDER = os.environ.get("AVITO_OPENAPI_DIR")
pytestmark = pytest.mark.skipif(
    not FOLDER,
    reason="AVITO_OPENAPI_DIR does not name a folder with messenger.json, user.json, items.json, short-term-rent.json",
)
NAMES = ("messenger.json", "user.json", "items.json", "short-term-rent.json")
V1 = "/messenger/v1/accounts/{user_id}"


def strict(schema: Any) -> Any:
    """JSON Schema of an OpenAPI 3.0 schema: `nullable` becomes a type, and keys that the document lacks are refused."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if key not in {"nullable", "example"}}
    if schema.get("nullable"):
        made["type"] = [made["type"], "null"]
    if isinstance(schema.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return made


class Documents:
    def __init__(self, folder: str) -> None:
        self.known = [json.loads((Path(folder) / name).read_text()) for name in NAMES]

    def check(self, method: str, path: str, answer: Any, status: str = "200") -> None:
        document = next(document for document in self.known if path in document["paths"])
        content = document["paths"][path][method.lower()]["responses"][status]["content"]
        root = strict({"components": {"schemas": document["components"]["schemas"]}})
        jsonschema.validate(answer, {**strict(content["application/json"]["schema"]), **root})


@pytest.fixture(scope="module")
def documents() -> Documents:
    assert FOLDER
    return Documents(FOLDER)


def test_user_answers_fit(anna: Client, documents: Documents) -> None:
    for path in ("/core/v1/accounts/self", "/core/v1/accounts/{user_id}/balance/"):
        documents.check("GET", path, anna.call("GET", path.replace("{user_id}", str(anna.id))).json())


def test_listing_answers_fit(anna: Client, documents: Documents) -> None:
    documents.check("GET", "/core/v1/items", anna.call("GET", "/core/v1/items", params={"status": "active,old"}).json())
    path = "/core/v1/accounts/{user_id}/items/{item_id}/"
    for item_id in (1768287444, 1650023871, 4341979279, 5):
        real = path.replace("{user_id}", str(anna.id)).replace("{item_id}", str(item_id))
        documents.check("GET", path, anna.call("GET", real).json())


@pytest.mark.parametrize("grouping", ["day", "week", "month"])
def test_statistics_fit(anna: Client, documents: Documents, grouping: str) -> None:
    until = dt.datetime.now(dt.UTC).date()
    body = {"itemIds": [1768287444, 4341979279], "dateFrom": str(until - dt.timedelta(days=9)), "dateTo": str(until)}
    path = "/stats/v1/accounts/{user_id}/items"
    real = path.replace("{user_id}", str(anna.id))
    answer = anna.call("POST", real, json={**body, "periodGrouping": grouping}).json()
    assert answer["result"]["items"][0]["stats"]
    documents.check("POST", path, answer)
    documents.check("POST", path, anna.call("POST", path.replace("{user_id}", "1"), json=body).json(), status="404")


def test_reading_answers_fit(sandbox: Sandbox, anna: Client, chat_id: str, documents: Documents) -> None:
    voice = {"voice": {"voice_id": "v-1"}}
    sandbox.control("POST", f"/chats/{chat_id}/buyer-message", type="voice", content=voice)
    chats = "/messenger/v2/accounts/{user_id}/chats"
    documents.check("GET", chats, {"chats": anna.chats()})
    one = anna.call("GET", f"/messenger/v2/accounts/{{id}}/chats/{chat_id}").json()
    documents.check("GET", chats + "/{chat_id}", one)
    documents.check("GET", "/messenger/v3/accounts/{user_id}/chats/{chat_id}/messages/", anna.messages(chat_id))
    voices = anna.call("GET", "/messenger/v1/accounts/{id}/getVoiceFiles", params={"voice_ids": "v-1"}).json()
    documents.check("GET", V1 + "/getVoiceFiles", voices)


def test_writing_answers_fit(anna: Client, chat_id: str, documents: Documents) -> None:
    path = V1 + "/chats/{chat_id}"
    own = f"/messenger/v1/accounts/{{id}}/chats/{chat_id}"
    sent = anna.send(chat_id, "привет").json()
    documents.check("POST", path + "/messages", sent)
    uploaded = anna.call("POST", "/messenger/v1/accounts/{id}/uploadImages", files={"uploadfile[]": PNG}).json()
    documents.check("POST", V1 + "/uploadImages", uploaded)
    image = anna.call("POST", own + "/messages/image", json={"image_id": next(iter(uploaded))}).json()
    documents.check("POST", path + "/messages/image", image)
    documents.check("POST", path + "/messages/{message_id}", anna.call("POST", f"{own}/messages/{sent['id']}").json())
    documents.check("POST", path + "/read", anna.call("POST", own + "/read").json())


def test_webhook_answers_and_deliveries_fit(
    anna: Client, chat_id: str, receiver: Receiver, documents: Documents
) -> None:
    subscriptions = "/messenger/v1/subscriptions"
    documents.check("POST", subscriptions, anna.call("POST", subscriptions).json())
    for path in ("/messenger/v3/webhook", "/messenger/v1/webhook/unsubscribe", "/messenger/v3/webhook"):
        documents.check("POST", path, anna.call("POST", path, json={"url": receiver.url}).json())
    anna.send(chat_id, "эхо")
    delivered = json.loads(wait_for(lambda: receiver.requests)[0][1])
    documents.check("POST", "/messenger/v3/webhook", delivered, status="201")


def test_all_documented_messenger_calls_are_known(anna: Client, documents: Documents) -> None:
    for path, methods in documents.known[0]["paths"].items():
        for method in {"get", "post"} & set(methods):
            real = path.replace("{user_id}", str(anna.id)).replace("{chat_id}", "x").replace("{message_id}", "y")
            answer = anna.call(method.upper(), real)
            assert (answer.status_code, answer.json().get("error", {}).get("message")) != (404, "Not Found"), path
            assert answer.status_code != 405, path


RENT = {
    "GET": ("/realty/v1/accounts/{user_id}/items/{item_id}/bookings",),
    "POST": (
        "/core/v1/accounts/{user_id}/items/{item_id}/bookings",
        "/realty/v1/accounts/{user_id}/items/{item_id}/prices",
        "/realty/v1/items/{item_id}/base",
        "/realty/v1/items/intervals",
    ),
}


def test_rent_answers_fit(sandbox: Sandbox, anna: Client, documents: Documents) -> None:
    item, strange = sandbox.make_rent_item(), sandbox.make_rent_item(OLEG)
    today = sandbox.today(item)
    first, second, third, fourth = (today + dt.timedelta(days=number) for number in range(4))
    sandbox.book(item, first, second, changes={"total_for_buyer": None})
    sandbox.book(item, second, third, paid=False)
    sandbox.cancel(sandbox.book(item, third, fourth))

    def real(path: str, id: int) -> str:
        return path.replace("{user_id}", str(anna.id)).replace("{item_id}", str(id))

    (reads,), (blocks, prices, base, intervals) = RENT["GET"], RENT["POST"]
    dates = {"date_start": str(first), "date_end": str(fourth)}
    told = anna.call("GET", real(reads, item), params={**dates, "with_unpaid": "true"}).json()
    assert [row["status"] for row in told["bookings"]] == ["active", "pending", "canceled"]
    documents.check("GET", reads, told)
    span = {"date_start": str(first), "date_end": str(third)}
    good: dict[str, dict[str, Any]] = {
        blocks: {"bookings": [{"date_start": str(third), "date_end": str(fourth), "type": "manual"}], "source": "pms"},
        prices: {"prices": [{"date_from": str(first), "date_to": str(first), "night_price": 1990}]},
        intervals: {"item_id": item, "intervals": [{**span, "open": 1}]},
        base: {"night_price": 3000},
    }
    for path, body in good.items():
        answer = anna.call("POST", real(path, item), json=body)
        assert answer.status_code == 200, answer.text
        if path != base:
            documents.check("POST", path, answer.json())
        wrong = {**body, "unknown": 1}
        documents.check("POST", path, anna.call("POST", real(path, item), json=wrong).json(), status="422")
        documents.check("POST", path, anna.call("POST", real(path, item), data="{").json(), status="400")
        for id, status in ((strange, "403"), (5, "404")):
            sent = {**body, "item_id": id} if path == intervals else body
            answer = anna.call("POST", real(path, id), json=sent)
            assert answer.status_code == int(status)
            documents.check("POST", path, answer.json(), status=status)
    conflict = anna.call("POST", real(blocks, item), json={"bookings": [span]})
    assert conflict.status_code == 409
    documents.check("POST", blocks, conflict.json(), status="409")
    documents.check("GET", reads, anna.call("GET", real(reads, item)).json(), status="422")


def test_all_documented_rent_calls_are_known(anna: Client, documents: Documents) -> None:
    known = {
        (m.upper(), path) for path, ways in documents.known[3]["paths"].items() for m in {"get", "post"} & set(ways)
    }
    assert known == {(method, path) for method, paths in RENT.items() for path in paths}
