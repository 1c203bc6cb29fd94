"""The back office's common ground: who may see what there, and the people themselves."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
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


def asks_first(action: Callable[[Any, HttpRequest, int], HttpResponse]) -> Callable[..., HttpResponse]:
    """For what a page's button does to its object: a GET shows one more button, and only its POST does the work."""

    @wraps(action)
    def view(page: ModelAdmin, request: HttpRequest, object_id: int) -> HttpResponse:
        if request.method == "POST":
            return action(page, request, object_id)
        context = {
            **page.admin_site.each_context(request),
            "title": getattr(page, action.__name__).short_description,
            "object": get_object_or_404(page.model, pk=object_id),
            "back": reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_change", args=[object_id]),
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
