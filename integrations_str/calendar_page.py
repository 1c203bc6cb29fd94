"""A host's calendar: one page, which `static/integrations_str/calendar.js` fills by the API and the live events."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from api.roles import is_host, role_of
from avito.rent import MIN_STAY_MAX
from integrations_str.admin import may_enter, sees_all
from integrations_str.models import PRICE_MAX, Property


def has_use_for_it(request: HttpRequest) -> bool:
    """Who finds it in the sidebar: hosts, whoever owns a property, and admins."""
    user = request.user
    return is_host(user) or role_of(user) == "admin" or Property.objects.owned_by(user).exists()


def calendar(request: HttpRequest) -> HttpResponse:
    """For anyone of the staff: it shows the caller's own properties and nothing else."""
    context = {
        **admin.site.each_context(request),
        "title": _("Calendar"),
        "is_fullwidth": "1",
        "price_max": PRICE_MAX,
        "min_stay_max": MIN_STAY_MAX,
        "may_enter": may_enter(request),  # the pages of single properties, bookings and connections
        "has_others": sees_all(request) and Property.objects.exclude(owner=request.user.pk).exists(),
        "facts": {"words": words()},
    }
    return TemplateResponse(request, "integrations_str/calendar.html", context)


def _forms(counted: Callable[[int], str]) -> dict[str, str]:
    """A counted noun in the forms that `Intl.PluralRules` names."""
    return {"one": counted(1), "few": counted(2), "many": counted(5), "other": counted(5)}


def words() -> dict[str, Any]:
    """What the scripts say themselves; `%(name)s` is filled in there."""
    return {
        "nights": _forms(lambda n: ngettext("%(n)s night", "%(n)s nights", n)),
        "days": _forms(lambda n: ngettext("%(n)s day", "%(n)s days", n)),
        "guests": _forms(lambda n: ngettext("%(n)s guest", "%(n)s guests", n)),
        "waiting": _forms(lambda n: ngettext("%(n)s day waits to be sent", "%(n)s days wait to be sent", n)),
        "atAvito": _("%(price)s at Avito"),
        "minStay": _("min. %(n)s"),
        "minStayLong": _("minimum stay: %(nights)s"),
        "free": _("free"),
        "reasons": {
            "booking": _("booked"),
            "pending_booking": _("held, not paid yet"),
            "closed": _("closed by hand"),
            "past": _("past"),
        },
        "why": {
            "booking": _("A booking holds this night."),
            "pending_booking": _("A guest has booked and not paid yet. Until then the night is held."),
            "closed": _("You closed it by hand. Choose “Open” below to sell it again."),
            "past": _("This day is over."),
        },
        "closedShort": _("off sale"),
        "sync": {
            "synced": _("Avito knows"),
            "pending": _("on its way to Avito"),
            "failed": _("Avito refused it"),
            "off": _("not sent to Avito"),
        },
        "failedHint": _("Change the price or the minimum stay: then it is sent again."),
        "offNotConnected": _("The property is not connected to Avito."),
        "offPaused": _("The synchronisation is paused."),
        "offBeyond": _("Avito takes a year ahead; this day will be sent when its time comes."),
        "conflict": _("Two bookings for the same nights"),
        "conflictWhat": _("%(dates)s: %(who)s. Cancel or move one of them, and the conflict ends by itself."),
        "and": _(" and "),
        "statuses": {
            "syncing": _("being sent"),
            "ok": _("in agreement"),
            "error": _("trouble"),
            "needs_reconnect": _("reconnect Avito"),
            "item_unavailable": _("listing out of reach"),
            "off": _("paused"),
            "none": _("not connected"),
        },
        "remedies": {
            "syncing": _("What has changed is on its way. Nothing has to be done."),
            "ok": _("Avito has the prices and free nights as they stand here."),
            "error": _("It is tried again by itself. “Sync now” does not wait for that."),
            "needs_reconnect": _("Avito no longer lets us in. Give your consent once more; nothing is lost meanwhile."),
            "item_unavailable": _("Look at the listing at Avito, or connect the property to another one."),
            "off": _("Nothing is sent and no bookings are read until you resume it. Changes are kept."),
        },
        "none": _("never"),
        "moscow": _("%(time)s Moscow time"),
        "pause": _("Pause"),
        "resume": _("Resume"),
        "pauseSure": _("While it is paused, bookings from Avito do not appear here and nights stay as they are there."),
        "syncAsked": _("Avito will be asked in a moment."),
        "paused": _("The synchronisation is paused."),
        "resumed": _("The synchronisation goes on."),
        "allowed": _("Allowed: the first push is on its way."),
        "sources": {"manual": _("by hand"), "avito": _("Avito")},
        "bookingStatuses": {
            "pending": _("not paid yet"),
            "confirmed": _("confirmed"),
            "cancelled": _("cancelled"),
        },
        "noGuest": _("No name"),
        "cancelSure": _("Cancel this booking? Its nights become free. This cannot be undone."),
        "cancelled": _("The booking is cancelled."),
        "booked": _("The booking is written down."),
        "saved": _("Saved."),
        "savedAndSent": _("Saved. Avito will have it in a few seconds."),
        "nothingToSave": _("Enter what shall change."),
        "now": _("now %(value)s"),
        "nowMixed": _("now %(least)s to %(most)s"),
        "usual": _("as usual: %(value)s"),
        "willBe": _("At Avito it will be %(price)s, with the markup."),
        "heldStay": _("Nights that bookings hold stay closed."),
        "onlyPast": _("Days that are over cannot be changed."),
        "taken": _("These nights are taken (%(who)s). Choose other dates, or cancel that booking first."),
        "takenBySomebody": _("These nights are already taken. Choose other dates."),
        "suggested": _("by the calendar %(price)s"),
        "previewNothing": _("Nothing: Avito already has everything."),
        "previewPrice": _("%(price)s, from %(nights)s"),
        "previewBase": _("Usual price: %(price)s"),
        "previewCloses": _("All nights of the year will be closed."),
        "previewFree": _("Free nights"),
        "previewOpens": _("These nights are closed at Avito now and would open:"),
        "labels": {
            "corner": _("Properties"),
            "sync": _("Sync now"),
            "months": _("Show by months"),
            "preview": _("What would be sent"),
            "connect": _("Connect to Avito"),
            "newBooking": _("New booking"),
            "connection": _("Connection to Avito"),
            "help": _("How it works"),
            "dates": _("Dates"),
            "price": _("Price of the stay"),
            "state": _("State"),
            "source": _("Source"),
            "phone": _("Phone"),
            "mail": _("E-mail"),
            "guests": _("Guests"),
            "item": _("Item at Avito"),
            "markup": _("Markup"),
            "pending": _("Days to be sent"),
            "pushed": _("Last push"),
            "pulled": _("Bookings last read"),
        },
        "signedOut": _("You are signed out. Sign in again in another tab, then repeat: nothing is lost."),
        "noConnection": _("There is no connection to the service. Try again once it is back."),
        "broken": _("Something went wrong (%(status)s). What you typed is kept: try again in a moment."),
        "loadFailed": _("The days could not be loaded."),
        "noSuchProperty": _("There is no such property among yours."),
        "pageOf": _("%(first)s–%(last)s of %(count)s"),
        "today": _("today"),
    }
