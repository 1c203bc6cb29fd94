"""Typed reading of environment variables; `VARIABLES` describes each one that the product knows."""

import os
import secrets
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

VARIABLES = {
    "ENVIRONMENT": "`development` or `production`; production refuses weak, default or missing secrets, and DEBUG",
    "DEBUG": "Django's debug pages; never in production",
    "HOST": "address the web server listens on",
    "PORT": "port the web server listens on",
    "PUBLIC_URL": "this service as the world sees it",
    "FRONTEND_URL": "where the single-page app lives; OAuth ends there. Default: the first CORS_ORIGIN",
    "CORS_ORIGIN": "comma list of exact origins that browsers may call from",
    "ALLOWED_HOSTS": "comma list of host names this service answers to; default: the host of PUBLIC_URL",
    "DATABASE_URL": "PostgreSQL; without it an embedded one in the data folder",
    "DATABASE_POOL_SIZE": "connections to PostgreSQL that one process may hold",
    "REDIS_URL": "Redis or Valkey; without it an embedded one in the data folder",
    "AVITO_DATA_DIR": "folder of the embedded servers and of secrets made in development",
    "JWT_SECRET": "signs API tokens (HS256), shared with the service that signs tokens for us; at least 32 bytes",
    "SECRET_KEY": "Django's own key; at least 32 bytes",
    "FIELD_ENCRYPTION_KEYS": "comma list of keys that encrypt secrets at rest, newest first; at least 32 bytes each",
    "AVITO_API_BASE_URL": "Avito's API; in development the sandbox",
    "AVITO_OAUTH_AUTHORIZE_URL": "Avito's consent page; in development the sandbox's",
    "SANDBOX_PORT": "port of the sandbox in development; default: PORT + 1",
    "AVITO_OAUTH_CLIENT_ID": "id of the OAuth application",
    "AVITO_OAUTH_CLIENT_SECRET": "secret of the OAuth application",
    "AVITO_OAUTH_REDIRECT_URI": "the callback as registered at Avito",
    "AVITO_OAUTH_SCOPES": "comma list of scopes that the consent asks for",
    "AVITO_OAUTH_SUCCESS_PATH": "where OAuth ends on FRONTEND_URL; `{id}` is the account",
    "AVITO_OAUTH_ERROR_PATH": "where a failed OAuth ends on FRONTEND_URL; `{code}` and `{message}`",
    "AVITO_WEBHOOK_KEYS": "comma list of keys in the webhook's path, newest first; we subscribe the first",
    "AVITO_WEBHOOK_SIGNATURE": "`off`, `log` or `enforce`: the check of x-avito-messenger-signature",
    "AVITO_WEBHOOK_SIGNATURE_SECRET": "key of that check (HMAC-SHA256 of the raw body, hex)",
    "AVITO_RECONCILE_SECONDS": "how often the chats of an account are read again for webhooks that never came",
    "AVITO_CHECK_SECONDS": "how often each account's connection, and each proxy, is checked",
    "AVITO_SYNC_SECONDS": "how often each account's balance, listings and statistics are read",
    "AVITO_ONLINE_STATUS_PATH": "the call, hearsay, that says that `{user_id}` is online; `off`: only activity counts",
    "AVITO_ONLINE_STATUS_AGAIN_SECONDS": "for how long an account is spared that call after Avito did not know it",
    "PROXY_ALLOW_PRIVATE": "whether a proxy's host may lead to a private or loopback address",
    "AVITO_TIMEOUT_SECONDS": "how long one call to Avito may take",
    "AVITO_STR_DIALECT": "`official` or `guide`: whose paths of short-term rent Avito is asked in",
    "AVITO_STR_TICK_SECONDS": "how often workers look at the queue of calendars, beside being rung for",
    "AVITO_STR_POLL_SECONDS": "how often bookings are read; oftener where much goes on, more rarely where nothing does",
    "AVITO_STR_RETURN_PATH": "below FRONTEND_URL: where a consent for a property ends; {id} is the property",
    "AVITO_STR_DAY": "`latest`: nights are sent from the property's today on, not before Moscow's; `property`: not so",
    "AVITO_STR_BOOKINGS_CLOSE_DATES": "whether Avito's own paid bookings close their nights there by themselves",
    "AVITO_STR_CONTACTS_KEPT_DAYS": "after how many days guests of stays that are over are forgotten",
    "AVITO_RATE_LIMIT_PER_MINUTE": "calls to Avito in any minute, of all accounts and processes together",
    "SSL_CERT_FILE": "whom to trust, for Avito and for proxies",
    "DJANGO_SUPERUSER_USERNAME": "a superuser made at start if absent",
    "DJANGO_SUPERUSER_PASSWORD": "the password of that superuser",
    "DJANGO_SUPERUSER_EMAIL": "the address of that superuser",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "WORKER_CONCURRENCY": "threads of one worker process",
}

_env = environ.Env()


def _known(name: str) -> str:
    if name not in VARIABLES:
        raise KeyError(f"{name} has no description in config/env.py")
    return name


def text(name: str, default: str = "") -> str:
    """The variable's value without surrounding blanks; the default also stands in for an empty one."""
    return str(_env.str(_known(name), default="")).strip() or default


def number(name: str, default: int) -> int:
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from error


def flag(name: str, default: bool) -> bool:
    return text(name, str(default)).lower() in {"1", "true", "yes", "on"}


def items(name: str, default: str = "") -> list[str]:
    """A comma list without blanks and empty members."""
    return [item.strip() for item in text(name, default).split(",") if item.strip()]


def secret(name: str, *, production: bool, data_dir: Path, several: bool = False, minimum_bytes: int = 32) -> str:
    """A secret of at least `minimum_bytes`, or a comma list of `several`.

    Production must bring its own; in development it is made once and kept.
    """
    value = text(name)
    if not value and not production:
        value = _kept(data_dir / "secrets" / name)
    if not value:
        raise ImproperlyConfigured(f"{name} is missing. Make one with: openssl rand -base64 48")
    for part in value.split(",") if several else [value]:
        if len(part.strip().encode()) < minimum_bytes:
            raise ImproperlyConfigured(f"{name} is too short: at least {minimum_bytes} bytes are needed.")
        if production and _looks_like_a_sample(part.strip()):
            raise ImproperlyConfigured(f"{name} is a known sample or a repeated pattern. Make one of your own.")
    return value


def _looks_like_a_sample(value: str) -> bool:
    words = ("change", "secret", "example", "insecure", "default", "password", "your-", "test")
    return len(set(value)) < 10 or any(word in value.lower() for word in words)


def _kept(path: Path) -> str:
    """Read the secret kept at `path`, made by whoever comes first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48))
        try:
            os.link(fresh, path)  # atomic: of two processes that start at once, one wins and both read the same
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()
