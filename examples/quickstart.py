"""A session with two events: what AgentOps' documentation shows, with only the import changed.

eval "$(fleetmeter env)"
python examples/quickstart.py
"""

# ruff: noqa: INP001, S101, T201 - an example stands alone, and talks

import fleetmeter
from fleetmeter import ActionEvent, LLMEvent

session = fleetmeter.init(tags=["quickstart"])

fleetmeter.record(ActionEvent("llms"))
fleetmeter.record(ActionEvent("tools"))
fleetmeter.record(
    LLMEvent(
        provider="openai",
        model="gpt-4o-mini",
        prompt="What is a fleet?",
        completion="Several ships that sail together.",
        prompt_tokens=12,
        completion_tokens=7,
    )
)

assert session is not None  # init() starts one unless told otherwise
print(session.get_analytics())
print("cost:", fleetmeter.end_session("Success"))
