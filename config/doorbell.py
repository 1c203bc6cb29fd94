"""The class of our tasks: a doorbell that may stay unheard, since the row behind it is found by a sweep."""

from functools import partial
from typing import Any

import structlog
from celery.contrib.django.task import DjangoTask
from django.db import transaction

log = structlog.get_logger(__name__)


class Doorbell(DjangoTask):  # type: ignore[misc]  # Celery ships no types for it
    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Ring after the commit. A broker that is away fails neither the commit nor the caller."""
        transaction.on_commit(partial(self._ring, args, kwargs))

    def _ring(self, args: Any, kwargs: Any) -> None:
        try:
            self.apply_async(args, kwargs, retry=False)
        except Exception as error:  # each transport of kombu's raises errors of its own
            log.warning("doorbell_unheard", task=self.name, error=type(error).__name__)
