"""The back office's common ground: who may see what there, and the people themselves."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ClassVar

from axes.models import AccessAttempt
from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from api.roles import HOSTS, Permission, permissions_of

ROLE_NAMES = {"admin": _("administrator"), "director": _("director"), "operator": _("operator"), HOSTS: _("host")}


class PlainModelAdmin(ModelAdmin):
    """Unfold's, in words for people who have no idea of models and tables."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = capfirst(self.opts.verbose_name_plural)  # rather than "Select ... to change"
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Of what goes as well, what has a page of its own; the rows behind it go without saying."""
        rows, counts, needed, protected = super().get_deleted_objects(objs, request)
        pages = {model._meta.verbose_name_plural for model in self.admin_site._registry}
        counts = {name: count for name, count in counts.items() if name in pages}
        return _with_pages(rows), counts, needed, protected


def _with_pages(rows: list[Any]) -> list[Any]:
    kept = [_with_pages(row) if isinstance(row, list) else row for row in rows]
    return [row for row in kept if row and (isinstance(row, list) or "<a " in row)]


class RoleModelAdmin(PlainModelAdmin):
    """An admin page whose doors follow the roles of the API, so that one table says who may do what.

    `to_see` opens list and page, `to_change` the form; a page with `read_only` adds, changes and deletes nothing.
    """

    to_see: ClassVar[Permission]
    to_change: ClassVar[Permission | None] = None
    show_full_result_count = False  # counts a whole table for one number
    list_per_page = 50

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.to_see in permissions_of(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.to_change is not None and self.to_change in permissions_of(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)


def asks_first(action: Callable[..., HttpResponse] | None = None, *, text: Any = "") -> Any:
    """For what a button does: a GET shows one more button, and only its POST does the work.

    For buttons of a page, whose object is shown, and of a list, for which `text` says what will happen.
    """
    if action is None:
        return partial(asks_first, text=text)

    @wraps(action)
    def view(page: ModelAdmin, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        key = () if object_id is None else (object_id,)
        if request.method == "POST":
            return action(page, request, *key)
        found = page.get_object(request, object_id) if object_id is not None else None
        if found is None and key:
            raise Http404
        context = {
            **page.admin_site.each_context(request),
            "title": getattr(page, action.__name__).short_description,
            "text": text,
            "object": found,
            "opts": page.opts,
            "back": reverse(admin_urlname(page.opts, "change" if key else "changelist"), args=key),  # type: ignore[arg-type]
        }
        return TemplateResponse(request, "admin/confirm.html", context)

    return view


class RolesField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # not generic at run time
    def label_from_instance(self, group: Any) -> str:
        return str(capfirst(ROLE_NAMES.get(group.name, group.name)))


class UserForm(UserChangeForm):
    groups = RolesField(
        Group.objects.all(),
        label=_("Roles"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=_("What each of them may do is part of the product. A host runs the own properties in the back office."),
    )


admin.site.unregister(User)
admin.site.unregister(Group)  # what a role may do is a table in the code: see `api.roles`


@admin.register(User)
class UserAdmin(DjangoUserAdmin, PlainModelAdmin):  # type: ignore[type-arg]
    form = UserForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_staff", "is_superuser", "is_active")
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    fieldsets = (
        *DjangoUserAdmin.fieldsets[:2],
        (_("What they may do"), {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        (_("When"), {"fields": ("last_login", "date_joined")}),
    )


apps.get_app_config("axes").verbose_name = _("Signing in")
AccessAttempt.__str__ = lambda attempt: f"{attempt.username}, {attempt.ip_address}"


@admin.register(AccessAttempt)
class AccessAttemptAdmin(RoleModelAdmin):
    """Whoever failed to sign in. Deleting a row lets them try again at once."""

    to_see = to_change = "accounts.manage"
    list_display = ("attempt_time", "username", "ip_address", "failures_since_start", "user_agent")
    fields = readonly_fields = ("attempt_time", "username", "ip_address", "failures_since_start", "path_info", "user_agent")
    search_fields = ("username", "ip_address")
    search_help_text = _("name or address")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
