"""Maps a program's events to records of events.v1, repairing what would be refused. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, cast

from fleetmeter.events import (
    UNFINISHED,
    ActionEvent,
    ErrorEvent,
    Event,
    LLMEvent,
    ToolEvent,
)
from fleetmeter.payload import fit, json_text, label, text_of
from fleetmeter_schemas.identity import ID_BYTES_MAX
from fleetmeter_schemas.records import Event as EventRecord
from fleetmeter_schemas.records import Kind

TOKENS_MAX: Final = 1_000_000_000
COST_USD_MAX: Final = 100_000
_PICO: Final = 10**12
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIEST_US: Final = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LATEST_US: Final = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_KINDS: Final = {
    word: kind
    for kind in (Kind.LLM, Kind.TOOL, Kind.ACTION, Kind.ERROR)
    for word in (kind.value, f"{kind.value}s")
}
_TOKEN_FIELDS: Final = (
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
    ("cache_read_tokens", "cache_read_tokens"),
    ("cache_write_5m_tokens", "cache_write_5m_tokens"),
    ("cache_write_1h_tokens", "cache_write_1h_tokens"),
    ("reasoning_tokens", "reasoning_tokens"),
)


@dataclass(slots=True)
class Notes:
    """What of an event has no field of its own, and which of its values were unusable."""

    attributes: dict[str, Any]
    invalid: dict[str, str]

    def refuse(self, name: str, value: object) -> None:
        """Remembers a value that cannot be written."""
        self.invalid[name] = label(value)


def kind_of(event_type: str) -> Kind:
    """The kind that a word for an event type means; every unknown word is an action."""
    return _KINDS.get(event_type, Kind.ACTION)


def time_us(value: object) -> int:
    """Microseconds since the Unix epoch of a timestamp (`fleetmeter.events.Timestamp`).

    Raises:
        ValueError: Not a timestamp, or outside the years 2000 to 2099.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        microseconds = (aware - _EPOCH) // _MICROSECOND
    elif isinstance(value, int | float) and not isinstance(value, bool):
        microseconds = _whole_microseconds(value)
    else:
        raise ValueError(f"not a timestamp: {value!r}")  # noqa: TRY004 - one error for the caller
    if not _EARLIEST_US <= microseconds < _LATEST_US:
        raise ValueError(f"outside 2000 to 2099: {value!r}")
    return microseconds


def _whole_microseconds(seconds: float) -> int:
    try:
        return round(Decimal(str(seconds)) * 1_000_000)
    except ArithmeticError as error:
        raise ValueError(f"not a time: {seconds}") from error


def pico_usd(value: object) -> int:
    """US dollars as integer pico-USD, exact as written; raises ValueError for what is not money."""
    try:
        amount = Decimal(str(value))
        if not 0 <= amount <= COST_USD_MAX:
            raise ValueError(f"outside 0 to {COST_USD_MAX} USD: {value!r}")
    except ArithmeticError as error:
        raise ValueError(f"not an amount: {value!r}") from error
    return int((amount * _PICO).to_integral_value(ROUND_HALF_EVEN))


def event_record(event: Event, now_us: int, payload_bytes_max: int) -> EventRecord:
    """The event's part of a record: all but who wrote it, in which session, with what number.

    Raises nothing for odd values: they are left out, and named in the attributes.
    """
    notes = Notes(dict(event.attributes) if event.attributes else {}, {})
    said = label(event.event_type)
    record: EventRecord = {
        "event_id": _identity(event.id),
        "kind": kind_of(said).value,
        "start_time_us": _time(event, "init_timestamp", now_us, notes),
        "end_time_us": (
            None
            if event.end_timestamp == UNFINISHED
            else _time(event, "end_timestamp", now_us, notes)
        ),
        "name": "" if said in _KINDS else said,
    }
    for name in ("agent_id", "parent_id", "trace_id", "span_id"):
        value = getattr(event, name)
        if value is not None:
            record[name] = _identity(value)
    texts = {"input": text_of(event.params), "output": text_of(event.returns)}
    match event:
        case LLMEvent():
            _add_llm(event, record, texts, notes)
        case ToolEvent():
            _add_tool(event, record, texts, notes)
        case ActionEvent():
            _add_action(event, record, texts, notes)
        case ErrorEvent():
            _add_error(event, record, texts, notes)
    _add_payload(record, texts, notes, payload_bytes_max)
    return record


def without_payload(record: EventRecord, reason: str) -> EventRecord:
    """The record's numbers and names alone, with the reason in the attributes."""
    kept = dict(record)
    for name in ("input", "output", "logs"):
        kept.pop(name, None)
    kept["attributes"] = json_text({"payload_dropped": reason})
    return cast("EventRecord", kept)


def _add_llm(event: LLMEvent, record: EventRecord, texts: dict[str, str], notes: Notes) -> None:
    record["provider"] = label(event.provider)
    record["model"] = label(event.model)
    record["service_tier"] = label(event.service_tier)
    record["error_type"] = label(event.error_type)
    for said, written in _TOKEN_FIELDS:
        value = getattr(event, said)
        if value is not None:
            record[written] = _tokens(said, value, notes)  # type: ignore[literal-required]
    record["reported_cost_pico_usd"] = _cost(event.cost, notes)
    record["time_to_first_token_us"] = _duration_us(event.time_to_first_token, notes)
    if event.thread_id is not None:
        notes.attributes["thread_id"] = str(event.thread_id)
    _prefer("input", "params", event.prompt, texts, notes)
    _prefer("output", "returns", event.completion, texts, notes)


def _prefer(field: str, other: str, value: Any, texts: dict[str, str], notes: Notes) -> None:
    """Puts a value into a payload field; what stood there moves to the attributes."""
    if value is None:
        return
    if texts[field]:
        notes.attributes[other] = texts[field]
    texts[field] = text_of(value)


def _add_tool(event: ToolEvent, record: EventRecord, texts: dict[str, str], notes: Notes) -> None:
    record["name"] = label(event.name) or record["name"]
    record["error_type"] = label(event.error_type)
    record["reported_cost_pico_usd"] = _cost(event.cost, notes)
    texts["logs"] = text_of(event.logs)


def _add_action(
    event: ActionEvent, record: EventRecord, texts: dict[str, str], notes: Notes
) -> None:
    if event.action_type and record["name"]:
        notes.attributes["event_type"] = record["name"]
    record["name"] = label(event.action_type) or record["name"]
    record["error_type"] = label(event.error_type)
    texts["logs"] = text_of(event.logs)
    if event.screenshot is not None:
        notes.attributes["screenshot"] = event.screenshot


def _add_error(event: ErrorEvent, record: EventRecord, texts: dict[str, str], notes: Notes) -> None:
    record["error_type"] = label(event.error_type)
    _prefer("output", "returns", event.details, texts, notes)
    texts["logs"] = text_of(event.logs)
    if event.code is not None:
        notes.attributes["code"] = event.code
    if event.trigger_event is not None:
        record["parent_id"] = _identity(event.trigger_event.id)
        notes.attributes["trigger_event_type"] = event.trigger_event.event_type


def _add_payload(record: EventRecord, texts: dict[str, str], notes: Notes, bytes_max: int) -> None:
    """Adds the payload texts; cut ones are named in the attributes, which stay an object."""
    if notes.invalid:
        notes.attributes["invalid"] = notes.invalid
    attributes = json_text(notes.attributes) if notes.attributes else ""
    texts["attributes"] = attributes
    cut = fit(texts, bytes_max)
    if cut:
        if "attributes" in cut:
            notes.attributes.clear()
        notes.attributes |= {"truncated": True, "original_bytes": cut}
        texts["attributes"] = json_text(notes.attributes)
    for name, text in texts.items():
        if text:
            record[name] = text  # type: ignore[literal-required]


def _identity(value: object) -> str:
    """An id as text of at most 200 bytes."""
    text = label(value, ID_BYTES_MAX)
    if text.isascii():
        return text
    return text.encode()[:ID_BYTES_MAX].decode("utf-8", "ignore")


def _time(event: Event, name: str, now_us: int, notes: Notes) -> int:
    value = getattr(event, name)
    if value is None:
        return now_us
    try:
        return time_us(value)
    except ValueError:
        notes.refuse(name, value)
        return now_us


def _tokens(name: str, value: Any, notes: Notes) -> int | None:
    try:
        count = int(value)
        usable = count == value and 0 <= count <= TOKENS_MAX
    except (TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        notes.refuse(name, value)
        return None
    return count


def _cost(value: object, notes: Notes) -> int | None:
    if value is None:
        return None
    try:
        return pico_usd(value)
    except ValueError:
        notes.refuse("cost", value)
        return None


def _duration_us(seconds: float | None, notes: Notes) -> int | None:
    if seconds is None:
        return None
    try:
        microseconds = round(seconds * 1_000_000)
    except (TypeError, ValueError, OverflowError):
        microseconds = -1
    if not 0 <= microseconds < 2**63:
        notes.refuse("time_to_first_token", seconds)
        return None
    return microseconds
