"""News for people, kept: what happened, who shall know, who has read it, and which troubles are still open."""

from notifications.kinds import register

__all__ = ["register"]
