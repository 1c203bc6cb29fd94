"""Bytes of answers to values and errors."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import avito
from avito import errors, protocol
from avito.protocol import Response

FIXTURES = Path(__file__).parents[1] / "fixtures" / "avito"


def answer(status: int, body: object = None, content_type: str = "application/json", **headers: str) -> Response:
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {"Content-Type": content_type, **headers}, written)


def refusal(response: Response) -> Any:
    with pytest.raises(errors.AvitoError) as caught:
        protocol.read(response)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "maybe_done"),
    [
        (400, errors.Invalid, False),
        (401, errors.Unauthorized, False),
        (402, errors.SubscriptionRequired, False),
        (403, errors.Forbidden, False),
        (404, errors.NotFound, False),
        (405, errors.NotFound, False),
        (408, errors.Broken, True),
        (409, errors.Invalid, False),
        (418, errors.Invalid, False),
        (422, errors.Invalid, False),
        (429, errors.RateLimited, False),
        (500, errors.Broken, True),
        (503, errors.Broken, True),
        (599, errors.Broken, True),
    ],
)
def test_status_decides_the_error(status: int, kind: type[errors.Refused], maybe_done: bool) -> None:
    error = refusal(answer(status, {"error": {"code": status, "message": "Нельзя"}}))
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, str(status), "Нельзя")
    assert error.maybe_done is maybe_done
    html = refusal(answer(status, b"<html>gateway</html>", "text/html"))
    assert type(html) is kind
    assert html.message == kind.default_message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"code": 400, "message": "Плохо"}}, "Плохо"),
        ({"code": 400, "message": "Плохо"}, "Плохо"),
        ({"message": "Плохо", "code": "bad"}, "Плохо"),
        ({"errors": ["Плохо", "Очень"]}, "Плохо; Очень"),
        ({"errors": [{"message": "Плохо"}]}, "Плохо"),
        ({"result": {"status": "error", "messages": ["Плохо"]}}, "Плохо"),
        ({"error": "bad_request", "error_description": "Плохо"}, "Плохо"),
        ({"error": "bad_request"}, "bad_request"),
        ({"error": {"message": "a\r\n\tb " + "x" * 1000}}, "a b " + "x" * 496),
        ([], errors.Invalid.default_message),
        ({"error": None, "errors": None, "message": 5}, errors.Invalid.default_message),
        (b"\xff\xfe{", errors.Invalid.default_message),
        (b"[" * 100_000, errors.Invalid.default_message),
    ],
)
def test_avitos_words_are_found_in_every_shape(body: object, message: str) -> None:
    assert refusal(answer(400, body)).message == message


def test_402_carries_avitos_text() -> None:
    error = refusal(answer(402, (FIXTURES / "error_subscription.json").read_bytes()))
    assert isinstance(error, errors.SubscriptionRequired)
    assert error.message == "Перейдите на подписку с API мессенджера"


def test_fields_of_a_validation_error_are_kept() -> None:
    error = refusal(answer(400, (FIXTURES / "error_validation.json").read_bytes()))
    assert error.fields == {"limit": "must be at most 100"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 403, "message": "no"}}, errors.Forbidden),
        ({"error": {"message": "no"}}, errors.Invalid),
        ({"result": {"status": "error", "messages": ["no"]}}, errors.Invalid),
    ],
)
def test_error_under_status_200_is_an_error(body: object, kind: type[Exception]) -> None:
    assert type(refusal(answer(200, body))) is kind


@pytest.mark.parametrize(
    "response",
    [
        answer(200, b"<html></html>", "text/html; charset=utf-8"),
        answer(200, b"{"),
        answer(200, b"\xef\xbb\xbf{}"),
        answer(200, "{}".encode("utf-16")),
        answer(200, b'{"a": NaN}'),
        answer(200, b'{"a": 1e999}'),
        answer(200, b"1" * 5000),
        answer(200, b"[" * 100_000),
        answer(301, b"", Location="https://evil.example/"),
        answer(302, {"access_token": "x"}),
        answer(304, b""),
        answer(100, b""),
    ],
)
def test_answer_that_is_no_answer_is_unreadable(response: Response) -> None:
    error = refusal(response)
    assert type(error) is errors.Unreadable
    assert error.maybe_done


def test_empty_success_is_none() -> None:
    assert protocol.read(Response(200)) is None
    assert protocol.read(Response(204, {}, b" \n")) is None


def test_answer_is_storable_text() -> None:
    body = rb'{"a\u0000": "\ud83d\ude00 \ud83d \udc00 \u0000 \\u0000 \\\ud800"}'
    assert protocol.read(answer(200, body)) == {"a�": "😀 � � � \\u0000 \\�"}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("7", 7), (" 7 ", 7), ("0", 0), ("999999999", 86_400), ("-1", None), ("1.5", None), ("soon", None), ("", None)],
)
def test_retry_after_in_seconds(written: str, seconds: int | None) -> None:
    assert refusal(answer(429, {}, **{"retry-after": written})).retry_after_seconds == seconds


def test_retry_after_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert protocol.retry_after(later) in (89, 90)
    assert protocol.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert protocol.retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0


@given(status=st.integers(100, 999), body=st.binary(max_size=200), header=st.text(max_size=20))
def test_any_answer_is_a_value_or_an_error_of_ours(status: int, body: bytes, header: str) -> None:
    with suppress(errors.AvitoError):
        protocol.read(Response(status, {"Content-Type": header, "Retry-After": header}, body))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "message", "code", "errors",
        "result", "status", "messages", "fields", "chats", "id", "meta"]) | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(status=st.sampled_from([200, 400, 401, 429, 500]), value=json_values)
def test_any_json_is_a_value_or_an_error_of_ours(status: int, value: Any) -> None:
    class Answering:
        def send(self, request: protocol.Request, *, deadline_seconds: float | None = None) -> Response:
            return answer(status, value)

    client = avito.Client("token", Answering())
    for call in (client.user.me, client.messenger.subscriptions):
        with pytest.raises(errors.AvitoError):
            call()
    for reading in (
        lambda: client.messenger.chats(1),
        lambda: client.messenger.messages(1, "c"),
        lambda: client.messenger.send_text(1, "c", "t"),
        lambda: avito.refresh(Answering(), client_id="i", client_secret="s", refresh_token="r"),
    ):
        with suppress(errors.AvitoError):
            reading()


def test_file_cannot_break_out_of_its_part() -> None:
    request = protocol.post_file("/x", "f", 'a"\r\nX: y\\\ud800\0.png', b"\r\n--b--", "image/png\r\nX: y")
    head = (request.body or b"").split(b"\r\n\r\n")[0].decode().split("\r\n")
    assert len(head) == 3
    assert head[1].endswith('filename="a___X: y___.png"')
