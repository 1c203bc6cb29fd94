"""What the steps and the connection have in common: buttons that are deeds, and the way to Avito and back."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from api.roles import permissions_of
from avito_accounts import errors, oauth, tokens
from avito_accounts import views as oauth_views
from avito_accounts.errors import MissingAvitoSecrets
from avito_accounts.models import Account, Authorization
from integrations_str import connecting
from integrations_str.models import MARKUP_MAX, MARKUP_MIN, Property
from integrations_str.wizard.troubles import AGAIN, ASK_ADMIN, CONSENT_REMEDIES, REMEDIES, Trouble
from integrations_str.wizard.typed import markup_of

RENT_SCOPES = {"short_term_rent:read", "short_term_rent:write"}


class Page(ABC):
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
            "lowest_markup": f"\N{MINUS SIGN}{abs(MARKUP_MIN)}",
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


def _lacks_rights(account: Account) -> bool:
    stored = Authorization.objects.filter(account=account, kind=Authorization.Kind.OAUTH).first()
    return stored is not None and bool(stored.scopes) and not set(stored.scopes) >= RENT_SCOPES
