"""What production refuses to start with, and which browsers' pages may call."""

import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from config import env
from tests.conftest import Api

NAMES = ("SECRET_KEY", "JWT_SECRET", "FIELD_ENCRYPTION_KEYS")
WEAK = {
    "missing": None,
    "empty": "",
    "blank": "   ",
    "short": "a8f3" * 7 + "b2c",
    "one sign": "a" * 64,
    "a pattern": "abc" * 20,
    "a sample": "change-me-please-0123456789-abcdefgh",
    "a sample in capitals": "CHANGEME-0123456789-abcdefgh-ijklmn",
    "django's own": "django-insecure-9z$x8@q7v6u5t4s3r2p1o0n",
    "from a tutorial": "your-256-bit-secret-0123456789-abcdef",
    "a password": "password-0123456789-abcdefghijklmnop",
}


def strong() -> str:
    return secrets.token_hex(48)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", WEAK.values(), ids=list(WEAK))
def test_production_refuses_a_weak_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str | None
) -> None:
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=name) as refused:
        env.secret(name, production=True, data_dir=tmp_path)
    assert not (value or "").strip() or (value or "") not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_each_of_several_keys_must_be_strong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for value in (f"{strong()},short", f"{strong()},", f"{strong()},{'a' * 40}"):
        monkeypatch.setenv("FIELD_ENCRYPTION_KEYS", value)
        with pytest.raises(ImproperlyConfigured):
            env.secret("FIELD_ENCRYPTION_KEYS", production=True, data_dir=tmp_path, several=True)
    monkeypatch.setenv("FIELD_ENCRYPTION_KEYS", f"{strong()},{strong()}")
    kept = env.secret("FIELD_ENCRYPTION_KEYS", production=True, data_dir=tmp_path, several=True)
    assert kept.count(",") == 1


def test_development_makes_a_secret_once_and_keeps_it_to_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JWT_SECRET", raising=False)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: env.secret("JWT_SECRET", production=False, data_dir=tmp_path), range(8)))
    assert len(made) == 1
    assert len(made.pop()) >= 32
    (kept,) = (tmp_path / "secrets").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_development_refuses_a_short_secret_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JWT_SECRET", "x" * 31)
    with pytest.raises(ImproperlyConfigured):
        env.secret("JWT_SECRET", production=False, data_dir=tmp_path)


def test_values_are_read_as_they_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", " 5014 ")
    monkeypatch.setenv("DEBUG", "Yes")
    monkeypatch.setenv("CORS_ORIGIN", " https://a.example , ,https://b.example,")
    monkeypatch.setenv("HOST", "")
    assert env.number("PORT", 1) == 5014
    assert env.flag("DEBUG", default=False) is True
    assert env.items("CORS_ORIGIN") == ["https://a.example", "https://b.example"]
    assert env.text("HOST", "127.0.0.1") == "127.0.0.1"
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(ImproperlyConfigured, match="PORT"):
        env.number("PORT", 1)
    with pytest.raises(KeyError):
        env.text("NO_SUCH_VARIABLE")


def manage(*command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """manage.py in production, with strong secrets and the changes; an empty value counts as missing."""
    inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    production = {
        "ENVIRONMENT": "production",
        "PUBLIC_URL": "https://avito.example",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        **{name: strong() for name in NAMES},
    }
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=django_settings.BASE_DIR,
        env={**inherited, **production, **changes},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_production_with_strong_secrets_passes_the_deployment_check() -> None:
    checked = manage("check", "--deploy", "--fail-level", "WARNING")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"DEBUG": "1"}, "DEBUG"),
        ({"JWT_SECRET": ""}, "JWT_SECRET"),
        ({"ENVIRONMENT": "staging"}, "ENVIRONMENT"),
        ({"AVITO_WEBHOOK_SIGNATURE": "enforce"}, "AVITO_WEBHOOK_SIGNATURE_SECRET"),
        ({"AVITO_WEBHOOK_SIGNATURE": "perhaps"}, "AVITO_WEBHOOK_SIGNATURE"),
        ({"AVITO_ONLINE_STATUS_PATH": "/online/{account}"}, "AVITO_ONLINE_STATUS_PATH"),
    ],
    ids=[
        "DEBUG",
        "no secret",
        "another environment",
        "signature without a secret",
        "unknown signature mode",
        "no path",
    ],
)
def test_production_does_not_start_wrongly_configured(changes: dict[str, str], word: str) -> None:
    checked = manage("check", **changes)
    assert checked.returncode != 0
    assert word in checked.stderr


ASK_ANONYMOUSLY = """
from django.test import Client
client = Client(headers={"host": "avito.example"})
print(*[client.get(path, secure=True).status_code for path in ("/api/docs", "/api/schema")])
"""


def test_docs_of_production_are_for_those_who_are_signed_in() -> None:
    answer = manage("shell", "--no-imports", "-c", ASK_ANONYMOUSLY)
    assert answer.stdout.split() in (["401", "401"], ["403", "403"], ["302", "302"]), answer.stderr


# Pages of other origins

LISTED = "https://office.example"
UNLISTED = [
    "null",
    "https://evil.example",
    "http://office.example",
    "https://office.example:8443",
    "https://office.example.evil.example",
    "https://evil-office.example",
    "https://office.example@evil.example",
    "https://sub.office.example",
    "https://office.examplе",
    "https://OFFICE.example.",
    "file://",
    "*",
    "https://*.example",
    "https://office.example, https://evil.example",
    "https://office.example%00.evil.example",
]


def ask_as(api: Api, origin: str, method: str = "OPTIONS") -> Any:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    headers = {"Origin": origin.encode(), **(wanted if method == "OPTIONS" else {})}
    return api.call(method, "/api/v1/auth/me", headers=headers).headers


def test_listed_origin_may_call(nobody: Api, settings: LazySettings) -> None:
    settings.CORS_ALLOWED_ORIGINS = [LISTED]
    for method in ("OPTIONS", "GET"):
        headers = ask_as(nobody, LISTED, method)
        assert headers["Access-Control-Allow-Origin"] == LISTED
        assert "origin" in headers["Vary"].lower()
    assert "authorization" in ask_as(nobody, LISTED)["Access-Control-Allow-Headers"]
    assert "x-request-id" in ask_as(nobody, LISTED, "GET")["Access-Control-Expose-Headers"].lower()


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_no_other_origin_may_call(nobody: Api, settings: LazySettings, subtests: pytest.Subtests, method: str) -> None:
    settings.CORS_ALLOWED_ORIGINS = [LISTED]
    for origin in UNLISTED:
        with subtests.test(origin):
            assert "Access-Control-Allow-Origin" not in ask_as(nobody, origin, method)


def test_without_a_list_no_origin_may_call(nobody: Api) -> None:
    assert "Access-Control-Allow-Origin" not in ask_as(nobody, LISTED)


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Request-ID", "Last-Event-ID"])
def test_page_of_a_listed_origin_may_send_the_headers_that_we_read(
    nobody: Api, settings: LazySettings, header: str
) -> None:
    settings.CORS_ALLOWED_ORIGINS = [LISTED]
    assert header.lower() in ask_as(nobody, LISTED)["Access-Control-Allow-Headers"]
