"""The OAuth pages that a browser walks through, and the refresh by hand."""

import secrets
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.permissions import Permitted
from api.roles import permissions_of
from avito_accounts import oauth, tokens
from avito_accounts.errors import AccountNotAuthorized, AuthorizationRefused, ReconnectRequired
from avito_accounts.models import Account, AuthorizationRequest

BROWSER_COOKIE = "avito_oauth_browser"
MESSAGES = {
    "invalid_state": gettext_lazy("The link is old, was used already, or was opened in another browser. Start again."),
    "access_denied": gettext_lazy("Consent was not given at Avito."),
    "missing_code": gettext_lazy("Avito came back without a code. Start again."),
    "exchange_failed": gettext_lazy("Avito did not hand out the access, or did not say whose it is. Start again."),
    "account_mismatch": gettext_lazy("Consent was given by another profile at Avito than this account belongs to."),
    "user_id_taken": gettext_lazy("Another account here already belongs to this profile at Avito."),
}


class Authorize(APIView):
    """Sends a browser to Avito's consent page, signed in by header, by session, or by the ticket of a link."""

    permission_classes = [AllowAny]
    http_method_names = ["get", "options"]  # a HEAD would spend the ticket as well
    needs = "accounts.manage"

    @extend_schema(
        parameters=[OpenApiParameter("ticket", str)],
        responses={302: OpenApiResponse(description="to Avito's consent page")},
    )
    def get(self, request: Request, account_id: int) -> HttpResponse:
        return to_consent(request, self._consent(request, account_id))

    def _consent(self, request: Request, account_id: int) -> AuthorizationRequest:
        tokens.application_keys()  # before the ticket is spent
        ticket = request.query_params.get("ticket")
        if ticket:
            consent = oauth.redeem(ticket, account_id=account_id)
            if consent is None or self.needs not in permissions_of(consent.user):
                raise NotAuthenticated(_("The link has expired or was used already."), code="invalid_ticket")
            return consent
        if not Permitted().has_permission(request, self):
            self.permission_denied(request)
        account = get_object_or_404(Account, pk=account_id)
        assert isinstance(request.user, User)  # noqa: S101  permitted, so somebody
        return oauth.request_for(account, user=request.user)


def to_consent(request: Request, consent: AuthorizationRequest) -> HttpResponse:
    """Send the browser to Avito, bound to it by a cookie."""
    browser = request.COOKIES.get(BROWSER_COOKIE) or secrets.token_urlsafe(32)
    response = HttpResponseRedirect(oauth.consent_url(consent, browser=browser))
    response.set_cookie(
        BROWSER_COOKIE,
        browser,
        max_age=oauth.STATE_SECONDS,
        path="/api/v1/",
        secure=settings.PUBLIC_HTTPS,
        httponly=True,
        samesite="Lax",
    )
    response["Cache-Control"] = "no-store"
    return response


class AuthorizePurpose(APIView):
    """Sends a browser to Avito's consent page for another part of the service; the link's ticket opens it."""

    permission_classes = [AllowAny]
    http_method_names = ["get", "options"]

    @extend_schema(
        auth=[],
        parameters=[OpenApiParameter("ticket", str, required=True)],
        responses={302: OpenApiResponse(description="to Avito's consent page")},
    )
    def get(self, request: Request, purpose: str) -> HttpResponse:
        tokens.application_keys()  # before the ticket is spent
        consent = oauth.redeem(request.query_params.get("ticket", ""), purpose=purpose)
        known = oauth.purpose_of(consent)
        if consent is None or known is None or not known.may(consent):
            raise NotAuthenticated(_("The link has expired or was used already."), code="invalid_ticket")
        return to_consent(request, consent)


class Refresh(APIView):
    """Renews an account's tokens now."""

    needs = "accounts.manage"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with tokens.asking_together(kwargs["account_id"]) as self.asked_at:  # before anything that may have to wait
            return super().dispatch(request, *args, **kwargs)

    @extend_schema(
        request=None,
        responses=inline_serializer(
            "Refreshed",
            {
                "success": serializers.BooleanField(),
                "expiresIn": serializers.IntegerField(),
                "expiresAt": serializers.DateTimeField(),
            },
        ),
    )
    def get(self, request: Request, account_id: int) -> Response:
        try:
            authorization = tokens.renew(get_object_or_404(Account, pk=account_id), asked_at=self.asked_at)
        except AccountNotAuthorized:  # never connected: here too the way out is a consent
            raise ReconnectRequired from None
        left = round((authorization.expires_at - timezone.now()).total_seconds())
        expires_at = serializers.DateTimeField().to_representation(authorization.expires_at)
        return Response({"success": True, "expiresIn": left, "expiresAt": expires_at})

    post = get


class Callback(APIView):
    """Where Avito sends the browser back to; ends at the single-page app, or at a page of our own."""

    authentication_classes = ()
    permission_classes = [AllowAny]
    http_method_names = ["get"]  # a HEAD would burn the state as well

    @extend_schema(
        auth=[],
        parameters=[OpenApiParameter(name, str) for name in ("state", "code", "error")],
        responses={
            (200, "text/html"): OpenApiResponse(OpenApiTypes.STR, "a page of our own: connected"),
            302: OpenApiResponse(description="to FRONTEND_URL"),
            (400, "text/html"): OpenApiResponse(OpenApiTypes.STR, "a page of our own: refused, and why"),
        },
    )
    @method_decorator(never_cache)
    def get(self, request: Request) -> HttpResponse:
        try:
            account, consent = oauth.finish(request.query_params, browser=request.COOKIES.get(BROWSER_COOKIE, ""))
        except AuthorizationRefused as refused:
            return _refused(request, refused)
        if purpose := oauth.purpose_of(consent):
            return HttpResponseRedirect(purpose.way_back(consent))
        if settings.FRONTEND_URL:
            path = settings.AVITO_OAUTH_SUCCESS_PATH.replace("{id}", str(account.pk))
            return HttpResponseRedirect(settings.FRONTEND_URL + path)
        return _page(request, 200, account=account)

    def perform_authentication(self, request: Request) -> None:
        """Nobody is asked who they are; the page shows itself to whoever the session knows."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return super().perform_content_negotiation(request, force=True)  # a browser may accept HTML alone


def _refused(request: Request, refused: AuthorizationRefused) -> HttpResponse:
    message = str(MESSAGES[refused.code])
    if purpose := oauth.purpose_of(refused.request):
        return HttpResponseRedirect(purpose.way_back(refused.request, refused.code))
    if settings.FRONTEND_URL:
        path = settings.AVITO_OAUTH_ERROR_PATH
        for name, value in {"code": refused.code, "message": message, "id": str(refused.account_id or "")}.items():
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        return HttpResponseRedirect(settings.FRONTEND_URL + path)
    account = Account.objects.filter(pk=refused.account_id or 0).first()
    return _page(request, 400, account=account, code=refused.code, message=message)


def _page(request: Request, status: int, **context: Any) -> HttpResponse:
    """Leads to the accounts; whoever is known to have no business there, to the first page."""
    page = request._request
    shell = admin.site.each_context(page)
    may_go_on = not page.user.is_authenticated or "accounts.read" in permissions_of(page.user)
    return render(
        page, "avito_accounts/oauth_result.html", {**shell, **context, "to_accounts": may_go_on}, status=status
    )
