from io import BytesIO

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_processors.container import container
from fleetmeter_schemas.definitions import schema

REJECT = schema("Reject")
LONGS = st.integers(-(2**63), 2**63 - 1)
REJECTS = st.fixed_dictionaries(
    {
        "partition": st.integers(0, 2**31 - 1),
        "offset": LONGS,
        "log_time_ms": LONGS,
        "reason": st.text(),
        "detail": st.text(),
        "project_id": st.text(),
        "key": st.binary(),
        "value": st.binary(max_size=300),
    }
)


def encoded(record: dict[str, object]) -> bytes:
    """Return one encoded Reject."""
    out = BytesIO()
    fastavro.schemaless_writer(out, REJECT, record)
    return out.getvalue()


@given(st.lists(st.lists(REJECTS, min_size=1, max_size=4), max_size=4))
def test_a_reader_of_avro_files_finds_the_records_in_order(
    runs: list[list[dict[str, object]]],
) -> None:
    """Whatever the records and however they are cut into runs, fastavro reads them back."""
    file = container(REJECT, ((len(run), b"".join(map(encoded, run))) for run in runs))
    expected = [record for run in runs for record in run]
    assert expected == list(fastavro.reader(BytesIO(file)))


def test_two_files_have_different_sync_markers() -> None:
    """A record cannot be made to hold the marker of the file it will be in."""
    assert container(REJECT, ())[-16:] != container(REJECT, ())[-16:]
