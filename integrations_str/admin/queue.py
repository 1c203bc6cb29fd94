"""The sync queue, for the staff in charge: what is due, under way, failing and given up, and why."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, Count, Q, QuerySet, Value, When
from django.db.models.functions import Least, Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from avito_accounts.admin import shown
from integrations_str import health, queue
from integrations_str.admin import common
from integrations_str.admin.common import OwnModelAdmin
from integrations_str.models import SyncTask

REVIVED_AT_ONCE = 200
"""Each takes a few milliseconds; whoever pressed the button waits for it."""

IS_ON = Q(integration__is_active=True)
IS_DEAD = IS_ON & Q(dead_at__isnull=False)
IS_RUNNING = Q(claimed_until__gt=Now())
IS_FAILING = IS_ON & ~IS_DEAD & (~Q(push_error_code="") | ~Q(pull_error_code=""))
IS_DUE = IS_ON & (Q(pull_at__lte=Now()) | Q(push_at__lte=Now(), dead_at=None))
IS_CLOSING = IS_ON & Q(is_closing=True, push_at__isnull=False)
AWAITS_CONSENT = IS_ON & Q(waits_for_consent=True)


class StateFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("state"), "state"
    answers = {
        "due": (gettext_lazy("due now"), IS_DUE),
        "running": (gettext_lazy("under way"), IS_RUNNING),
        "failing": (gettext_lazy("failing"), IS_FAILING),
        "dead": (gettext_lazy("given up"), IS_DEAD),
        "closing": (gettext_lazy("nights have to close"), IS_CLOSING),
        "consent": (gettext_lazy("waiting for consent"), AWAITS_CONSENT),
        "paused": (gettext_lazy("paused"), ~IS_ON),
    }


@admin.register(SyncTask)
class SyncTaskAdmin(OwnModelAdmin):
    """Rows change in the queue alone: here they are watched and revived. What a row stands for has its own page."""

    list_display = ("connection", "state", "push", "pull", "reasons")
    list_filter = (StateFilter,)
    list_display_links = None
    list_fullwidth = True
    search_fields = ("integration__property__name", "integration__item_id", "integration__property__owner__username")
    search_help_text = gettext_lazy("property, item at Avito, or owner")
    list_select_related = ("integration__property__owner", "integration__account__authorization")
    list_before_template = "admin/integrations_str/synctask/summary.html"
    ordering = (
        Case(When(IS_DEAD, then=Value(0)), When(IS_FAILING, then=Value(1)), default=Value(2)).asc(),
        Least("push_at", "pull_at").asc(),
        "id",
    )
    actions = ("revive",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return common.sees_all(request)

    def own(self, request: HttpRequest, rows: Any) -> Any:
        return rows if common.sees_all(request) else rows.none()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        summary = SimpleLazyObject(summary_of)  # an action shows no list
        return super().changelist_view(request, {**(extra_context or {}), "summary": summary})

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        task = self.get_object(request, object_id) if self.has_view_permission(request) else None
        if task is None:
            return super().change_view(request, object_id, *args, **kwargs)  # type: ignore[no-any-return]
        return HttpResponseRedirect(common.connection_href(task.integration_id))

    @admin.action(description=gettext_lazy("Try again now"), permissions=["view"])
    def revive(self, request: HttpRequest, queryset: QuerySet[SyncTask]) -> None:
        chosen = list(queryset.select_related("integration")[: REVIVED_AT_ONCE + 1])
        if len(chosen) > REVIVED_AT_ONCE:
            chosen.pop()
            text = _("Only the first %(count)s were taken. Choose the others next.")
            messages.warning(request, text % {"count": REVIVED_AT_ONCE})
        for task in chosen:
            queue.due_now(task.integration)
        text = ngettext("%(count)d connection is due now.", "%(count)d connections are due now.", len(chosen))
        messages.success(request, text % {"count": len(chosen)})

    @admin.display(description=gettext_lazy("connection"), ordering="integration__property__name")
    def connection(self, task: SyncTask) -> SafeString:
        integration = task.integration
        link = shown.link(common.connection_href(integration.pk), integration.property.name)
        return shown.noted(link, f"№ {integration.item_id} · {integration.property.owner}", room=8)

    @admin.display(description=gettext_lazy("state"))
    def state(self, task: SyncTask) -> SafeString:
        closing = shown.label("warning", _("nights have to close")) if task.is_closing and task.push_at else ""
        return shown.noted(shown.label(*state_of(task)), closing, room=9)

    @admin.display(description=gettext_lazy("next push"), ordering="push_at")
    def push(self, task: SyncTask) -> SafeString | str:
        if task.dead_at:
            return shown.noted(_("never"), _("given up %(when)s") % {"when": shown.moment(task.dead_at)})
        if task.push_at is None:
            return shown.noted(_("nothing waits"), _left(task.left_days))
        waits = _("waits since %(when)s") % {"when": shown.moment(task.dirty_since)} if task.dirty_since else ""
        return shown.noted(when(task.push_at), waits)

    @admin.display(description=gettext_lazy("next reading"), ordering="pull_at")
    def pull(self, task: SyncTask) -> SafeString:
        read = task.integration.last_pull_at
        return shown.noted(when(task.pull_at), _("last one %(when)s") % {"when": shown.moment(read)} if read else "")

    @admin.display(description=gettext_lazy("why"))
    def reasons(self, task: SyncTask) -> SafeString | str:
        found = format_html_join(SafeString("<br>"), "{}", ((one,) for one in reasons_of(task)))
        shape = '<div class="whitespace-normal break-words max-w-sm" style="min-width: 14rem">{}</div>'
        return format_html(shape, found) if found else shown.NOTHING


def _left(days: int) -> str:
    return _("left as they are: %(nights)s") % {"nights": common.nights(days)} if days else ""


def state_of(task: SyncTask) -> tuple[str, Any]:
    """A colour and a word."""
    now, integration = timezone.now(), task.integration
    if not integration.is_active:
        return "default", _("paused")
    if task.claimed_until and task.claimed_until > now:
        return "info", _("under way")
    if not health.is_usable(integration):
        return "warning", _("waiting for the account")
    if task.dead_at:
        return "danger", _("given up")
    if task.push_error_code or task.pull_error_code:
        return "danger", _("failing")
    if task.waits_for_consent:
        return "warning", _("waiting for consent")
    if task.pull_at <= now or (task.push_at and task.push_at <= now):
        return "info", _("due now")
    return "success", _("waiting for its turn")


def reasons_of(task: SyncTask) -> list[str]:
    """Why it fails, each in the reader's language, with how often in a row."""
    found = []
    for failures, code, text, what in (
        (task.push_failures, task.push_error_code, task.push_error_detail, _("push")),
        (task.pull_failures, task.pull_error_code, task.pull_error_detail, _("reading")),
    ):
        if code:
            often = _("failures in a row: %(count)s") % {"count": failures} if failures > 1 else ""
            told = health.Health("error", code, text).detail
            found.append(f"{what}: {told}" + (f" ({often})" if often else ""))
    if task.deaths:
        found.append(_("workers that did not come back: %(count)s") % {"count": task.deaths})
    return found


def when(at: Any) -> str:
    """A moment ahead, as people wait for it."""
    seconds = (at - timezone.now()).total_seconds()
    if seconds < 1:
        return _("now")
    if seconds < 90:
        return _("in %(count)s s") % {"count": round(seconds)}
    return _("in %(count)s min") % {"count": round(seconds / 60)}


def summary_of() -> dict[str, Any]:
    """The whole queue in a few figures, in one query."""
    counts: dict[str, Any] = SyncTask.objects.aggregate(
        total=Count("pk"), **{word: Count("pk", filter=test) for word, (_text, test) in StateFilter.answers.items()}
    )
    figures = [
        {"word": word, "text": text, "count": shown.number(counts[word]), "is_bad": word in ("dead", "failing")}
        for word, (text, _test) in StateFilter.answers.items()
        if counts[word] or word in ("due", "running", "failing", "dead")
    ]
    return {"any": counts["total"], "total": shown.number(counts["total"]), "figures": figures}
