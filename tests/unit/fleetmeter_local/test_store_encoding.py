import gzip
import zlib
from collections.abc import Callable

import lz4.frame  # type: ignore[import-untyped]
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_local.store_encoding import Decoder

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
    "": bytes,
}


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=4),
    size=st.integers(1, 300),
)
def test_any_cut_of_any_frames_gives_the_content(
    encoding: str, parts: list[bytes], size: int
) -> None:
    """Frames in a row, cut anywhere, give their contents in a row."""
    body = b"".join(map(ENCODINGS[encoding], parts))
    decoder = Decoder(encoding)
    pieces = [decoder.decode(body[at : at + size]) for at in range(0, len(body), size)]
    decoder.close()
    assert b"".join(parts) == b"".join(pieces)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "lz4", "zstd"])
def test_garbage_is_refused(encoding: str) -> None:
    """Bytes in another encoding are an error of the request."""
    with pytest.raises(ValueError, match="not in its Content-Encoding"):
        Decoder(encoding).decode(b"certainly not compressed" * 10)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "lz4", "zstd"])
def test_a_short_body_is_refused(encoding: str) -> None:
    """A body that stops within a frame is not taken for a whole one."""
    decoder = Decoder(encoding)
    decoder.decode(ENCODINGS[encoding](b"content" * 100)[:-1])
    with pytest.raises(ValueError, match="middle of a frame"):
        decoder.close()


def test_an_unknown_encoding_is_refused() -> None:
    """The error tells which encodings there are."""
    with pytest.raises(ValueError, match="'br' is not one of gzip, deflate, lz4, zstd"):
        Decoder("br")
