from pathlib import Path

from fleetmeter_local import kafka


def test_any_folder_can_be_written_for_java(tmp_path: Path) -> None:
    """Java reads a properties file as Latin-1: what is not ASCII stands there as escapes."""
    broker = kafka.Broker(data_dir=tmp_path / "jürgen 日本", port=1, controller_port=2)
    kafka.configure(broker)
    text = broker.properties.read_text(encoding="ascii")
    escaped = rf"{tmp_path}/j\u00fcrgen \u65e5\u672c/logs"
    assert f"\nlog.dirs={escaped}\n" in text
