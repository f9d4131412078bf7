"""Whether each process of a stack does its work now; asks them, waits for nothing."""

import httpx

from fleetmeter_local import kafka, services
from fleetmeter_local import stack as stacks
from fleetmeter_local.stack import Stack

SECONDS_MAX = 2.0
WHY_LENGTH_MAX = 200


def why_not_ready(stack: Stack, name: str) -> str | None:
    """None when it is ready; else what it says, in one line."""
    if name == "kafka":
        answers = kafka.is_ready(stack.bootstrap_servers, SECONDS_MAX)
        return None if answers else "does not answer"
    try:
        answer = _ask_store(stack) if name == "store" else _ask(services.ready_url(stack, name))
    except httpx.TransportError:
        return "does not answer"
    if answer.is_success:
        return None
    said = " ".join(answer.text.split())[:WHY_LENGTH_MAX]
    return said or f"answers {answer.status_code}"


def _ask(url: str) -> httpx.Response:
    return httpx.get(url, timeout=SECONDS_MAX, trust_env=False)


def _ask_store(stack: Stack) -> httpx.Response:
    # A ping does not tell whether the engine behind it still lives.
    return httpx.post(
        stack.store_url,
        content="SELECT 1",
        headers=stacks.store_headers(stack),
        timeout=SECONDS_MAX,
        trust_env=False,
    )
