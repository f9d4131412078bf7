"""The four errors whose type decides a record's or a process's fate; raises none of them itself.

Our own mistakes are `AssertionError`s and end the process.
"""


class InvalidRecord(Exception):  # noqa: N818 - the field's word, and it is a verdict
    """The same bytes will always fail: reject them with the reason, count them, go on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class Unavailable(Exception):  # noqa: N818 - the field's word
    """A dependency is away: retry with jittered backoff, keep the offsets, turn health red."""


class Overloaded(Exception):  # noqa: N818 - the field's word
    """We are full: the SDK drops by its policy, the api answers 503, a processor pauses."""


class ConfigError(Exception):
    """The settings are wrong: one readable sentence, exit status 2, before any work."""
