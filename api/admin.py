"""The back office's common ground: who may see what there, and the people themselves."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from api.roles import Permission, permissions_of


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


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "is_active", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass
