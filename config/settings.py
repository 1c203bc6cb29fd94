"""The one settings file; values that differ by installation come from the environment (see `config.env`)."""

import logging
import re
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import environ
import structlog
from celery.schedules import crontab
from corsheaders.defaults import default_headers
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from avito.presence import STATUS_PATH
from avito.rent import DIALECTS, Dialect
from config import embedded, env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = embedded.DATA_DIR

ENVIRONMENT = env.text("ENVIRONMENT", "development")
if ENVIRONMENT not in {"development", "production"}:
    raise ImproperlyConfigured(f"ENVIRONMENT must be development or production, not {ENVIRONMENT!r}.")
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.flag("DEBUG", default=False)
if PRODUCTION and DEBUG:
    raise ImproperlyConfigured("DEBUG must be off in production.")


# Secrets

SECRET_KEY = env.secret("SECRET_KEY", production=PRODUCTION, data_dir=DATA_DIR)
JWT_SECRET = env.secret("JWT_SECRET", production=PRODUCTION, data_dir=DATA_DIR)
FIELD_ENCRYPTION_KEYS = env.secret(
    "FIELD_ENCRYPTION_KEYS", production=PRODUCTION, data_dir=DATA_DIR, several=True
).split(",")


# Where we are

HOST = env.text("HOST", "127.0.0.1")
PORT = env.number("PORT", 5004)
PUBLIC_URL = env.text("PUBLIC_URL", f"http://{HOST}:{PORT}").rstrip("/")
PUBLIC_HTTPS = PUBLIC_URL.startswith("https://")
CORS_ALLOWED_ORIGINS = [origin.rstrip("/") for origin in env.items("CORS_ORIGIN")]
CORS_ALLOW_CREDENTIALS = True
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [*default_headers, "idempotency-key", "last-event-id", "x-request-id"]
CORS_EXPOSE_HEADERS = ["X-Request-ID", "Retry-After"]
FRONTEND_URL = env.text("FRONTEND_URL", CORS_ALLOWED_ORIGINS[0] if CORS_ALLOWED_ORIGINS else "").rstrip("/")
ALLOWED_HOSTS = env.items("ALLOWED_HOSTS") or (
    [urlsplit(PUBLIC_URL).hostname or HOST, "127.0.0.1", "localhost"] if PRODUCTION else ["*"]
)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CSRF_FAILURE_VIEW = "config.api.csrf_failure"


# Avito

SANDBOX_URL = f"http://127.0.0.1:{env.number('SANDBOX_PORT', PORT + 1)}"
AVITO_IS_SANDBOX = not PRODUCTION and not env.text("AVITO_API_BASE_URL")
AVITO_API_BASE_URL = env.text("AVITO_API_BASE_URL", "https://api.avito.ru" if PRODUCTION else SANDBOX_URL).rstrip("/")
AVITO_OAUTH_AUTHORIZE_URL = env.text(
    "AVITO_OAUTH_AUTHORIZE_URL", "https://avito.ru/oauth" if PRODUCTION else f"{AVITO_API_BASE_URL}/oauth"
)
AVITO_OAUTH_CLIENT_ID = env.text("AVITO_OAUTH_CLIENT_ID", "sandbox-client" if AVITO_IS_SANDBOX else "")
AVITO_OAUTH_CLIENT_SECRET = env.text("AVITO_OAUTH_CLIENT_SECRET", "sandbox-secret" if AVITO_IS_SANDBOX else "")
AVITO_OAUTH_REDIRECT_URI = env.text("AVITO_OAUTH_REDIRECT_URI", f"{PUBLIC_URL}/api/v1/auth/avito/callback")
AVITO_OAUTH_SCOPES = env.items(
    "AVITO_OAUTH_SCOPES",
    "messenger:read,messenger:write,user:read,items:info,stats:read,user_balance:read,"
    "short_term_rent:read,short_term_rent:write",
)
AVITO_OAUTH_SUCCESS_PATH = env.text("AVITO_OAUTH_SUCCESS_PATH", "/accounts/{id}?oauth=success")
AVITO_OAUTH_ERROR_PATH = env.text("AVITO_OAUTH_ERROR_PATH", "/accounts?oauth=error&code={code}&message={message}")
AVITO_TIMEOUT_SECONDS = env.number("AVITO_TIMEOUT_SECONDS", 15)
AVITO_RATE_LIMIT_PER_MINUTE = env.number("AVITO_RATE_LIMIT_PER_MINUTE", 1000)
if AVITO_RATE_LIMIT_PER_MINUTE < 1:
    raise ImproperlyConfigured("AVITO_RATE_LIMIT_PER_MINUTE must be at least 1.")
AVITO_CHECK_SECONDS = max(60, env.number("AVITO_CHECK_SECONDS", 600))
AVITO_SYNC_SECONDS = max(60, env.number("AVITO_SYNC_SECONDS", 3600))
AVITO_ONLINE_STATUS_PATH = env.text("AVITO_ONLINE_STATUS_PATH", STATUS_PATH)
if not re.fullmatch(r"off|/[^\s{}?#]*\{user_id\}[^\s{}?#]*", AVITO_ONLINE_STATUS_PATH):
    raise ImproperlyConfigured("AVITO_ONLINE_STATUS_PATH must be a path with {user_id}, or off.")
AVITO_ONLINE_STATUS_AGAIN_SECONDS = max(0, env.number("AVITO_ONLINE_STATUS_AGAIN_SECONDS", 600))
AVITO_STR_DIALECT = cast(Dialect, env.text("AVITO_STR_DIALECT", "official"))
if AVITO_STR_DIALECT not in DIALECTS:
    raise ImproperlyConfigured(f"AVITO_STR_DIALECT must be official or guide, not {AVITO_STR_DIALECT!r}.")
AVITO_STR_TICK_SECONDS = max(1, env.number("AVITO_STR_TICK_SECONDS", 10))
AVITO_STR_POLL_SECONDS = max(1, env.number("AVITO_STR_POLL_SECONDS", 60))
AVITO_STR_RETURN_PATH = env.text("AVITO_STR_RETURN_PATH", "/properties/{id}/avito?oauth=success")
AVITO_STR_DAY = env.text("AVITO_STR_DAY", "latest")
if AVITO_STR_DAY not in ("property", "latest"):
    raise ImproperlyConfigured("AVITO_STR_DAY must be property or latest.")
AVITO_STR_BOOKINGS_CLOSE_DATES = env.flag("AVITO_STR_BOOKINGS_CLOSE_DATES", default=True)
AVITO_STR_CONTACTS_KEPT_DAYS = env.number("AVITO_STR_CONTACTS_KEPT_DAYS", 365)
PROXY_ALLOW_PRIVATE = env.flag("PROXY_ALLOW_PRIVATE", default=not PRODUCTION)
AVITO_RECONCILE_SECONDS = env.number("AVITO_RECONCILE_SECONDS", 600)
AVITO_WEBHOOK_KEYS = env.items("AVITO_WEBHOOK_KEYS")
AVITO_WEBHOOK_SIGNATURE = env.text("AVITO_WEBHOOK_SIGNATURE", "off")
AVITO_WEBHOOK_SIGNATURE_SECRET = env.text("AVITO_WEBHOOK_SIGNATURE_SECRET")
if AVITO_WEBHOOK_SIGNATURE not in {"off", "log", "enforce"}:
    raise ImproperlyConfigured("AVITO_WEBHOOK_SIGNATURE must be off, log or enforce.")
if AVITO_WEBHOOK_SIGNATURE != "off" and not AVITO_WEBHOOK_SIGNATURE_SECRET:
    raise ImproperlyConfigured("AVITO_WEBHOOK_SIGNATURE needs AVITO_WEBHOOK_SIGNATURE_SECRET.")
SSL_CERT_FILE = env.text("SSL_CERT_FILE") or None


# The parts

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",  # so that templates of widgets can be ours
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "django_celery_beat",
    "corsheaders",
    "axes",
    "simple_history",
    "config",
    "api",
    "notifications",
    "avito_accounts",
    "chats",
    "messenger",
    "integrations_str",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "api.middleware.CompressedPages",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "api.middleware.MoscowTimeForPeople",
    "simple_history.middleware.HistoryRequestMiddleware",
    "axes.middleware.AxesMiddleware",
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"  # which looks into `templates` first
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


# Storage

_database = environ.Env.db_url_config(env.text("DATABASE_URL") or embedded.database_url(DATA_DIR))
DATABASES = {
    "default": {
        **_database,
        "CONN_MAX_AGE": 0,  # Django's own pool keeps the connections
        "CONN_HEALTH_CHECKS": True,  # those that a restart of PostgreSQL has cut are replaced unseen
        "OPTIONS": {
            **_database.get("OPTIONS", {}),  # such as sslmode, from the URL's query
            "pool": {"min_size": 0, "max_size": env.number("DATABASE_POOL_SIZE", 19), "timeout": 3},
            "connect_timeout": 5,
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.text("REDIS_URL") or embedded.redis_url(DATA_DIR)


# Background work: a task is a doorbell, the row is the truth

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 600,
    "socket_timeout": 3,
    "socket_connect_timeout": 2,
    "socket_keepalive": not REDIS_URL.startswith("unix"),
    "health_check_interval": 15,
    "max_retries": 0,  # of one publishing: a doorbell is not worth waiting for
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_EXPIRES = None  # else beat would bring a task of its own that tidies results nobody keeps
CELERY_TASK_PUBLISH_RETRY = False  # a doorbell that nobody hears is no loss: the sweep finds the row
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TASK_ACKS_LATE = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "config.beat:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "refresh-expiring-tokens": {
        "task": "avito_accounts.tasks.refresh_expiring_tokens",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "subscribe-webhooks": {
        "task": "avito_accounts.tasks.subscribe_webhooks",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "check-webhooks": {
        "task": "avito_accounts.tasks.check_webhooks",
        "schedule": crontab(),
        "options": {"expires": 60},
    },
    "forget-old-send-keys": {"task": "messenger.tasks.forget_old_keys", "schedule": timedelta(hours=1)},
    "reconcile-chats": {
        "task": "chats.tasks.reconcile_due_accounts",
        "schedule": timedelta(seconds=30),
        "options": {"expires": 30},
    },
    "queue-checks": {
        "task": "avito_accounts.tasks.queue_checks",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "queue-syncs": {
        "task": "avito_accounts.tasks.queue_syncs",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "queue-nightly-syncs": {  # 03:10 in Moscow: the day before is over, and Avito has had time to count it
        "task": "avito_accounts.tasks.queue_nightly_syncs",
        "schedule": crontab(hour="0", minute="10"),
    },
    "forget-old-presence-attempts": {
        "task": "messenger.tasks.forget_old_attempts",
        "schedule": timedelta(hours=1),
    },
    "tidy-jobs": {"task": "avito_accounts.tasks.tidy_jobs", "schedule": timedelta(minutes=10)},
    "forget-old-authorization-requests": {
        "task": "avito_accounts.tasks.forget_old_authorization_requests",
        "schedule": timedelta(hours=6),
    },
    "forget-old-rent": {"task": "integrations_str.tasks.forget_old", "schedule": timedelta(hours=6)},
    "forget-old-notifications": {"task": "notifications.tasks.forget_old", "schedule": timedelta(hours=6)},
    "forget-old-events": {"task": "notifications.tasks.forget_old_events", "schedule": timedelta(minutes=10)},
}
# What every worker looks for in the database by itself, so that a silent broker or beat delays work but loses none.
DATABASE_SWEEPS = [
    "chats.tasks.sweep_inbox",
    "chats.tasks.sweep_replies",
    "chats.tasks.sweep_chats",
    "avito_accounts.tasks.check_proxies",
    "messenger.tasks.keep_online",
    "notifications.tasks.sweep_events",
    "integrations_str.tasks.tick",
    "integrations_str.tasks.watch",
    *["avito_accounts.tasks.work_jobs"] * 4,  # four lanes
]
DATABASE_SWEEP_SECONDS = 2
DATABASE_SWEEP_RHYTHMS = {
    "messenger.tasks.keep_online": 1,  # two seconds' slots served in one would be a crowd
    "integrations_str.tasks.tick": AVITO_STR_TICK_SECONDS,
    "integrations_str.tasks.watch": 20,
}


# Who may enter

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "config.api.locked_out"
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AXES_USERNAME_CALLABLE = "config.api.name_tried"
AXES_CLIENT_IP_CALLABLE = "config.api.address_of"
AXES_ENABLE_ADMIN = False  # the page is ours: see `api.admin`
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_SECRET,
    "ISSUER": "avito-service",
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=30),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=14),
}
LOGIN_URL = reverse_lazy("admin:login")
LOGIN_REDIRECT_URL = reverse_lazy("admin:index")


# The API

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "api.authentication.JWTAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["api.permissions.Permitted"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["api.parsers.StrictJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "api.pages.Pages",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "api.schema.Schema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "NON_FIELD_ERRORS_KEY": "nonFieldErrors",
    "COERCE_DECIMAL_TO_STRING": False,
    "DATETIME_FORMAT": "iso-8601",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "config.api.Handler",
    "ENABLE_IN_DEBUG_FOR_UNHANDLED_EXCEPTIONS": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "avito-service",
    "DESCRIPTION": "A back office for companies and hosts that live off Avito.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": [
        "rest_framework.permissions.IsAuthenticated" if PRODUCTION else "rest_framework.permissions.AllowAny"
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": True, "displayRequestDuration": True},
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "OnlineMethodEnum": "messenger.eternal_online.METHODS",
        "IntegrationStatusEnum": "integrations_str.health.STATUSES",
        "BookingStatusEnum": "integrations_str.models.Booking.Status",
        "ChatStatusEnum": "chats.models.Chat.Status",
        **{
            f"{name}Enum": f"drf_standardized_errors.openapi_serializers.{name}Enum.choices"
            for name in (
                *("ValidationError", "ClientError", "ServerError", "ParseErrorCode"),
                *(f"ErrorCode{status}" for status in (401, 403, 404, 405, 406, 415, 429, 500)),
            )
        },
    },
    "POSTPROCESSING_HOOKS": [
        "drf_standardized_errors.openapi_hooks.postprocess_schema_enums",
        "config.schema.add_plain_paths",
    ],
    "SCHEMA_PATH_PREFIX": "/api/v1",
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 26 * 1024 * 1024


# Languages and time

LANGUAGE_CODE = "ru"
LANGUAGES = [("ru", "Русский"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
FORMAT_MODULE_PATH = ["config.formats"]
TIME_ZONE = "UTC"  # the API speaks UTC; people see Moscow time, see `api.middleware`


# Static files

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "config.static_files.Storage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = False
if not PRODUCTION:  # development serves from the packages themselves and collects nothing
    warnings.filterwarnings("ignore", "No directory at", UserWarning)


# Behind HTTPS

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PUBLIC_HTTPS else None
SECURE_SSL_REDIRECT = PUBLIC_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health", r"^metrics$", r"^api/v1/webhooks?/"]
SECURE_HSTS_SECONDS = 31_536_000 if PUBLIC_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PUBLIC_HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"


# The back office


def _page(
    title: Any, icon: str, model: str, permission: str, *, view: str = "changelist", of: str = "admin:"
) -> dict[str, Any]:
    """An entry of the sidebar, for those who may open it."""

    def allowed(request: HttpRequest) -> bool:
        from api.roles import permissions_of  # needs the apps, which need the settings

        return permission in permissions_of(request.user)

    def is_open(request: HttpRequest) -> bool:
        name = (request.resolver_match and request.resolver_match.url_name) or ""
        others = {f"{model}_changes"} - {f"{model}_{view}"}
        return name not in others and name.startswith(f"{model}_" if view == "changelist" else f"{model}_{view}")

    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"{of}{model}_{view}"),
        "permission": allowed,
        "active": is_open,
    }


def _rent(title: Any, icon: str, model: str, allowed: str = "may_enter") -> dict[str, Any]:
    """An entry of short-term rent: for hosts and the staff in charge."""
    return {
        **_page(title, icon, f"integrations_str_{model}", ""),
        "permission": f"integrations_str.admin.{allowed}",
    }


def _news() -> list[dict[str, Any]]:
    """The entry of the news, with a badge and without: one of the two shows, as Unfold draws a badge around nothing."""
    entry = {
        "title": _("Notifications"),
        "icon": "notifications",
        "link": reverse_lazy("admin:notifications_notification_changelist"),
    }
    return [
        {**entry, "badge": "notifications.admin.badge", "permission": "notifications.admin.has_news"},
        {**entry, "permission": "notifications.admin.has_no_news"},
    ]


UNFOLD = {
    "SITE_TITLE": "avito-service",
    "SITE_HEADER": "avito-service",
    "SITE_ICON": lambda _request: static("config/icon.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "sizes": "any", "href": lambda _request: static("config/icon.svg")}
    ],
    "SHOW_LANGUAGES": True,
    "SITE_URL": None,  # there is no other site to return to
    "STYLES": [lambda _request: static("config/admin.css")],
    "SCRIPTS": [lambda _request: static("config/admin.js")],
    "DASHBOARD_CALLBACK": "config.home.dashboard",
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": _("Work"),
                "items": [
                    _page(_("Inbox"), "forum", "chats", "chats.use", view="inbox", of=""),
                    *_news(),
                    _page(_("Chats"), "chat", "chats_chat", "chats.use"),
                    _page(_("Messages"), "mail", "chats_message", "chats.use"),
                    _page(_("Canned replies"), "quickreply", "chats_cannedreply", "chats.use"),
                    _page(_("Avito accounts"), "storefront", "avito_accounts_account", "accounts.read"),
                    _page(_("Eternal online"), "sensors", "messenger_presence", "accounts.read"),
                    _page(_("Proxies"), "vpn_lock", "avito_accounts_proxy", "accounts.manage"),
                    _page(_("Bulk operations"), "playlist_add_check", "avito_accounts_run", "accounts.read"),
                ],
            },
            {
                "title": _("Short-term rent"),
                "separator": True,
                "items": [
                    {
                        **_page(_("Calendar"), "calendar_month", "str", "", view="calendar", of=""),
                        "permission": "integrations_str.calendar_page.has_use_for_it",
                    },
                    _rent(_("Properties"), "home_work", "property"),
                    _rent(_("Bookings"), "hotel", "booking"),
                    _rent(_("Conflicts"), "event_busy", "conflict"),
                    _rent(_("Connections"), "sync", "integration"),
                    _rent(_("Sync queue"), "low_priority", "synctask", allowed="sees_all"),
                ],
            },
            {
                "title": _("System"),
                "separator": True,
                "items": [
                    {
                        **_page(_("System state"), "monitor_heart", "system", "accounts.manage"),
                        "link": reverse_lazy("system"),
                        "active": lambda request: getattr(request.resolver_match, "url_name", "") == "system",
                    },
                    _page(_("Changes"), "history", "avito_accounts_account", "accounts.manage", view="changes"),
                    _page(_("Webhook events"), "webhook", "chats_webhookevent", "accounts.manage"),
                    _page(_("People"), "person", "auth_user", "accounts.manage"),
                    _page(_("Periodic tasks"), "schedule", "django_celery_beat_periodictask", "accounts.manage"),
                    _page(_("Sign-in attempts"), "lock", "axes_accessattempt", "accounts.manage"),
                ],
            },
        ],
    },
}


# Logs: lines that machines read in production; ids, never texts, names, phones or secrets

LOG_LEVEL = env.text("LOG_LEVEL", "INFO").upper()
_shared_processors: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
structlog.configure(
    processors=[*_shared_processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, LOG_LEVEL, logging.INFO)),
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "lines": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _shared_processors,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False)
                if PRODUCTION
                else structlog.dev.ConsoleRenderer(colors=False),
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": LOG_LEVEL, "propagate": True, "handlers": []},
        "django.server": {"level": "WARNING", "propagate": True, "handlers": []},
        # A connection that urllib3 opens is no news; at DEBUG it would write the whole URL.
        "urllib3": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        # At DEBUG it writes whole contexts, and with them addresses that carry codes and tickets.
        "django.template": {"level": "INFO"},
    },
}
