"""The page on which a property is connected to Avito, in four steps, and on which its connection is looked after.

Rendered here, one form a step; what was chosen is kept in the session for an hour. `connect.js` adds comfort alone.
"""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

import avito
from api.roles import permissions_of
from avito.rent import YEAR_DAYS
from avito_accounts import errors, oauth, tokens
from avito_accounts import views as oauth_views
from avito_accounts.errors import AccountUnusable, MissingAvitoSecrets
from avito_accounts.models import BIGINT_MAX, Account, Authorization
from integrations_str import calendar, connecting, health, queue
from integrations_str.api.connection import ITEM_TAKEN
from integrations_str.models import MARKUP_MAX, MARKUP_MIN, Booking, Conflict, Integration, Property
from integrations_str.state import books_of, first_day, state_of

KEPT_SECONDS = 3600
SESSION_KEY = "str_connect"
NIGHTS_SHOWN = 14
RENT_SCOPES = {"short_term_rent:read", "short_term_rent:write"}
AUTHORIZE, ACCOUNT, ITEM, MARKUP = 1, 2, 3, 4
STEPS = {
    AUTHORIZE: gettext_lazy("Access"),
    ACCOUNT: gettext_lazy("Profile"),
    ITEM: gettext_lazy("Listing"),
    MARKUP: gettext_lazy("Prices"),
}


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

# How the connection fares; of the troubles, the one that is a question stands by itself.
TONES = {
    "ok": ("good", gettext_lazy("In agreement with Avito")),
    "syncing": ("busy", gettext_lazy("Being synchronised")),
    "error": ("bad", gettext_lazy("Trouble")),
    "consent_needed": ("warn", gettext_lazy("Waits for your consent")),
    "needs_reconnect": ("bad", gettext_lazy("Needs reconnecting")),
    "item_unavailable": ("bad", gettext_lazy("The listing is out of reach")),
    "off": ("quiet", gettext_lazy("Paused")),
}
WELL = {
    "ok": gettext_lazy("Prices, minimum stays and free nights are at Avito as they are here."),
    "syncing": gettext_lazy("What has changed is on its way to Avito. That takes seconds."),
    "off": gettext_lazy("Nothing is sent and no bookings are read until you go on. What you change meanwhile is kept."),
}
WHAT_TO_DO = {
    "token_expired": gettext_lazy("Press “Reconnect” and agree at Avito. What has changed meanwhile then goes out."),
    "avito_forbidden": gettext_lazy("Look at Avito whose listing it is, then press “Synchronise now”."),
    "avito_not_found": gettext_lazy("Publish it again at Avito, or disconnect here and connect another listing."),
    "avito_rejected": gettext_lazy("Open the calendar and change these nights."),
    "consent_needed": gettext_lazy("Look through the nights below and agree, or change them in the calendar."),
    "closing_late": gettext_lazy("The cause may be at Avito. “Synchronise now” tries at once."),
    "worker_died": gettext_lazy("Ask the administrator of this service."),
}
IT_GOES_ON = gettext_lazy("It is tried again by itself. “Synchronise now” tries at once.")
REASONS = {
    "booking": gettext_lazy("booked"),
    "pending_booking": gettext_lazy("booked, not paid yet"),
    "closed": gettext_lazy("closed by you"),
}
RIGHTS = {
    "short_term_rent:read": gettext_lazy("Read the bookings of your listings, so that taken nights close everywhere."),
    "short_term_rent:write": gettext_lazy("Send prices, minimum stays and free nights, so that you edit them once."),
    "user:read": gettext_lazy("See the name and number of the profile, to know whose access it is."),
}
OTHER_RIGHTS = gettext_lazy("Messages, listings and figures of the profile, for the other parts of this service.")


def connect(request: HttpRequest, property_id: int) -> HttpResponse:
    """The page of one property of the reader's own; another's is as unknown as one that does not exist."""
    property = get_object_or_404(Property.objects.owned_by(request.user), pk=property_id)
    integration = Integration.objects.connected().in_full().filter(property=property).first()
    page = _Steps(request, property) if integration is None else _Connection(request, property, integration)
    return page.answer()


class _Page(ABC):
    template: str
    deeds: dict[str, Callable[[Any], HttpResponse | None]]
    """What the buttons do: by the name in `do`; None shows the page again, with its trouble."""

    def __init__(self, request: HttpRequest, property: Property) -> None:
        assert isinstance(request.user, User)  # noqa: S101  staff
        self.request, self.property, self.user = request, property, request.user
        self.trouble: Trouble | None = None

    def answer(self) -> HttpResponse:
        if self.request.method == "POST":
            deed = self.deeds.get(self.request.POST.get("do", ""))
            if deed is None:
                return self.to()  # a button of a page that is no longer there
            return deed(self) or self.show()
        if "oauth" in self.request.GET and (there := self.returned()):
            return there
        return self.show()

    @abstractmethod
    def show(self) -> HttpResponse:
        """The page as it is now."""

    @abstractmethod
    def welcome(self, account: Account) -> HttpResponse:
        """Consent was given a moment ago."""

    def returned(self) -> HttpResponse | None:
        """Back from Avito. The same answer a second time is no failure: the first one has counted."""
        code = "" if self.request.GET["oauth"] == "success" else self.request.GET.get("code", "")
        since = timezone.now() - timedelta(seconds=oauth.STATE_SECONDS)
        account = connecting.consented_account(self.property, self.user, since=since)
        if code in ("", "invalid_state") and account:
            return self.welcome(account)
        if not code:
            return self.to()
        self.trouble = Trouble(
            oauth_views.MESSAGES.get(code, oauth_views.MESSAGES["invalid_state"]),
            CONSENT_REMEDIES.get(code, CONSENT_REMEDIES["invalid_state"]),
        )
        return None

    def authorize(self, account: Account | None = None) -> HttpResponse | None:
        """Off to Avito's page."""
        try:
            tokens.application_keys()
        except MissingAvitoSecrets as error:
            self.trouble = self.trouble_of(error)
            return None
        purpose = connecting.PURPOSE_WIZARD
        return HttpResponseRedirect(
            connecting.authorize_link(self.property, self.user, account=account, purpose=purpose)
        )

    def trouble_of(self, error: Exception, account: Account | None = None) -> Trouble:
        code = "item_already_connected" if isinstance(error, connecting.ItemTaken) else errors.code_of(error)
        if code == "avito_forbidden" and account and _lacks_rights(account):
            code = "no_rights"
        what, remedy, step = REMEDIES.get(code, ("", AGAIN, 0))
        text = errors.text_of(error)
        if code == "proxy_failed" and "accounts.manage" not in permissions_of(self.user):
            remedy = f"{remedy} {ASK_ADMIN}"
        return Trouble(str(what) % {"text": text or "—"} if what else errors.words(code, text), remedy, step)

    def to(self, **query: Any) -> HttpResponse:
        path = reverse("str_connect", args=[self.property.pk])
        return HttpResponseRedirect(f"{path}?{urlencode(query)}" if query else path)

    def render(self, **context: Any) -> HttpResponse:
        common = {
            **admin.site.each_context(self.request),
            "title": _("Avito: %(property)s") % {"property": self.property.name},
            "property": self.property,
            "trouble": self.trouble,
            "calendar": "/admin/calendar/",
            "has_application": bool(settings.AVITO_OAUTH_CLIENT_ID and settings.AVITO_OAUTH_CLIENT_SECRET),
            "callback": settings.AVITO_OAUTH_REDIRECT_URI,
            "markup_min": MARKUP_MIN,
            "markup_max": MARKUP_MAX,
        }
        return TemplateResponse(self.request, self.template, {**common, **context})

    def markup(self, usual: Decimal) -> tuple[Decimal, str, list[str]]:
        """The markup that was typed, as it was typed, and what is wrong with it; then the usual one counts."""
        values = self.request.POST if self.request.method == "POST" else self.request.GET
        typed = values.get("markup", "").strip() or f"{usual.normalize():f}"
        try:
            return markup_of(typed), typed, []
        except ValidationError as error:
            return usual, typed, error.messages


def markup_of(text: str) -> Decimal:
    """Per cent, as people type them. Raises ValidationError."""
    plain = text.replace(",", ".").replace("\N{MINUS SIGN}", "-").replace("%", "").strip()
    known = forms.DecimalField(min_value=MARKUP_MIN, max_value=MARKUP_MAX, max_digits=5, decimal_places=2)
    value: Decimal = known.clean(plain)
    return value


def item_of(text: str) -> int:
    """The listing's number in what was typed or pasted: the last one of an address. Raises ValidationError."""
    address = re.search(r"(?:https?://|\b[\w.-]+\.ru/)\S*", text)
    if address:
        parts = urlsplit(address[0] if "://" in address[0] else f"https://{address[0]}")
        if not re.search(r"(?:^|\.)avito\.ru$", parts.hostname or ""):
            raise ValidationError(_("This is no address at avito.ru. Open the listing at Avito and copy its address."))
        numbers = re.findall(r"\d+", parts.path)
        if not numbers:
            raise ValidationError(_("There is no number in this address. Open the listing itself, not a list."))
        digits = numbers[-1]
    else:
        digits = re.sub(r"[\s№#]|ID:?", "", text, flags=re.IGNORECASE)
    if not re.fullmatch(r"[0-9]{1,19}", digits) or not 1 <= int(digits) <= BIGINT_MAX:
        raise ValidationError(_("Enter the listing's number, such as 1234567890, or paste its address."))
    return int(digits)


def _lacks_rights(account: Account) -> bool:
    stored = Authorization.objects.filter(account=account, kind=Authorization.Kind.OAUTH).first()
    return stored is not None and bool(stored.scopes) and not set(stored.scopes) >= RENT_SCOPES


# The way to a connection


@dataclass
class Draft:
    """What was chosen so far. `step`: the furthest that is open; `outlook`: what the check of the item has found."""

    step: int = AUTHORIZE
    account: int = 0
    item: int = 0
    markup: str = ""
    outlook: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0

    @classmethod
    def of(cls, request: HttpRequest, property: Property) -> "Draft":
        kept = request.session.get(SESSION_KEY, {}).get(str(property.pk), {})
        if time.time() - kept.get("at", 0) > KEPT_SECONDS:
            return cls()
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in kept.items() if name in known})

    def keep(self, request: HttpRequest, property: Property) -> None:
        self.at = time.time()
        living = self._others(request, property)
        request.session[SESSION_KEY] = {**living, str(property.pk): asdict(self)}

    @classmethod
    def forget(cls, request: HttpRequest, property: Property) -> None:
        request.session[SESSION_KEY] = cls._others(request, property)

    @staticmethod
    def _others(request: HttpRequest, property: Property) -> dict[str, Any]:
        rows: dict[str, Any] = request.session.get(SESSION_KEY, {})
        since = time.time() - KEPT_SECONDS
        return {key: row for key, row in rows.items() if key != str(property.pk) and row.get("at", 0) > since}


class _Steps(_Page):
    """A property that is not connected."""

    template = "integrations_str/connect.html"

    def __init__(self, request: HttpRequest, property: Property) -> None:
        super().__init__(request, property)
        self.draft = Draft.of(request, property)
        self.accounts = list(connecting.usable_accounts(self.user).select_related("authorization", "proxy"))
        self.account = next((one for one in self.accounts if one.pk == self.draft.account), None)
        self.typed = ""
        if not self.accounts:
            self.draft.step = AUTHORIZE
        elif self.account is None:  # not chosen yet, or no longer theirs
            self.draft.step = min(self.draft.step, ACCOUNT)
        if not self.draft.item:
            self.draft.step = min(self.draft.step, ITEM)
        self.step = self.draft.step

    def show(self) -> HttpResponse:
        asked = self.request.GET.get("step", "")
        if self.request.method == "GET" and not self.trouble and asked in map(str, STEPS):
            self.step = min(int(asked), self.draft.step)
        if self.trouble and "oauth" in self.request.GET:
            self.step = AUTHORIZE
        steps = [
            {"number": number, "name": name, "is_open": number <= self.draft.step} for number, name in STEPS.items()
        ]
        context = {
            "step": self.step,
            "step_name": STEPS[self.step],
            "steps": steps,
            "repair": STEPS.get(self.trouble.step) if self.trouble and self.trouble.step != self.step else "",
        }
        return self.render(**context, **self.of_step())

    def of_step(self) -> dict[str, Any]:
        match self.step:
            case 1:
                asked = settings.AVITO_OAUTH_SCOPES
                rights = [words for scope, words in RIGHTS.items() if scope in asked]
                return {
                    "rights": [*rights, OTHER_RIGHTS] if set(asked) - set(RIGHTS) else rights,
                    "has_accounts": bool(self.accounts),
                }
            case 2:
                chosen = self.draft.account or self.accounts[0].pk
                rows = [(one, one.pk == chosen, _is_dead(one)) for one in self.accounts]
                return {"accounts": rows}
            case 3:
                return {"account": self.account, "item": self.typed or self.draft.item or ""}
        markup, typed, wrong = self.markup(Decimal(self.draft.markup or 15))
        booked = {day for both in _spans(self.draft.outlook.get("booked", [])) for day in calendar.span(*both)}
        return {
            "account": self.account,
            "item": self.draft.item,
            "typed_markup": typed,
            "wrong_markup": wrong,
            "preview": preview_of(self.property, markup, booked),
            "outlook": self.draft.outlook,
            "opens": shown_spans(_spans(self.draft.outlook.get("opens", []))),
            "overlaps": shown_spans(_spans(self.draft.outlook.get("overlaps", []))),
        }

    def welcome(self, account: Account) -> HttpResponse:
        if self.draft.account != account.pk:
            self.draft.outlook, self.draft.account = {}, account.pk
            self.draft.step = ACCOUNT
        messages.success(self.request, _("Avito has given access to “%(account)s”.") % {"account": account.name})
        return self._on(max(ACCOUNT, self.draft.step))

    def use(self) -> HttpResponse | None:
        """There is access already."""
        return self._on(max(ACCOUNT, self.draft.step), shown=ACCOUNT) if self.accounts else None

    def choose(self) -> HttpResponse | None:
        chosen = next((one for one in self.accounts if str(one.pk) == self.request.POST.get("account")), None)
        if chosen is None:
            self.step = ACCOUNT
            self.trouble = Trouble(_("Choose one of the accounts that you may use."))
            return None
        if chosen.pk != self.draft.account:
            self.draft.account, self.draft.step = chosen.pk, ITEM
        return self._on(max(ITEM, self.draft.step), shown=ITEM)

    def check(self) -> HttpResponse | None:
        """Is it a listing of this account, and free? What is booked there is looked at as well."""
        if self.account is None:
            return self.to()
        self.step, self.typed = ITEM, self.request.POST.get("item", "").strip()[:2000]
        try:
            item = item_of(self.typed)
            connecting.check_item(self.property, self.account, item)
            outlook = connecting.look_ahead(self.property, self.account, item)
        except ValidationError as error:
            self.trouble = Trouble(error.messages[0])
        except (connecting.ItemTaken, avito.AvitoError, AccountUnusable) as error:
            self.trouble = self.trouble_of(error, self.account)
        else:
            self.draft.item, self.draft.outlook = item, _kept(outlook)
            return self._on(MARKUP)
        return None

    def recalculate(self) -> HttpResponse | None:
        """Prices under another markup, for browsers without scripts."""
        self.step = self.draft.step
        return None

    def finish(self) -> HttpResponse | None:
        """Connect; what happens then is on the page of the connection."""
        if self.account is None or self.draft.step < MARKUP:
            return self.to()
        self.step = MARKUP
        markup, typed, wrong = self.markup(Decimal(15))
        if wrong:
            self.trouble = Trouble(wrong[0])
            return None
        self.draft.markup = typed and f"{markup:f}"
        self.draft.keep(self.request, self.property)
        consents = bool(self.request.POST.get("consents"))
        try:
            connecting.connect(
                self.property, self.account, item_id=self.draft.item, markup_percent=markup, consents=consents
            )
        except connecting.PropertyConnected:
            return self.to()
        except (connecting.ItemTaken, avito.AvitoError, AccountUnusable) as error:
            self.trouble = self.trouble_of(error, self.account)
            if isinstance(error, connecting.ItemTaken | avito.NotFound | avito.Forbidden):
                self.step = ITEM
            return None
        Draft.forget(self.request, self.property)
        return self.to(new=1)

    def _on(self, step: int, *, shown: int = 0) -> HttpResponse:
        self.draft.step = step
        self.draft.keep(self.request, self.property)
        return self.to(step=shown) if shown and shown != step else self.to()

    deeds = {
        "authorize": _Page.authorize,
        "use": use,
        "account": choose,
        "item": check,
        "preview": recalculate,
        "connect": finish,
    }


def _is_dead(account: Account) -> bool:
    return not health.may_be_asked(account)


def _kept(outlook: connecting.Outlook) -> dict[str, Any]:
    """For the session: numbers and days."""
    return {
        name: [[start.isoformat(), end.isoformat()] for start, end in value] if isinstance(value, list) else value
        for name, value in asdict(outlook).items()
    }


def _spans(kept: Iterable[Sequence[str]]) -> list[tuple[date, date]]:
    return [(date.fromisoformat(start), date.fromisoformat(end)) for start, end in kept]


# A connection


class _Connection(_Page):
    """A connected property."""

    template = "integrations_str/connected.html"

    def __init__(self, request: HttpRequest, property: Property, integration: Integration) -> None:
        super().__init__(request, property)
        self.integration = integration
        self.edits = request.GET.get("edit", "") if request.method == "GET" else ""

    def show(self) -> HttpResponse:
        integration = self.integration
        found = health.health_of(integration)
        tone, word = TONES["consent_needed" if found.code == "consent_needed" else found.status]
        cause = found.detail if found.code else ""
        well = WELL.get(found.status, "")
        state = state_of(integration)
        remedy = WHAT_TO_DO.get(found.code, IT_GOES_ON) if found.code else ""
        context: dict[str, Any] = {
            "integration": integration,
            "account": integration.account,
            "status": found.status,
            "tone": tone,
            "word": word,
            "cause": cause or well,
            "remedy": remedy,
            "is_new": "new" in self.request.GET or not integration.first_pushed_at,
            "bookings_read": _living_bookings(integration),
            "last_pull": moment(integration.last_pull_at),
            "last_push": moment(integration.last_push_at),
            "connected_at": moment(integration.connected_at),
            "pending_days": len(state.changes.days),
            "waits": integration.task.waits_for_consent,
            "edits": self.edits,
        }
        if integration.task.waits_for_consent:
            conflicts = Conflict.objects.filter(property=self.property, solved_at=None)
            context["opens"] = shown_spans(calendar.date_ranges(state.consent_needed_for))
            context["overlaps"] = shown_spans([(one.start, one.end) for one in conflicts])
        return self.render(**context, **(self.of_markup() if self.edits == "markup" else {}))

    def of_markup(self) -> dict[str, Any]:
        markup, typed, wrong = self.markup(self.integration.markup_percent)
        return {"typed_markup": typed, "wrong_markup": wrong, "preview": preview_of(self.property, markup)}

    def welcome(self, account: Account) -> HttpResponse:
        if account.pk == self.integration.account_id:
            messages.success(self.request, _("Avito has given access again. What has changed goes out now."))
        return self.to()

    def reconnect(self) -> HttpResponse | None:
        return self.authorize(self.integration.account)

    def sync(self) -> HttpResponse:
        queue.due_now(self.integration)
        return self.to()

    def pause(self) -> HttpResponse:
        connecting.change(self.integration, is_active=False)
        return self.to()

    def go_on(self) -> HttpResponse:
        connecting.change(self.integration, is_active=True)
        return self.to()

    def agree(self) -> HttpResponse:
        connecting.change(self.integration, consents=True)
        return self.to(new=1)

    def recalculate(self) -> HttpResponse | None:
        """As in the steps."""
        self.edits = "markup"
        return None

    def set_markup(self) -> HttpResponse | None:
        markup, _typed, wrong = self.markup(self.integration.markup_percent)
        if wrong:
            self.edits, self.trouble = "markup", Trouble(wrong[0])
            return None
        connecting.change(self.integration, markup_percent=markup)
        messages.success(self.request, _("The markup is saved. The new prices go out now."))
        return self.to()

    def disconnect(self) -> HttpResponse | None:
        choice = self.request.POST.get("sales", "")
        if choice not in ("close", "leave"):
            return self.to(edit="disconnect")
        try:
            connecting.disconnect(self.integration, close_sales=choice == "close")
        except connecting.Busy:
            what = _("Nothing was disconnected: the calendar is being sent right now.")
            self.trouble = Trouble(what, AGAIN)
        except (avito.AvitoError, AccountUnusable) as error:
            why = self.trouble_of(error, self.integration.account).what
            self.trouble = Trouble(
                _("Nothing was disconnected, since the nights could not be closed at Avito. %(why)s") % {"why": why},
                _("Try again later, or disconnect without closing and close the nights at Avito by hand."),
            )
        else:
            messages.success(self.request, _("The property is disconnected from Avito. Its bookings stay here."))
            return self.to()
        self.edits = "disconnect"
        return None

    deeds = {
        "reconnect": reconnect,
        "sync": sync,
        "pause": pause,
        "go-on": go_on,
        "agree": agree,
        "preview": recalculate,
        "markup": set_markup,
        "disconnect": disconnect,
    }


def _living_bookings(integration: Integration) -> int:
    rows = Booking.objects.filter(
        property=integration.property, source=Booking.Source.AVITO, item_id=integration.item_id
    )
    return rows.exclude(status=Booking.Status.CANCELLED).filter(check_out__gt=integration.property.today()).count()


# In words


def preview_of(property: Property, markup: Decimal, booked: Iterable[date] = ()) -> dict[str, Any]:
    """What Avito will have: the first, lowest and highest price, how much is open, and the next nights one by one.

    `booked`: nights of bookings that are at Avito and not written down here yet.
    """
    taken, start = set(booked), first_day(property)
    end = start + timedelta(days=YEAR_DAYS)
    days = calendar.wanted_days(books_of([property], start, end)[property.pk], markup, start, end, today=start)
    prices = [day.channel_price for day in days]
    open_nights = sum(day.is_open and day.date not in taken for day in days)
    rows = [
        {
            "date": short_date(day.date),
            "weekday": date_format(day.date, "D"),
            "is_weekend": day.date.weekday() >= 5,
            "price": roubles(day.price),
            "channel_price": roubles(day.channel_price),
            "min_stay": day.min_stay,
            "note": REASONS.get(day.reason or "", "") or (_("booked at Avito") if day.date in taken else ""),
        }
        for day in days[:NIGHTS_SHOWN]
    ]
    return {
        "first": roubles(prices[0]),
        "min": roubles(min(prices)),
        "max": roubles(max(prices)),
        "open": nights(open_nights),
        "closed": nights(len(days) - open_nights),
        "rows": rows,
    }


def shown_spans(spans: Iterable[tuple[date, date]], most: int = 12) -> list[str]:
    """Half-open spans of nights as people say them, from the check-in to the check-out."""
    said = [f"{short_date(start)} – {short_date(end)} ({nights((end - start).days)})" for start, end in spans]
    rest = len(said) - most
    return [*said[:most], _("and %(count)s more") % {"count": rest}] if rest > 0 else said


def nights(count: int) -> str:
    return ngettext("%(count)d night", "%(count)d nights", count) % {"count": count}


def short_date(on: date) -> str:
    """14 авг., 1 мая; with the year where it is another one."""
    month = date_format(on, "E")
    month = month if len(month) <= 4 else f"{month[:3]}."
    year = f" {on.year}" if on.year != timezone.localdate().year else ""
    return f"{on.day}\N{NBSP}{month}{year}"


def moment(at: datetime | None) -> str:
    if at is None:
        return ""
    local = timezone.localtime(at)
    return _("%(day)s at %(time)s Moscow time") % {"day": short_date(local.date()), "time": f"{local:%H:%M}"}


def roubles(amount: int) -> str:
    return f"{number_format(amount, force_grouping=True)}\N{NBSP}₽"
