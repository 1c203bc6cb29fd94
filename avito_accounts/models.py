"""Accounts at Avito, the tokens that open them, and the consents that are under way."""

import re
from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import avito
from avito_accounts.fields import EncryptedTextField, cipher_id, look

MASK = "********…"
BIGINT_MAX = 2**63 - 1


def validate_proxy_host(value: str) -> None:
    """A host name or an address and nothing else: whatever could smuggle a second address or header is refused."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}", value):
        raise ValidationError(_("Enter a host name or an IP address, without a scheme, port or login."), code="invalid")


def validate_proxy_login(value: str) -> None:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValidationError(_("Line breaks and control characters are not allowed."), code="invalid")


class AccountQuerySet(models.QuerySet["Account"]):
    def authorized(self) -> "AccountQuerySet":
        """Accounts whose tokens work as far as we know: a living authorisation and a known number at Avito."""
        return self.filter(authorization__dead_reason="", avito_user_id__isnull=False)


class Account(models.Model):
    """One account at Avito, with its own tokens and its own proxy."""

    class ProxyType(models.TextChoices):
        HTTP = "http", "HTTP"
        HTTPS = "https", "HTTPS"
        SOCKS4 = "socks4", "SOCKS4"
        SOCKS5 = "socks5", "SOCKS5"

    class ConnectionStatus(models.TextChoices):
        NOT_CHECKED = "not_checked", _("not checked")
        CONNECTED = "connected", _("connected")
        ERROR = "error", _("error")
        NEEDS_RECONNECT = "needs_reconnect", _("needs reconnecting")

    class ProxyStatus(models.TextChoices):
        NOT_CONFIGURED = "not_configured", _("no proxy")
        NOT_CHECKED = "not_checked", _("not checked")
        WORKING = "working", _("working")
        ERROR = "error", _("error")

    name = models.CharField(_("name"), max_length=120, unique=True)
    avito_user_id = models.BigIntegerField(
        _("Avito's number"),
        null=True,
        blank=True,
        unique=True,
        validators=[MinValueValidator(1), MaxValueValidator(BIGINT_MAX)],
        help_text=_("The number of the profile at Avito. Filled in by itself when the account is connected."),
    )
    client_id = EncryptedTextField(_("client id"), blank=True, default="")
    client_secret = EncryptedTextField(_("client secret"), blank=True, default="")

    proxy_type = models.CharField(_("proxy type"), max_length=6, choices=ProxyType.choices, blank=True, default="")
    proxy_host = models.CharField(
        _("proxy host"), max_length=253, blank=True, default="", validators=[validate_proxy_host]
    )
    proxy_port = models.PositiveIntegerField(
        _("proxy port"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    proxy_login = models.CharField(
        _("proxy login"), max_length=255, blank=True, default="", validators=[validate_proxy_login]
    )
    proxy_password = EncryptedTextField(_("proxy password"), blank=True, default="", validators=[validate_proxy_login])

    eternal_online_enabled = models.BooleanField(_("eternal online"), default=False)
    online_keep_alive_interval = models.PositiveIntegerField(
        _("keep-alive interval, seconds"),
        default=300,
        validators=[MinValueValidator(60), MaxValueValidator(3600)],
    )

    connection_status = models.CharField(
        _("connection"), max_length=15, choices=ConnectionStatus.choices, default=ConnectionStatus.NOT_CHECKED
    )
    connection_error_code = models.CharField(max_length=50, blank=True, default="")
    connection_error_detail = models.TextField(blank=True, default="")
    connection_checked_at = models.DateTimeField(_("connection checked"), null=True, blank=True)
    proxy_status = models.CharField(
        _("proxy"), max_length=14, choices=ProxyStatus.choices, default=ProxyStatus.NOT_CONFIGURED
    )
    proxy_error_code = models.CharField(max_length=50, blank=True, default="")
    proxy_error_detail = models.TextField(blank=True, default="")
    proxy_checked_at = models.DateTimeField(null=True, blank=True)
    proxy_latency_ms = models.PositiveIntegerField(null=True, blank=True)
    is_online = models.BooleanField(_("online"), default=False)
    online_method = models.CharField(max_length=8, blank=True, default="")
    last_online_at = models.DateTimeField(null=True, blank=True)
    online_error_code = models.CharField(max_length=50, blank=True, default="")
    online_error_detail = models.TextField(blank=True, default="")
    balance_real = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    balance_bonus = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    ads_count = models.PositiveIntegerField(null=True, blank=True)
    views_count = models.PositiveIntegerField(null=True, blank=True)
    contacts_count = models.PositiveIntegerField(null=True, blank=True)
    views_today = models.PositiveIntegerField(null=True, blank=True)
    contacts_today = models.PositiveIntegerField(null=True, blank=True)
    last_sync_at = models.DateTimeField(null=True, blank=True)

    webhook_fingerprint = models.CharField(
        max_length=64, blank=True, default="", editable=False, help_text="hash of the webhook URL subscribed at Avito"
    )
    webhook_subscribed_at = models.DateTimeField(_("webhook subscribed"), null=True, blank=True)

    cipher_id = cipher_id()
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = AccountQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = _("Avito account")
        verbose_name_plural = _("Avito accounts")
        constraints = [
            models.CheckConstraint(
                condition=Q(online_keep_alive_interval__range=(60, 3600)), name="keep_alive_interval_in_range"
            ),
            models.CheckConstraint(
                condition=Q(proxy_type="") | (~Q(proxy_host="") & Q(proxy_port__range=(1, 65535))),
                name="proxy_has_host_and_port",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def proxy(self) -> avito.Proxy | None:
        """The proxy that every call of this account goes through."""
        if not self.proxy_type or self.proxy_port is None:
            return None
        return avito.Proxy(
            type=self.proxy_type,  # type: ignore[arg-type]  # the choices are the same four words
            host=self.proxy_host,
            port=self.proxy_port,
            login=self.proxy_login,
            password=self.proxy_password,
        )

    @property
    def has_own_keys(self) -> bool:
        return all(mask(self, name) for name in ("client_id", "client_secret"))


class Authorization(models.Model):
    """What opens an account at Avito: one pair of tokens, replaced as a whole.

    Changes only in `avito_accounts.tokens`. `version` grows with every new pair.
    """

    class Kind(models.TextChoices):
        OAUTH = "oauth", "OAuth"
        CLIENT_CREDENTIALS = "client_credentials", _("own keys")

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="authorization")
    kind = models.CharField(max_length=18, choices=Kind.choices)
    access_token = EncryptedTextField()
    refresh_token = EncryptedTextField(blank=True, default="")
    scopes = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    expires_at = models.DateTimeField()
    refresh_at = models.DateTimeField(help_text="from here on the pair is renewed ahead of its end")
    version = models.PositiveIntegerField(default=1)
    renewed_at = models.DateTimeField(help_text="when this pair was stored")
    refresh_sent_at = models.DateTimeField(
        null=True, blank=True, help_text="a refresh left and its answer has not been stored"
    )
    refreshes_unanswered = models.PositiveSmallIntegerField(default=0)
    dead_reason = models.CharField(max_length=30, blank=True, default="")
    cipher_id = cipher_id()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("authorisation")
        verbose_name_plural = _("authorisations")
        indexes = [models.Index(fields=["refresh_at"], condition=Q(dead_reason=""), name="authorization_due")]

    def __str__(self) -> str:
        return f"{self.kind} of account {self.account_id}"

    @property
    def refreshable(self) -> bool:
        return not self.dead_reason and (self.kind == self.Kind.CLIENT_CREDENTIALS or bool(self.refresh_token))

    def is_expired(self, now: datetime | None = None) -> bool:
        return (now or timezone.now()) >= self.expires_at


class AuthorizationRequest(models.Model):
    """A consent under way: opened once by its ticket, finished once by its state, in the browser that opened it."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    created_at = models.DateTimeField(default=timezone.now)
    opened_at = models.DateTimeField(null=True)
    state_hash = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001  NULLs are distinct, "" is not
    browser_hash = models.CharField(max_length=64, blank=True, default="")
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=30, blank=True, default="")

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="authorization_request_age")]

    def __str__(self) -> str:
        return f"consent {self.pk} for account {self.account_id}"


def mask(row: Account | Authorization, name: str, *, shown: int = 0) -> str | None:
    """What may be seen of a secret: nothing, or its first characters; null when there is none."""
    value = look(row, name)
    if value == "":
        return None
    return f"{value[:shown]}…" if value and shown else MASK
