"""News in the back office: each member of the staff sees what concerns the role or the person."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import Resolver404, URLPattern, path, resolve, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.decorators import display

from api.admin import RoleModelAdmin
from notifications import services
from notifications.models import Notification, NotificationQuerySet

COUNTED_MAX = 99


def unread_count(request: HttpRequest) -> int:
    """How many pieces of news the reader has not read, 100 for more than 99; asked for once a request."""
    if not hasattr(request, "unread_notifications"):
        unread = Notification.objects.visible_to(request.user).unread_by(request.user)
        request.unread_notifications = unread[: COUNTED_MAX + 1].count()  # type: ignore[attr-defined]
    return int(request.unread_notifications)  # type: ignore[attr-defined]


def badge(request: HttpRequest) -> str:
    count = unread_count(request)
    return f"{COUNTED_MAX}+" if count > COUNTED_MAX else str(count)


def has_news(request: HttpRequest) -> bool:
    return unread_count(request) > 0


def has_no_news(request: HttpRequest) -> bool:
    return not has_news(request)


def way_to(path: str, request: HttpRequest) -> str:
    """The page a piece of news leads to, if the reader may open it."""
    try:
        page = getattr(resolve(urlsplit(path).path).func, "model_admin", None)
    except Resolver404:
        return path
    return path if page is None or page.has_view_permission(request) else ""


def _where(request: HttpRequest) -> Callable[[Notification], str]:
    @admin.display(description=_("where to look"))
    def where(notification: Notification) -> str:
        way = way_to(notification.path, request)
        if not way:
            return "—"
        return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', way, _("Open"))

    return where


class UnreadFilter(admin.SimpleListFilter):
    title = _("unread")
    parameter_name = "unread"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("not read yet"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(is_read=False) if self.value() == "yes" else queryset


class OpenProblemFilter(admin.SimpleListFilter):
    title = _("problems")
    parameter_name = "problems"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("open", _("open problems"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(is_open=True) if self.value() == "open" else queryset


@admin.register(Notification)
class NotificationAdmin(RoleModelAdmin):
    """For everybody in the staff, each with the own rows. Newest first; all one can do is read."""

    list_display: tuple[Any, ...] = ("created_at", "importance", "news", "problem")
    list_display_links = None
    list_filter = (UnreadFilter, OpenProblemFilter, "level")
    sortable_by = ()
    ordering = ("-created_at", "-id")
    actions = ("mark_as_read",)
    list_before_template = "notifications/read_all.html"
    readonly_fields = ("created_at", "level", "title", "detail", "state")

    def has_view_permission(self, request: HttpRequest, obj: Notification | None = None) -> bool:
        return request.user.is_active and bool(getattr(request.user, "is_staff", False))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        visible = Notification.objects.visible_to(request.user)
        return visible.saying_if_read_by(request.user).saying_if_open().order_by(*self.ordering)

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        return (*self.list_display, _where(request))

    def get_fields(self, request: HttpRequest, obj: Notification | None = None) -> tuple[Any, ...]:
        return (*self.readonly_fields, _where(request))

    get_readonly_fields = get_fields

    def get_urls(self) -> list[URLPattern]:
        read_all = self.admin_site.admin_view(require_POST(self.read_all_view))
        return [path("read-all/", read_all, name="notifications_notification_read_all"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), "has_news": has_news(request)})

    @display(description=_("importance"), label={"info": "info", "warning": "warning", "error": "danger"})
    def importance(self, notification: Notification) -> Any:
        return notification.level, notification.get_level_display()

    @admin.display(description=_("notification"))
    def news(self, notification: Any) -> str:
        """Title and detail; the title of what is not read yet is bold and says so."""
        if notification.is_read:
            title = notification.title
        else:
            marked = '<strong class="font-semibold" title="{}" data-unread>● {}</strong>'
            title = format_html(marked, _("not read yet"), notification.title)
        shown = '<div class="break-words max-w-xl whitespace-normal">{}<p class="text-base-500">{}</p></div>'
        return format_html(shown, title, notification.detail)

    @admin.display(description=_("title"))
    def title(self, notification: Notification) -> str:
        return notification.title

    @admin.display(description=_("detail"))
    def detail(self, notification: Notification) -> str:
        return notification.detail or "—"

    @display(description=_("problem"), label={"open": "warning"})
    def problem(self, notification: Any) -> Any:
        return ("open", _("still open")) if notification.is_open else None

    @admin.display(description=_("problem"))
    def state(self, notification: Any) -> str:
        return str(_("still open")) if notification.is_open else "—"

    @admin.action(description=_("Mark as read"), permissions=["view"])
    def mark_as_read(self, request: HttpRequest, queryset: NotificationQuerySet) -> None:
        self._report(request, services.mark_read(queryset, user=request.user))

    def read_all_view(self, request: HttpRequest) -> HttpResponse:
        self._report(request, services.mark_read(Notification.objects.visible_to(request.user), user=request.user))
        return HttpResponseRedirect(reverse("admin:notifications_notification_changelist"))

    def _report(self, request: HttpRequest, count: int) -> None:
        text = ngettext("%(count)d notification is now read.", "%(count)d notifications are now read.", count)
        messages.info(request, text % {"count": count})
