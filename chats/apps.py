from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.db import connections
from django.utils.translation import gettext_lazy as _


class ChatsConfig(AppConfig):
    name = "chats"
    verbose_name = _("Chats")

    def ready(self) -> None:
        checks.register(trigrams_of_russian, checks.Tags.database)


def trigrams_of_russian(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[checks.CheckMessage]:
    """Does the search index see Russian letters? In a database with LC_CTYPE C it does not, and search reads all."""
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
            if not cursor.fetchone():
                continue
            cursor.execute("SELECT cardinality(show_trgm('я'))")
            if not cursor.fetchone()[0]:
                hint = "Make the database with LC_CTYPE C.UTF-8 (initdb --lc-ctype=C.UTF-8), dump and restore."
                found.append(checks.Warning("Search in Russian is slow: LC_CTYPE is C.", hint=hint, id="chats.W001"))
    return found
