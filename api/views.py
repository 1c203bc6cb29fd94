"""Signing in, and who one is."""

from django.contrib.auth.models import User
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from api.roles import PERMISSIONS, permissions_of, role_of
from api.serializers import Serializer


class ObtainToken(TokenObtainPairView):
    """`{username, password}` -> `{access, refresh}`. Ten wrong tries from one address close the door for 15 minutes."""


class RefreshToken(TokenRefreshView):
    """`{refresh}` -> `{access}`."""


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
