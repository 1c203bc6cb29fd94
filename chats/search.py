"""Which chats tell of a word, newest first and page by page, at any number of messages.

A word is looked for in three columns of two tables, and no index spans tables. For a rare word the trigram indexes
name all chats that have it, and these are ordered. A common word would be too many; but then the newest chats have it
too, so they are looked at one after the other until the page is full. PostgreSQL's own statistics say which it is.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery

from chats.models import Chat, Message

LENGTH_MIN, LENGTH_MAX = 3, 200
RARE_MAX = 5_000
"""Rows of a table that may be fetched for their order."""
CHATS_AT_ONCE = 2_000
"""Chats that are looked at for one page of a common word. If they do not fill it, it is short, with a next one."""
# What pg_trgm can look up: three letters in a row, or where a word begins or ends. Without, it reads the whole index.
_TRIGRAM = re.compile(r"[^\W_]{3}|[^\W_]{2}[\W_]|[\W_][^\W_]")


@dataclass(frozen=True)
class Words:
    """What is looked for, and in which tables few enough rows have it."""

    term: str
    rare_in_messages: bool
    rare_in_chats: bool

    @property
    def are_rare(self) -> bool:
        return self.rare_in_messages and self.rare_in_chats

    def among(self, chats: QuerySet[Chat]) -> QuerySet[Chat]:
        """The chats that tell of it. If it is not rare, each is looked at by itself: bound them before."""
        if self.are_rare:
            messages, names, titles = _holders(self.term)
            return chats.filter(pk__in=messages.union(names, titles))
        said = Q(pk__in=_said(self.term).values("chat"))
        if not self.rare_in_messages:
            # Its LIMIT forbids PostgreSQL to fetch all messages with the word instead.
            newest = _said(self.term).filter(chat=OuterRef("pk")).order_by("-created_at", "-id")
            chats, said = chats.alias(said=Subquery(newest.values("pk")[:1])), Q(said__isnull=False)
        return chats.filter(Q(name__icontains=self.term) | Q(item_title__icontains=self.term) | said)


def words(term: str) -> Words:
    """Ask PostgreSQL how common it thinks that `term` is."""
    if not _TRIGRAM.search(term):
        return Words(term, rare_in_messages=False, rare_in_chats=False)
    messages, names, titles = _holders(term)
    plan = json.loads(messages.union(names, titles, all=True).explain(format="json"))[0]["Plan"]
    rows = _rows_by_table(plan)
    return Words(term, rows[Message._meta.db_table] <= RARE_MAX, rows[Chat._meta.db_table] <= RARE_MAX)


def _said(term: str) -> QuerySet[Message]:
    return Message.objects.filter(is_placeholder=False, text__icontains=term).exclude(type="deleted")


def _holders(term: str) -> tuple[QuerySet[Any, Any], ...]:
    chats = Chat.objects.values("pk")
    return _said(term).values("chat"), chats.filter(name__icontains=term), chats.filter(item_title__icontains=term)


def _rows_by_table(plan: dict[str, Any]) -> dict[str, int]:
    """The most rows that a scan of each table is expected to find. Parallel workers share the rows of one scan."""
    name, rows = plan.get("Relation Name"), plan["Plan Rows"] * (3 if plan["Parallel Aware"] else 1)
    found = {name: rows} if name else {}
    for child in plan.get("Plans", ()):
        for table, count in _rows_by_table(child).items():
            found[table] = max(found.get(table, 0), count)
    return found
