"""What the owner listens to: the endpoints of a service's verbs, and its ears for what nobody is answered to.

Endpoints are named as their verbs; those of workers begin with ``work-``, ears with ``obs-`` and ``node-``, so that
one service may use a verb on several of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from bursar.bus.call import Call
from bursar.bus.codec import AGENT_LIMITS, OPERATOR_LIMITS, Limits, decode
from bursar.bus.ear import Ear, EarHandler
from bursar.bus.micro import Service
from bursar.contracts.base import (
    Message,
    admin_subject,
    node_subject,
    observation_subject,
    request_subject,
    work_subject,
)
from bursar.kernel.spec import ServiceSpec, Verb

OnCall = Callable[[Call, Verb], None]
OnObservation = Callable[[str, Message, Verb], bool]

_HOST_TOKEN: Final = 2
"""Where the host's name stands in ``bursar.node.<host>.<kind>``."""


async def open_doors(
    service: Service,
    spec: ServiceSpec,
    on_call: OnCall,
    on_observation: OnObservation,
    on_admin: OnCall | None = None,
) -> None:
    """Add all endpoints and ears of a service; none listens yet.

    ``on_call`` gets each request (``on_admin`` those of operators, where it is given), ``on_observation`` the principal
    and message of each observation, and returns False when it has no room for it.
    """
    answered: tuple[tuple[str, Mapping[str, Verb], Callable[[str, str, str], str], OnCall], ...] = (
        ("", spec.verbs, request_subject, on_call),
        ("", spec.admin, admin_subject, on_admin or on_call),
        ("work-", spec.work, work_subject, on_call),
    )
    for prefix, verbs, subject, called in answered:
        for verb, rule in verbs.items():
            await service.add_endpoint(
                prefix + verb, subject(spec.name, verb, "*"), _calling(called, rule), limits=limits_of(rule),
                listen=False,
            )  # fmt: skip
    for verb, rule in spec.observations.items():
        heard = _hearing(on_observation, rule)
        await service.add(Ear(service, f"obs-{verb}", observation_subject(spec.name, verb, "*"), heard), listen=False)
    for kind, rule in spec.nodes.items():
        heard = _hearing(on_observation, rule)
        await service.add(Ear(service, f"node-{kind}", node_subject("*", kind), heard, _HOST_TOKEN), listen=False)


def limits_of(rule: Verb) -> Limits:
    """The bounds of a verb's messages."""
    return limits_for(OPERATOR_LIMITS if rule.large else AGENT_LIMITS, rule.strings)


def limits_for(common: Limits, strings: int) -> Limits:
    """``common``, with strings of so many bytes."""
    return common if strings == common.text else replace(common, text=strings)


def _calling(on_call: OnCall, rule: Verb) -> Callable[[Call], None]:
    def called(call: Call) -> None:
        on_call(call, rule)

    return called


def _hearing(on_observation: OnObservation, rule: Verb) -> EarHandler:
    limits, message = limits_of(rule), rule.message

    def hear(principal: str, payload: bytes) -> bool:
        return on_observation(principal, decode(message, payload, limits=limits)[0], rule)

    return hear
