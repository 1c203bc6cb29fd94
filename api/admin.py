"""The back office's common ground: who may see what there, and the people themselves."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import Any, ClassVar

from axes.models import AccessAttempt
from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import helpers
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.admin.views.main import ERROR_FLAG
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DataError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, AuthenticationForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from api.roles import HOSTS, Permission, permissions_of


class PlainModelAdmin(ModelAdmin):
    """Unfold's, for people who have no idea of models and rows."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = capfirst(self.opts.verbose_name_plural)  # rather than "Select ... to change"
        try:
            return super().changelist_view(request, {"title": title, **(extra_context or {})})
        except DataError:  # a filter of a made-up address: as Django answers to others of that kind
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Without what an address has made up."""
        given = super().get_changeform_initial_data(request)
        return {name: value for name, value in given.items() if _is_possible(self.opts, name, value)}

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for key in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME):
            try:
                self.opts.pk.to_python(key)
            except ValidationError:
                raise Http404 from None
        return super().response_action(request, queryset)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What goes is named, what goes with it is counted if it has pages: an account has its days by the hundred."""
        _nested, counts, lacking, protected = super().get_deleted_objects(objs, request)
        known = {model._meta.verbose_name_plural for model in self.admin_site._registry}
        counted = {one: counts[one] for one in counts if one in known}
        # What is protected is the reason for everybody, whatever they may do.
        return [str(one) for one in objs], counted, set() if protected else lacking, protected


def _is_possible(opts: Any, name: str, value: Any) -> bool:
    with suppress(FieldDoesNotExist):  # the form's own
        field = opts.get_field(name)
        try:
            (field.target_field if field.many_to_one else field).to_python(value)
        except ValidationError:
            return False
    return "\0" not in str(value)


class RoleModelAdmin(PlainModelAdmin):
    """An admin page whose doors follow the roles of the API, so that one table says who may do what.

    `to_see` opens list and page, `to_change` the form; a page with `read_only` adds, changes and deletes nothing.
    """

    to_see: ClassVar[Permission]
    to_change: ClassVar[Permission | None] = None
    nothing: ClassVar[Any] = ""
    """What an empty list says: why, and what to do."""
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


class WithOverview(RoleModelAdmin):
    """The page of one row shows an overview beside its form, made when the page is shown and not when it is saved."""

    overview_name = "overview"
    """What the template calls it."""

    @abstractmethod
    def overview_of(self, request: HttpRequest, obj: Any) -> Any:
        """What the template shows of this row."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        def made() -> Any:
            found = self.get_object(request, object_id) if object_id else None
            return None if found is None else self.overview_of(request, found)

        context = {**(extra_context or {}), self.overview_name: SimpleLazyObject(made)}
        return super().changeform_view(request, object_id, form_url, context)


def asks_first(action: Callable[..., HttpResponse] | None = None, *, text: Any = "", is_final: bool = False) -> Any:
    """For what a button does: a GET shows one more button, and only its POST does the work.

    For buttons of a page, whose object is shown, and of a list. `text` says what will happen, or is asked with the
    object; `is_final`: it cannot be undone.
    """
    if action is None:
        return partial(asks_first, text=text, is_final=is_final)

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
            "text": text(found) if callable(text) else text,
            "is_final": is_final,
            "object": found,
            "back": reverse(admin_urlname(page.opts, "change" if key else "changelist"), args=key),  # type: ignore[arg-type]
        }
        return TemplateResponse(request, "admin/confirm.html", context)

    return view


class SignInForm(AuthenticationForm):
    """Says which of the two it is: a wrong password, or a right one of somebody who may not come in here."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": _("The username or the password is wrong."),
        "no_entry": _("You may not enter the back office. Ask an administrator."),
    }

    def confirm_login_allowed(self, user: Any) -> None:
        if not (user.is_active and user.is_staff):
            raise forms.ValidationError(self.error_messages["no_entry"], code="no_entry")


admin.site.index_title = _("Home")
admin.site.empty_value_display = "—"
admin.site.login_form = SignInForm
admin.site.unregister(User)
admin.site.unregister(Group)  # what a role may do is a table in the code: see `api.roles`
User._meta.verbose_name_plural = _("people")

ROLES = {
    "admin": _("Administrator: everything, people and settings too"),
    "director": _("Director: accounts to look at, chats, messenger"),
    "operator": _("Operator: accounts to look at, chats, messenger"),
    HOSTS: _("Host: the own properties, bookings and calendars"),
}


class RolesField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # not generic at run time
    widget = UnfoldAdminCheckboxSelectMultipleWidget

    def label_from_instance(self, group: Any) -> str:
        return str(ROLES.get(group.name, group.name))


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


def _title(role: str) -> str:
    return str(ROLES.get(role, role)).split(":")[0]


class RoleFilter(admin.SimpleListFilter):
    title, parameter_name = _("role"), "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(role, _title(role)) for role in ROLES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        return queryset.filter(groups__name=self.value()) if self.value() in ROLES else queryset


@admin.register(User)
class UserAdmin(RoleModelAdmin, DjangoUserAdmin):  # type: ignore[type-arg]
    """Rights come from roles alone, so Django's long list of single permissions is not asked.

    Superusers are made and changed by superusers alone.
    """

    to_see = to_change = "accounts.manage"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    add_form_template = "admin/change_form.html"
    list_display = ("username", "full_name", "roles", "is_active", "may_enter", "last_login")
    list_filter = (RoleFilter, "is_active", "is_staff", "is_superuser")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", ("first_name", "last_name"), "email")}),
        (_("What this person may do"), {"fields": ("groups", "is_staff", "is_active", "is_superuser")}),
        (_("Dates"), {"fields": (("last_login", "date_joined"),)}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "password1", "password2", ("first_name", "last_name"))}),
        (_("What this person may do"), {"fields": ("groups", "is_staff")}),
    )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_above = isinstance(obj, User) and obj.is_superuser and not _is_superuser(request)
        return not is_above and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj != request.user and super().has_delete_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.readonly_fields if _is_superuser(request) else (*self.readonly_fields, "is_superuser")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"is_staff": True, **super().get_changeform_initial_data(request)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description=_("full name"), ordering="first_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name() or "—"

    @admin.display(description=_("Back office"), ordering="is_staff", boolean=True)
    def may_enter(self, user: User) -> bool:
        return user.is_staff

    @admin.display(description=_("roles"))
    def roles(self, user: User) -> str:
        held = [_title(group.name) for group in user.groups.all()]
        return ", ".join([*([str(_("Superuser"))] if user.is_superuser else []), *held]) or "—"

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            return RolesField(Group.objects.order_by("pk"), label=_("Roles"), required=False)
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field and db_field.name == "is_staff":
            field.label = _("May enter the back office")
            field.help_text = _("Without it the person may only use the API.")
        return field


apps.get_app_config("axes").verbose_name = _("Signing in")
AccessAttempt.__str__ = lambda attempt: f"{attempt.username}, {attempt.ip_address}"


@admin.register(AccessAttempt)
class AccessAttemptAdmin(RoleModelAdmin):
    """Whoever failed to sign in. Deleting a row lets them try again at once."""

    to_see = to_change = "accounts.manage"
    nothing = _("No failed sign-ins.")
    list_display = ("attempt_time", "username", "ip_address", "failures_since_start", "user_agent")
    fields = ("attempt_time", "username", "ip_address", "failures_since_start", "path_info", "user_agent")
    readonly_fields = fields
    search_fields = ("username", "ip_address")
    search_help_text = _("username or IP address")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
