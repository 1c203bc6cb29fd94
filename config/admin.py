"""Periodic tasks in the back office: what each is for, how it went, on or off. Their rhythm is the code's."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from api.admin import RoleModelAdmin
from avito_accounts.admin import shown
from config import routines
from config.models import Routine
from config.system import schedule

for model in (PeriodicTask, ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule):
    admin.site.unregister(model)


# Titles name a task by what it does; its own words are a path in the code and a rhythm that does not decline.
PeriodicTask.__str__ = lambda task: str(routines.title(task.task))


class SwitchFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("state"), "enabled"
    answers = {
        "yes": (gettext_lazy("enabled"), Q(enabled=True)),
        "no": (gettext_lazy("disabled"), ~Q(enabled=True)),
    }


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(RoleModelAdmin):
    """Beat takes the rhythm from the code whenever it starts: here tasks are switched on and off, and nothing else."""

    to_see = "accounts.manage"
    to_change = "accounts.manage"
    list_display = ("what", "rhythm", "state", "rung", "ran")
    list_display_links = ("what",)
    list_filter = (SwitchFilter,)
    list_select_related = ("interval", "crontab", "solar", "clocked")
    list_before_template = "config/periodic_tasks.html"
    ordering = ("name",)
    actions = ("switch_on", "switch_off")
    readonly_fields = ("meaning", "rhythm", "rung", "ran", "failure", "path")
    fieldsets = (
        (None, {"fields": ("meaning", "enabled")}),
        (gettext_lazy("How it goes"), {"fields": ("rhythm", "rung", "ran", "failure", "path")}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What the code no longer knows may go; what it knows would come back with the next start of beat."""
        is_foreign = obj is not None and obj.name not in settings.CELERY_BEAT_SCHEDULE
        return is_foreign and super().has_delete_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PeriodicTask]:
        rows = Routine.objects.filter(name=OuterRef("task"))
        fields = ("started_at", "ended_at", "failed_at", "error")
        ran = {f"ran_{one}": Subquery(rows.values(one)[:1]) for one in fields}
        return super().get_queryset(request).annotate(**ran)  # type: ignore[no-any-return]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "enabled":
            kwargs["label"] = _("Switched on")
            kwargs["help_text"] = _("While it is off nobody does what it is for. Beat takes note within seconds.")
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @admin.display(description=gettext_lazy("task"), ordering="name")
    def what(self, task: PeriodicTask) -> SafeString:
        return shown.noted(routines.title(task.task), routines.meaning(task.task), room=16)

    @admin.display(description=gettext_lazy("what it is for"))
    def meaning(self, task: PeriodicTask) -> SafeString:
        return shown.noted(routines.title(task.task), routines.meaning(task.task), room=16)

    @admin.display(description=gettext_lazy("rhythm"))
    def rhythm(self, task: PeriodicTask) -> str:
        entry = settings.CELERY_BEAT_SCHEDULE.get(task.name)
        return schedule.rhythm_of(entry["schedule"]) if entry else str(task.scheduler)

    @admin.display(description=gettext_lazy("state"), ordering="enabled")
    def state(self, task: PeriodicTask) -> str:
        return shown.label("success", _("enabled")) if task.enabled else shown.label("default", _("disabled"))

    @admin.display(description=gettext_lazy("last rung by beat"), ordering="last_run_at")
    def rung(self, task: PeriodicTask) -> str:
        return shown.ago(task.last_run_at)

    @admin.display(description=gettext_lazy("last done by a worker"), ordering="ran_started_at")
    def ran(self, task: Any) -> str:
        text = shown.ago(task.ran_started_at)
        row = Routine(failed_at=task.ran_failed_at, ended_at=task.ran_ended_at)
        return shown.noted(text, shown.label("danger", _("failed"))) if row.is_failing else text

    @admin.display(description=gettext_lazy("last failure"))
    def failure(self, task: Any) -> str:
        if not task.ran_failed_at:
            return shown.NOTHING
        return shown.noted(shown.ago(task.ran_failed_at), routines.cause(task.ran_error), room=16)

    @admin.display(description=gettext_lazy("name in the code"))
    def path(self, task: PeriodicTask) -> str:
        return format_html("<code>{}</code>", f"{task.name}: {task.task}")

    @admin.action(description=gettext_lazy("Switch on"), permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._switch(request, queryset, is_on=True)

    @admin.action(description=gettext_lazy("Switch off"), permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._switch(request, queryset, is_on=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[PeriodicTask], *, is_on: bool) -> None:
        changed = list(queryset.exclude(enabled=is_on))
        for task in changed:
            task.enabled = is_on
            task.save()  # one by one: beat takes note by the signal
        if is_on:
            text = ngettext("%(count)d task is switched on.", "%(count)d tasks are switched on.", len(changed))
        else:
            text = ngettext("%(count)d task is switched off.", "%(count)d tasks are switched off.", len(changed))
        messages.success(request, text % {"count": len(changed)})
