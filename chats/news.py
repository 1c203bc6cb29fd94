"""What people are told about deliveries that nobody can use."""

from django.utils.translation import gettext_lazy as _

from notifications import register
from notifications import services as notifications

KEY = "webhooks:dead"
PATH = "/admin/chats/webhookevent/?status__exact=dead"

register(
    "webhooks_dead",
    title=_("A delivery from Avito cannot be used"),
    detail=_("It is kept with its reason. Once that is mended, process it again: nothing is doubled by it."),
)
register("webhooks_fine", title=_("All deliveries from Avito could be used"), detail=_("Nothing is left to do."))


def events_died() -> None:
    """Told once, until none is dead any more."""
    notifications.raise_problem(KEY, "webhooks_dead", needs="accounts.manage", path=PATH, level="warning")


def no_event_is_dead() -> None:
    notifications.solve_problem(KEY, "webhooks_fine", needs="accounts.manage", path=PATH)
