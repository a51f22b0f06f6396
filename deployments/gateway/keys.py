"""Who may ask. One shared secret, or several, until real key management takes this place."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable

from capyra.engine.errors import Unauthenticated


class Keys:
    """The keys of this gateway; none at all means that everybody may ask."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = tuple(key.encode() for key in keys if key)

    @classmethod
    def from_environment(cls, name: str) -> Keys:
        return cls(part.strip() for part in os.environ.get(name, "").split(","))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def tenant(self, authorization: bytes | None, api_key: bytes | None = None) -> str:
        """Whose request it is, from its `Authorization` header, or from `x-api-key`, which
        Anthropic's clients send; raises `Unauthenticated`."""
        if not self._keys:
            return ""
        if not authorization and api_key:
            authorization = b"Bearer " + api_key
        scheme, _, given = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not given.strip():
            raise Unauthenticated("no API key came: send it as `Authorization: Bearer KEY`")
        known = False
        for key in self._keys:
            # Every key is compared, so that time tells nothing about which one was close.
            known |= hmac.compare_digest(key, given.strip())
        if not known:
            raise Unauthenticated("this API key is not known here")
        return ""
