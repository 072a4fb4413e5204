"""What an operator says of the identity provider whose tokens are taken beside the daemon's own."""

from dataclasses import dataclass
from pathlib import Path

from daemon import addresses
from daemon.errors import DaemonError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""All asymmetric: the daemon holds nothing that could sign."""


class WrongIdentity(DaemonError):
    """What is said of the identity provider does not fit; `field` is the setting."""

    def __init__(self, field: str, needed: str) -> None:
        super().__init__(field, needed)
        self.field, self.needed = field, needed

    def __str__(self) -> str:
        return f"PLORA_OIDC_{self.field.upper()} must be {self.needed}"


@dataclass(frozen=True, slots=True)
class IdentityChoices:
    """No tokens of a provider are taken while `issuer` is empty.

    Its keys are read from `jwks_url` or `jwks_file`. The claim `tenant_claim` names the tenant, which must exist; when
    it is empty, every token is for PLORA_TENANT. The claim `scope_claim` holds scopes, as a list or between spaces.
    """

    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    jwks_file: Path | None = None
    tenant_claim: str = ""
    scope_claim: str = "scope"
    algorithms: str = "RS256,ES256,EdDSA"

    def __post_init__(self) -> None:
        for name in self.chosen:
            if name not in ALGORITHMS:
                raise WrongIdentity("algorithms", f"some of {', '.join(ALGORITHMS)}, with commas between")
        if not self.issuer:
            if self.jwks_url or self.jwks_file or self.audience:
                raise WrongIdentity("issuer", "the provider's own name, as its tokens have it in iss")
            return
        if not self.audience:
            raise WrongIdentity("audience", "what the provider's tokens for this daemon have in aud")
        if bool(self.jwks_url) == (self.jwks_file is not None):
            raise WrongIdentity("jwks_url", "set, or else PLORA_OIDC_JWKS_FILE, and not both")
        if self.jwks_url and (found := addresses.flaw(self.jwks_url, secret=True)) is not None:
            raise WrongIdentity("jwks_url", found)
        if not self.scope_claim:
            raise WrongIdentity("scope_claim", "the name of a claim")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The algorithms, as given."""
        return tuple(each.strip() for each in self.algorithms.split(","))
