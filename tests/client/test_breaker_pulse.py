"""The registry's pulse: nobody asks who has missed nothing, and whoever has missed something asks soon."""

from __future__ import annotations

import pytest

from bursar.client.breaker import Breaker
from tests.client.breaker_fakes import FakeRegistry, breaker_and_registry, moment
from tests.client.fakes import FakeBus
from tests.client.virtual import run


def alone(breaker: Breaker) -> bool:
    return breaker.is_alone


def test_who_has_missed_nothing_never_asks() -> None:
    """A minute with changes that all arrive: one question, at the start."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            for n in range(30):
                there.change("p", "open" if n % 2 else "closed", 60_000 if n % 2 else None)
                await moment(2.0)
                assert not alone(breaker)
            assert there.count("query") == 1

    run(history())


def test_a_pulse_shows_what_was_missed() -> None:
    """Another revision, or the same revision with other circuits; it is asked for within half a second."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.is_mute = True
            there.change("p", "open", 60_000)
            there.pulse()
            await moment(0.55)
            assert breaker.circuits() == {"p": "open"}
            breaker.registry.view._put(breaker.registry.view.known["p"]._replace(target="q"))
            there.pulse()
            await moment(0.55)
            assert breaker.circuits() == {"p": "open"}
            assert there.count("query") == 3

    run(history())


def test_without_a_pulse_the_registry_is_asked_and_less_and_less_often() -> None:
    """After a second and a half of silence; if nobody answers, with pauses that grow to a quarter of a minute."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.has_pulse = False
            await moment(20.0)
            assert 11 <= there.count("query") <= 17, "an answer is as good as a pulse"
            assert not alone(breaker)
            there.is_deaf = True
            await moment(5.5)
            assert alone(breaker)
            await moment(60.0)
            before = len([m for m in there.bus.published if ".query." in m.subject])
            await moment(120.0)
            asked = len([m for m in there.bus.published if ".query." in m.subject]) - before
            assert asked <= 2 * 120 / 12, "each is repeated once within its second"

    run(history())


def test_the_first_pulse_after_a_silence_brings_everything_back() -> None:
    """However long the pause has grown by then."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.is_deaf = there.is_mute = True
            await moment(120.0)
            assert alone(breaker)
            there.change("p", "open", 60_000)
            there.is_deaf = False
            there.pulse()
            await moment()
            assert not alone(breaker)
            await moment(0.55)
            assert breaker.circuits() == {"p": "open"}

    run(history())


@pytest.mark.parametrize("how", ["forged", "unsigned", "unreadable", "repeated", "older owner"])
def test_a_pulse_that_is_not_one_keeps_nobody_from_asking(how: str) -> None:
    """Neither does a true one that is kept and sent again: the registry is away when it is silent."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            stranger = FakeRegistry(FakeBus())
            there.incarnation = 2
            there.change("p", "closed")
            kept = there.pulse()
            await moment(0.6)
            there.has_pulse, there.is_deaf = False, True
            there.incarnation = 1
            old = there.pulse()
            there.incarnation = 2
            garbled = there.signer.sign("bursar.evt.breaker.pulse.registry", {"revision": "x", "fence": there.fence()})
            told = {"forged": stranger.pulse(), "unsigned": b"\x80", "unreadable": garbled}
            for _ in range(12):
                there.say_pulse(told.get(how, old if how == "older owner" else kept))
                await moment(0.5)
            assert alone(breaker)
            assert breaker.registry.refused == (12 if how in told else 0)

    run(history())


def test_a_loss_of_data_is_noticed_by_the_pulse() -> None:
    """The incarnation is higher, whatever the revision."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "open", 60_000)
            there.change("q", "open", 60_000)
            await moment()
            there.incarnation, there.revision = 2, 1
            there.circuits = {"q": {**there.circuits["q"], "revision": 1, "generation": 1}}
            there.pulse()
            await moment(0.6)
            assert breaker.circuits() == {"q": "open"}

    run(history())
