"""Live events of the product as a process of its own: beside another one, without Redis, and when it is ended."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from rest_framework_simplejwt.tokens import AccessToken

from tests.api import raw
from tests.avito_accounts.test_tokens import ROOT, product_environment
from tests.config.test_run import free_ports
from tests.conftest import Api
from tests.factories import make_chat
from tests.notifications.listening import EVENTS, Ear
from tests.sandbox.driver import Sandbox, wait_for

LISTENERS = 150
GRACE_SECONDS = 20


@pytest.fixture
def lonely(product: str, avito_sandbox: Sandbox, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A web process that has no Redis."""
    port, _other = free_ports()
    command = ["uvicorn", "config.asgi:application", "--port", str(port), "--no-access-log"]
    command += ["--timeout-graceful-shutdown", str(GRACE_SECONDS)]
    environment = {**product_environment(avito_sandbox), "REDIS_URL": f"unix://{tmp_path}/nobody.sock"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        base = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: answers(Api(base)), 60)
            yield base, process
        finally:
            process.kill()
            process.wait()
    assert b"Traceback" not in (tmp_path / "log").read_bytes()


def answers(api: Api) -> bool:
    try:
        return api.get("/health").status_code == 200
    except OSError:
        return False


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received


def test_many_hear_without_redis_and_all_streams_end_when_the_service_is_ended(
    lonely: tuple[str, subprocess.Popen[bytes]], product: str, colleague: Api
) -> None:
    base, process = lonely
    user = User.objects.get(username="colleague")
    ask = raw.head(base, "GET", EVENTS, f"Authorization: Bearer {AccessToken.for_user(user)}")
    crowd = [socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), 20) for _ in range(LISTENERS)]
    try:
        for connection in crowd:
            connection.sendall(ask)
        for connection in crowd:
            read_until(connection, b"retry: ")
        chat = make_chat(unread_count=1)
        with Ear(colleague) as here, Ear(Api(base, user)) as there:
            assert Api(base, user).post(f"/api/v1/avito/chats/{chat.avito_id}/read").status_code == 200
            heard = here.wait("chat.updated", chat.pk)
            assert there.wait("chat.updated", chat.pk) == heard
            for connection in crowd:
                read_until(connection, b"id: %d\n" % heard.id)
            process.send_signal(signal.SIGTERM)
            # Far less than the server's patience with requests that do not end.
            assert process.wait(GRACE_SECONDS / 2) in (0, -signal.SIGTERM)
            for connection in crowd:
                read_until(connection, b"0\r\n\r\n")  # a whole answer
            assert there.ended.wait(5)
            assert not here.ended.is_set()
    finally:
        for connection in crowd:
            connection.close()
