"""What load balancers and container platforms ask a worker."""

from hitcounter.counting.counter import Counter
from hitcounter.counting.readiness import refusal
from hitcounter.web.hit_request import Target
from hitcounter.web.request import Request
from hitcounter.web.responses import Response, json_answer


async def healthz(_counter: Counter, _request: Request, _target: Target) -> Response:
    """Answer that this process serves."""
    return json_answer({"status": "ok"})


async def readyz(counter: Counter, _request: Request, _target: Target) -> Response:
    """Answer in one word whether hits can be counted."""
    state = await counter.readiness.answer()
    if refused := refusal(state):
        raise refused
    return json_answer({"status": state})
