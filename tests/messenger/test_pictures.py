"""Pictures go out through the same door as texts, and at most once."""

from datetime import timedelta
from typing import Any

import pytest
import requests
from django.test import Client

from avito.messenger import IMAGE_MAX_BYTES
from avito.types import Message as AvitoMessage
from chats import replies, sync, tasks
from chats.models import Chat, Message
from tests.conftest import Api
from tests.factories import make_user
from tests.messenger.conftest import PNG, Send, at_avito, failure
from tests.sandbox.driver import Sandbox

KINDS = {
    "png": PNG,
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
    "gif": b"GIF89a" + bytes(100),
    "bmp": b"BM" + bytes(12) + (40).to_bytes(4, "little") + bytes(50),
    "heic": bytes(4) + b"ftypheic" + bytes(100),
}


def paths(sandbox: Sandbox) -> list[str]:
    return [row["path"].rpartition("/")[2] for row in sandbox.journal()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_arrives_byte_for_byte_and_is_stored(
    send: Send, avito_sandbox: Sandbox, empty_chat: str, kind: str
) -> None:
    answer = send(image=KINDS[kind])
    assert answer.status_code == 201, answer.text
    sent = answer.json()
    [arrived] = at_avito(avito_sandbox, empty_chat)
    assert (arrived["type"], arrived["id"], arrived["content"]["image"]) == (
        "image",
        sent["id"],
        sent["content"]["image"],
    )
    picture = requests.get(next(iter(arrived["content"]["image"]["sizes"].values())), timeout=5)
    assert (picture.content, picture.headers["Content-Type"]) == (KINDS[kind], f"image/{kind}")
    stored = Message.objects.get()
    assert (stored.type, stored.avito_id, stored.delivery_status) == ("image", sent["id"], "sent")
    assert stored.content["image"] == sent["content"]["image"]


def test_the_largest_picture_passes_and_a_larger_one_does_not(send: Send, avito_sandbox: Sandbox) -> None:
    assert send(image=PNG + bytes(IMAGE_MAX_BYTES - len(PNG))).status_code == 201
    answer = send(image=PNG + bytes(IMAGE_MAX_BYTES + 1 - len(PNG)))
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "image")
    assert failure(send(image=PNG + bytes(IMAGE_MAX_BYTES + 2**20))) == (413, "body_too_large")
    assert Message.objects.count() == 1


def test_only_this_path_takes_large_bodies(colleague: Api, account_url: str, empty_chat: str) -> None:
    large = {"image": ("a.png", PNG + bytes(2**20), "image/png")}
    for path in (f"{account_url}/chats/{empty_chat}/messages/x/read", "/api/v1/accounts"):
        assert colleague.call("POST", path, files=large).status_code == 413
    answer = colleague.post(f"{account_url}/chats/{empty_chat}/send", {"text": "x" * 2**20})
    assert answer.status_code == 413


FILE = ("a.png", PNG, "image/png")


@pytest.mark.parametrize(
    ("form", "attr"),
    [
        ({"files": {"image": ("a.png", b"", "image/png")}}, "image"),
        ({"files": {"image": ("a.png", b"BMW X5", "image/bmp")}}, "image"),
        ({"files": {"image": ("a.svg", b"<svg/>", "image/svg+xml")}}, "image"),
        ({"files": [("image", FILE), ("image", FILE)]}, "image"),
        ({"files": {"image": FILE}, "data": {"text": "Да"}}, "text"),
        ({"files": {"picture": FILE}}, "text"),
        ({"files": {"picture": FILE}, "data": {"image": "a.png"}}, "image"),
        ({"json": {"image": "a.png"}}, "text"),
        ({"json": {}}, "text"),
        ({"json": []}, None),
    ],
)
def test_what_is_neither_one_picture_nor_a_text_is_refused_here(
    colleague: Api, account_url: str, empty_chat: str, avito_sandbox: Sandbox, form: dict[str, Any], attr: str | None
) -> None:
    answer = colleague.call("POST", f"{account_url}/chats/{empty_chat}/send", **form)
    assert answer.status_code == 400, answer.text
    assert attr is None or answer.json()["errors"][0]["attr"] == attr
    assert not Message.objects.exists()
    assert at_avito(avito_sandbox, empty_chat) == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        ("multipart/form-data; boundary=" + "x" * 300, b""),
        ("multipart/form-data; boundary=x; charset=nonsense", b'--x\r\nContent-Disposition: form-data; name="a"\r\n'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 1500),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n1\r\n' * 150 + b"--x--"),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
         b"Content-Transfer-Encoding: base64\r\n\r\n!\r\n--x--"),
    ],
)  # fmt: skip
def test_multipart_that_is_none_is_400(
    colleague: Api, account_url: str, empty_chat: str, content_type: str, body: bytes
) -> None:
    path = f"{account_url}/chats/{empty_chat}/send"
    answer = colleague.call("POST", path, data=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"--x--",
        b"nothing of the kind",
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + PNG + b"\r\n--x--",
    ],
)
def test_staff_may_send_pictures_from_the_browser(product: str, account_url: str, empty_chat: str, body: bytes) -> None:
    root = make_user("root", is_superuser=True, is_staff=True)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    browser.get("/admin/")
    answer = browser.post(
        f"{account_url}/chats/{empty_chat}/send",
        data=body,
        content_type="multipart/form-data; boundary=x",
        headers={"X-CSRFToken": browser.cookies["csrftoken"].value},
    )
    assert answer.status_code == (201 if PNG in body else 400), answer.content


def test_a_text_may_come_as_a_form(colleague: Api, account_url: str, empty_chat: str, avito_sandbox: Sandbox) -> None:
    path = f"{account_url}/chats/{empty_chat}/send"
    answer = colleague.call("POST", path, files={"text": (None, "Да")})
    assert answer.status_code == 201, answer.text
    assert [row["content"]["text"] for row in at_avito(avito_sandbox, empty_chat)] == ["Да"]


def test_an_upload_that_fails_sends_and_stores_nothing(send: Send, avito_sandbox: Sandbox, empty_chat: str) -> None:
    avito_sandbox.fault("status", "uploadImages$", status=500, apply="before")
    assert failure(send(image=PNG)) == (502, "avito_unavailable")
    assert at_avito(avito_sandbox, empty_chat) == []
    assert not Message.objects.exists()


def test_a_token_that_expires_between_upload_and_sending_costs_nothing(
    send: Send, avito_sandbox: Sandbox, empty_chat: str
) -> None:
    avito_sandbox.fault("status", "messages/image$", status=401, times=1)
    assert send(image=PNG).status_code == 201
    assert len(at_avito(avito_sandbox, empty_chat)) == 1
    assert paths(avito_sandbox).count("uploadImages") == 1


@pytest.mark.parametrize("effect", ["before", "never"])
def test_a_picture_without_an_answer_is_looked_for_and_never_sent_twice(
    send: Send, avito_sandbox: Sandbox, empty_chat: str, effect: str
) -> None:
    avito_sandbox.fault("reset", "messages/image$", apply=effect, times=1)
    assert failure(send(image=PNG)) == (504, "avito_timeout")
    message = Message.objects.get()
    assert message.delivery_status == "unknown"
    for _look in range(2):
        Message.objects.update(retry_at=message.created_at, sending_at=message.created_at - timedelta(minutes=1))
        tasks.look_again(message.pk)
    message.refresh_from_db()
    arrived = at_avito(avito_sandbox, empty_chat)
    if effect == "before":
        assert (message.delivery_status, message.avito_id) == ("sent", arrived[0]["id"])
        assert message.content["image"] == arrived[0]["content"]["image"]
    else:
        assert (message.delivery_status, message.error_code, arrived) == ("failed", "not_delivered", [])
        assert replies.retry(message)
        tasks.deliver(message.pk)
    assert len(at_avito(avito_sandbox, empty_chat)) == 1
    assert Message.objects.count() == 1


def test_the_echo_of_a_picture_is_the_picture_and_of_a_voice_is_not(send: Send, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("reset", "messages/image$", times=1)
    send(image=PNG)
    chat, [waiting] = Chat.objects.get(), Message.objects.all()
    for id, kind, content in (
        ("voice", "voice", {}),
        ("picture", "image", {"image": {"sizes": {"1x1": "https://a.b"}}}),
    ):
        echo = AvitoMessage(id, 5, "out", kind, "", content, waiting.created_at + timedelta(seconds=1))
        sync.store_messages(chat.account, chat.avito_id, [echo])  # type: ignore[arg-type]
    waiting.refresh_from_db()
    assert (waiting.delivery_status, waiting.avito_id, Message.objects.count()) == ("sent", "picture", 2)
