"""Tokens of an identity provider, as callers: a JWT whose signature, times, issuer and audience all hold.

Nothing that a token says of itself decides how it is checked: its algorithm must be one that the operator chose and
that the key found by its id is for; keys and addresses in its header are a reason to refuse it.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import jwt

from daemon import jwks
from daemon.identity import IdentityChoices
from daemon.jwks import Jwks
from policies.access import BEYOND_TENANT, GRANTS
from storage import Caller, Tenant

TOKEN_BYTES = 16_384
LEEWAY_S = 30
HEADER = frozenset({"alg", "kid", "typ"})
KINDS = frozenset({"JWT", "AT+JWT", "APPLICATION/AT+JWT"})
REQUIRED = ["iss", "aud", "exp", "nbf", "sub"]
MOST_SCOPES = 100


@dataclass(frozen=True)
class Verifier:
    """Turns tokens to Callers. `tenant_of` gives the tenant of a name, `secret` keys the ids that subjects get."""

    choices: IdentityChoices
    keys: Jwks
    tenant_of: Callable[[str], Tenant | None]
    default_tenant: str
    secret: bytes = field(repr=False)

    def caller(self, token: str) -> Caller | None:
        """The Caller that the token stands for; None when anything about it does not hold."""
        claims = self._claims(token) if 0 < len(token) <= TOKEN_BYTES else None
        if claims is None:
            return None
        named = claims.get(self.choices.tenant_claim) if self.choices.tenant_claim else self.default_tenant
        tenant = self.tenant_of(named) if isinstance(named, str) else None
        subject = claims["sub"]
        if tenant is None or not isinstance(subject, str) or not subject:
            return None
        identifier = self._identifier(subject)
        return Caller(identifier, tenant.id, identifier, _scopes(claims.get(self.choices.scope_claim)))

    def _claims(self, token: str) -> Mapping[str, object] | None:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if not _is_plain(header) or algorithm not in self.choices.chosen or not isinstance(kid, str):
                return None
            key = self.keys.find(kid) if len(kid) <= jwks.KID_CHARS else None
            if key is None or algorithm not in key.algorithms:
                return None
            claims: Mapping[str, object] = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                issuer=self.choices.issuer,
                audience=self.choices.audience,
                leeway=LEEWAY_S,
                options={"require": REQUIRED},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        return claims

    def _identifier(self, subject: str) -> str:
        """Stable, and no way back to who it is: for the log and the audit log."""
        parts = (b"plora/caller/1", self.choices.issuer.encode(), subject.encode("utf-8", "surrogatepass"))
        message = b"".join(len(each).to_bytes(4, "big") + each for each in parts)
        return hmac.digest(self.secret, message, "sha256")[:16].hex()


def verifier(
    choices: IdentityChoices,
    monotonic: Callable[[], float],
    *,
    tenant_of: Callable[[str], Tenant | None],
    default_tenant: str,
    secret: bytes,
) -> Verifier | None:
    """None while no provider is chosen. Nothing is fetched before the first token comes."""
    if not choices.issuer:
        return None
    load = (
        partial(jwks.read_file, choices.jwks_file)
        if choices.jwks_file is not None
        else partial(jwks.fetch, choices.jwks_url, monotonic)
    )
    return Verifier(choices, Jwks(load, monotonic), tenant_of, default_tenant, secret)


def _is_plain(header: Mapping[str, object]) -> bool:
    return header.keys() <= HEADER and str(header.get("typ", "JWT")).upper() in KINDS


def _scopes(claim: object) -> frozenset[str]:
    """Those of the tenant that the claim names; what reaches further is only given to tokens of the daemon's own."""
    words = claim.split(" ") if isinstance(claim, str) else claim if isinstance(claim, list) else []
    named = frozenset(each for each in words[:MOST_SCOPES] if isinstance(each, str))
    return (named & GRANTS.keys()) - BEYOND_TENANT
