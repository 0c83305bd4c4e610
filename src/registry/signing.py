"""Signing: the keys that sign what is in a registry."""

import hmac


class Keys:
    """Secrets of which the first one signs, and all are accepted, so that a key can be replaced.

    Parameters
    ----------
    text : str or None
        The secrets, separated by commas; None, when nothing is signed.
    """

    def __init__(self, text: str | None) -> None:
        self._keys = [key.strip().encode() for key in text.split(",")] if text else []

    def __bool__(self) -> bool:
        return bool(self._keys)

    def sign(self, message: bytes) -> str:
        """The signature of a message, in hexadecimal digits; empty without a key."""
        return _signature(self._keys[0], message) if self._keys else ""

    def accept(self, signature: object, message: bytes) -> bool:
        """Whether one of the keys made a signature; without a key, nothing has to be signed."""
        given = str(signature).encode(errors="replace")
        made = (hmac.compare_digest(given, _signature(key, message).encode()) for key in self._keys)
        return not self._keys or any(made)


def _signature(key: bytes, message: bytes) -> str:
    return hmac.new(key, message, "sha256").hexdigest()
