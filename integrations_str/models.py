"""The house book of short-term rent, and what connects it to Avito.

A property, its rates and its bookings are what a host says; an integration, its days and its task are where Avito
stands. Everything belongs to the owner of the property.
"""

import zoneinfo
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Self, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from avito.rent import BASE_MIN_STAY_MAX, MIN_STAY_MAX
from avito_accounts.fields import EncryptedTextField, cipher_id
from avito_accounts.models import BIGINT_MAX, Account
from notifications.models import Person

M = TypeVar("M", bound=models.Model)
computed = property
"""Python's own, where a column is called `property`."""
PRICE_MAX = 100_000_000
NIGHTS_MAX = 730
"""Of one booking, ours."""
MARKUP_MIN, MARKUP_MAX = Decimal(-90), Decimal(300)
CURRENCY = "RUB"
ITEM_ERRORS = ("avito_forbidden", "avito_not_found")
"""Codes that say that the item itself is out of reach, while the account is well."""


def validate_timezone(value: str) -> None:
    if value not in zoneinfo.available_timezones():
        raise ValidationError(_("Enter a time zone such as Europe/Moscow."), code="invalid")


def validate_currency(value: str) -> None:
    if value != CURRENCY:
        raise ValidationError(_("Avito takes prices in roubles alone: RUB."), code="unsupported_currency")


def stay(check_in: date, check_out: date) -> str:
    """Its two days, as the reader writes dates."""
    return f"{date_format(check_in, 'SHORT_DATE_FORMAT')} – {date_format(check_out, 'SHORT_DATE_FORMAT')}"


class OwnedQuerySet(models.QuerySet[M]):
    """Rows that belong to the owner of a property, however far away that stands."""

    owner_path = "property__owner"

    def owned_by(self, user: Person) -> Self:
        """What is this person's own; nothing for nobody."""
        return self.filter(**{self.owner_path: user.pk}) if user.is_authenticated else self.none()


class PropertyQuerySet(OwnedQuerySet["Property"]):
    owner_path = "owner"


class Property(models.Model):
    """A flat or a house of a host: one unit that one party at a time can live in."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.PROTECT,  # who goes disconnects first: somebody has to decide what becomes of the sales
        related_name="properties",
    )
    name = models.CharField(_("name"), max_length=120)
    address = models.CharField(_("address"), max_length=500, blank=True, default="")
    timezone = models.CharField(_("time zone"), max_length=64, default="Europe/Moscow", validators=[validate_timezone])
    currency = models.CharField(_("currency"), max_length=3, default=CURRENCY, validators=[validate_currency])
    base_price = models.PositiveIntegerField(
        _("price of a night, roubles"), validators=[MinValueValidator(1), MaxValueValidator(PRICE_MAX)]
    )
    min_stay = models.PositiveSmallIntegerField(
        _("minimum stay, nights"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MIN_STAY_MAX)],
        help_text=_("Avito takes up to 30 nights for single dates, and up to 7 for the listing as a whole."),
    )
    max_guests = models.PositiveSmallIntegerField(
        _("guests at most"), default=2, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = PropertyQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = _("property")
        verbose_name_plural = _("properties")
        constraints = [
            models.CheckConstraint(condition=Q(base_price__range=(1, PRICE_MAX)), name="property_price_in_range"),
            models.CheckConstraint(condition=Q(min_stay__range=(1, MIN_STAY_MAX)), name="property_min_stay_in_range"),
            models.CheckConstraint(condition=Q(currency=CURRENCY), name="property_in_roubles"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.timezone)

    def today(self, now: datetime | None = None) -> date:
        """The day where the property stands."""
        return (now or timezone.now()).astimezone(self.zone).date()

    @property
    def is_min_stay_above_base(self) -> bool:
        """Avito keeps it for single dates only, so beyond the year that is sent its own minimum counts."""
        return self.min_stay > BASE_MIN_STAY_MAX


class Rate(models.Model):
    """What a host has said of one night, where it differs from the property; a null says nothing."""

    property = models.ForeignKey(Property, on_delete=models.CASCADE, related_name="rates")
    date = models.DateField(_("date"))
    price = models.PositiveIntegerField(_("price"), null=True, blank=True)
    min_stay = models.PositiveSmallIntegerField(_("minimum stay"), null=True, blank=True)
    closed = models.BooleanField(_("closed"), null=True, blank=True)

    class Meta:
        ordering = ["date"]
        constraints = [
            models.UniqueConstraint(fields=["property", "date"], name="one_rate_per_night"),
            models.CheckConstraint(condition=Q(price__range=(1, PRICE_MAX)), name="rate_price_in_range"),
            models.CheckConstraint(condition=Q(min_stay__range=(1, MIN_STAY_MAX)), name="rate_min_stay_in_range"),
        ]

    def __str__(self) -> str:
        return f"{self.date} of property {self.property_id}"


class BookingQuerySet(OwnedQuerySet["Booking"]):
    def saying_if_in_conflict(self) -> Self:
        """Each row says `conflict`: another booking claims some of its nights."""
        open_ones = Conflict.objects.filter(Q(first=OuterRef("pk")) | Q(second=OuterRef("pk")), solved_at=None)
        return self.annotate(conflict=Exists(open_ones))


class Booking(models.Model):
    """A stay, from the evening of `check_in` to the morning of `check_out`, which somebody else may check in on.

    Changes only in `integrations_str.bookings`, which also keeps the nights. Of Avito's, `raw_status` is Avito's own
    word: one that we do not know holds its nights until somebody has looked.
    """

    class Source(models.TextChoices):
        MANUAL = "manual", _("by hand")
        AVITO = "avito", _("Avito")

    class Status(models.TextChoices):
        PENDING = "pending", _("not paid yet")
        CONFIRMED = "confirmed", _("confirmed")
        CANCELLED = "cancelled", _("cancelled")

    property = models.ForeignKey(Property, on_delete=models.CASCADE, related_name="bookings")
    source = models.CharField(_("source"), max_length=6, choices=Source.choices, default=Source.MANUAL)
    avito_booking_id = models.BigIntegerField(_("Avito's number"), null=True, blank=True)
    item_id = models.BigIntegerField(null=True, blank=True, help_text="the item at Avito that it was booked through")
    check_in = models.DateField(_("check-in"))
    check_out = models.DateField(_("check-out"))
    guest_name = EncryptedTextField(_("guest"), blank=True, default="")
    guest_phone = EncryptedTextField(_("phone"), blank=True, default="")
    guest_email = EncryptedTextField(_("e-mail"), blank=True, default="")
    contacts_erased_at = models.DateTimeField(null=True, blank=True)
    guests = models.PositiveSmallIntegerField(_("guests"), null=True, blank=True)
    total_price = models.PositiveBigIntegerField(_("price of the stay"), null=True, blank=True)
    owner_amount = models.PositiveBigIntegerField(
        _("payout"), null=True, blank=True, help_text="what Avito hands on of the deposit, as it says"
    )
    commission = models.PositiveBigIntegerField(_("Avito's commission"), null=True, blank=True)
    deposit = models.PositiveBigIntegerField(_("prepayment"), null=True, blank=True)
    status = models.CharField(_("state"), max_length=9, choices=Status.choices, default=Status.CONFIRMED)
    raw_status = models.CharField(max_length=50, blank=True, default="")
    holds = models.BooleanField(default=True, help_text="whether it claims its nights")
    unseen_polls = models.PositiveSmallIntegerField(
        default=0, help_text="how often Avito's answer has lacked it of late"
    )
    cipher_id = cipher_id()
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = BookingQuerySet.as_manager()

    class Meta:
        ordering = ["-check_in", "-id"]
        verbose_name = _("booking")
        verbose_name_plural = _("bookings")
        constraints = [
            models.CheckConstraint(condition=Q(check_out__gt=F("check_in")), name="booking_has_nights"),
            models.CheckConstraint(
                condition=~Q(status="cancelled") | Q(holds=False), name="cancelled_booking_holds_nothing"
            ),
            models.UniqueConstraint(fields=["property", "avito_booking_id"], name="one_row_per_avito_booking"),
        ]
        indexes = [models.Index(fields=["property", "check_out"], name="booking_by_end")]

    def __str__(self) -> str:
        return stay(self.check_in, self.check_out)

    @computed
    def nights(self) -> int:
        return (self.check_out - self.check_in).days

    @computed
    def is_unconfirmed(self) -> bool:
        return self.status == self.Status.PENDING

    @computed
    def last_night(self) -> date:
        return self.check_out - timedelta(days=1)


class BookingRevision(models.Model):
    """What a booking was before a change and after it; never the guest."""

    booking = models.ForeignKey(Booking, on_delete=models.CASCADE, related_name="revisions")
    at = models.DateTimeField(default=timezone.now)
    before = models.JSONField(null=True)
    after = models.JSONField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"revision {self.pk} of booking {self.booking_id}"


class Night(models.Model):
    """A night that a booking holds. The constraint is what keeps two parties out of one bed."""

    property = models.ForeignKey(Property, on_delete=models.CASCADE, related_name="nights", db_index=False)
    date = models.DateField()
    booking = models.ForeignKey(Booking, on_delete=models.CASCADE, related_name="held_nights")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["property", "date"], name="one_booking_per_night")]

    def __str__(self) -> str:
        return f"{self.date} of property {self.property_id}"


class ConflictQuerySet(OwnedQuerySet["Conflict"]):
    pass


class Conflict(models.Model):
    """Two bookings that claim the same nights, from `start` to the morning of `end`; over once one of them goes."""

    property = models.ForeignKey(Property, on_delete=models.CASCADE, related_name="conflicts")
    first = models.ForeignKey(Booking, on_delete=models.CASCADE, related_name="+")
    second = models.ForeignKey(Booking, on_delete=models.CASCADE, related_name="+")
    start = models.DateField(_("from"))
    end = models.DateField(_("to"))
    since = models.DateTimeField(_("since"), default=timezone.now)
    solved_at = models.DateTimeField(_("solved"), null=True, blank=True)

    objects = ConflictQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = _("conflict")
        verbose_name_plural = _("conflicts")
        constraints = [
            models.CheckConstraint(condition=Q(first__lt=F("second")), name="conflict_in_one_order"),
            models.UniqueConstraint(
                fields=["first", "second"], condition=Q(solved_at=None), name="one_open_conflict_per_pair"
            ),
        ]

    def __str__(self) -> str:
        return stay(self.start, self.end)


class Access(models.Model):
    """This person may connect properties to items of this account: consent was given in a browser of theirs."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "user"], name="one_access_per_person")]

    def __str__(self) -> str:
        return f"user {self.user_id} may use account {self.account_id}"


class IntegrationQuerySet(OwnedQuerySet["Integration"]):
    def connected(self) -> Self:
        return self.filter(disconnected_at=None)

    def in_full(self) -> Self:
        """With what it takes to show them."""
        return self.select_related("task", "property", "account__authorization")


class Integration(models.Model):
    """A property's connection to an item at Avito. Once disconnected it stays as history, without an account."""

    property = models.ForeignKey(Property, on_delete=models.CASCADE, related_name="integrations")
    account = models.ForeignKey(
        Account,
        verbose_name=_("account"),
        null=True,
        on_delete=models.PROTECT,  # an account that a connected property uses cannot be deleted
        related_name="integrations",
    )
    item_id = models.BigIntegerField(
        _("item at Avito"), validators=[MinValueValidator(1), MaxValueValidator(BIGINT_MAX)]
    )
    markup_percent = models.DecimalField(
        _("markup, %"),
        max_digits=5,
        decimal_places=2,
        default=15,
        validators=[MinValueValidator(MARKUP_MIN), MaxValueValidator(MARKUP_MAX)],
    )
    is_active = models.BooleanField(_("active"), default=True)
    holds_pending = models.BooleanField(
        _("unpaid bookings hold their nights"),
        default=True,
        help_text=_("Otherwise the nights stay on sale until the guest has paid."),
    )
    closed_at_avito = models.JSONField(
        default=list, help_text="[[from, to], ...]: what was closed at Avito when the property was connected"
    )
    consented_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="when the owner agreed that the first push opens dates, or goes out in conflict",
    )
    first_pushed_at = models.DateTimeField(null=True, blank=True)
    horizon_from = models.DateField(help_text="the day from which the year is counted that Avito has been told of")
    base_price = models.PositiveIntegerField(null=True, help_text="what Avito last accepted; null: not known")
    base_min_stay = models.PositiveSmallIntegerField(null=True, help_text="as `base_price`")
    last_push_at = models.DateTimeField(_("last push"), null=True, blank=True)
    last_pull_at = models.DateTimeField(_("last reading"), null=True, blank=True)
    connected_at = models.DateTimeField(_("connected"), default=timezone.now)
    disconnected_at = models.DateTimeField(_("disconnected"), null=True, blank=True)

    objects = IntegrationQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = _("connection")
        verbose_name_plural = _("connections")
        constraints = [
            models.UniqueConstraint(
                fields=["item_id"], condition=Q(disconnected_at=None), name="one_connection_per_item"
            ),
            models.UniqueConstraint(
                fields=["property"], condition=Q(disconnected_at=None), name="one_connection_per_property"
            ),
            models.CheckConstraint(condition=Q(markup_percent__range=(MARKUP_MIN, MARKUP_MAX)), name="markup_in_range"),
            models.CheckConstraint(
                condition=Q(disconnected_at__isnull=False) | Q(account__isnull=False), name="connection_has_account"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.property} – {self.item_id}"


class ChannelDay(models.Model):
    """What Avito last accepted for one night; null: not known, so it will be sent.

    The `refused_*` are what Avito has rejected: not sent again until the owner wants something else.
    """

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="days", db_index=False)
    date = models.DateField()
    price = models.PositiveIntegerField(null=True)
    min_stay = models.PositiveSmallIntegerField(null=True)
    is_open = models.BooleanField(null=True)
    refused_price = models.PositiveIntegerField(null=True)
    refused_min_stay = models.PositiveSmallIntegerField(null=True)
    refused_open = models.BooleanField(null=True)
    refusal = models.CharField(max_length=500, blank=True, default="", help_text="in Avito's words")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["integration", "date"], name="one_row_per_channel_day")]

    def __str__(self) -> str:
        return f"{self.date} of integration {self.integration_id}"


class SyncTask(models.Model):
    """When a connection is to be looked after next; the one row that stands for it in the queue.

    `push_at` null: nothing waits to be sent. A worker holds the row until `claimed_until`, and only the holder of the
    latest `claim` may write what came of it. Changes only in `integrations_str.queue`.
    """

    integration = models.OneToOneField(Integration, on_delete=models.CASCADE, related_name="task")
    wanted = models.PositiveBigIntegerField(
        default=1, help_text="grows with every change that Avito may have to hear of"
    )
    push_at = models.DateTimeField(null=True, blank=True)
    dirty_since = models.DateTimeField(null=True, blank=True, help_text="the first change that was not sent yet")
    edited_at = models.DateTimeField(null=True, blank=True, help_text="when a person last changed something")
    is_closing = models.BooleanField(default=False, help_text="nights have to close: ahead of everything else")
    push_failures = models.PositiveSmallIntegerField(default=0, help_text="one after the other")
    push_error_code = models.CharField(max_length=50, blank=True, default="")
    push_error_detail = models.TextField(blank=True, default="")
    dead_at = models.DateTimeField(null=True, blank=True, help_text="given up; a change or a person brings it back")
    waits_for_consent = models.BooleanField(default=False)
    left_days = models.PositiveSmallIntegerField(
        default=0, help_text="days that the last push had to leave as they are"
    )
    pull_at = models.DateTimeField(default=timezone.now)
    pull_failures = models.PositiveSmallIntegerField(default=0, help_text="one after the other")
    pull_error_code = models.CharField(max_length=50, blank=True, default="")
    pull_error_detail = models.TextField(blank=True, default="")
    claim = models.PositiveIntegerField(default=0, help_text="grows with every worker that takes the row")
    claimed_until = models.DateTimeField(null=True, blank=True)
    deaths = models.PositiveSmallIntegerField(default=0, help_text="workers that took it and were not heard of again")

    class Meta:
        verbose_name = _("synchronisation")
        verbose_name_plural = _("sync queue")
        indexes = [
            models.Index(fields=["pull_at"], name="sync_task_pull"),
            models.Index(fields=["push_at"], condition=Q(push_at__isnull=False), name="sync_task_push"),
        ]

    def __str__(self) -> str:
        return str(self.integration)


class Exchange(models.Model):
    """A line of a connection's log: what went to Avito and came from there. Codes and numbers; words are made later."""

    class Action(models.TextChoices):
        READ = "read_bookings", _("bookings were read")
        BASE = "set_base", _("base price was sent")
        PRICES = "set_prices", _("prices were sent")
        FREE = "set_free", _("free nights were sent")
        CLOSE_ALL = "close_all", _("all nights were closed")
        CONNECT = "connect", _("the property was connected")
        DISCONNECT = "disconnect", _("the property was disconnected")

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="exchanges")
    at = models.DateTimeField(_("time"), default=timezone.now)
    action = models.CharField(_("what"), max_length=13, choices=Action.choices)
    ok = models.BooleanField(_("successful"), default=True)
    code = models.CharField(max_length=50, blank=True, default="")
    detail = models.CharField(max_length=500, blank=True, default="", help_text="in Avito's words")
    params = models.JSONField(default=dict, help_text="numbers that fill the words")
    attempt = models.PositiveSmallIntegerField(default=1)
    latency_ms = models.PositiveIntegerField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("exchange with Avito")
        verbose_name_plural = _("exchanges with Avito")
        indexes = [models.Index(fields=["integration", "-id"], name="exchange_newest")]

    def __str__(self) -> str:
        return f"{self.action} {self.pk}"


class QuarantinedBooking(models.Model):
    """A row of Avito's answer that cannot be used: kept apart with its reason, read again with every answer."""

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="quarantine")
    avito_booking_id = models.BigIntegerField(null=True)
    fingerprint = models.CharField(max_length=64, help_text="of the row as Avito sent it")
    reason = models.CharField(max_length=50)
    raw = EncryptedTextField(help_text="as Avito sent it, the guest included")
    cipher_id = cipher_id()
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["integration", "fingerprint"], name="one_row_per_unreadable_booking")
        ]

    def __str__(self) -> str:
        return f"{self.reason} {self.pk}"
