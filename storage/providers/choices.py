"""What an operator chooses of a provider. Without the providers' libraries, which take a while to import."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VaultChoices:
    """Where Vault is, and the transit key to use. The token file is read again whenever it has changed."""

    addr: str = ""
    token_file: Path = Path("vault-token")
    mount: str = "transit"
    key: str = "plora"


@dataclass(frozen=True, slots=True)
class KmsChoices:
    """Which KMS, and how its keys are called. Credentials are found as AWS's own tools find them."""

    endpoint: str = ""
    region: str = ""
    alias: str = "plora"
