"""News for people, who has read it, the troubles that are still open, and what listeners hear as it happens."""

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from api.roles import permissions_of
from notifications import kinds

Person = AbstractBaseUser | AnonymousUser


class NotificationQuerySet(models.QuerySet["Notification"]):
    def visible_to(self, user: Person) -> "NotificationQuerySet":
        """What the person may see: by the role's permissions, or because it is for this person."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(Q(needs__in=permissions_of(user)) | Q(user_id=user.pk or 0))

    def unread_by(self, user: Person) -> "NotificationQuerySet":
        return self.filter(~_read_by(user))

    def saying_if_read_by(self, user: Person) -> "NotificationQuerySet":
        """Each row says `is_read`."""
        return self.annotate(is_read=_read_by(user))

    def saying_if_open(self) -> "NotificationQuerySet":
        """Each row says `is_open`: it told of a trouble that is not solved yet."""
        return self.annotate(is_open=_problem_open())

    def settled(self) -> "NotificationQuerySet":
        """All but those that told of a trouble that is not solved yet."""
        return self.filter(~_problem_open())


class Notification(models.Model):
    """One piece of news: a code and what fills its words, for the holders of a permission or for one person."""

    class Level(models.TextChoices):
        INFO = "info", _("news")
        WARNING = "warning", _("warning")
        ERROR = "error", _("error")

    kind = models.CharField(_("kind"), max_length=50, help_text="whose words `notifications.kinds` knows")
    level = models.CharField(_("importance"), max_length=7, choices=Level.choices, default=Level.INFO)
    params = models.JSONField(default=dict, help_text="what the words are filled with; never a secret")
    path = models.CharField(max_length=500, blank=True, default="", help_text="where in the back office to look")
    needs = models.CharField(
        max_length=50, blank=True, default="", help_text="the permission whose holders see it; empty: only `user`"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="notifications"
    )
    created_at = models.DateTimeField(_("time"), default=timezone.now)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        constraints = [
            models.CheckConstraint(condition=~Q(needs="") | Q(user__isnull=False), name="notification_is_for_somebody")
        ]
        indexes = [models.Index(fields=["-created_at", "-id"], name="notification_newest")]

    def __str__(self) -> str:
        return self.title

    @property
    def title(self) -> str:
        """In the reader's language, as `detail`."""
        return kinds.title_of(self.kind, self.params)

    @property
    def detail(self) -> str:
        return kinds.detail_of(self.kind, self.params)


class Reading(models.Model):
    """A person has read a piece of news. Rows are written by `services.mark_read` with SQL of its own."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="readings")
    read_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "notification"], name="one_reading_per_person")]

    def __str__(self) -> str:
        return f"{self.notification_id} by {self.user_id}"


class Problem(models.Model):
    """A trouble that is told of once while it lasts, and once when it is over; of one key, one is open at a time."""

    key = models.CharField(max_length=200, help_text='what is in trouble, such as "proxy:5"')
    notification = models.ForeignKey(
        Notification,
        on_delete=models.CASCADE,
        null=True,  # only between the two inserts of one transaction
        related_name="problems",
        help_text="what people were told when it began",
    )
    since = models.DateTimeField()
    solved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key"], condition=Q(solved_at=None), name="one_open_problem_per_key")
        ]

    def __str__(self) -> str:
        return self.key


class Event(models.Model):
    """Something has changed: a line of the stream of live events. Kept for two hours; see `notifications.events`."""

    position = models.BigIntegerField(
        null=True, unique=True, help_text="its id outside, given after the commit; grows as events become visible"
    )
    type = models.CharField(max_length=30, help_text='such as "chat.created"')
    object_id = models.BigIntegerField()
    needs = models.CharField(max_length=50, blank=True, default="", help_text="the permission whose holders hear it")
    user_id = models.BigIntegerField(null=True, help_text="who else hears it; no foreign key, as it lives for hours")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(position=None), name="event_unplaced")]

    def __str__(self) -> str:
        return f"{self.type} {self.object_id}"


class Ticket(models.Model):
    """Opens one stream, once and soon. Only its hash is kept."""

    digest = models.BinaryField(max_length=32, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    until = models.FloatField(null=True, help_text="Unix time at which the token expires that it was asked for with")
    session_key = models.CharField(max_length=40, blank=True, default="", help_text="the session it was asked for in")
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"ticket {self.pk}"


def _read_by(user: Person) -> Exists:
    return Exists(Reading.objects.filter(notification=OuterRef("pk"), user_id=user.pk or 0))


def _problem_open() -> Exists:
    return Exists(Problem.objects.filter(notification=OuterRef("pk"), solved_at=None))
