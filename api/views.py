"""Signing in, and who one is."""

from typing import Any

from django.contrib.auth import user_logged_in
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from api.authentication import InvalidToken
from api.roles import PERMISSIONS, permissions_of, role_of
from api.serializers import Serializer


class CredentialsSerializer(TokenObtainPairSerializer):
    default_error_messages = {"no_active_account": _("The name or the password is wrong.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A longer name is nobody's, and would not fit where failures are counted.
        self.fields["username"] = serializers.CharField(max_length=150, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        pair = super().validate(attrs)
        user_logged_in.send(User, request=self.context["request"], user=self.user)  # forgets the wrong tries
        return pair


class ObtainToken(TokenObtainPairView):
    """`{username, password}` -> `{access, refresh}`. Ten wrong tries from one address close the door for 15 minutes."""

    serializer_class = CredentialsSerializer

    def get_serializer_context(self) -> dict[str, Any]:
        # Django's own request: on it the lock leaves its mark for its middleware.
        return {**super().get_serializer_context(), "request": self.request._request}


class RefreshSerializer(TokenRefreshSerializer):
    default_error_messages = {"no_active_account": _("There is no such user, or the user is blocked.")}

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        try:
            return super().validate(attrs)
        except (TokenError, User.DoesNotExist, ValueError, TypeError):
            raise InvalidToken from None


class RefreshToken(TokenRefreshView):
    """`{refresh}` -> `{access}`."""

    serializer_class = RefreshSerializer


class MeSerializer(Serializer):
    id = serializers.IntegerField()
    username = serializers.CharField()
    role = serializers.SerializerMethodField()
    permissions = serializers.SerializerMethodField()

    @extend_schema_field(serializers.ChoiceField(choices=list(PERMISSIONS), allow_null=True))
    def get_role(self, user: User) -> str | None:
        return role_of(user)

    def get_permissions(self, user: User) -> list[str]:
        return list(permissions_of(user))


class Me(APIView):
    """Who the caller is, and what the role allows."""

    permission_classes = [IsAuthenticated]

    @extend_schema(responses=MeSerializer)
    def get(self, request: Request) -> Response:
        return Response(MeSerializer(request.user).data)
