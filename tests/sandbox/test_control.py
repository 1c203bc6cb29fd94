import datetime as dt
import signal
import subprocess
import sys
import time
from pathlib import Path

import requests

from sandbox.server import running
from sandbox.settings import Settings
from tests.config.test_run import free_ports
from tests.sandbox.conftest import Client
from tests.sandbox.driver import ANNA, Sandbox, wait_for

ROOT = Path(__file__).parent.parent.parent


def test_reset_brings_the_seeds_back(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    anna.send(chat_id, "след")
    sandbox.fault("status")
    changed = sandbox.control("POST", "/reset", accessTokenSeconds=60)
    assert changed["accessTokenSeconds"] == 60
    assert sandbox.control("GET", "/faults") == sandbox.journal() == []
    assert anna.call("GET", "/core/v1/accounts/self").status_code == 401
    assert len(Client(sandbox).messages(Client(sandbox).chats()[0]["id"])) == 2


def test_wrong_settings_change_nothing(sandbox: Sandbox) -> None:
    for body in ({"nonsense": 1}, {"oldTokensDie": "yes"}, {"accessTokenSeconds": 5, "expiredStatus": None}):
        assert sandbox.call("PATCH", "/_sandbox/settings", json=body).status_code == 400
    assert sandbox.control("GET", "/settings")["accessTokenSeconds"] == 86400


def test_settings_are_read_from_the_environment() -> None:
    environ = {"SANDBOX_OLD_TOKENS_DIE": "true", "SANDBOX_WEBHOOK_RETRY_SECONDS": "[1]", "SANDBOX_REDIRECT_URIS": "a,b"}
    settings = Settings.from_env(environ)
    assert (settings.old_tokens_die, settings.webhook_retry_seconds, settings.redirect_uris) == (True, [1], ["a", "b"])


def test_seller_is_made_with_a_key_of_his_own(sandbox: Sandbox) -> None:
    made = sandbox.control("POST", "/sellers", id=10**10, name="Хостел", clientId="h", clientSecret="s")
    assert made in sandbox.control("GET", "/sellers")
    token = sandbox.token_call(grant_type="client_credentials", client_id="h", client_secret="s").json()
    answer = sandbox.call(
        "GET", "/core/v1/accounts/self", headers={"Authorization": f"Bearer {token['access_token']}"}
    ).json()
    assert (answer["id"], answer["name"]) == (10**10, "Хостел")
    assert sandbox.call("POST", "/_sandbox/sellers", json={"id": 10**10, "name": "Второй"}).status_code == 409


def test_message_may_be_dated_back(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    body = {"text": "старое", "createdAt": "2024-05-01T12:00:00+03:00"}
    made = sandbox.control("POST", f"/chats/{chat_id}/buyer-message", **body)
    assert made["created"] == 1714554000
    assert anna.messages(chat_id)[-1]["id"] == made["id"]
    stored = sandbox.call("GET", f"/_sandbox/chats/{chat_id}/messages", params={"sellerId": ANNA}).json()
    assert stored[-1]["chatId"] == chat_id


def test_journal_is_filtered(sandbox: Sandbox, anna: Client) -> None:
    anna.call("GET", "/core/v1/accounts/self", params={"x": "1"})
    (row,) = sandbox.call("GET", "/_sandbox/journal", params={"pathRegex": "self$"}).json()
    assert (row["method"], row["query"], row["status"], row["userId"]) == ("GET", "x=1", 400, ANNA)
    assert sandbox.call("GET", "/_sandbox/journal", params={"since": time.time()}).json() == []
    sandbox.control("DELETE", "/journal")
    assert sandbox.journal() == []


def test_two_sandboxes_share_nothing(sandbox: Sandbox) -> None:
    with running() as other:
        requests.patch(f"{other}/_sandbox/settings", json={"oldTokensDie": True}, timeout=5)
        assert sandbox.control("GET", "/settings")["oldTokensDie"] is False


def test_process_starts_and_ends_on_sigterm() -> None:
    with subprocess.Popen([sys.executable, "-m", "sandbox", "--port", "0"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert b"http://127.0.0.1:" in process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: process.poll() is not None)
        assert process.returncode in {0, -signal.SIGTERM}


def test_a_sandbox_with_a_file_remembers_after_a_restart(tmp_path: Path) -> None:
    def started() -> tuple[subprocess.Popen[bytes], Sandbox]:
        port = free_ports()[0]
        command = [sys.executable, "-m", "sandbox", "--port", str(port), "--state", str(tmp_path / "state")]
        process, sandbox = subprocess.Popen(command, cwd=ROOT), Sandbox(f"http://127.0.0.1:{port}")
        wait_for(lambda: _is_there(sandbox), 20)
        return process, sandbox

    process, sandbox = started()
    pair = sandbox.tokens()
    seller = sandbox.control("POST", "/sellers", name="Гостиница")["id"]
    item = sandbox.make_rent_item(seller)
    sandbox.book(item, sandbox.today(item), sandbox.today(item) + dt.timedelta(days=2))
    process.terminate()
    process.wait(10)

    process, sandbox = started()
    try:
        assert "Гостиница" in [one["name"] for one in sandbox.control("GET", "/sellers")]
        assert next(iter(sandbox.calendar(item, 1).values())).open == 0
        answer = sandbox.call(
            "GET", "/core/v1/accounts/self", headers={"Authorization": f"Bearer {pair['access_token']}"}
        )
        assert answer.status_code == 200
    finally:
        process.terminate()
        process.wait(10)
    (tmp_path / "state").write_bytes(b"of another version")
    process, sandbox = started()
    assert "Гостиница" not in [one["name"] for one in sandbox.control("GET", "/sellers")]
    process.terminate()
    process.wait(10)


def _is_there(sandbox: Sandbox) -> bool:
    try:
        return sandbox.call("GET", "/_sandbox/health").ok
    except requests.ConnectionError:
        return False
