"""What goes wrong at Avito, in the words of a host: what it means here, what to do, and which step repairs it."""

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy

from integrations_str.api.connection import ITEM_TAKEN

AUTHORIZE, ACCOUNT, ITEM, MARKUP = 1, 2, 3, 4


@dataclass(frozen=True)
class Trouble:
    """What went wrong, what to do about it, and the step that repairs it if it is another one."""

    what: Any
    remedy: Any = ""
    step: int = 0


AGAIN = gettext_lazy("Nothing was changed. Try again in a minute.")
ASK_ADMIN = gettext_lazy("Ask the administrator of this service.")
REMEDIES: dict[str, tuple[Any, Any, int]] = {
    "item_already_connected": (
        ITEM_TAKEN,
        gettext_lazy("Another property is connected to this listing. Check the number, or disconnect it there first."),
        0,
    ),
    "avito_not_found": (
        gettext_lazy("Avito knows no listing with this ID."),
        gettext_lazy("Compare the number with the listing's address; a new listing has it once it is published."),
        0,
    ),
    "avito_forbidden": (
        gettext_lazy("Avito gives no access to this listing."),
        gettext_lazy("It is another profile's, or not open for short-term rent. Choose the account it belongs to."),
        ACCOUNT,
    ),
    "no_rights": (
        gettext_lazy("The access lacks the rights for short-term rent."),
        gettext_lazy("Give access once more, and allow everything that is asked for."),
        AUTHORIZE,
    ),
    "reconnect_required": (
        gettext_lazy("The access to this account has ended."),
        gettext_lazy("Give access once more: what you have chosen is kept."),
        AUTHORIZE,
    ),
    "account_not_authorized": (
        gettext_lazy("This account is not connected to Avito."),
        gettext_lazy("Give access once more: what you have chosen is kept."),
        AUTHORIZE,
    ),
    "proxy_failed": (
        "",
        gettext_lazy("The listing was not asked for: this account goes to Avito through its proxy alone."),
        0,
    ),
    "missing_avito_secrets": ("", ASK_ADMIN, 0),
    "secrets_unreadable": ("", ASK_ADMIN, 0),
    "avito_rejected": (gettext_lazy("Avito rejects it: %(text)s"), gettext_lazy("Correct it and try again."), 0),
    "avito_subscription_required": (
        gettext_lazy("Avito asks for a paid plan: %(text)s"),
        gettext_lazy("Look into the plan of this profile at Avito, then try again."),
        0,
    ),
}
"""What each failure means here: its words (empty: the usual ones), what to do, and the step that repairs it."""

CONSENT_REMEDIES = {
    "invalid_state": gettext_lazy(
        "Nothing was changed. Press the button below and finish in this browser within ten minutes."
    ),
    "access_denied": gettext_lazy("Without it neither bookings can be read nor prices sent. You can give it any time."),
    "missing_code": gettext_lazy("Nothing was changed. Press the button below once more."),
    "exchange_failed": gettext_lazy(
        "A code works once: this happens when a page is loaded twice, or when Avito is not well."
        " If it happens again, ask the administrator to check the keys of the application."
    ),
    "account_mismatch": gettext_lazy("Sign in at Avito with the profile that this property is connected through."),
    "user_id_taken": gettext_lazy("Use that account instead, or sign in at Avito with another profile."),
}
