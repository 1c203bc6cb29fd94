"""The product as its users meet it: served over HTTP on loopback, with the sandbox as Avito."""

import socket
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
import requests
import uvicorn
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import TransactionTestCase, override_settings
from rest_framework_simplejwt.tokens import AccessToken

from avito_accounts import limits
from avito_accounts.models import Account
from sandbox.server import running
from tests.emptying import empty_tables
from tests.factories import authorize, make_account, make_user
from tests.sandbox.driver import ALL_SCOPES, ANNA, Sandbox

SLOW = ("tests/config/test_run.py", "tests/e2e/", "tests/bench/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no worker is left alone with it in the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))


class Api:
    """A client of our API: one person, or nobody."""

    def __init__(self, base: str, user: User | None = None, **headers: str) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(headers)
        if user is not None:
            self.session.headers["Authorization"] = f"Bearer {AccessToken.for_user(user)}"

    def call(self, method: str, path: str, **details: Any) -> requests.Response:
        url = path if path.startswith("http") else self.base + path
        return self.session.request(method, url, timeout=30, allow_redirects=False, **details)

    def get(self, path: str, **query: Any) -> requests.Response:
        return self.call("GET", path, params=query)

    def post(self, path: str, json: Any = None, **details: Any) -> requests.Response:
        return self.call("POST", path, json=json, **details)

    def put(self, path: str, json: Any) -> requests.Response:
        return self.call("PUT", path, json=json)

    def patch(self, path: str, json: Any) -> requests.Response:
        return self.call("PATCH", path, json=json)

    def delete(self, path: str) -> requests.Response:
        return self.call("DELETE", path)


@pytest.fixture(scope="session", autouse=True)
def _quick() -> Iterator[None]:
    """What takes long by design, or for the sake of other projects, is done in a shorter way."""
    with (
        pytest.MonkeyPatch.context() as patch,
        override_settings(PASSWORD_HASHERS=["tests.factories.QuickHasher"]),
    ):
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _case: empty_tables())
        yield


@pytest.fixture(scope="session")
def _sandbox_address() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture(scope="session")
def _product_address(django_db_setup: None) -> Iterator[str]:
    """The real ASGI application behind the real server, in a thread."""
    from config.asgi import application

    # The protocol is named, since asyncio sets TCP_NODELAY only then.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    server = uvicorn.Server(
        uvicorn.Config(application, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on")
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="product", daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def avito_sandbox(_sandbox_address: str) -> Sandbox:
    """Avito, back to its seeds."""
    sandbox = Sandbox(_sandbox_address)
    sandbox.control("POST", "/reset", webhookRetrySeconds=[0.2, 0.2, 0.5])
    return sandbox


@pytest.fixture
def product(_product_address: str, avito_sandbox: Sandbox, transactional_db: None, settings: LazySettings) -> str:
    """The address of the running product, whose Avito is the sandbox."""
    limits.reset()
    settings.PUBLIC_URL = _product_address
    settings.AVITO_API_BASE_URL = avito_sandbox.base
    settings.AVITO_OAUTH_AUTHORIZE_URL = f"{avito_sandbox.base}/oauth"
    settings.AVITO_OAUTH_REDIRECT_URI = f"{_product_address}/api/v1/auth/avito/callback"
    settings.AVITO_OAUTH_CLIENT_ID = "sandbox-client"
    settings.AVITO_OAUTH_CLIENT_SECRET = "sandbox-secret"
    return _product_address


@pytest.fixture
def demo(product: str, avito_sandbox: Sandbox, settings: LazySettings) -> Callable[[], object]:
    """Fills the installation, which has to have a superuser, as `manage.py demo` does it."""
    settings.AVITO_IS_SANDBOX, settings.SANDBOX_URL = True, avito_sandbox.base
    return lambda: call_command("demo", stdout=StringIO())


@pytest.fixture
def nobody(product: str) -> Api:
    return Api(product)


@pytest.fixture
def owner(product: str) -> Api:
    """An admin."""
    return Api(product, make_user("owner", "admin"))


@pytest.fixture
def colleague(product: str) -> Api:
    """An operator."""
    return Api(product, make_user("colleague", "operator"))


@pytest.fixture
def stranger(product: str) -> Api:
    """Somebody who may sign in and nothing else."""
    return Api(product, make_user("stranger"))


@pytest.fixture
def anna(product: str, avito_sandbox: Sandbox) -> Any:
    """An account connected to the sandbox's seller Anna."""
    pair = avito_sandbox.tokens(ANNA, ALL_SCOPES)
    account = make_account(name="Анна", avito_user_id=ANNA)
    authorize(
        account,
        access_token=pair["access_token"],
        refresh_token=pair["refresh_token"],
        expires_in=pair["expires_in"],
    )
    return Account.objects.get(pk=account.pk)  # without the tokens at hand: tests change them behind its back
