from django.db import models


class Heartbeat(models.Model):
    """When a kind of process was last seen alive, by the database's own clock.

    In PostgreSQL and not in Redis, so that a silent Redis does not make living workers look dead.
    """

    name = models.CharField(max_length=20, primary_key=True)
    beat_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
