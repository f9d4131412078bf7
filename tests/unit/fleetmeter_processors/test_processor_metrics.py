import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fleetmeter_api import metrics as api_metrics
from fleetmeter_processors import metrics

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
CATALOGUES = (metrics, api_metrics)


def registered() -> list[Any]:
    """Return every metric of the catalogues."""
    registry = CollectorRegistry()
    for catalogue in CATALOGUES:
        for section in catalogue.CATALOGUE:
            section(registry)
    return list(registry._collector_to_names)


def row(metric: Any) -> str:
    """Return the line of docs/metrics.md for a metric, from the code."""
    name = metric._name + ("_total" if metric._type == "counter" else "")
    labels = ", ".join(metric._labelnames)
    return f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |"


def test_every_metric_is_documented_as_it_is() -> None:
    """docs/metrics.md has a line for each metric: type, labels and the code's own words."""
    lines = PAGE.read_text().splitlines()
    expected = [row(metric) for metric in registered()]
    assert [] == [line for line in expected if line not in lines]
    ours = re.compile(r"\| `fleetmeter_")
    assert [] == [line for line in lines if ours.match(line) and line not in expected]


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_every_section_is_in_the_catalogue(catalogue: Any) -> None:
    """A section that is forgotten there would stay undocumented."""
    sections = {
        found
        for name, found in inspect.getmembers(catalogue, inspect.isclass)
        if name.endswith("Metrics")
    }
    assert sections == set(catalogue.CATALOGUE)


def test_metrics_carry_the_product_in_their_name() -> None:
    """They share a Prometheus with everybody else's."""
    assert [] == [
        metric._name for metric in registered() if not metric._name.startswith("fleetmeter_")
    ]
