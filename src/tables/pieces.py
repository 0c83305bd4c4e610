"""Pieces: what a library writes to a file, handed on before the file is complete."""

import io
from typing import Any


class Pieces(io.RawIOBase):
    """A file that can only be written to, and whose content is taken piece by piece."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any, /) -> int:
        """Keep the content until it is taken."""
        self._kept.append(bytes(content))
        self._size += len(self._kept[-1])
        return len(self._kept[-1])

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size

    def taken(self) -> bytes:
        """What was written since this was called last."""
        content = b"".join(self._kept)
        self._kept.clear()
        return content
