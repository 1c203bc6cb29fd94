"""`manage.py run`: the whole service on one machine, started in order, ended in reverse, all or none."""

import http.client
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from config import embedded, env
from config.child import end_with_parent
from config.models import Process
from config.supervisor import Child, Failed, Log, Stopped, only_one, stop_together

READY_SECONDS = 60.0
PORT_FREE_SECONDS = 2.0  # what a service that was just killed may need to let go of its port
SECOND_SIGNAL_SECONDS = 1.0
WEB_GRACE_SECONDS = 3
COLOURS = {"postgres": 34, "valkey": 31, "sandbox": 33, "migrate": 36, "web": 32, "worker": 35, "beat": 36}
# What says nothing new: the advice to tune the machine, and what our own question for readiness causes.
NOISE = ("Memory overcommit must be enabled", "Service Unavailable: /health/ready", "path=/health")


class Command(BaseCommand):
    help = "Run everything: PostgreSQL, Valkey, the sandbox, web, worker and beat. Ctrl-C ends all of them."
    requires_system_checks: list[str] = []  # `migrate` does them; here they would only cost time

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--prepare", action="store_true", help="migrate, create the first superuser, and end")
        parser.add_argument("--end-with-parent", action="store_true", help="end when the calling process is killed")

    def handle(self, *args: Any, prepare: bool, end_with_parent: bool, **options: Any) -> None:
        service = Service(only_prepare=prepare, end_with_parent=end_with_parent)
        try:
            service.run()
        except Failed as error:
            raise CommandError(str(error)) from None
        if service.forced:
            raise CommandError("Ended by force.")


class Service:
    def __init__(self, *, only_prepare: bool, end_with_parent: bool) -> None:
        self.only_prepare = only_prepare
        self.end_with_parent = end_with_parent
        self.began = time.monotonic()
        self.asked_at: float | None = None
        self.forced = False
        self.output = Output()
        self.children: list[Child] = []
        python = [sys.executable, "-u"]
        manage = [*python, str(settings.BASE_DIR / "manage.py")]
        celery = [*python, "-W", "ignore:You're running the worker", "-m", "celery", "--app", "config", "--quiet"]
        worker = ["worker", "--pool", "threads", "--concurrency", str(env.number("WORKER_CONCURRENCY", 16))]
        self.postgres = embedded.Postgres(settings.DATA_DIR)
        self.valkey = embedded.Valkey(settings.DATA_DIR)
        self.migrate = _ours("migrate", [*manage, "migrate", "--no-input"])
        self.sandbox = Sandbox(python)
        self.web = Web(python)
        self.worker = _ours("worker", [*celery, *worker, "--without-gossip", "--without-mingle"])
        self.beat = _ours("beat", [*celery, "beat"])

    def run(self) -> None:
        """Returns when somebody asked for the end. Raises Failed when a part cannot start or ends by itself."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._note_signal)
        if self.end_with_parent:
            end_with_parent(signal.SIGTERM)
        settings.DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
        with only_one(settings.DATA_DIR / "run.lock"):
            try:
                self._check_ports()
                sign_in = self._prepare()
                if not self.only_prepare:
                    self._serve()
                    self._greet(sign_in)
                    self._watch()
            except Stopped:
                pass
            finally:
                self._stop()

    def _check_ports(self) -> None:
        if self.only_prepare:
            return
        _check_port("PORT", settings.HOST, settings.PORT, "PORT=5014 make run")
        if settings.AVITO_IS_SANDBOX:
            host, port = _address(settings.SANDBOX_URL)
            _check_port("SANDBOX_PORT", host, port, "SANDBOX_PORT=5015 make run")

    def _prepare(self) -> str:
        """Storage with its tables and the first account; says how to sign in."""
        if not env.text("DATABASE_URL"):
            self._start(self.postgres)
        if not env.text("REDIS_URL") and not self.only_prepare:
            self._start(self.valkey)
        if settings.AVITO_IS_SANDBOX and not self.only_prepare:
            self._start(self.sandbox)
        self._wait(self.postgres, self.valkey)
        self._start(self.migrate)
        if self.migrate.wait_end(600, self._asked) != 0:
            raise Failed(self.migrate.obituary())
        self.children.remove(self.migrate)
        try:
            if not self.only_prepare:
                Process.objects.all().delete()  # those of an earlier run say nothing about this one
            return first_superuser()
        finally:
            connection.close()
            connection.close_pool()  # type: ignore[attr-defined]  # else its threads live as long as we do

    def _serve(self) -> None:
        """Start what serves, and wait until all of it does."""
        for child in (self.web, self.worker, self.beat):
            self._start(child)
        self._wait(self.sandbox, self.web)
        deadline = time.monotonic() + READY_SECONDS
        while parts := self.web.parts_that_fail():
            self._check_alive()
            if time.monotonic() > deadline:
                raise Failed(f"Not ready after {READY_SECONDS:.0f} s: {', '.join(parts)}.")
            time.sleep(0.5)

    def _watch(self) -> None:
        while True:
            self._check_alive()
            time.sleep(0.1)

    def _start(self, child: Child) -> None:
        self._check_alive()
        self.children.append(child)
        child.start(self.output.log(child.name))

    def _wait(self, *children: Child) -> None:
        for child in children:
            if child.started:
                child.wait_ready(stopped=self._asked)

    def _asked(self) -> bool:
        """For those who wait: has somebody asked for the end? A part that died ends the waiting as well."""
        for child in self.children:
            if child is not self.migrate and child.status() is not None:
                raise Failed(child.obituary())
        return self.asked_at is not None

    def _check_alive(self) -> None:
        if self._asked():
            raise Stopped

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        """The first asks for the end, a later one forces it.

        Later means a second later: `make` passes SIGTERM on to us, so that a signal to its group comes twice at once.
        """
        now = time.monotonic()
        if self.asked_at is None:
            self.asked_at = now
        elif now - self.asked_at > SECOND_SIGNAL_SECONDS:
            self.forced = True

    def _stop(self) -> None:
        if self.children:
            self.output.say("Ending. Once more Ctrl-C forces it." if self.asked_at else "Ending.")
        serving = stop_together([self.beat, self.worker, self.web, self.migrate], hurry=lambda: self.forced)
        avito = stop_together([self.sandbox], hurry=lambda: self.forced)
        storage = stop_together([self.valkey, self.postgres])  # in no hurry: it writes down what it was given
        for name in serving + avito + storage:
            self.output.say(f"{name} did not end in time and was killed.")

    def _greet(self, sign_in: str) -> None:
        rows = [
            ("Back office", f"{settings.PUBLIC_URL}/admin/"),
            ("", sign_in),
            ("API", f"{settings.PUBLIC_URL}/api/docs"),
        ]
        if self.sandbox.started:
            rows += [
                ("Sandbox", f"{settings.SANDBOX_URL}/   stands in for Avito"),
                ("", f"{settings.SANDBOX_URL}/buyer   write to the seller as a buyer"),
            ]
        if self.postgres.started:
            rows.append(("Data", f"{settings.DATA_DIR}"))
        self.output.say("")
        self.output.say(f"  avito-service is ready after {time.monotonic() - self.began:.1f} s")
        for title, text in rows:
            self.output.say(f"  {title:<12} {text}")
        self.output.say("  Ctrl-C ends everything.")
        self.output.say("")


class Sandbox(Child):
    stop_seconds = 2.0

    def __init__(self, python: list[str]) -> None:
        host, port = _address(settings.SANDBOX_URL)
        command = [*python, "-m", "sandbox", "--host", host, "--port", str(port)]
        # The database remembers the tokens: an Avito that forgot them would have refused everybody after a restart.
        command += ["--state", str(settings.DATA_DIR / "sandbox.state")]
        super().__init__("sandbox", command, env=_environment(), cwd=settings.BASE_DIR)

    def is_ready(self) -> bool:
        return _get(*_address(settings.SANDBOX_URL), "/_sandbox/health")[0] == 200


class Web(Child):
    stop_seconds = WEB_GRACE_SECONDS + 2.0

    def __init__(self, python: list[str]) -> None:
        command = [*python, "-m", "uvicorn", "config.asgi:application"]
        command += ["--host", settings.HOST, "--port", str(settings.PORT), "--log-level", "warning"]
        command += ["--timeout-graceful-shutdown", str(WEB_GRACE_SECONDS), "--no-access-log", "--no-server-header"]
        super().__init__("web", command, env=_environment(), cwd=settings.BASE_DIR)
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104

    def is_ready(self) -> bool:
        return _get(self.host, settings.PORT, "/health")[0] == 200

    def parts_that_fail(self) -> list[str]:
        """Names of the parts that are not ready yet."""
        status, body = _get(self.host, settings.PORT, "/health/ready")
        if status == 200:
            return []
        try:
            return [f"{name} {state}" for name, state in json.loads(body).items() if state != "ok"]
        except (ValueError, AttributeError):
            return [f"/health/ready answers {status}" if status else "/health/ready does not answer"]


class Output:
    """Lines of all parts on one stdout, each with the name of its part."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def log(self, name: str) -> Log:
        prefix = f"{name:<8} | "
        if self._colours:
            prefix = f"\033[{COLOURS[name]}m{prefix}\033[0m"

        def write(line: str) -> None:
            if not any(noise in line for noise in NOISE):
                self.say(prefix + line)

        return write

    def say(self, line: str) -> None:
        with self._lock:
            try:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            except (BrokenPipeError, ValueError):  # nobody reads any more: go on in silence
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def first_superuser() -> str:
    """Create the superuser of the environment, or in development one of our own; says how to sign in."""
    username = env.text("DJANGO_SUPERUSER_USERNAME")
    if username:
        return _superuser_of_environment(username)
    if settings.PRODUCTION:
        return "Sign in with your account."
    return _superuser_of_development(settings.DATA_DIR / "admin-password")


def _superuser_of_environment(username: str) -> str:
    users = get_user_model()._default_manager
    if not users.filter(username=username).exists():
        password = os.environ.get("DJANGO_SUPERUSER_PASSWORD", "")
        if not password:
            raise Failed("DJANGO_SUPERUSER_USERNAME needs DJANGO_SUPERUSER_PASSWORD, to create that account.")
        users.create_superuser(username=username, email=os.environ.get("DJANGO_SUPERUSER_EMAIL", ""), password=password)
    return f"Sign in as {username} with DJANGO_SUPERUSER_PASSWORD."


def _superuser_of_development(kept: Path) -> str:
    users = get_user_model()._default_manager
    if not users.filter(is_superuser=True).exists():
        password = secrets.token_urlsafe(12)
        kept.unlink(missing_ok=True)
        kept.touch(mode=0o600)
        kept.write_text(password + "\n")
        users.create_superuser(username="admin", email="", password=password)
    admin = users.filter(username="admin").first()
    if admin and kept.exists() and admin.check_password(kept.read_text().strip()):
        return f"Sign in as admin, password {kept.read_text().strip()} (kept in {kept})"
    return "Sign in with your account (manage.py createsuperuser makes another)."


def _ours(name: str, command: list[str]) -> Child:
    child = Child(name, command, env=_environment(), cwd=settings.BASE_DIR)
    child.stop_seconds = 5.0
    return child


def _environment() -> dict[str, str]:
    """The same for every part: the settings compute from it the same addresses as here."""
    return {**os.environ, "AVITO_DATA_DIR": str(settings.DATA_DIR), "PYTHONUNBUFFERED": "1"}


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def _check_port(name: str, host: str, port: int, example: str) -> None:
    deadline = time.monotonic() + PORT_FREE_SECONDS
    while True:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen()
            return
        except (OSError, OverflowError) as error:
            if not isinstance(error, OSError) or isinstance(error, PermissionError | socket.gaierror):
                raise Failed(f"{name} {port} on {host} cannot be used: {error}. Choose another: {example}") from error
            if time.monotonic() > deadline:
                raise Failed(
                    f"{name} {port} on {host} is taken by another program ({error.strerror}). "
                    f"End that program, or choose another port: {example}"
                ) from error
        time.sleep(0.1)


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Status and body; 0 when nobody answers."""
    web = http.client.HTTPConnection(host, port, timeout=5)
    try:
        web.request("GET", path)
        response = web.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        web.close()
