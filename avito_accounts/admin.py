"""Accounts in the back office: their state at a glance, secrets that go in and never come out."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

import avito
from api.admin import RoleModelAdmin, asks_first
from avito_accounts import services, tokens
from avito_accounts.api import error_of
from avito_accounts.errors import AccountUnusable
from avito_accounts.fields import look
from avito_accounts.models import Account, mask


def _secret(label: Any, **details: Any) -> forms.CharField:
    return forms.CharField(label=capfirst(label), required=False, widget=UnfoldAdminPasswordWidget(), **details)


def _switch(label: Any) -> forms.BooleanField:
    return forms.BooleanField(label=capfirst(label), required=False, widget=UnfoldBooleanSwitchWidget())


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Secrets are typed, never shown: an empty field keeps what is stored, a switch forgets it.

    The fields do not bear the names of the model's, or Django would fill the one in from the other.
    """

    new_client_id = _secret(_("client id"))
    new_client_secret = _secret(_("client secret"))
    forget_keys = _switch(_("forget the account's own keys"))

    class Meta:
        model = Account
        fields = (
            "name",
            "avito_user_id",
            "proxy",
            "eternal_online_enabled",
            "online_keep_alive_interval",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in services.KEYS:
            stored = mask(self.instance, name)
            field = self.fields[f"new_{name}"]
            field.help_text = _("Something is stored. Leave empty to keep it.") if stored else _("Nothing is stored.")
            field.widget.attrs["autocomplete"] = "new-password"

    def apply_secrets(self) -> set[str]:
        """Put typed secrets into the account; the names of those that changed."""
        typed = {name: self.cleaned_data.get(f"new_{name}") for name in services.KEYS}
        wanted = {name: value for name, value in typed.items() if value}
        if self.cleaned_data.get("forget_keys"):
            wanted.update(client_id="", client_secret="")
        changed = {name for name, value in wanted.items() if look(self.instance, name) != value}
        if services.keys_refused(self.instance):
            changed |= services.KEYS & wanted.keys()
        for name in changed:
            setattr(self.instance, name, wanted[name])
        return changed


@admin.register(Account)
class AccountAdmin(RoleModelAdmin):
    to_see = "accounts.read"
    to_change = "accounts.manage"
    form = AccountForm
    list_display = ("name", "avito_user_id", "connection", "proxy_state", "is_online", "connection_checked_at")
    list_filter = ("connection_status", "proxy__status", "eternal_online_enabled")
    search_fields = ("name", "avito_user_id")
    list_select_related = ("authorization", "proxy")
    readonly_fields = (
        "connection_status",
        "connection_problem",
        "authorization_state",
        "webhook_subscribed_at",
        "connection_checked_at",
        "created_at",
        "updated_at",
    )
    actions_detail = ("connect", "renew_tokens")
    actions = ("renew_tokens_of_selected",)
    fieldsets = (
        (None, {"fields": ("name", "avito_user_id")}),
        (
            _("Connection"),
            {
                "fields": (
                    "connection_status",
                    "connection_problem",
                    "authorization_state",
                    "connection_checked_at",
                    "webhook_subscribed_at",
                )
            },
        ),
        (_("Proxy"), {"fields": ("proxy",)}),
        (_("Eternal online"), {"fields": ("eternal_online_enabled", "online_keep_alive_interval")}),
        (
            _("The account's own application (optional)"),
            {"fields": ("new_client_id", "new_client_secret", "forget_keys"), "classes": ("collapse",)},
        ),
        (_("Dates"), {"fields": ("created_at", "updated_at"), "classes": ("collapse",)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        """A new account has no state to show yet; who may only look sees no fields to type secrets into."""
        hidden = set() if obj else {*self.readonly_fields}
        if not self.has_change_permission(request, obj):
            hidden |= {*AccountForm.declared_fields}
        shown = []
        for title, details in super().get_fieldsets(request, obj):
            fields = [name for name in details["fields"] if name not in hidden]
            if fields:
                shown.append((title, {**details, "fields": fields}))
        return shown

    @display(
        description=_("connection"),
        ordering="connection_status",
        label={
            "connected": "success",
            "error": "danger",
            "needs_reconnect": "warning",
            "not_checked": "info",
        },
    )
    def connection(self, account: Account) -> Any:
        return account.connection_status, account.get_connection_status_display()

    @display(
        description=_("proxy"),
        ordering="proxy__status",
        label={"working": "success", "error": "danger", "not_checked": "info", "not_configured": "default"},
    )
    def proxy_state(self, account: Account) -> Any:
        if account.proxy is None:
            return "not_configured", _("no proxy")
        return account.proxy.status, account.proxy.get_status_display()

    @admin.display(description=_("problem"))
    def connection_problem(self, account: Account) -> str:
        error = error_of(account.connection_error_code, account.connection_error_detail)
        return error["detail"] if error else "—"

    @admin.display(description=_("tokens"))
    def authorization_state(self, account: Account) -> str:
        authorization = getattr(account, "authorization", None)
        if authorization is None:
            return str(_("Not connected yet: press “Connect Avito” above."))
        return format_html(
            "{}: {} {} · {}",
            authorization.get_kind_display(),
            _("valid until"),
            date_format(timezone.localtime(authorization.expires_at), "DATETIME_FORMAT"),
            mask(authorization, "access_token"),
        )

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        services.save(obj, {*form.changed_data} & {*AccountForm.Meta.fields} | form.apply_secrets())

    def delete_model(self, request: HttpRequest, obj: Account) -> None:
        services.delete(Account.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        services.delete(queryset)

    @action(description=_("Connect Avito"), url_path="connect", permissions=["change"], icon="link")
    def connect(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Opens Avito's consent page."""
        return HttpResponseRedirect(reverse("avito-authorize", args=[object_id]))

    @action(description=_("Renew tokens"), url_path="renew-tokens", permissions=["change"], icon="autorenew")
    @asks_first
    def renew_tokens(self, request: HttpRequest, object_id: int) -> HttpResponse:
        self._renew(request, get_object_or_404(Account, pk=object_id))
        return HttpResponseRedirect(reverse("admin:avito_accounts_account_change", args=[object_id]))

    @admin.action(description=_("Renew tokens"), permissions=["change"])
    def renew_tokens_of_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        for account in queryset[:100]:
            self._renew(request, account)

    def _renew(self, request: HttpRequest, account: Account) -> None:
        try:
            with tokens.asking_together(account.pk) as asked_at:
                tokens.renew(account, asked_at=asked_at)
        except (avito.AvitoError, AccountUnusable) as error:
            reason = type(error).__name__
            text = _("%(name)s: the tokens were not renewed (%(reason)s).") % {"name": account, "reason": reason}
            messages.error(request, text)
        else:
            messages.success(request, _("%(name)s: the tokens were renewed.") % {"name": account})
