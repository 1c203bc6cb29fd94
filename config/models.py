"""What the installation remembers of itself: which processes live, and how its own work went."""

from datetime import timedelta

from django.db import models
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now

HEARTBEAT_MAX_AGE_SECONDS = 30
IS_ALIVE = Q(beat_at__gt=Now() - timedelta(seconds=HEARTBEAT_MAX_AGE_SECONDS))


class ProcessQuerySet(models.QuerySet["Process"]):
    def alive(self) -> "ProcessQuerySet":
        return self.filter(IS_ALIVE)

    def saying_if_alive(self) -> "ProcessQuerySet":
        """Each row says `is_alive`."""
        return self.annotate(is_alive=ExpressionWrapper(IS_ALIVE, output_field=BooleanField()))


class Process(models.Model):
    """A worker or a beat, and when it was last seen alive, by the database's own clock.

    In PostgreSQL and not in Redis, so that a silent Redis does not make living workers look dead. One that ends in
    order takes its row with it. Written by `config.celery`.
    """

    class Kind(models.TextChoices):
        WORKER = "worker", "worker"
        BEAT = "beat", "beat"

    kind = models.CharField(max_length=20, choices=Kind.choices)
    host = models.CharField(max_length=255)
    pid = models.PositiveBigIntegerField()
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()

    objects = ProcessQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "host", "pid"], name="one_row_per_process")]

    def __str__(self) -> str:
        return f"{self.kind} {self.host}:{self.pid}"


class Routine(models.Model):
    """What the service does by itself, by the path of its function: when a worker last did it, and when it last failed.

    One row for all workers and lanes; whoever began last is the one it tells of. Written by `config.routines`.
    """

    name = models.CharField(max_length=200, primary_key=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, help_text="of the last run that has ended")
    seconds = models.FloatField(null=True, help_text="that it took")
    failed_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True, default="", help_text="class and place; no message, no secret")

    def __str__(self) -> str:
        return self.name

    @property
    def is_failing(self) -> bool:
        """Did the last run that has ended fail?"""
        return self.failed_at is not None and (self.ended_at is None or self.failed_at >= self.ended_at)

    @property
    def is_open(self) -> bool:
        """Has a run begun that has not ended?"""
        return self.ended_at is None or self.started_at > self.ended_at
