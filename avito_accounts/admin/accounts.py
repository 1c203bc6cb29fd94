"""Accounts in the back office: the list that answers at a glance, the page of each, and what can be done with them."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Q, QuerySet, Value, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action

import avito
from api.admin import WithOverview, asks_first
from avito_accounts import audit, checks, jobs, oauth, services, statistics, tokens, webhooks
from avito_accounts.admin import overview, shown, trail
from avito_accounts.api import error_of
from avito_accounts.errors import AccountUnusable, code_of, text_of, words
from avito_accounts.models import Account, Authorization, Job, Proxy, Run

Status = Account.ConnectionStatus
RENEWED_AT_ONCE = 100
"""More tokens than these are not renewed by one action: whoever pressed the button waits for it."""

HAS_PROBLEM = Q(connection_status__in=[Status.ERROR, Status.NEEDS_RECONNECT]) | Q(proxy__status=Proxy.Status.ERROR)
PROBLEMS_FIRST = Case(
    When(connection_status=Status.NEEDS_RECONNECT, then=Value(0)),
    When(connection_status=Status.ERROR, then=Value(1)),
    When(proxy__status=Proxy.Status.ERROR, then=Value(2)),
    When(connection_status=Status.NOT_CHECKED, then=Value(3)),
    default=Value(4),
)


class AccountForm(shown.SecretsForm):
    new_client_id = shown.secret_field(_("client id"))
    new_client_secret = shown.secret_field(_("client secret"))
    forget_keys = shown.switch(_("forget the account's own keys"))

    secrets = services.KEYS
    forget = "forget_keys"

    class Meta:
        model = Account
        fields = (
            "name",
            "avito_user_id",
            "proxy",
            "eternal_online_enabled",
            "online_keep_alive_interval",
        )

    def apply_secrets(self) -> set[str]:
        """Refused keys that are typed once more deserve another try."""
        refused, changed = services.keys_refused(self.instance), super().apply_secrets()
        return changed | set(self.typed_secrets()) if refused else changed


class ConnectionFilter(shown.QuestionFilter):
    title, parameter_name = _("connection"), "connection"
    answers = {
        "problems": (_("with problems"), HAS_PROBLEM),
        "connected": (_("connected"), Q(connection_status=Status.CONNECTED)),
        "never": (_("never connected"), Q(authorization=None)),
    }


class ProxyFilter(shown.QuestionFilter):
    title, parameter_name = _("proxy"), "proxy"
    answers = {
        "fallen": (_("the proxy does not work"), Q(proxy__status=Proxy.Status.ERROR)),
        "none": (_("without a proxy"), Q(proxy=None)),
        "some": (_("with a proxy"), Q(proxy__isnull=False)),
    }


class EternalOnlineFilter(shown.QuestionFilter):
    title, parameter_name = _("eternal online"), "eternal_online"
    answers = {
        "yes": (_("switched on"), Q(eternal_online_enabled=True)),
        "no": (_("switched off"), Q(eternal_online_enabled=False)),
    }


@admin.register(Account)
class AccountAdmin(trail.HistoryMixin, WithOverview):
    to_see = "accounts.read"
    to_change = "accounts.manage"
    form = AccountForm
    list_display = (
        "account",
        "connection",
        "proxy_state",
        "online",
        "balance",
        "listings",
        "today",
    )
    list_filter = (ConnectionFilter, ProxyFilter, EternalOnlineFilter)
    search_fields = ("name", "avito_user_id", "proxy__host")
    search_help_text = _("name, number at Avito, or host of the proxy")
    list_select_related = ("authorization", "proxy")
    list_fullwidth = True
    list_before_template = "avito_accounts/accounts_summary.html"
    change_form_outer_before_template = "avito_accounts/account_overview.html"
    ordering = (PROBLEMS_FIRST.asc(), "name")
    autocomplete_fields = ("proxy",)
    readonly_fields = ("authorization_state", "proxy_address", "created_at", "updated_at")
    actions_list = ("check_all", "sync_all", "subscribe_all")
    actions_detail = (
        *("connect", "check_now", "sync_now"),
        {"title": _("More"), "items": ["subscribe", "unsubscribe", "renew_tokens"]},
    )
    actions = ("check_selected", "sync_selected", "renew_tokens_of_selected", "subscribe_selected")
    fieldsets = (
        (None, {"fields": (("name", "avito_user_id"), "proxy", "proxy_address")}),
        (_("Eternal online"), {"fields": (("eternal_online_enabled", "online_keep_alive_interval"),)}),
        (_("Connection"), {"fields": ("authorization_state",)}),
        (
            _("The account's own application (optional)"),
            {"fields": ("new_client_id", "new_client_secret", "forget_keys"), "classes": ("collapse",)},
        ),
        (_("Dates"), {"fields": (("created_at", "updated_at"),), "classes": ("collapse",)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        """A new account has no state to show; who may only look sees no fields of secrets, no login of a proxy."""
        hidden = set() if obj else {*self.readonly_fields}
        if self.has_change_permission(request, obj):
            hidden.add("proxy_address")
        else:
            hidden |= {*AccountForm.declared_fields, "proxy"}
        sections = []
        for title, details in super().get_fieldsets(request, obj):
            rows = [_without(row, hidden) for row in details["fields"]]
            if any(rows):
                sections.append((title, {**details, "fields": [row for row in rows if row]}))
        return sections

    def get_urls(self) -> list[URLPattern]:
        changes = self.admin_site.admin_view(self.changes_view)
        return [path("changes/", changes, name="avito_accounts_account_changes"), *super().get_urls()]

    def changes_view(self, request: HttpRequest) -> HttpResponse:
        """What people have changed lately, in accounts and proxies together."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        return trail.page(self, request, audit.entries(), title=_("Changes"), names_rows=True)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_view_permission(request):
            raise PermissionDenied
        summary = SimpleLazyObject(lambda: overview.summary(HAS_PROBLEM))  # an action shows no list
        context = {**(extra_context or {}), "summary": summary}
        return super().changelist_view(request, context)

    def overview_of(self, request: HttpRequest, obj: Account) -> overview.Overview:
        return overview.of(obj, request.GET.get("days", ""), may_change=self.has_change_permission(request))

    # The list

    @admin.display(description=_("account"), ordering="name")
    def account(self, account: Account) -> SafeString:
        number = f"№ {account.avito_user_id}" if account.avito_user_id else ""
        return shown.noted(account.name, number, room=8)

    @admin.display(description=_("connection"), ordering="connection_status")
    def connection(self, account: Account) -> SafeString:
        error = error_of(account.connection_error_code, account.connection_error_detail)
        return shown.noted(shown.connection_label(account), error["detail"] if error else "", room=10)

    @admin.display(description=_("proxy"), ordering="proxy__status")
    def proxy_state(self, account: Account) -> SafeString:
        proxy = account.proxy
        if proxy is None:
            return shown.noted(shown.proxy_label(None))
        return shown.noted(shown.proxy_label(proxy), overview.proxy_note(proxy), room=8)

    @admin.display(description=_("online"), ordering="last_online_at")
    def online(self, account: Account) -> SafeString:
        return shown.noted(overview.online_label(account), overview.online_note(account), room=7)

    @admin.display(description=_("balance"), ordering="balance_real")
    def balance(self, account: Account) -> SafeString:
        return shown.noted(shown.roubles(account.balance_real), overview.bonus(account))

    @admin.display(description=_("listings"), ordering="ads_count")
    def listings(self, account: Account) -> str:
        return shown.number(account.ads_count)

    @admin.display(description=_("today"), ordering="views_today")
    def today(self, account: Account) -> SafeString | str:
        """Views, contacts, and of when these figures are."""
        if account.last_sync_at is None:
            return shown.NOTHING
        views = _("views: %(count)s") % {"count": shown.number(account.views_of_today)}
        contacts = _("contacts: %(count)s") % {"count": shown.number(account.contacts_of_today)}
        read = shown.ago(account.last_sync_at)
        return shown.noted(views, format_html("{}<br>{} {}", contacts, read, overview.read_in_part(account)))

    # The page

    @admin.display(description=_("proxy"))
    def proxy_address(self, account: Account) -> str:
        return shown.proxy_place(account.proxy) if account.proxy else str(_("no proxy"))

    @admin.display(description=_("tokens"))
    def authorization_state(self, account: Account) -> str:
        authorization = getattr(account, "authorization", None)
        if authorization is None:
            return str(_("Not connected yet: press “Connect Avito” above."))
        kind, until = authorization.get_kind_display(), shown.moment(authorization.expires_at)
        return format_html("{}: {} {}", kind, _("valid until"), until)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        services.save(obj, {*form.changed_data} & {*AccountForm.Meta.fields} | form.apply_secrets())

    def delete_model(self, request: HttpRequest, obj: Account) -> None:
        services.delete(Account.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        services.delete(queryset)

    # With one account

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        buttons: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        account = self.get_object(request, str(object_id))
        if account is not None and Authorization.objects.filter(account=account).exists():
            for button in buttons:
                if button.path == "connect":
                    button.description = str(_("Connect again"))
        return buttons

    @action(description=_("Connect Avito"), url_path="connect", permissions=["change"], icon="link")
    def connect(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Opens Avito's consent page. Its way back ends at PUBLIC_URL, so the walk begins there, whatever was typed."""
        account = self._account(request, object_id)
        address = reverse("avito-authorize", args=[account.pk])
        if request.get_host() != urlsplit(settings.PUBLIC_URL).netloc:
            ticket = oauth.make_ticket(account, user=request.user)  # type: ignore[arg-type]  # somebody is signed in
            address = f"{settings.PUBLIC_URL}{address}?{urlencode({'ticket': ticket})}"
        return HttpResponseRedirect(address)

    @action(
        description=_("Check now"),
        url_path="check-now",
        permissions=["change"],
        icon="network_check",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def check_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self._account(request, object_id)
        check = checks.check_connection(account)
        told = {"name": account, "ms": check.latency_ms}
        if check.error is not None:
            messages.error(request, f"{account}: {words(code_of(check.error), text_of(check.error))}")
        elif account.proxy is None:
            messages.success(request, _("%(name)s is connected; Avito answered in %(ms)s ms.") % told)
        else:
            text = _("%(name)s is connected; Avito answered through the proxy in %(ms)s ms.")
            messages.success(request, text % told)
        return self._back_to(account)

    @action(
        description=_("Read figures now"),
        url_path="sync-now",
        permissions=["change"],
        icon="query_stats",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def sync_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self._account(request, object_id)
        try:
            synced = statistics.sync(account)
        except (avito.AvitoError, AccountUnusable) as error:
            messages.error(request, f"{account}: {words(code_of(error), text_of(error))}")
            return self._back_to(account)
        for part, failure in synced.failures.items():
            reason = words(code_of(failure), text_of(failure))
            told = {"part": overview.part(part), "reason": reason}
            messages.warning(request, _("Not read: %(part)s. %(reason)s") % told)
        if any(isinstance(failure, avito.RateLimited) for failure in synced.failures.values()):
            jobs.queue(Job.Kind.SYNC, Account.objects.filter(pk=account.pk))
        if not synced.failures:
            messages.success(request, _("%(name)s: the figures were read.") % {"name": account})
        return self._back_to(account)

    @action(description=_("Renew tokens"), url_path="renew-tokens", permissions=["change"], icon="autorenew")
    @asks_first
    def renew_tokens(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self._account(request, object_id)
        self._tell(request, account, _renew(account))
        return self._back_to(account)

    @action(description=_("Subscribe the webhook"), url_path="subscribe", permissions=["change"], icon="webhook")
    @asks_first
    def subscribe(self, request: HttpRequest, object_id: str) -> HttpResponse:
        told = _("%(name)s: Avito delivers messages here.")
        return self._change_webhook(request, object_id, webhooks.subscribe, told)

    @action(description=_("Take the webhook off"), url_path="unsubscribe", permissions=["change"], icon="link_off")
    @asks_first
    def unsubscribe(self, request: HttpRequest, object_id: str) -> HttpResponse:
        told = _("%(name)s: Avito no longer delivers messages here.")
        return self._change_webhook(request, object_id, webhooks.unsubscribe, told)

    def _change_webhook(
        self, request: HttpRequest, object_id: str, change: Callable[[Account], None], told: Any
    ) -> HttpResponse:
        account = self._account(request, object_id)
        try:
            change(account)
            messages.success(request, told % {"name": account})
        except (avito.AvitoError, AccountUnusable) as error:
            messages.error(request, f"{account}: {words(code_of(error), text_of(error))}")
        return self._back_to(account)

    # With many accounts

    @action(description=_("Check all"), url_path="check-all", permissions=["change"], icon="network_check")
    @asks_first(text=_("Workers ask Avito about every account. A page shows how far they are."))
    def check_all(self, request: HttpRequest) -> HttpResponse:
        return self._start(request, Run.Kind.CHECK)

    @action(description=_("Read all figures"), url_path="sync-all", permissions=["change"], icon="query_stats")
    @asks_first(text=_("Workers read the figures of every account. A page shows how far they are."))
    def sync_all(self, request: HttpRequest) -> HttpResponse:
        return self._start(request, Run.Kind.SYNC)

    @action(description=_("Subscribe all"), url_path="subscribe-all", permissions=["change"], icon="webhook")
    @asks_first(
        text=_(
            "Workers subscribe the webhook of every account, also where a person has taken it off. "
            "A page shows how far they are."
        )
    )
    def subscribe_all(self, request: HttpRequest) -> HttpResponse:
        return self._start(request, Run.Kind.SUBSCRIBE)

    @admin.action(description=_("Check now"), permissions=["change"])
    def check_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse:
        return self._start(request, Run.Kind.CHECK, queryset)

    @admin.action(description=_("Read figures now"), permissions=["change"])
    def sync_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse:
        return self._start(request, Run.Kind.SYNC, queryset)

    def _start(self, request: HttpRequest, kind: str, accounts: QuerySet[Account] | None = None) -> HttpResponse:
        run, _waiting = jobs.start_run(kind, user=request.user, accounts=accounts)  # type: ignore[arg-type]
        return HttpResponseRedirect(reverse("admin:avito_accounts_run_change", args=[run.pk]))

    @admin.action(description=_("Renew tokens"), permissions=["change"])
    def renew_tokens_of_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        accounts = list(queryset[: RENEWED_AT_ONCE + 1])
        if len(accounts) > RENEWED_AT_ONCE:
            accounts.pop()
            text = _("Only the first %(count)s were taken. Choose the others next.")
            messages.warning(request, text % {"count": RENEWED_AT_ONCE})
        for account, error in zip(accounts, shown.in_parallel(_renew, accounts), strict=True):
            self._tell(request, account, error)

    @admin.action(description=_("Subscribe the webhook"), permissions=["change"])
    def subscribe_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse:
        return self._start(request, Run.Kind.SUBSCRIBE, queryset)

    def _tell(self, request: HttpRequest, account: Account, error: Exception | None) -> None:
        if error is None:
            audit.note(account, "tokens_renewed", user=request.user)  # type: ignore[arg-type]  # staff has signed in
            messages.success(request, _("%(name)s: the tokens were renewed.") % {"name": account})
        else:
            told = {"name": account, "reason": words(code_of(error), text_of(error))}
            messages.error(request, _("%(name)s: the tokens were not renewed. %(reason)s") % told)

    def _account(self, request: HttpRequest, object_id: str) -> Account:
        account: Account | None = self.get_object(request, object_id)
        if account is None:
            raise Http404
        return account

    def _back_to(self, account: Account) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:avito_accounts_account_change", args=[account.pk]))


def _without(row: Any, hidden: set[str]) -> Any:
    """A row of a form without hidden fields: a name, a tuple of names, or nothing."""
    if isinstance(row, str):
        return "" if row in hidden else row
    return tuple(name for name in row if name not in hidden)


def _renew(account: Account) -> Exception | None:
    try:
        with tokens.asking_together(account.pk) as asked_at:
            tokens.renew(account, asked_at=asked_at)
    except (avito.AvitoError, AccountUnusable) as error:
        return error
    return None
