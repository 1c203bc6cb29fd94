"""Accounts at Avito, their proxies and figures, the tokens that open them, and the work that waits for them."""

import re
import time
import zoneinfo
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connection, models
from django.db.models import Case, Count, ExpressionWrapper, F, Q, Value, When
from django.db.models.functions import Now, Random
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

import avito
from avito_accounts.errors import KEYS_REFUSED, AccountNotAuthorized
from avito_accounts.fields import EncryptedTextField, cipher_id, look

MASK = "********…"
PROXY_TRUSTED_SECONDS = 3.0
MOSCOW = zoneinfo.ZoneInfo("Europe/Moscow")
BIGINT_MAX = 2**63 - 1


def moscow_today() -> date:
    """The day in Moscow, which is Avito's own."""
    return datetime.now(MOSCOW).date()


def database_now() -> datetime:
    """The one clock of all processes: hosts may disagree, or jump."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return now  # type: ignore[no-any-return]


def validate_proxy_host(value: str) -> None:
    """A host name or an address and nothing else: whatever could smuggle a second address or header is refused."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}", value):
        raise ValidationError(_("Enter a host name or an IP address, without a scheme, port or login."), code="invalid")


def validate_proxy_login(value: str) -> None:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValidationError(_("Line breaks and control characters are not allowed."), code="invalid")


class Proxy(models.Model):
    """A proxy that carries all calls of the accounts that use it. What it is called and how it fares is its own.

    Changes only in `avito_accounts.proxies`. Its circuit breaker is the pair `failures` and `retry_at`.
    """

    class Type(models.TextChoices):
        HTTP = "http", "HTTP"
        HTTPS = "https", "HTTPS"
        SOCKS4 = "socks4", "SOCKS4"
        SOCKS5 = "socks5", "SOCKS5"

    class Status(models.TextChoices):
        NOT_CHECKED = "not_checked", _("not checked")
        WORKING = "working", _("working")
        ERROR = "error", _("error")

    type = models.CharField(_("type"), max_length=6, choices=Type.choices)
    host = models.CharField(_("host"), max_length=253, validators=[validate_proxy_host])
    port = models.PositiveIntegerField(_("port"), validators=[MinValueValidator(1), MaxValueValidator(65535)])
    login = models.CharField(_("login"), max_length=255, blank=True, default="", validators=[validate_proxy_login])
    password = EncryptedTextField(_("password"), blank=True, default="", validators=[validate_proxy_login])
    note = models.CharField(_("note"), max_length=200, blank=True, default="")
    is_kept = models.BooleanField(
        _("keep without accounts"),
        default=False,
        help_text=_("Otherwise the proxy goes together with the last account that uses it."),
    )

    status = models.CharField(_("state"), max_length=11, choices=Status.choices, default=Status.NOT_CHECKED)
    error_reason = models.CharField(max_length=20, blank=True, default="")
    checked_at = models.DateTimeField(_("last check"), null=True, blank=True)
    latency_ms = models.PositiveIntegerField(_("latency, ms"), null=True, blank=True)
    failures = models.PositiveSmallIntegerField(default=0, help_text="calls that failed one after the other")
    retry_at = models.DateTimeField(
        null=True, blank=True, help_text="the breaker is open: until then nothing is sent, then one probe"
    )

    cipher_id = cipher_id()
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    history = HistoricalRecords(
        excluded_fields=[
            *("password", "cipher_id", "status", "error_reason", "checked_at", "latency_ms"),
            *("failures", "retry_at", "created_at", "updated_at"),
        ]
    )

    class Meta:
        ordering = ["host", "port", "id"]
        verbose_name = _("proxy")
        verbose_name_plural = _("proxies")
        indexes = [models.Index(fields=["type", "host", "port", "login"], name="proxy_by_address")]
        constraints = [
            models.CheckConstraint(condition=Q(port__range=(1, 65535)), name="proxy_port_in_range"),
        ]

    def __str__(self) -> str:
        address = self.address
        return address.replace("://", f"://{self.login}@", 1) if self.login else address

    @property
    def address(self) -> str:
        """Where it is, without the login."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.type}://{host}:{self.port}"

    @property
    def route(self) -> avito.Proxy:
        """The proxy in the words of the client."""
        return avito.Proxy(
            type=self.type,  # type: ignore[arg-type]  # the choices are the same four words
            host=self.host,
            port=self.port,
            login=self.login,
            password=self.password,
        )


_NOT_IN_HISTORY = [
    *("client_id", "client_secret", "cipher_id", "created_at", "updated_at"),
    *("connection_status", "connection_error_code", "connection_error_detail", "connection_checked_at"),
    *("online_method", "last_online_at", "online_error_code", "online_error_detail"),
    *("online_failures", "online_due_at", "online_status_unknown_until"),
    *("balance_real", "balance_bonus", "ads_count", "views_count", "contacts_count", "views_today", "contacts_today"),
    *(
        "stats_on",
        "connection_failures",
        "last_sync_at",
        "sync_tried_at",
        "sync_failures",
        "webhook_fingerprint",
        "webhook_subscribed_at",
        "webhook_checked_at",
        "webhook_error_code",
        "webhook_error_detail",
    ),
]
"""Secrets, and what Avito tells rather than a person."""


IS_ONLINE = Q(
    last_online_at__gt=Now()
    - ExpressionWrapper(
        F("online_keep_alive_interval") * Value(timedelta(seconds=2)), output_field=models.DurationField()
    )
)
"""`Account.is_online` as a question to the database."""
WITHIN_AN_INTERVAL = Now() + ExpressionWrapper(
    Random() * 0.95 * F("online_keep_alive_interval") * Value(timedelta(seconds=1)),
    output_field=models.DurationField(),
)
"""A moment for `online_due_at`, so that accounts that begin together do not begin at once."""
NO_LATER_THAN_AN_INTERVAL = Case(
    When(
        online_due_at__gt=Now()
        + ExpressionWrapper(
            F("online_keep_alive_interval") * Value(timedelta(seconds=1)), output_field=models.DurationField()
        ),
        then=WITHIN_AN_INTERVAL,
    ),
    default=F("online_due_at"),
)
"""For `online_due_at` when what made signs of life fail is over: backing off ends."""


class AccountQuerySet(models.QuerySet["Account"]):
    def authorized(self) -> "AccountQuerySet":
        """Accounts whose tokens work as far as we know: a living authorisation and a known number at Avito."""
        return self.filter(authorization__dead_reason="", avito_user_id__isnull=False)

    def usable(self) -> "AccountQuerySet":
        """Accounts that may reach Avito: with living tokens, or with keys of their own that Avito has not refused."""
        has_keys = Q(authorization=None) & ~Q(client_id="") & ~Q(client_secret="")
        return self.filter(Q(authorization__dead_reason="") | has_keys).exclude(connection_error_code=KEYS_REFUSED)


class Account(models.Model):
    """One account at Avito, with its own tokens and its own proxy."""

    read_at: float = 0.0

    class ConnectionStatus(models.TextChoices):
        NOT_CHECKED = "not_checked", _("not checked")
        CONNECTED = "connected", _("connected")
        ERROR = "error", _("error")
        NEEDS_RECONNECT = "needs_reconnect", _("needs reconnecting")

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

    proxy = models.ForeignKey(
        Proxy,
        verbose_name=_("proxy"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,  # an account never loses its proxy unnoticed: it would call directly
        related_name="accounts",
    )

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
    connection_failures = models.PositiveSmallIntegerField(default=0, help_text="checks that failed in a row")
    online_method = models.CharField(max_length=8, blank=True, default="")
    last_online_at = models.DateTimeField(null=True, blank=True)
    online_error_code = models.CharField(max_length=50, blank=True, default="")
    online_error_detail = models.TextField(blank=True, default="")
    online_failures = models.PositiveSmallIntegerField(default=0, help_text="one after the other")
    online_due_at = models.DateTimeField(
        null=True, blank=True, help_text="the next slot in which the account is kept online; null: not enabled"
    )
    online_status_unknown_until = models.DateTimeField(
        null=True, blank=True, help_text="Avito has said that it knows no status call; asked again from here on"
    )
    balance_real = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    balance_bonus = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    ads_count = models.PositiveIntegerField(null=True, blank=True)
    views_count = models.PositiveBigIntegerField(null=True, blank=True)
    contacts_count = models.PositiveBigIntegerField(null=True, blank=True)
    views_today = models.PositiveBigIntegerField(null=True, blank=True)
    contacts_today = models.PositiveBigIntegerField(null=True, blank=True)
    stats_on = models.DateField(null=True, blank=True, help_text="the Moscow day that `today` was")
    last_sync_at = models.DateTimeField(_("figures read"), null=True, blank=True)
    sync_tried_at = models.DateTimeField(null=True, blank=True)
    sync_failures = models.JSONField(
        default=dict, blank=True, help_text="the parts that the last synchronisation could not read, with the codes"
    )

    webhook_fingerprint = models.CharField(
        max_length=64, blank=True, default="", editable=False, help_text="hash of the webhook URL subscribed at Avito"
    )
    webhook_subscribed_at = models.DateTimeField(_("webhook subscribed"), null=True, blank=True)
    webhook_checked_at = models.DateTimeField(null=True, blank=True, help_text="when Avito was last asked about it")
    webhook_error_code = models.CharField(max_length=50, blank=True, default="", help_text="why that failed")
    webhook_error_detail = models.TextField(blank=True, default="")

    cipher_id = cipher_id()
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = AccountQuerySet.as_manager()
    history = HistoricalRecords(excluded_fields=_NOT_IN_HISTORY)

    class Meta:
        ordering = ["id"]
        verbose_name = _("Avito account")
        verbose_name_plural = _("Avito accounts")
        indexes = [
            models.Index(fields=["online_due_at"], condition=Q(online_due_at__isnull=False), name="account_online_due")
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(online_keep_alive_interval__range=(60, 3600)), name="keep_alive_interval_in_range"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_db(cls, db: Any, field_names: Any, values: Any) -> "Account":
        account = super().from_db(db, field_names, values)
        account.read_at = time.monotonic()
        return account

    def with_present_proxy(self) -> "Account":
        """The account, its proxy read again if it was read a while ago: work that takes long must not miss a change."""
        if time.monotonic() - self.read_at > PROXY_TRUSTED_SECONDS and self.pk is not None:
            try:
                self.refresh_from_db(fields=["proxy"])
            except Account.DoesNotExist:  # deleted in the middle of the work
                raise AccountNotAuthorized(self.pk) from None
            self.read_at = time.monotonic()
        return self

    @property
    def views_of_today(self) -> int | None:
        """Null once the Moscow day is over for which they were read."""
        return self.views_today if self.stats_on == moscow_today() else None

    @property
    def contacts_of_today(self) -> int | None:
        return self.contacts_today if self.stats_on == moscow_today() else None

    @property
    def is_online(self) -> bool:
        """Avito accepted a sign of life, and that is younger than twice the interval."""
        age = 2 * timedelta(seconds=self.online_keep_alive_interval)
        return self.last_online_at is not None and timezone.now() - self.last_online_at < age

    @property
    def left_alone_code(self) -> str:
        """Why no sign of life is given though it is switched on: a person has to reconnect the account. "": it is."""
        if not self.eternal_online_enabled:
            return ""
        if self.connection_error_code == KEYS_REFUSED:
            return KEYS_REFUSED
        authorization = getattr(self, "authorization", None)
        is_dead = authorization is not None and bool(authorization.dead_reason)
        is_flagged = self.connection_status == self.ConnectionStatus.NEEDS_RECONNECT
        return "reconnect_required" if is_dead or is_flagged else ""

    @property
    def next_online_at(self) -> datetime | None:
        """When the next sign of life is due; None if none will be given."""
        return None if self.left_alone_code else self.online_due_at

    @property
    def online_problem(self) -> tuple[str, str]:
        """Code and detail of why the account is not kept online; empty if it is, or nothing was tried."""
        if code := self.left_alone_code:
            return code, ""
        return self.online_error_code, self.online_error_detail

    @property
    def has_own_keys(self) -> bool:
        return all(mask(self, name) for name in ("client_id", "client_secret"))


IS_LEFT_ALONE = Q(eternal_online_enabled=True) & (
    Q(connection_error_code=KEYS_REFUSED)
    | Q(connection_status=Account.ConnectionStatus.NEEDS_RECONNECT)
    | Q(authorization__dead_reason__gt="")
)
"""`Account.left_alone_code` as a question to the database."""


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
    """A consent under way: opened once by its ticket, finished once by its state, in the browser that opened it.

    For an account, or for a purpose of another app's, see `oauth.Purpose`; then the account may not be known yet.
    """

    account = models.ForeignKey(Account, null=True, on_delete=models.CASCADE)
    purpose = models.CharField(max_length=20, blank=True, default="")
    subject_id = models.BigIntegerField(null=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    created_at = models.DateTimeField(default=timezone.now)
    opened_at = models.DateTimeField(null=True)
    state_hash = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001  NULLs are distinct, "" is not
    browser_hash = models.CharField(max_length=64, blank=True, default="")
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=30, blank=True, default="")

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="authorization_request_age")]
        constraints = [
            models.CheckConstraint(
                condition=Q(account__isnull=False) | ~Q(purpose=""), name="authorization_request_is_for_something"
            )
        ]

    def __str__(self) -> str:
        return f"consent {self.pk} for account {self.account_id}"


class DailyStats(models.Model):
    """What one Moscow day brought to an account. Null: not known, since nobody asked on that day.

    Grows, never shrinks: a listing that has ended is no longer counted for the days before, so the larger figure is
    the one that still knew it.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="daily_stats")
    date = models.DateField(_("date"))
    views = models.PositiveBigIntegerField(_("views"), null=True, blank=True)
    contacts = models.PositiveBigIntegerField(_("contacts"), null=True, blank=True)
    favorites = models.PositiveBigIntegerField(_("favourites"), null=True, blank=True)
    ads_count = models.PositiveIntegerField(_("active listings"), null=True, blank=True)
    balance_real = models.DecimalField(_("balance"), max_digits=14, decimal_places=2, null=True, blank=True)
    balance_bonus = models.DecimalField(_("bonus"), max_digits=14, decimal_places=2, null=True, blank=True)

    class Meta:
        ordering = ["date"]
        verbose_name = _("figures of a day")
        verbose_name_plural = _("figures by day")
        constraints = [models.UniqueConstraint(fields=["account", "date"], name="one_row_per_account_and_day")]

    def __str__(self) -> str:
        return f"{self.date} of account {self.account_id}"


class RunQuerySet(models.QuerySet["Run"]):
    def with_progress(self) -> "RunQuerySet":
        """Each run with `total` jobs, those `done`, and those of them that `failed`; the newest first."""
        return self.annotate(
            total=Count("jobs"),
            done=Count("jobs", filter=Q(jobs__finished_at__isnull=False)),
            failed=Count("jobs", filter=Q(jobs__finished_at__isnull=False) & ~Q(jobs__error_code="")),
        ).order_by("-id")


class Run(models.Model):
    """Work on many accounts that a person asked for; its jobs say how far it is."""

    class Kind(models.TextChoices):
        CHECK = "check", _("check of connections")
        SYNC = "sync", _("reading of figures")
        SUBSCRIBE = "subscribe", _("subscription of webhooks")

    kind = models.CharField(_("what"), max_length=9, choices=Kind.choices)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("asked by"), null=True, on_delete=models.SET_NULL, related_name="+"
    )
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("bulk operation")
        verbose_name_plural = _("bulk operations")
        constraints = [
            models.UniqueConstraint(fields=["kind"], condition=Q(finished_at=None), name="one_run_of_a_kind_at_a_time")
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk}"


class Job(models.Model):
    """One thing to do for one account, done by whichever worker claims it.

    Waiting while `finished_at` is null; a worker holds it until `claimed_until`, and only the holder of the latest
    `claim` may finish it. Kept once finished only as part of a run.
    """

    class Kind(models.TextChoices):
        CHECK = "check", _("check of the connection")
        SYNC = "sync", _("reading of figures")
        SUBSCRIBE = "subscribe", _("subscription of the webhook")

    kind = models.CharField(_("what"), max_length=9, choices=Kind.choices)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="jobs")
    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="jobs")
    due_at = models.DateTimeField(_("due"), default=timezone.now)
    claim = models.PositiveIntegerField(default=0, help_text="grows with every worker that takes the job")
    claimed_until = models.DateTimeField(null=True)
    put_offs = models.PositiveSmallIntegerField(default=0, help_text="how often Avito asked for a pause")
    deaths = models.PositiveSmallIntegerField(
        default=0, help_text="workers that took the job and were not heard of again"
    )
    finished_at = models.DateTimeField(_("finished"), null=True)
    error_code = models.CharField(_("problem"), max_length=50, blank=True, default="")

    class Meta:
        ordering = ["id"]
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind"], condition=Q(finished_at=None), name="one_waiting_job_of_a_kind_per_account"
            )
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(finished_at=None), name="job_waiting")]

    def __str__(self) -> str:
        return f"{self.kind} of account {self.account_id}"


def mask(row: Account | Authorization | Proxy, name: str, *, shown: int = 0) -> str | None:
    """What may be seen of a secret: nothing, or its first characters; null when there is none."""
    value = look(row, name)
    if value == "":
        return None
    return f"{value[:shown]}…" if value and shown else MASK
