"""Who gets a request, before any replica has reported how long its queue is."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

routing = pytest.importorskip("reward_service.serving.routing")


@dataclass(frozen=True)
class Replica:
    replica_id: str


def new_router() -> Any:
    """The router without Serve's queues around it: its choice needs none of them."""
    router = cast(Any, routing.FewestOwed.__new__(routing.FewestOwed))
    router.initialize_state()
    return router


def ranked(router: Any, replicas: list[Replica]) -> list[str]:
    chosen = asyncio.run(router.choose_replicas(replicas))
    assert all(len(rank) == 1 for rank in chosen)
    return [rank[0].replica_id for rank in chosen]


def test_requests_that_leave_before_any_report_go_to_replicas_in_turn() -> None:
    router, replicas = new_router(), [Replica("a"), Replica("b"), Replica("c")]
    firsts = [ranked(router, replicas)[0] for _ in range(6)]
    assert sorted(firsts[:3]) == sorted(firsts[3:]) == ["a", "b", "c"]


def test_who_owes_fewest_answers_comes_first_and_the_full_one_is_passed_over_for_the_next() -> None:
    router, replicas = new_router(), [Replica("a"), Replica("b"), Replica("c")]
    for replica_id in ("a", "a", "b"):
        router.on_request_routed(None, replica_id, None)
    assert ranked(router, replicas) == ["c", "b", "a"]


def test_an_answer_or_a_failure_settles_what_was_owed() -> None:
    router, replicas = new_router(), [Replica("a"), Replica("b")]
    router.on_request_routed(None, "a", None)
    router.on_request_routed(None, "a", None)
    router.on_request_routed(None, "b", None)
    for _ in range(2):
        router.on_request_completed("a", "request")
    assert [ranked(router, replicas) for _ in range(2)] == [["a", "b"]] * 2
    router.on_request_completed("b", "request")
    assert sorted(ranked(router, replicas)[0] for _ in range(2)) == ["a", "b"]


def test_without_replicas_there_is_nothing_to_choose() -> None:
    assert ranked(new_router(), []) == []
