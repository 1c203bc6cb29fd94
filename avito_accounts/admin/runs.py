"""Work on many accounts: how far it is, and what failed."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from api.admin import RoleModelAdmin
from avito_accounts.admin import shown
from avito_accounts.errors import words
from avito_accounts.models import Job, Run

FAILED_SHOWN = 200


@admin.register(Run)
class RunAdmin(RoleModelAdmin):
    """A person started it, workers do it: here it can only be watched."""

    to_see = "accounts.read"
    list_display = ("what", "state", "progress", "asked_by", "started_at", "finished_at")
    list_filter = ("kind",)
    sortable_by = ()
    list_before_template = "avito_accounts/cells.html"
    change_form_outer_before_template = "avito_accounts/run.html"
    fields = ("what", "asked_by", "started_at")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return Run.objects.with_progress().select_related("started_by").order_by("-id")

    def get_urls(self) -> list[URLPattern]:
        progress = self.admin_site.admin_view(self.progress_view)
        return [path("<int:run_id>/progress/", progress, name="avito_accounts_run_progress"), *super().get_urls()]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        run = self.get_object(request, object_id) if object_id else None
        context = {**(extra_context or {}), **(progress_of(run) if run else {})}
        return super().changeform_view(request, object_id, form_url, context)

    def progress_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """The part of the page that grows, by itself."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = get_object_or_404(self.get_queryset(request), pk=run_id)
        return TemplateResponse(request, "avito_accounts/run_progress.html", progress_of(run))

    @admin.display(description=_("what"))
    def what(self, run: Run) -> str:
        return run.get_kind_display()

    @admin.display(description=_("state"))
    def state(self, run: Any) -> str:
        if run.finished_at is None:
            return shown.label("info", _("under way"))
        return shown.label("danger", _("with failures")) if run.failed else shown.label("success", _("done"))

    @admin.display(description=_("progress"))
    def progress(self, run: Any) -> str:
        return render_to_string("avito_accounts/run_bar.html", bar_of(run))

    @admin.display(description=_("asked by"))
    def asked_by(self, run: Run) -> str:
        return run.started_by.get_username() if run.started_by else shown.NOTHING


def bar_of(run: Any) -> dict[str, Any]:
    """How far a run is; `good` and `bad` are percents of the bar."""
    total = run.total or 1
    bad = run.failed * 100 // total
    return {"run": run, "good": run.done * 100 // total - bad, "bad": bad}


def progress_of(run: Any) -> dict[str, Any]:
    failed = (
        run.jobs.exclude(finished_at=None).exclude(error_code="").select_related("account").order_by("account__name")
    )
    rows = [{"account": job.account, "reason": reason_of(job)} for job in failed[:FAILED_SHOWN]]
    return {**bar_of(run), "failures": rows, "are_more": run.failed > len(rows)}


def reason_of(job: Job) -> str:
    """Why a job failed; the account still knows the details if nothing has happened to it since."""
    account = job.account
    if job.kind == Job.Kind.SUBSCRIBE:
        code, text = account.webhook_error_code, account.webhook_error_detail
    else:
        code, text = account.connection_error_code, account.connection_error_detail
    return words(job.error_code, text if code == job.error_code else "")
