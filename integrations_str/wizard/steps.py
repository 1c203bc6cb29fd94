"""A property that is not connected: four steps to a connection.

Access is given at Avito, the account is chosen, its listing is named and looked at, the prices are agreed to.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

import avito
from avito_accounts.errors import AccountUnusable
from avito_accounts.models import Account
from integrations_str import calendar, connecting, health
from integrations_str.models import Property
from integrations_str.wizard.draft import Draft
from integrations_str.wizard.page import Page
from integrations_str.wizard.troubles import ACCOUNT, AUTHORIZE, ITEM, MARKUP, Trouble
from integrations_str.wizard.typed import item_of
from integrations_str.wizard.words import preview_of, shown_spans

STEPS = {
    AUTHORIZE: gettext_lazy("Access"),
    ACCOUNT: gettext_lazy("Profile"),
    ITEM: gettext_lazy("Listing"),
    MARKUP: gettext_lazy("Prices"),
}
RIGHTS = {
    "short_term_rent:read": gettext_lazy("Read the bookings of your listings, so that taken nights close everywhere."),
    "short_term_rent:write": gettext_lazy("Send prices, minimum stays and free nights, so that you edit them once."),
    "user:read": gettext_lazy("See the name and number of the profile, to know whose access it is."),
}
OTHER_RIGHTS = gettext_lazy("Messages, listings and figures of the profile, for the other parts of this service.")


class Steps(Page):
    """A property that is not connected. `step`: what is shown; `draft.step`: the furthest that is open."""

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
        return self.render(**context, **self.shows[self.step](self))

    def _on(self, step: int, *, shown: int = 0) -> HttpResponse:
        self.draft.step = step
        self.draft.keep(self.request, self.property)
        return self.to(step=shown) if shown and shown != step else self.to()

    # 1: access

    def of_access(self) -> dict[str, Any]:
        asked = settings.AVITO_OAUTH_SCOPES
        rights = [words for scope, words in RIGHTS.items() if scope in asked]
        return {
            "rights": [*rights, OTHER_RIGHTS] if set(asked) - set(RIGHTS) else rights,
            "has_accounts": bool(self.accounts),
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

    # 2: the profile

    def of_account(self) -> dict[str, Any]:
        chosen = self.draft.account or self.accounts[0].pk
        return {"accounts": [(one, one.pk == chosen, not health.may_be_asked(one)) for one in self.accounts]}

    def choose(self) -> HttpResponse | None:
        chosen = next((one for one in self.accounts if str(one.pk) == self.request.POST.get("account")), None)
        if chosen is None:
            self.step = ACCOUNT
            self.trouble = Trouble(_("Choose one of the accounts that you may use."))
            return None
        if chosen.pk != self.draft.account:
            self.draft.account, self.draft.step = chosen.pk, ITEM
        return self._on(max(ITEM, self.draft.step), shown=ITEM)

    # 3: the listing

    def of_item(self) -> dict[str, Any]:
        return {"account": self.account, "item": self.typed or self.draft.item or ""}

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

    # 4: prices

    def of_markup(self) -> dict[str, Any]:
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

    shows: dict[int, Callable[[Any], dict[str, Any]]] = {
        AUTHORIZE: of_access,
        ACCOUNT: of_account,
        ITEM: of_item,
        MARKUP: of_markup,
    }
    deeds = {
        "authorize": Page.authorize,
        "use": use,
        "account": choose,
        "item": check,
        "preview": recalculate,
        "connect": finish,
    }


def _kept(outlook: connecting.Outlook) -> dict[str, Any]:
    """For the session: numbers and days."""
    return {
        name: [[start.isoformat(), end.isoformat()] for start, end in value] if isinstance(value, list) else value
        for name, value in asdict(outlook).items()
    }


def _spans(kept: Iterable[Sequence[str]]) -> list[tuple[date, date]]:
    return [(date.fromisoformat(start), date.fromisoformat(end)) for start, end in kept]
