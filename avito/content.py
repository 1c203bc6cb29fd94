"""What stands in a message, for people."""

from collections.abc import Mapping
from typing import Any

_WORDS = {"link": ("text", "url"), "item": ("title",), "location": ("title", "text")}


def render_text(type: str, content: Mapping[str, Any]) -> str:
    """The words of a message of any type, or "" if it has none (pictures, voices, calls, deleted ones).

    A text is the text itself, a link its text or address, a listing its title, a place its title or address.
    Source: Avito API, Messenger, MessageContent.
    """
    part = content.get(type)
    candidates = [content.get("text")]
    if isinstance(part, Mapping):
        candidates += [part.get(key) for key in _WORDS.get(type, ())]
    return next((words for words in candidates if isinstance(words, str) and words), "")
