"""Decompresses the bodies that ClickHouse clients send, piece by piece; compresses nothing."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Frame(Protocol):
    """What zlib's, lz4's and zstd's objects share: one compressed frame being read."""

    @property
    def eof(self) -> bool:
        """Return whether the frame has ended."""

    @property
    def unused_data(self) -> bytes | None:
        """Return what came behind the frame's end."""

    def decompress(self, data: bytes, /) -> bytes:
        """Return what `data` adds."""


def _gzip() -> Frame:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


FRAMES: Mapping[str, Callable[[], Frame]] = {
    "gzip": _gzip,
    "deflate": zlib.decompressobj,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}
BROKEN = (zlib.error, RuntimeError, zstd.ZstdError, EOFError)


class Decoder:
    """Turns pieces of a body into pieces of content; a body may be many frames in a row.

    Raises:
        ValueError: the encoding is unknown, or the bytes are not in it.
    """

    def __init__(self, encoding: str) -> None:
        if encoding and encoding != "identity" and encoding not in FRAMES:
            raise ValueError(f"Content-Encoding {encoding!r} is not one of {', '.join(FRAMES)}")
        self._start = FRAMES.get(encoding)
        self._frame: Frame | None = None

    def decode(self, piece: bytes) -> bytes:
        """Return the content that `piece` adds."""
        if self._start is None:
            return piece
        content = []
        try:
            while piece:
                frame = self._frame or self._start()
                content.append(frame.decompress(piece))
                self._frame = None if frame.eof else frame
                piece = (frame.unused_data or b"") if frame.eof else b""
        except BROKEN as error:
            raise ValueError(f"the body is not in its Content-Encoding: {error}") from error
        return b"".join(content)

    def close(self) -> None:
        """Demand that the body ended where a frame ends."""
        if self._frame is not None:
            raise ValueError("the compressed body ends in the middle of a frame")
