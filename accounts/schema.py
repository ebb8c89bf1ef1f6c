"""How the OpenAPI document describes bearer tokens."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class TokenScheme(OpenApiAuthenticationExtension):
    """``Authorization: Bearer fals_…``"""

    target_class = "accounts.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "fals_<prefix>_<secret>",
            "description": "Made on your account page; its scopes (read, annotate, manage) bound what it may do.",
        }
