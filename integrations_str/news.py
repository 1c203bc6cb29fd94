"""What owners are told: guests, conflicts, and connections in trouble. Never a guest's name or phone."""

from typing import Any

from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _

from avito_accounts.errors import WORDS
from integrations_str.models import Booking, Conflict, Integration, Property
from notifications import register
from notifications import services as notifications

TROUBLES: dict[str, Any] = {
    **WORDS,
    "token_expired": _("Token expired. Please reconnect."),
    "avito_forbidden": _("Avito refuses access to the item. Is it this account's, and may the application use it?"),
    "avito_not_found": _(
        "Avito no longer knows the item. Connect the property to another one, or bring it back at Avito."
    ),
    "avito_rejected": _("Avito rejects some nights: %(text)s. Change them, and they are sent again."),
    "consent_needed": _(
        "The first push waits for you: it would open nights that are closed at Avito, or bookings overlap."
    ),
    "closing_late": _(
        "Nights that are taken are still on sale at Avito. Close them there by hand until it works again."
    ),
    "import_late": _("Bookings could not be read for more than five minutes. They are tried again by themselves."),
    "worker_died": _("The worker stopped in the middle several times. Look into its log."),
}

register("booking_new", title=_("New booking from Avito: %(property)s"), detail=_("%(check_in)s – %(check_out)s"))
register(
    "booking_moved", title=_("A booking from Avito has changed: %(property)s"), detail=_("%(check_in)s – %(check_out)s")
)
register(
    "booking_gone",
    title=_("A booking from Avito was cancelled: %(property)s"),
    detail=_("%(check_in)s – %(check_out)s"),
)
register(
    "booking_back",
    title=_("A cancelled booking from Avito is valid again: %(property)s"),
    detail=_("%(check_in)s – %(check_out)s"),
)
register(
    "booking_unseen",
    title=_("Avito no longer shows a booking: %(property)s"),
    detail=_(
        "%(check_in)s – %(check_out)s. It is kept and its nights stay closed. Ask the guest; if it is off, cancel it."
    ),
)
register(
    "booking_strange",
    title=_("A booking from Avito has a state that is not known here: %(property)s"),
    detail=_("%(check_in)s – %(check_out)s, “%(status)s”. Its nights stay closed until you have looked at Avito."),
)
register(
    "booking_unreadable",
    title=_("A booking from Avito cannot be read: %(property)s"),
    detail=_("Look for it at Avito and close its nights by hand: here they may still be free."),
)
register(
    "conflict",
    title=_("Two bookings for the same nights: %(property)s"),
    detail=_("%(start)s – %(end)s. Cancel or move one of them; the conflict then ends by itself."),
)
register("conflict_solved", title=_("The conflict is over: %(property)s"), detail=_("%(start)s – %(end)s"))
register(
    "connection_fell",
    title=_("Avito calendar of %(property)s: trouble"),
    detail="%(reason)s",
    words={"reason": TROUBLES},
)
register(
    "connection_well",
    title=_("Avito calendar of %(property)s: works again"),
    detail=_("What has changed meanwhile is on its way."),
)


def booking_news(kind: str, booking: Booking, property: Property, *, level: notifications.Level = "info") -> None:
    """Something about one of Avito's bookings."""
    notifications.tell(
        kind,
        needs="",
        user=_owner(property),
        params={
            "property": property.name,
            "check_in": booking.check_in,
            "check_out": booking.check_out,
            "status": booking.raw_status,
        },
        path=f"/admin/integrations_str/booking/{booking.pk}/change/",
        level=level,
    )


def booking_unreadable(integration: Integration) -> None:
    notifications.tell("booking_unreadable", level="error", **_about(integration))


def in_conflict(conflict: Conflict, property: Property) -> None:
    notifications.raise_problem(
        f"conflict:{conflict.pk}", "conflict", level="error", **_about_conflict(conflict, property)
    )


def conflict_solved(conflict: Conflict, property: Property) -> None:
    notifications.solve_problem(f"conflict:{conflict.pk}", "conflict_solved", **_about_conflict(conflict, property))


def forget_conflict(conflict: Conflict) -> None:
    notifications.solve_problems([f"conflict:{conflict.pk}"])


def problem_key(integration_id: int) -> str:
    return f"str:{integration_id}"


def connection_fell(integration: Integration, code: str, text: str) -> None:
    about = _about(integration, reason=code, text=text or "—")
    notifications.raise_problem(problem_key(integration.pk), "connection_fell", level="error", **about)


def connection_well(integration: Integration) -> None:
    notifications.solve_problem(problem_key(integration.pk), "connection_well", **_about(integration))


def forget_connection(integration: Integration) -> None:
    notifications.solve_problems([problem_key(integration.pk)])


def _about(integration: Integration, **params: str) -> dict[str, Any]:
    return {
        "needs": "",
        "user": _owner(integration.property),
        "params": {"property": integration.property.name, **params},
        "path": f"/admin/integrations_str/integration/{integration.pk}/change/",
    }


def _about_conflict(conflict: Conflict, property: Property) -> dict[str, Any]:
    return {
        "needs": "",
        "user": _owner(property),
        "params": {"property": property.name, "start": conflict.start, "end": conflict.end},
        "path": f"/admin/integrations_str/conflict/{conflict.pk}/change/",
    }


def _owner(property: Property) -> User:
    owner = property.owner
    assert isinstance(owner, User)  # noqa: S101  the one user model
    return owner
