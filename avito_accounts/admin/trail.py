"""Pages of the audit trail. It is read here and nowhere changed."""

from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from avito_accounts import audit

PER_PAGE = 50


class HistoryMixin:
    """The page "History" of one row shows who changed what, from what to what; of a row that is gone as well."""

    def history_view(self: Any, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        key = unquote(object_id)
        pk = int(key) if key.isdecimal() and len(key) < 19 else 0
        entries, there = audit.entries(self.opts.model_name, pk), self.get_object(request, key)
        if there is None and not entries.exists():
            raise Http404
        found = audit.read(entries[:1])
        title = _("History: %(name)s") % {"name": there or (found[0].name if found else "")}
        return page(self, request, entries, title=title, opts=self.opts, original=there)


def page(
    model_admin: Any,
    request: HttpRequest,
    entries: QuerySet[Any],
    *,
    title: Any,
    names_rows: bool = False,
    **context: Any,
) -> HttpResponse:
    pages = Paginator(entries, PER_PAGE)
    current = pages.get_page(request.GET.get("p"))
    shown = {
        **context,
        **model_admin.admin_site.each_context(request),
        "title": title,
        "changes": audit.read(current.object_list),
        "page": current,
        "names_rows": names_rows,
    }
    return TemplateResponse(request, "avito_accounts/changes.html", shown)
