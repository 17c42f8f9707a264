"""A pump whose endpoint is asked before it is sent to."""

from __future__ import annotations

import pytest

from broker.consent import Agreement
from unit.pump_world import PumpWorld, with_fields

pytestmark = pytest.mark.anyio

HOOK = "http://a.example/hook"
AGREED = Agreement(HOOK, "shop.example")


def sent(world: PumpWorld) -> list[int]:
    """The sequences that were sent, in their order."""
    return [seq for request in world.courier.sent for seq in request.seqs]


@with_fields(consent="required")
async def test_nothing_is_sent_before_the_endpoint_agrees(world: PumpWorld) -> None:
    seqs = await world.publish("a", None)
    await world.settle()
    assert (world.courier.sent, world.pump.consent_state) == ([], "awaited")

    await world.consent(origin="shop.example")

    assert world.pump.consent_state == "agreed"
    assert world.remembered == [AGREED]
    assert sent(world) == seqs


@with_fields(consent="required", headers={"authorization": "Bearer 1"}, rate_limit=2)
async def test_question_has_the_headers_of_deliveries(world: PumpWorld) -> None:
    await world.settle()

    assert world.courier.questions[1] == [
        "webhook-subscription: orders/mail",
        "authorization: Bearer 1",
        "webhook-request-origin: shop.example",
        "webhook-request-rate: 120",
    ]


@with_fields(consent="required")
async def test_deliveries_name_the_origin_once_there_is_consent(world: PumpWorld) -> None:
    await world.settle()
    await world.consent(origin="*")

    assert world.courier.endpoint is not None
    assert "webhook-request-origin: shop.example" in world.courier.endpoint.headers


@with_fields(consent="required")
async def test_endpoint_is_asked_again_after_growing_pauses(world: PumpWorld) -> None:
    await world.settle()
    for asked, pause_s in enumerate((1, 2, 4, 8), 1):
        await world.consent(405)
        assert world.pump.last_error is not None
        assert "405" in world.pump.last_error
        await world.wait(pause_s - 0.1)
        assert world.courier.asked == asked
        await world.wait(0.2)
        assert world.courier.asked == asked + 1


@with_fields(consent="required")
async def test_refusal_is_told_until_the_endpoint_agrees(world: PumpWorld) -> None:
    (seq,) = await world.publish(None)
    await world.settle()
    await world.consent(origin="other.example")
    assert world.pump.consent_state == "refused"
    assert world.pump.last_error is not None
    assert "other.example" in world.pump.last_error

    await world.wait(1.1)
    await world.consent(origin="*")

    assert (world.pump.consent_state, world.pump.last_error) == ("agreed", None)
    assert sent(world) == [seq]


@with_fields(consent="if-supported")
async def test_endpoint_that_knows_no_question_is_sent_to(world: PumpWorld) -> None:
    (seq,) = await world.publish(None)
    await world.settle()
    assert world.courier.sent == []

    await world.consent(404)

    assert world.pump.consent_state == "unsupported"
    assert sent(world) == [seq]
    assert world.courier.endpoint is not None
    assert not any("origin" in line for line in world.courier.endpoint.headers)


@with_fields(consent="if-supported")
async def test_endpoint_that_knew_no_question_is_asked_where_consent_is_required(
    world: PumpWorld,
) -> None:
    await world.settle()
    await world.consent(404)

    await world.configure(consent="required")

    assert (world.courier.asked, world.pump.consent_state) == (2, "awaited")


@with_fields(consent="required", agreement=AGREED)
async def test_known_agreement_is_not_asked_for(world: PumpWorld) -> None:
    (seq,) = await world.publish(None)
    await world.settle()

    assert (sent(world), world.courier.asked) == ([seq], 0)


@with_fields(consent="required", agreement=AGREED)
async def test_new_endpoint_is_asked(world: PumpWorld) -> None:
    await world.configure(endpoint="http://b.example/hook", agreement=None)
    await world.publish(None)
    await world.settle()

    assert (world.courier.asked, world.courier.sent) == (1, [])


@with_fields(consent="required")
async def test_answer_of_an_endpoint_that_was_replaced_counts_for_nothing(world: PumpWorld) -> None:
    await world.settle()
    await world.configure(endpoint="http://b.example/hook")

    await world.consent(origin="*")  # the first one's

    assert world.pump.consent_state == "awaited"
    await world.consent(origin="*")
    assert world.remembered == [Agreement("http://b.example/hook", "shop.example")]


@with_fields(consent="required")
async def test_paused_subscription_asks_nothing_and_asks_at_once_when_it_goes_on(
    world: PumpWorld,
) -> None:
    await world.settle()
    for _ in range(3):
        await world.consent(405)
        await world.wait(10)
    asked = world.courier.asked
    await world.consent(405)
    await world.configure(paused=True)
    await world.wait(1000)
    assert world.courier.asked == asked

    await world.configure(paused=False)
    assert world.courier.asked == asked + 1
    await world.consent(405)
    await world.wait(1.1)  # the pauses begin anew
    assert world.courier.asked == asked + 2


@with_fields(consent="required")
async def test_change_of_another_field_asks_nothing_more(world: PumpWorld) -> None:
    await world.settle()
    await world.consent(405)

    await world.configure(max_in_flight=2)

    assert world.courier.asked == 1
    assert world.pump.last_error is not None


@with_fields(consent="required")
async def test_question_that_is_lost_with_its_courier_is_put_again(world: PumpWorld) -> None:
    await world.settle()

    world.lose()
    await world.settle()

    assert (world.courier.asked, len(world.courier.questions)) == (2, 1)


@with_fields(consent="required", endpoint=None)
async def test_pulled_subscription_has_nobody_to_ask(world: PumpWorld) -> None:
    await world.settle()

    assert (world.courier.asked, world.pump.consent_state) == (0, None)


@with_fields(consent="required")
async def test_stopping_pump_asks_nothing(world: PumpWorld) -> None:
    await world.settle()
    await world.consent(405)

    world.pump.drain()
    await world.wait(100)

    assert world.courier.asked == 1


# -- the rate that is allowed --------------------------------------------------------------------


@pytest.mark.parametrize("ordering", ["key", "none", "topic"])
async def test_allowed_rate_bounds_the_requests(world: PumpWorld, ordering: str) -> None:
    await world.configure(consent="required", ordering=ordering)
    await world.consent(origin="*", rate="60")
    await world.publish(*(f"k{n}" for n in range(10)))
    await world.settle()

    for sent in range(1, 5):
        assert len(world.courier.sent) == sent
        for job in list(world.courier.out):
            world.end(job)
        await world.settle()
        assert len(world.courier.sent) == sent
        await world.wait(1.0)


@with_fields(consent="required", format="batch", max_batch=4)
async def test_allowed_rate_counts_requests_and_not_messages(world: PumpWorld) -> None:
    await world.settle()
    await world.consent(origin="*", rate="60")
    await world.publish(*[None] * 8)
    await world.settle()
    assert [len(request.seqs) for request in world.courier.sent] == [4]

    await world.wait(1.0)

    assert [len(request.seqs) for request in world.courier.sent] == [4, 4]


@with_fields(consent="required", rate_limit=1)
async def test_lower_of_two_rates_holds(world: PumpWorld) -> None:
    await world.settle()
    await world.consent(origin="*", rate="6000")
    await world.publish(*[None] * 8)
    await world.settle()
    assert len(world.courier.sent) == 1

    await world.wait(1.0)

    assert len(world.courier.sent) == 2


@with_fields(consent="required", rate_limit=1)
async def test_rate_beyond_the_one_agreed_to_is_asked_for(world: PumpWorld) -> None:
    await world.settle()
    await world.consent(origin="*", rate="60")
    await world.configure(rate_limit=0.5)
    assert world.courier.asked == 1

    await world.configure(rate_limit=2)

    assert world.courier.asked == 2
    assert "webhook-request-rate: 120" in world.courier.questions[2]


@with_fields(consent="required", guarantee="at-most-once")
async def test_at_most_once_settles_nothing_before_there_is_consent(world: PumpWorld) -> None:
    (seq,) = await world.publish(None)
    await world.settle()
    assert world.durable()[0] == 0

    await world.crash()
    await world.settle()
    await world.consent(origin="*")

    assert [request.seqs for request in world.courier.sent] == [(seq,)]


@with_fields(guarantee="at-most-once")
async def test_what_is_settled_already_goes_to_the_endpoint_before(world: PumpWorld) -> None:
    await world.publish(None)
    while not world.pump._promised:
        await world.turn(1)

    await world.configure(endpoint="http://b.example/hook", consent="required")

    assert world.courier.sent_to == [HOOK]
    assert world.courier.asked == 1
    assert world.courier.endpoint is not None
    assert world.courier.endpoint.url == "http://b.example/hook"


@pytest.mark.parametrize("status", [429, 503])
@with_fields(consent="required")
async def test_retry_after_is_obeyed(world: PumpWorld, status: int) -> None:
    await world.settle()
    await world.consent(status, retry_after="30")
    await world.wait(29)
    assert world.courier.asked == 1

    await world.wait(1.1)

    assert world.courier.asked == 2
