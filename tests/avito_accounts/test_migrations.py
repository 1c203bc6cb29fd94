"""Data that a migration moves arrives, and finds its way back."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from avito_accounts.fields import Undecryptable, seal

APP = "avito_accounts"
INLINE, ROWS = "0002_proxies_figures_and_jobs", "0004_accounts_without_inline_proxies"


def to(name: str) -> Any:
    """The models as they were after that migration."""
    executor = MigrationExecutor(connection)
    executor.migrate([(APP, name)])
    return MigrationExecutor(connection).loader.project_state([(APP, name)]).apps


@pytest.fixture
def inline(transactional_db: None) -> Iterator[Any]:
    """The models of the time when a proxy was a part of its account; the present ones come back afterwards."""
    apps = to(INLINE)
    yield apps
    if apps.get_model(APP, "Account").objects.exists():
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {APP}_account CASCADE")
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())  # those of the apps that build on this one, too


def account(apps: Any, name: str, password: str, **fields: Any) -> None:
    cipher_id = uuid.uuid4()
    sealed = seal(password, context=f"{APP}_account.proxy_password:{cipher_id}") if password else ""
    proxy = {"proxy_type": "http", "proxy_host": "proxy.example", "proxy_port": 80, "proxy_login": "u"}
    apps.get_model(APP, "Account").objects.create(
        name=name, cipher_id=cipher_id, proxy_password=sealed, **{**proxy, **fields}
    )


def proxies(apps: Any) -> dict[str, Any]:
    accounts = apps.get_model(APP, "Account").objects.select_related("proxy")
    return {
        row.name: row.proxy and (row.proxy.type, row.proxy.host, row.proxy.port, row.proxy.login, row.proxy.password)
        for row in accounts
    }


def test_inline_proxies_get_rows_that_equal_ones_share_and_the_way_back_restores_them(inline: Any) -> None:
    account(inline, "one", "pä:ss")
    account(inline, "same", "pä:ss")
    account(inline, "other", "another")
    account(inline, "open", "", proxy_login="")
    account(inline, "none", "", proxy_type="", proxy_host="", proxy_port=None)
    now = to(ROWS)
    address = ("http", "proxy.example", 80, "u")
    assert proxies(now) == {
        "one": (*address, "pä:ss"), "same": (*address, "pä:ss"), "other": (*address, "another"),
        "open": ("http", "proxy.example", 80, "", ""), "none": None,
    }  # fmt: skip
    assert now.get_model(APP, "Proxy").objects.count() == 3
    back = to(INLINE)
    passwords = {row.name: row.proxy_password for row in back.get_model(APP, "Account").objects.all()}
    assert passwords == {"one": "pä:ss", "same": "pä:ss", "other": "another", "open": "", "none": ""}


def test_a_password_that_no_key_opens_stops_the_move_and_stays(inline: Any, settings: LazySettings) -> None:
    account(inline, "one", "s3cret")
    before = inline.get_model(APP, "Account").objects.get().__dict__["proxy_password"]
    keys = settings.FIELD_ENCRYPTION_KEYS
    settings.FIELD_ENCRYPTION_KEYS = ["another key of at least thirty-two characters"]
    with pytest.raises(Undecryptable):
        to(ROWS)
    settings.FIELD_ENCRYPTION_KEYS = keys
    assert inline.get_model(APP, "Account").objects.get().__dict__["proxy_password"] == before
    assert proxies(to(ROWS))["one"][4] == "s3cret"
