"""The back office's common ground: who may see what there, and the people themselves."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ClassVar

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from api.roles import Permission, permissions_of

ROLES_HELP = _("Admins manage everything, directors and operators work with the chats, hosts run their own properties.")


class RoleModelAdmin(ModelAdmin):
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
            "back": reverse(admin_urlname(page.opts, "change" if key else "changelist"), args=key),  # type: ignore[arg-type]
        }
        return TemplateResponse(request, "admin/confirm.html", context)

    return view


admin.site.unregister(User)
admin.site.unregister(Group)


class PersonForm(UserChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        text = str(_('Nobody can read it. <a href="{}" class="underline">Set another one</a>.'))
        self.fields["password"].help_text = format_html(text, "../password/")


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    """A role is all there is to give: Django's single permissions open nothing here."""

    form = PersonForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "is_active", "is_staff", "is_superuser", "last_login")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Personal info"), {"fields": ("first_name", "last_name", "email")}),
        (_("Permissions"), {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        (_("Important dates"), {"fields": ("last_login", "date_joined")}),
    )

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field and db_field.name == "groups":
            field.label, field.help_text = _("Roles"), ROLES_HELP
            field.widget = UnfoldAdminCheckboxSelectMultipleWidget(choices=field.choices)
        return field


@admin.register(AccessAttempt)
class AccessAttemptAdmin(RoleModelAdmin):
    """Wrong passwords that are still counted; deleted, they no longer keep anybody out."""

    to_see = "accounts.manage"
    list_display = ("username", "ip_address", "attempt_time", "failures_since_start", "is_locked_out")
    search_fields = ("username", "ip_address")
    fields = readonly_fields = (*list_display, "user_agent", "path_info")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request, obj)

    @admin.display(description=_("locked out"), boolean=True)
    def is_locked_out(self, attempt: AccessAttempt) -> bool:
        return bool(attempt.failures_since_start >= settings.AXES_FAILURE_LIMIT)
