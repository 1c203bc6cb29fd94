import json
import time

import pytest
import requests

from tests.sandbox.conftest import Client
from tests.sandbox.driver import ANNA, OLEG, Sandbox, wait_for

SELF = "/core/v1/accounts/self"


def texts(anna: Client, chat_id: str) -> list[str]:
    return [message["content"]["text"] for message in anna.messages(chat_id)]


def test_status_is_answered_a_number_of_times(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("status", times=2, skip=1, status=503, headers={"X-Why": "test"}, body="нет")
    answers = [anna.call("GET", SELF) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert (answers[1].text, answers[1].headers["x-why"]) == ("нет", "test")
    assert [row["fault"] for row in sandbox.journal()][-4:] == [None, "status", "status", None]


def test_fault_strikes_only_what_it_names(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("status", "^/", sellerId=OLEG)
    sandbox.fault("status", "^/", method="POST")
    sandbox.fault("status", "^/token$", grantType="refresh_token")
    assert anna.call("GET", SELF).status_code == 200
    assert anna.call("POST", "/messenger/v1/subscriptions").status_code == 500
    for fault in sandbox.control("GET", "/faults")[:2]:
        sandbox.control("DELETE", f"/faults/{fault['id']}")
    assert sandbox.token_call(grant_type="client_credentials").status_code == 400
    refresh_token = anna.tokens["refresh_token"]
    assert sandbox.token_call(grant_type="refresh_token", refresh_token=refresh_token).status_code == 500
    assert sandbox.control("DELETE", "/faults") == {"removed": 1}
    assert sandbox.token_call(grant_type="refresh_token", refresh_token=refresh_token).status_code == 200


def test_rate_limit_carries_its_headers(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("429", seconds=7)
    answer = anna.call("GET", SELF)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("60", "0")


@pytest.mark.parametrize(("apply", "done"), [("never", False), ("before", True)])
def test_silence_may_hide_an_effect(sandbox: Sandbox, anna: Client, chat_id: str, apply: str, done: bool) -> None:
    sandbox.fault("silence", "/messages$", method="POST", times=1, apply=apply)
    with pytest.raises(requests.ReadTimeout):
        anna.send(chat_id, "тихо", timeout=0.3)
    assert ("тихо" in texts(anna, chat_id)) is done


def test_silence_ends_by_closing_the_connection(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("silence", seconds=0.2)
    with pytest.raises(requests.ConnectionError):
        anna.call("GET", SELF)


def test_effect_may_come_after_the_client_left(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    sandbox.fault("silence", "/messages$", method="POST", seconds=0.5, apply="after", times=1)
    with pytest.raises(requests.ReadTimeout):
        anna.send(chat_id, "потом", timeout=0.1)
    wait_for(lambda: "потом" in texts(anna, chat_id))


@pytest.mark.parametrize(("apply", "done"), [("never", False), ("before", True)])
def test_connection_is_reset(sandbox: Sandbox, anna: Client, chat_id: str, apply: str, done: bool) -> None:
    sandbox.fault("reset", "/messages$", method="POST", times=1, apply=apply)
    with pytest.raises(requests.ConnectionError, match="reset"):
        anna.send(chat_id, "обрыв")
    assert ("обрыв" in texts(anna, chat_id)) is done


def test_rubbish_is_html_with_status_200(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("rubbish")
    answer = anna.call("GET", SELF)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_json_may_be_truncated(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("truncated")
    with pytest.raises(json.JSONDecodeError):
        json.loads(anna.call("GET", SELF).content)


def test_body_may_be_cut_off(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("cut")
    with pytest.raises(requests.RequestException):
        anna.call("GET", SELF)


@pytest.mark.parametrize("apply", [None, "before"])
def test_latency_delays_the_true_answer(sandbox: Sandbox, anna: Client, apply: str | None) -> None:
    sandbox.fault("latency", seconds=0.3, apply=apply)
    start = time.monotonic()
    assert anna.call("GET", SELF).json()["id"] == ANNA
    assert time.monotonic() - start >= 0.3


def test_answer_may_drip(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("drip", seconds=0.3)
    start = time.monotonic()
    assert anna.call("GET", SELF).json()["id"] == ANNA
    assert time.monotonic() - start >= 0.3


def test_answer_may_redirect(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("redirect", status=307, headers={"location": "http://127.0.0.1:9/elsewhere"})
    answer = anna.call("GET", SELF, allow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")


def test_answer_may_be_huge(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("huge")
    assert len(anna.call("GET", SELF).content) > 2 * 1024 * 1024


def test_answer_may_be_a_bomb(sandbox: Sandbox, anna: Client) -> None:
    sandbox.fault("gzip_bomb")
    answer = anna.call("GET", SELF, stream=True)
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 1024 * 1024
    answer.close()


def test_pages_and_control_never_fail(sandbox: Sandbox) -> None:
    sandbox.fault("status", "")
    for path in ("/", "/buyer", "/faults", "/_sandbox/health"):
        assert sandbox.call("GET", path).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "nonsense", "pathRegex": "x"},
        {"kind": "status", "pathRegex": "("},
        {"kind": "latency", "apply": "never"},
        {"kind": "status", "apply": "later"},
        {"kind": "status", "unknown": 1},
        {"pathRegex": "x"},
    ],
)
def test_senseless_fault_is_refused(sandbox: Sandbox, body: object) -> None:
    assert sandbox.call("POST", "/_sandbox/faults", json=body).status_code == 400
