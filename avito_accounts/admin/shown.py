"""What the pages have in common: labels, times, money, secrets that are typed, questions to a list."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.db import connection
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from avito_accounts import services, tokens
from avito_accounts.errors import PROXY_REASONS
from avito_accounts.fields import look
from avito_accounts.models import MOSCOW, Account, Proxy, mask

Row = TypeVar("Row", bound=Model)
Result = TypeVar("Result")

NOTHING = "—"
AT_ONCE = 8
"""Rows whose network calls are awaited at the same time, far fewer than there are database connections."""

CONNECTION_COLOURS = {"connected": "success", "error": "danger", "needs_reconnect": "warning", "not_checked": "info"}
PROXY_COLOURS = {"working": "success", "error": "danger", "not_checked": "info"}
ONLINE_METHODS = {"status": gettext_lazy("by status"), "activity": gettext_lazy("by activity")}


def label(colour: str, text: Any, hint: str = "") -> str:
    return render_to_string("unfold/helpers/label.html", {"type": colour, "text": text, "label_title": hint})


def noted(shown: Any, note: Any = "", *, room: int = 0) -> SafeString:
    """Something with a smaller line below it, if there is one; with `room`, at least so many rem, it may be several."""
    below = format_html('<p class="text-xs text-base-500 mt-1">{}</p>', note) if note else ""
    if not room or not note:
        return format_html('<div class="{}">{}{}</div>', "" if room else "whitespace-nowrap", shown, below)
    shape = "whitespace-normal break-words max-w-sm"
    return format_html('<div class="{}" style="min-width: {}rem">{}{}</div>', shape, room, shown, below)


def link(href: str, text: Any) -> SafeString:
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', href, text)


def moment(at: datetime) -> str:
    return date_format(timezone.localtime(at, MOSCOW), "SHORT_DATETIME_FORMAT")


def clock(at: datetime) -> str:
    """The time of day to the second."""
    return _("%(time)s MSK") % {"time": f"{timezone.localtime(at, MOSCOW):%H:%M:%S}"}


def ago(at: datetime | None) -> str:
    """How long ago, with the exact time when pointed at."""
    if at is None:
        return NOTHING
    seconds = (timezone.now() - at).total_seconds()
    words = _("just now") if seconds < 60 else _("%(time)s ago") % {"time": timesince(at, depth=1)}
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), moment(at), words)


def number(value: int | None) -> str:
    return NOTHING if value is None else number_format(value, force_grouping=True)


def roubles(value: Decimal | None) -> str:
    return NOTHING if value is None else f"{number_format(value, decimal_pos=2, force_grouping=True)}\N{NBSP}₽"


def connection_label(account: Account) -> str:
    has_keys = any(mask(account, name) for name in services.KEYS)
    is_new = account.connection_status == Account.ConnectionStatus.NOT_CHECKED
    if is_new and not has_keys and not hasattr(account, "authorization"):
        return label("default", _("not connected"))
    return label(CONNECTION_COLOURS[account.connection_status], account.get_connection_status_display())


def proxy_label(proxy: Proxy | None) -> str:
    if proxy is None:
        return label("default", _("no proxy"))
    return label(PROXY_COLOURS[proxy.status], proxy.get_status_display(), proxy_reason(proxy))


def proxy_place(proxy: Proxy) -> str:
    """Where a proxy is, without the login, which only admins may see."""
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"{host}:{proxy.port}"


def proxy_reason(proxy: Proxy) -> str:
    """Why a proxy is thought not to work, nothing if it is not; a part of a sentence."""
    if proxy.status != Proxy.Status.ERROR:
        return ""
    return str(PROXY_REASONS.get(proxy.error_reason, proxy.error_reason))


def latency(milliseconds: int | None) -> str:
    return "" if milliseconds is None else _("%(count)s ms") % {"count": number(milliseconds)}


def in_parallel(work: Callable[[Row], Result], rows: Iterable[Row]) -> list[Result]:
    """Do what waits for the network with several rows at once; the results in the order of the rows."""

    def one(row: Row) -> Result:
        try:
            return work(row)
        finally:
            connection.close()

    waiting = list(rows)
    tokens.release_connection()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, waiting))


def secret_field(title: Any, **details: Any) -> forms.CharField:
    return forms.CharField(label=capfirst(title), required=False, widget=UnfoldAdminPasswordWidget(), **details)


def switch(title: Any) -> forms.BooleanField:
    return forms.BooleanField(label=capfirst(title), required=False, widget=UnfoldBooleanSwitchWidget())


class SecretsForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Secrets are typed, never shown: an empty field keeps what is stored, the switch `forget` forgets it.

    The fields do not bear the names of the model's, or Django would fill the one in from the other.
    """

    secrets: ClassVar[frozenset[str]]
    forget: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.secrets:
            field, stored = self.fields[f"new_{name}"], mask(self.instance, name)
            if self.instance.pk:
                kept = _("Something is stored. Leave empty to keep it.")
                field.help_text = kept if stored else _("Nothing is stored.")
            field.widget.attrs["autocomplete"] = "new-password"

    def apply_secrets(self) -> set[str]:
        """Put typed secrets into the row; the names of those that changed."""
        wanted = self.typed_secrets()
        if self.cleaned_data.get(self.forget):
            wanted.update(dict.fromkeys(self.secrets, ""))
        changed = {name for name, value in wanted.items() if look(self.instance, name) != value}
        for name in changed:
            setattr(self.instance, name, wanted[name])
        return changed

    def typed_secrets(self) -> dict[str, str]:
        typed = {name: self.cleaned_data.get(f"new_{name}") for name in self.secrets}
        return {name: value for name, value in typed.items() if value}


class QuestionFilter(admin.SimpleListFilter):
    """A question to a list: each answer is a word in the address, its text and a condition."""

    answers: ClassVar[dict[str, tuple[Any, Q]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(word, text) for word, (text, _condition) in self.answers.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        answer = self.answers.get(self.value() or "")
        return queryset.filter(answer[1]) if answer else queryset
