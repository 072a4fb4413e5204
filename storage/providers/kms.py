"""Key epochs in AWS KMS: epoch e is an HMAC key of its own behind alias/NAME-000000000e.

The bytes of an epoch are KMS's HMAC-SHA256 of a fixed label under that key: KMS keeps the key itself. To destroy an
epoch its key is disabled, which refuses it to everybody at once, and its deletion is scheduled with the shortest
waiting time that KMS has; until then an administrator of the account could bring it back.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from storage.key_errors import KeysAway, KeysDenied
from storage.providers import FIRST, LABEL
from storage.providers.choices import KmsChoices

WAITING_DAYS = 7
AWAY = re.compile(r"Throttling|Timeout|Unavailable|Internal|LimitExceeded|RequestLimit|5\d\d")
LIMITS = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "max_attempts": 2})
ALGORITHM = "HMAC_SHA_256"


class KmsKeys:
    """The epochs behind the aliases of one name. One thread at a time calls, as a KeyRing does."""

    name = "kms"
    delay = timedelta(days=WAITING_DAYS)

    def __init__(self, choices: KmsChoices) -> None:
        self._choices = choices
        self._known: dict[int, bytes] = {}
        with self._asking():
            self._client: Any = boto3.client(
                "kms", endpoint_url=choices.endpoint or None, region_name=choices.region or None, config=LIMITS
            )

    def epochs(self) -> dict[int, bytes]:
        with self._asking():
            alive = [each for each, key in self._keys().items() if self._state(key) == "Enabled"]
            self._known = {each: self._known.get(each) or self._derive(each) for each in alive}
        return dict(self._known)

    def new_epoch(self) -> int:
        with self._asking():
            epoch = max(self._keys(), default=FIRST - 1) + 1
            made = self._client.create_key(
                KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC", Description="wraps data keys of plora"
            )
            while True:
                try:
                    self._client.create_alias(AliasName=self._alias(epoch), TargetKeyId=made["KeyMetadata"]["KeyId"])
                except ClientError as problem:
                    if problem.response["Error"]["Code"] != "AlreadyExistsException":
                        raise
                    epoch += 1  # another daemon was faster
                else:
                    return epoch

    def destroy_epoch(self, epoch: int) -> timedelta:
        with self._asking():
            key = self._keys().get(epoch)
            if key is not None and self._state(key) != "PendingDeletion":
                self._client.disable_key(KeyId=key)
                self._client.schedule_key_deletion(KeyId=key, PendingWindowInDays=WAITING_DAYS)
        self._known.pop(epoch, None)
        return self.delay

    def _keys(self) -> dict[int, str]:
        """The id of each epoch's key, those whose deletion is scheduled too: no number is ever used again."""
        name = re.compile(re.escape(f"alias/{self._choices.alias}-") + r"(\d{10})")
        pages = self._client.get_paginator("list_aliases").paginate()
        aliases = [alias for page in pages for alias in page["Aliases"]]
        return {
            int(match[1]): alias["TargetKeyId"]
            for alias in aliases
            if (match := name.fullmatch(alias["AliasName"])) and "TargetKeyId" in alias
        }

    def _state(self, key: str) -> str:
        return str(self._client.describe_key(KeyId=key)["KeyMetadata"]["KeyState"])

    def _derive(self, epoch: int) -> bytes:
        answer = self._client.generate_mac(KeyId=self._alias(epoch), MacAlgorithm=ALGORITHM, Message=LABEL)
        derived = bytes(answer["Mac"])
        if len(derived) != 32:
            raise KeysDenied(self.name, "it answered by another algorithm")
        return derived

    def _alias(self, epoch: int) -> str:
        return f"alias/{self._choices.alias}-{epoch:010d}"

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except ClientError as problem:
            code = problem.response["Error"]["Code"]
            status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise (KeysAway if status >= 500 or AWAY.search(code) else KeysDenied)(self.name, code) from None
        except (NoCredentialsError, NoRegionError) as problem:
            raise KeysDenied(self.name, type(problem).__name__) from None
        except BotoCoreError as problem:
            raise KeysAway(self.name, type(problem).__name__) from None
