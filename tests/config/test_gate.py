"""What every request passes before any of our code."""

import logging

import pytest

from config import gate
from tests.api import raw
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.sandbox.driver import wait_for

SEND = "/api/v1/messenger/accounts/1/chats/u2i-x~1/send"


def lines(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def test_log_tells_neither_keys_nor_phones_nor_queries(nobody: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    nobody.get("/api/v1/webhooks/avito/key-3f2a")
    nobody.get("/api/v1/webhook/avito/key-3f2a/")
    nobody.get("/api/v1/avito/chats", phone="+79161234567")
    nobody.get("/api/v1/auth/avito/callback", code="code-77aa", state="state-88bb")
    text = wait_for(lambda: "auth/avito/callback" in lines(caplog) and lines(caplog))
    assert "/api/v1/webhooks/avito/…" in text
    for private in ("key-3f2a", "9161234567", "code-77aa", "state-88bb"):
        assert private not in text


def test_log_line_carries_the_id_of_the_request(nobody: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    nobody.call("GET", "/api/v1/nope", headers={"X-Request-ID": "request-5150"})
    assert wait_for(lambda: "request-5150" in lines(caplog))


def test_only_the_path_that_takes_images_takes_large_forms(product: str) -> None:
    form = ("Content-Type: multipart/form-data; boundary=x", f"Content-Length: {2 * 1024 * 1024}")
    assert raw.exchange(product, raw.head(product, "POST", "/api/v1/accounts", *form), seconds=0.3).status == 413
    assert raw.exchange(product, raw.head(product, "POST", SEND, *form), seconds=0.3).status == 0  # it waits for more
    large = ("Content-Type: multipart/form-data; boundary=x", f"Content-Length: {26 * 1024 * 1024}")
    assert raw.exchange(product, raw.head(product, "POST", SEND, *large)).status == 413


def test_refusal_closes_the_connection_and_the_next_request_is_served(product: str, nobody: Api) -> None:
    answer = raw.exchange(
        product,
        raw.head(product, "POST", "/api/v1/accounts", "Content-Encoding: gzip", "Content-Length: 3") + b"abc",
        raw.head(product, "GET", "/health"),
    )
    assert (answer.status, answer.headers["connection"], answer.closed) == (415, "close", True)
    assert b'"status"' not in answer.body
    assert nobody.get("/health").status_code == 200


def test_headers_are_counted_by_their_lines_too(product: str) -> None:
    few = raw.exchange(product, raw.head(product, "GET", "/health", *["a: b"] * 1000, "Connection: close"))
    many = raw.exchange(product, raw.head(product, "GET", "/health", *["a: b"] * 6000, "Connection: close"))
    assert (few.status, many.status) == (200, 431)


@pytest.mark.parametrize(
    "line", ["GET  HTTP/1.1", "GET /\xff HTTP/1.1", "G\0T / HTTP/1.1", "NONSENSE", "GET / HTTP/9.9"]
)
def test_what_is_no_http_is_refused_by_the_server(product: str, line: str) -> None:
    answer = raw.exchange(product, f"{line}\r\nHost: x\r\n\r\n".encode("latin-1"), seconds=1)
    assert (answer.status, answer.closed) == (400, True)


def test_length_together_with_chunks_is_refused(product: str) -> None:
    smuggled = raw.head(product, "POST", "/api/v1/auth/token", "Content-Length: 4", "Transfer-Encoding: chunked")
    answer = raw.exchange(product, smuggled, b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n", seconds=1)
    assert b'{"status"' not in answer.body


def test_image_may_take_longer_than_other_bodies() -> None:
    assert gate.IMAGE_BODY_SECONDS > gate.BODY_SECONDS == 10


def test_refusals_have_the_one_shape(nobody: Api) -> None:
    assert_error(nobody.call("POST", "/health", data=b"x", headers={"Content-Encoding": "br"}), 415)
    assert_error(nobody.call("GET", "/admin/login/", headers={"x": "y" * 40_000}), 431, "headers_too_large")
