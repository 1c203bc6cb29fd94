"""The embedded servers alone: addresses, durability, and starts after every kind of end."""

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import environ
import psycopg
import pytest
import redis

from config import embedded
from config.child import NOBODY
from config.supervisor import Failed, stop_together

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("embedded")
    yield folder
    shutil.rmtree(embedded.socket_dir(folder), ignore_errors=True)


@pytest.fixture
def postgres(data_dir: Path) -> Iterator[embedded.Postgres]:
    server = embedded.Postgres(data_dir)
    yield server
    server.stop()


@pytest.fixture
def valkey(data_dir: Path) -> Iterator[embedded.Valkey]:
    server = embedded.Valkey(data_dir)
    yield server
    server.stop()


def connect(data_dir: Path) -> "psycopg.Connection[tuple[object, ...]]":
    """As Django would: through the parsed address."""
    parts = environ.Env.db_url_config(embedded.database_url(data_dir))
    return psycopg.connect(
        host=parts["HOST"], port=parts["PORT"], user=parts["USER"], dbname=parts["NAME"], autocommit=True
    )


def test_addresses_follow_from_the_data_folder_and_fit_into_a_socket_path() -> None:
    deep = Path("/srv") / ("folder/" * 30)
    assert embedded.database_url(deep) == embedded.database_url(deep)
    assert embedded.database_url(deep) != embedded.database_url(deep / "other")
    assert len(os.fsencode(embedded.socket_dir(deep) / ".s.PGSQL.5432.lock")) < 107
    assert embedded.redis_url(deep).startswith("unix:///tmp/avito-")


def test_postgres_keeps_what_it_acknowledged_through_kill_9(data_dir: Path, postgres: embedded.Postgres) -> None:
    postgres.start()
    postgres.wait_ready()
    with connect(data_dir) as connection:
        shown = connection.execute(
            "SELECT current_setting('synchronous_commit'), current_setting('fsync'), upper('привет')"
        ).fetchone()
        assert shown == ("on", "on", "ПРИВЕТ")
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('слово')")
    assert postgres.pid
    os.kill(postgres.pid, signal.SIGKILL)  # its backends, its lock file and its socket stay behind
    assert postgres.wait_end(5) is not None

    again = embedded.Postgres(data_dir)
    again.start()
    again.wait_ready()
    with connect(data_dir) as connection:
        assert connection.execute("SELECT word FROM kept").fetchall() == [("слово",)]
    again.stop()
    assert again.status() == 0


def test_a_server_left_behind_is_ended_before_the_next_starts(data_dir: Path) -> None:
    orphan = embedded.Postgres(data_dir)
    orphan.start()
    orphan.wait_ready()
    orphan_valkey = embedded.Valkey(data_dir)
    orphan_valkey.start()
    orphan_valkey.wait_ready()

    servers = [embedded.Postgres(data_dir), embedded.Valkey(data_dir)]
    for server in servers:
        server.start()
        server.wait_ready()
    assert orphan.wait_end(1) == 0
    assert orphan_valkey.wait_end(1) == 0
    with connect(data_dir) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert stop_together(servers) == []


def test_a_lock_file_with_a_process_number_in_use_again_stops_nobody(
    data_dir: Path, postgres: embedded.Postgres
) -> None:
    postgres.start()
    postgres.wait_ready()
    postgres.stop()
    lock = postgres.folder / "postmaster.pid"
    lock.write_text(f"{os.getppid()}\n{postgres.folder}\n")
    postgres.start()
    postgres.wait_ready()


def test_valkey_keeps_its_data_and_refuses_to_forget(data_dir: Path, valkey: embedded.Valkey) -> None:
    valkey.start()
    valkey.wait_ready()
    client = redis.Redis.from_url(embedded.redis_url(data_dir), decode_responses=True)
    client.set("kept", "yes")
    valkey.stop()
    valkey.start()
    valkey.wait_ready()
    assert client.get("kept") == "yes"
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    client.close()


def test_the_folder_of_the_sockets_is_private(data_dir: Path, valkey: embedded.Valkey) -> None:
    folder = embedded.socket_dir(data_dir)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    valkey.start()
    valkey.wait_ready()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_sockets_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    folder = embedded.socket_dir(tmp_path)
    folder.mkdir()
    try:
        os.chown(folder, 12345, 12345)
        with pytest.raises(Failed, match="made by somebody else"):
            embedded.Valkey(tmp_path).start()
    finally:
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user starts PostgreSQL as himself")
def test_root_without_user_namespaces_starts_postgres_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    works_as = embedded.Postgres._works_as
    with tempfile.TemporaryDirectory(prefix="avito-test-", dir="/tmp") as name:  # pytest's own folders shut out others
        folder = Path(name)
        folder.chmod(0o711)
        try:
            server = embedded.Postgres(folder / "data")
            server.start()
            server.wait_ready()
            server.stop()
            with monkeypatch.context() as patch:
                patch.setattr(embedded.Postgres, "_works_as", lambda self, who: who == "nobody" and works_as(self, who))
                server = embedded.Postgres(folder / "data")
                server.start()
                server.wait_ready()
                assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
                with connect(folder / "data") as connection:
                    assert connection.execute("SELECT 1").fetchone() == (1,)
                server.stop()
            server = embedded.Postgres(folder / "data")  # and back, with all files
            server.start()
            server.wait_ready()
            server.stop()
        except Failed as error:
            if "cannot reach" in str(error):
                pytest.skip("nobody cannot reach the programs of PostgreSQL here")
            raise
        finally:
            shutil.rmtree(embedded.socket_dir(folder / "data"), ignore_errors=True)


def test_data_of_another_major_version_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    (tmp_path / "postgres-14").mkdir()
    with pytest.raises(Failed, match="holds data of postgres-14"):
        embedded.Postgres(tmp_path).start()
    shutil.rmtree(embedded.socket_dir(tmp_path), ignore_errors=True)
