"""Proxies in the back office: who uses which, how they fare, check now."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from api.admin import RoleModelAdmin, asks_first
from avito_accounts import checks, news, proxies
from avito_accounts.admin import shown, trail
from avito_accounts.errors import code_of, text_of, words
from avito_accounts.models import Account, Proxy, validate_proxy_login

CHECKED_AT_ONCE = 50
"""More proxies than these are not checked by one action: whoever pressed the button waits for it."""
ACCOUNTS_SHOWN = 100


class ProxyForm(shown.SecretsForm):
    new_password = shown.secret_field(_("password"), max_length=500, strip=False, validators=[validate_proxy_login])
    forget_password = shown.switch(_("forget the password"))

    secrets = frozenset({"password"})
    forget = "forget_password"

    class Meta:
        model = Proxy
        fields = ("type", "host", "port", "login", "note", "is_kept")

    def clean_host(self) -> str:
        host: str = self.cleaned_data["host"]
        if host != self.initial.get("host"):
            proxies.check_host(host)
        return host

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        try:
            proxies.check_login(data.get("type", ""), data.get("login", ""), data.get("new_password", ""))
        except ValidationError as error:
            self.add_error("login", error)
        return data


class StateFilter(shown.QuestionFilter):
    title, parameter_name = _("state"), "state"
    answers = {
        "working": (_("works"), Q(status=Proxy.Status.WORKING)),
        "fallen": (_("does not work"), Q(status=Proxy.Status.ERROR)),
        "not_checked": (_("not checked yet"), Q(status=Proxy.Status.NOT_CHECKED)),
        "resting": (_("rests after failures"), Q(retry_at__isnull=False)),
    }


class UseFilter(shown.QuestionFilter):
    title, parameter_name = _("use"), "use"
    answers = {
        "used": (_("used by accounts"), Q(accounts_count__gt=0)),
        "unused": (_("used by nobody"), Q(accounts_count=0)),
    }


@admin.register(Proxy)
class ProxyAdmin(trail.HistoryMixin, RoleModelAdmin):
    to_see = "accounts.manage"
    to_change = "accounts.manage"
    form = ProxyForm
    list_display = ("address", "state", "latency", "checked", "used_by", "note")
    list_filter = (StateFilter, UseFilter, "type")
    search_fields = ("host", "login", "note", "accounts__name")
    search_help_text = _("host, login, note, or name of an account")
    list_before_template = "avito_accounts/cells.html"
    change_form_outer_before_template = "avito_accounts/at_once.html"
    readonly_fields = ("state", "checked", "latency", "accounts_list")
    actions_detail = ("check_now",)
    actions = ("check_selected",)
    fieldsets = (
        (_("State"), {"fields": ("state", ("latency", "checked"), "accounts_list")}),
        (
            _("Address"),
            {"fields": ("type", ("host", "port"), "login", ("new_password", "forget_password"), "note", "is_kept")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Proxy]:
        return Proxy.objects.annotate(accounts_count=Count("accounts")).order_by("host", "port", "id")

    def get_fieldsets(self, request: HttpRequest, obj: Proxy | None = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        if obj:
            return sections
        address, fields = sections[1][0], ("type", ("host", "port"), "login", "new_password", "note", "is_kept")
        return [(address, {"fields": fields})]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"is_kept": True, **super().get_changeform_initial_data(request)}

    @admin.display(description=_("address"), ordering="host")
    def address(self, proxy: Proxy) -> SafeString:
        return shown.noted(shown.proxy_place(proxy), " · ".join(filter(None, (proxy.get_type_display(), proxy.login))))

    @admin.display(description=_("state"), ordering="status")
    def state(self, proxy: Proxy) -> SafeString:
        reason = shown.proxy_reason(proxy)
        notes = [f"{capfirst(reason)}."] if reason else []
        if proxy.retry_at and proxy.retry_at > timezone.now():
            until = shown.clock(proxy.retry_at)
            notes.append(_("After failures in a row nothing is sent until %(time)s.") % {"time": until})
        return shown.noted(shown.proxy_label(proxy), " ".join(notes), room=14)

    @admin.display(description=_("latency"), ordering="latency_ms")
    def latency(self, proxy: Proxy) -> str:
        return shown.latency(proxy.latency_ms) or shown.NOTHING

    @admin.display(description=_("last check"), ordering="checked_at")
    def checked(self, proxy: Proxy) -> str:
        return shown.ago(proxy.checked_at)

    @admin.display(description=_("accounts"), ordering="accounts_count")
    def used_by(self, proxy: Any) -> SafeString | str:
        if not proxy.accounts_count:
            return shown.NOTHING
        return shown.number(proxy.accounts_count)

    @admin.display(description=_("accounts that use it"))
    def accounts_list(self, proxy: Proxy) -> SafeString | str:
        accounts = list(proxy.accounts.order_by("name")[: ACCOUNTS_SHOWN + 1])
        if not accounts:
            return str(_("No account uses this proxy."))
        rows = [(_account_link(account),) for account in accounts[:ACCOUNTS_SHOWN]]
        more = SafeString(", …") if len(accounts) > ACCOUNTS_SHOWN else SafeString("")
        return format_html_join(", ", "{}", rows) + more

    def save_model(self, request: HttpRequest, obj: Proxy, form: Any, change: bool) -> None:
        proxies.save(obj, {*form.changed_data} & {*ProxyForm.Meta.fields} | form.apply_secrets())

    def delete_model(self, request: HttpRequest, obj: Proxy) -> None:
        news.forget_proxy(obj)
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Proxy]) -> None:
        for proxy in queryset:
            self.delete_model(request, proxy)

    @action(
        description=_("Check now"),
        url_path="check-now",
        permissions=["change"],
        icon="network_check",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def check_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        proxy = self.get_object(request, object_id)
        if proxy is None:
            raise Http404
        self._tell(request, proxy, checks.check_proxy(proxy))
        return HttpResponseRedirect(reverse("admin:avito_accounts_proxy_change", args=[proxy.pk]))

    @admin.action(description=_("Check now"), permissions=["change"])
    def check_selected(self, request: HttpRequest, queryset: QuerySet[Proxy]) -> None:
        chosen = list(queryset[: CHECKED_AT_ONCE + 1])
        if len(chosen) > CHECKED_AT_ONCE:
            chosen.pop()
            text = _("Only the first %(count)s were taken. Choose the others next.")
            messages.warning(request, text % {"count": CHECKED_AT_ONCE})
        for proxy, check in zip(chosen, shown.in_parallel(checks.check_proxy, chosen), strict=True):
            self._tell(request, proxy, check)

    def _tell(self, request: HttpRequest, proxy: Proxy, check: checks.Check) -> None:
        place, error = shown.proxy_place(proxy), check.error
        if error is None:
            told = {"proxy": place, "ms": check.latency_ms}
            messages.success(request, _("The proxy %(proxy)s works; Avito answered in %(ms)s ms.") % told)
        elif reason := shown.proxy_reason(proxy):
            text = _("The proxy %(proxy)s does not work: %(reason)s.")
            messages.error(request, text % {"proxy": place, "reason": reason})
        else:
            messages.warning(request, f"{place}: {words(code_of(error), text_of(error))}")


def _account_link(account: Account) -> SafeString:
    return shown.link(reverse("admin:avito_accounts_account_change", args=[account.pk]), account.name)
