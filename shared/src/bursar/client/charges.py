"""What a call counts as when its answer tells no usage, by how it ended.

=============================  ========  ===========================================================================
how it ended                   charge    why
=============================  ========  ===========================================================================
never sent                     nothing   the permit is cancelled
429                            request   the provider refused before working; some count refused requests
503, 529                       request   overloaded: refused before working
other 4xx                      request   refused as wrong
other 5xx                      input     failed while working: the prompt was probably counted
2xx without usage              full      e.g. an OpenAI stream without ``include_usage``
broken off, or lost            full      the outcome is unknown, as with a time-out
=============================  ========  ===========================================================================

``nothing`` gives all back, ``request`` keeps one request, ``input`` also the reserved input and money, ``full`` all
that was reserved. How a provider counts differently says its charge model (`bursar.client.charge_model`); a mapping of
your own goes before both: ``charges={"lost": "input", 500: "request"}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from bursar.client.permit import Permit

Charge = Literal["nothing", "request", "input", "full"]
Charges = Mapping[int | str, Charge]

DEFAULT: Final[Charges] = {
    "lost": "full",
    "2xx": "full",
    "3xx": "request",
    "4xx": "request",
    "5xx": "input",
    503: "request",
    529: "request",
}


def charge_of(charges: Charges, status: int | None) -> Charge:
    """The charge for a status; None: lost after it was sent."""
    if status is None:
        return charges.get("lost") or DEFAULT["lost"]
    for table in (charges, DEFAULT):
        found = table.get(status) or table.get(f"{status // 100}xx")
        if found is not None:
            return found
    return "full"


def settle(permit: Permit, charge: Charge) -> None:
    """End the permit, in the background, with that charge; what was recorded before stays recorded."""
    if charge == "nothing":
        permit.cancel_soon()
    elif charge == "request":
        permit.settle_soon(input_tokens=0, output_tokens=0, usd_micros=0)
    elif charge == "input":
        permit.settle_soon(output_tokens=0)
    else:
        permit.settle_soon()
