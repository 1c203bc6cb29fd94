"""Which chats tell of a word, newest first and page by page, at any number of messages.

A word is looked for in three columns of two tables, and no index spans tables. For a rare word the trigram indexes
name all chats that have it, and these are ordered. A common word would be too many; but then the newest chats have it
too, so they are looked at one after the other until the page is full. PostgreSQL's own statistics say which it is.
"""

import json
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery

from chats.models import Chat, Message

LENGTH_MIN, LENGTH_MAX = 3, 200
RARE_MAX = 5_000
"""Rows that may be fetched for their order."""
CHATS_AT_ONCE, MESSAGES_AT_ONCE = 3_000, 50_000
"""What is looked through for one page of a common word. If that does not fill it, it is short, with a next one."""
# What pg_trgm can look up: three letters in a row, or where a word begins or ends. Without, it reads the whole index.
_TRIGRAM = re.compile(r"[^\W_]{3}|[^\W_]{2}[\W_]|[\W_][^\W_]")


def is_rare(term: str) -> bool:
    """Do few enough rows hold the word that all of them may be fetched? As the planner thinks."""
    return bool(_TRIGRAM.search(term)) and _estimate(term) <= RARE_MAX


def having(chats: QuerySet[Chat], term: str) -> QuerySet[Chat]:
    """The chats that tell of a rare word."""
    messages, names, titles = _holders(term)
    return chats.filter(pk__in=messages.union(names, titles))


def look_through(chats: QuerySet[Chat], term: str) -> QuerySet[Chat]:
    """The chats that tell of a common word, each looked at for itself: not more than `stretch` allows."""
    # Its LIMIT forbids PostgreSQL to fetch all messages with the word instead.
    said = Subquery(_said(term).filter(chat=OuterRef("pk")).order_by("-created_at", "-id").values("pk")[:1])
    return chats.alias(said=said).filter(
        Q(name__icontains=term) | Q(item_title__icontains=term) | Q(said__isnull=False)
    )


def stretch(sizes: Iterable[int]) -> int:
    """How many of the next chats are looked through, from the numbers of their messages: at least one.

    Of a large chat a part counts: a word that is common shows up before its end.
    """
    sums = accumulate(min(size, MESSAGES_AT_ONCE // 50) for size in sizes)
    return max(
        1, sum(1 for count, messages in enumerate(sums, 1) if count <= CHATS_AT_ONCE and messages <= MESSAGES_AT_ONCE)
    )


def _said(term: str) -> QuerySet[Message]:
    return Message.objects.filter(is_placeholder=False, text__icontains=term).exclude(type="deleted")


def _holders(term: str) -> tuple[QuerySet[Any, Any], ...]:
    chats = Chat.objects.values("pk")
    return _said(term).values("chat"), chats.filter(name__icontains=term), chats.filter(item_title__icontains=term)


def _estimate(term: str) -> int:
    messages, names, titles = _holders(term)
    plan = json.loads(messages.union(names, titles, all=True).explain(format="json"))
    return int(plan[0]["Plan"]["Plan Rows"])
