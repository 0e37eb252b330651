"""How Ray is started, without starting it: what comes up is the business of the tests marked `ray`."""

from typing import Any

import pytest

from antiphon.errors import UserError

session = pytest.importorskip("cluster.ray_session")


class Init:
    """`ray.init` on a machine where the first tries fail."""

    def __init__(self, num_failures: int) -> None:
        self._num_failures = num_failures
        self.asked: list[dict[str, Any]] = []

    def __call__(self, **options: Any) -> None:
        self.asked.append(options)
        if len(self.asked) <= self._num_failures:
            raise Exception("The current node timed out during startup.")


def test_a_cluster_of_this_machine_that_did_not_come_up_in_time_is_started_once_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And why is said. Mutations: one try; other options the second time; no word of the first."""
    init = Init(num_failures=1)
    session.start(None, init=init, num_cpus=2)
    assert len(init.asked) == 2
    assert init.asked[0] == init.asked[1]
    assert init.asked[0]["address"] == "local"
    assert init.asked[0]["num_cpus"] == 2
    assert "started once more: The current node timed out" in caplog.text


def test_a_machine_where_it_never_comes_up_is_told_what_ray_said() -> None:
    """Mutation: try for ever; let Ray's own error through."""
    init = Init(num_failures=9)
    with pytest.raises(UserError, match=r"did not start at this machine: The current node timed out"):
        session.start(None, init=init)
    assert len(init.asked) == 2


def test_a_cluster_that_others_started_is_asked_once() -> None:
    """What does not answer has had its deadline. Mutation: try again."""
    init = Init(num_failures=1)
    with pytest.raises(UserError, match="RAY_ADDRESS"):
        session.start("10.0.0.1:6379", init=init)
    assert [options["address"] for options in init.asked] == ["10.0.0.1:6379"]
