"""`manage.py run` as a real process on a data folder and ports of its own."""

import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.embedded import socket_dir
from config.supervisor import launch

REPO = Path(__file__).parent.parent.parent
START_SECONDS = 60.0
END_SECONDS = 12.0
OWN_VARIABLES = (
    "DATABASE_URL",
    "REDIS_URL",
    "AVITO_API_BASE_URL",
    "ENVIRONMENT",
    "PUBLIC_URL",
    "MAKELEVEL",
    "MAKEFLAGS",
)

pytestmark = pytest.mark.enable_socket
MAKE_RUN = ["make", "-o", "install", "run", f"PY={sys.executable}"]
with_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def free_ports() -> tuple[int, int]:
    with closing(socket.socket()) as web, closing(socket.socket()) as sandbox:
        web.bind(("127.0.0.1", 0))
        sandbox.bind(("127.0.0.1", 0))
        return web.getsockname()[1], sandbox.getsockname()[1]


def get(port: int, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read()


def processes_of(data_dir: Path) -> dict[int, str]:
    """Living processes whose environment or command line names the data folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if str(data_dir).encode() in words and " Z " not in (process / "stat").read_text():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def wait_until_gone(data_dir: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := processes_of(data_dir):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


class Service:
    """A started `manage.py run`."""

    def __init__(self, data_dir: Path, command: list[str] | None = None, **variables: str) -> None:
        self.data_dir = data_dir
        self.port, self.sandbox_port = free_ports()
        self.log = data_dir / f"run-{time.monotonic_ns()}.log"
        environment = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
        environment |= {"AVITO_DATA_DIR": str(data_dir), "PORT": str(self.port), "SANDBOX_PORT": str(self.sandbox_port)}
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                command or [sys.executable, "manage.py", "run"],
                cwd=REPO,
                env=environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "is ready after" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def end(self, seconds: float = END_SECONDS) -> int:
        """Wait for its end; nothing of it may be left."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"did not end in {seconds} s:\n{self.output}")
        wait_until_gone(self.data_dir, 1)
        return status

    def child(self, word: str) -> int:
        """The process number of the part whose command line contains `word`."""
        return next(pid for pid, line in processes_of(self.data_dir).items() if word in line)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with all tables, made once: each start then takes seconds."""
    folder = tmp_path_factory.mktemp("data")
    service = Service(folder, [sys.executable, "manage.py", "run", "--prepare"])
    assert service.end(120) == 0, service.output
    yield folder
    shutil.rmtree(socket_dir(folder), ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_is_left(data_dir: Path) -> Iterator[None]:
    yield
    for pid in processes_of(data_dir):
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(data_dir, 5)


def test_everything_runs_and_ends_cleanly_on_sigterm(data_dir: Path) -> None:
    service = Service(data_dir)
    service.wait_ready()

    assert json.loads(get(service.port, "/health")[1]) == {"status": "ok"}
    status, body = get(service.port, "/health/ready")
    assert (status, set(json.loads(body).values())) == (200, {"ok"})
    assert get(service.sandbox_port, "/_sandbox/health")[0] == 200
    assert f"http://127.0.0.1:{service.port}/admin/" in service.output

    password = data_dir / "admin-password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text().strip() in service.output

    second = Service(data_dir)
    assert second.process.wait(20) != 0
    assert f"already runs on {data_dir} (process {service.process.pid})" in second.output
    assert get(service.port, "/health")[0] == 200

    service.process.terminate()
    assert service.end() == 0
    assert "was killed" not in service.output


@with_make
def test_it_starts_again_after_kill_9_of_everything_and_ends_when_a_part_dies(data_dir: Path) -> None:
    service = Service(data_dir, MAKE_RUN)
    service.wait_ready()
    for pid in processes_of(data_dir):
        os.kill(pid, signal.SIGKILL)
    service.process.wait()

    service = Service(data_dir, MAKE_RUN)
    service.wait_ready()
    os.kill(service.child("--pool threads"), signal.SIGKILL)
    assert service.end() != 0
    assert "worker was ended by signal 9. Its last lines:" in service.output


def test_an_ordinary_user_can_run_it_and_kill_9_of_the_supervisor_ends_all(data_dir: Path) -> None:
    """In a user namespace root looks like user 1000 and has no rights of root."""
    command = [sys.executable, "manage.py", "run"]
    if os.geteuid() == 0:
        if subprocess.run(launch(signal.SIGKILL, "namespace", ["/bin/true"]), check=False).returncode != 0:
            pytest.skip("user namespaces are not allowed here")
        command = launch(signal.SIGKILL, "namespace", command)
    service = Service(data_dir, command)
    service.wait_ready()
    assert get(service.port, "/health/ready")[0] == 200
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait()
    wait_until_gone(data_dir, 5)
    shutil.rmtree(Path("/tmp") / socket_dir(data_dir).name.replace("-0-", "-1000-"), ignore_errors=True)


@pytest.mark.parametrize("name", ["PORT", "SANDBOX_PORT"])
def test_a_taken_port_is_named_and_nothing_starts(data_dir: Path, name: str) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        service = Service(data_dir, None, **{name: str(port)})
        assert service.end() == 1
    assert f"{name} {port} on 127.0.0.1 is taken" in service.output
    assert f"{name}=5" in service.output  # how to choose another
    assert "postgres |" not in service.output
    assert not (socket_dir(data_dir) / ".s.PGSQL.5432").exists()


@with_make
def test_with_database_url_no_postgres_starts_and_the_superuser_comes_from_the_environment(data_dir: Path) -> None:
    """The other PostgreSQL is that of the tests; `make` hands the signal on."""
    service = Service(
        data_dir,
        MAKE_RUN,
        DATABASE_URL=os.environ["DATABASE_URL"],
        DJANGO_SUPERUSER_USERNAME="boss",
        DJANGO_SUPERUSER_PASSWORD="a password of theirs",
    )
    service.wait_ready()
    assert not any("postgres-" in line for line in processes_of(data_dir).values())
    assert "Sign in as boss with DJANGO_SUPERUSER_PASSWORD" in service.output
    assert "a password of theirs" not in service.output
    service.process.terminate()
    service.end()  # make itself ends by the signal; what it ran ended well
    assert "was killed" not in service.output
    assert "Error" not in service.output.rpartition("Ending.")[2]
