"""What two requests must share to be the same request."""

from __future__ import annotations

from bursar.contracts.limiter import Amounts, Reserve, Settle, Usage
from bursar.kernel.desk import digest_of

FENCE = "1.1.1.0123456789abcdef"
PLAIN = Reserve(id="s-1", budget="openai", amounts=Amounts(input_tokens=1))


def test_a_request_is_the_same_whatever_its_id_watermark_fence_and_patience() -> None:
    """A retry brings the same content; these four say how it is asked, not what."""
    again = Reserve(id="s-2", acked=7, seen=FENCE, patient=True, budget="openai", amounts=Amounts(input_tokens=1))
    assert digest_of(again) == digest_of(PLAIN)


def test_a_request_with_other_content_at_any_depth_is_another() -> None:
    """Also where only a field of a model inside differs, or whether there is one."""
    end = Settle(id="s-1", reservation="1.1.1")
    others = [
        PLAIN.model_copy(update={"amounts": Amounts(input_tokens=2)}),
        PLAIN.model_copy(update={"amounts": Amounts(output_tokens=1)}),
        PLAIN.model_copy(update={"budget": "anthropic"}),
        end,
        end.model_copy(update={"usage": Usage()}),
        end.model_copy(update={"usage": Usage(input_tokens=1)}),
    ]
    assert len({digest_of(request) for request in [PLAIN, *others]}) == len(others) + 1
