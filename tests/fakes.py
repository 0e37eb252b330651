"""Written fakes for the two doors of the loop, and small things to build groups from."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.inline import Later
from cluster.ports import Delivery, Lost, Published
from learner.process import UpdateReport
from reward_service.types import Score, Status
from rollout.reports import Dropped, FailedScore, GroupSummary, TaskReport
from rollout.types import Group, Prompt, Sampling, Task, Trajectory, Turn


def make_prompts(num_prompts: int) -> list[Prompt]:
    return [
        Prompt(id=f"p{i}", token_ids=(1, 2, i + 3), text=f"prompt {i}", reference=str(i))
        for i in range(num_prompts)
    ]


def make_group(
    rewards: list[float],
    *,
    epoch: int = 0,
    index: int = 0,
    version: int = 0,
    tokens: tuple[int, ...] = (5, 6),
) -> Group:
    """A group with one trajectory per reward, all with the same tokens after a prompt of two."""
    prompt = Prompt(id=f"p{index}", token_ids=(1, 2), text="prompt", reference="r")
    trajectory = Trajectory(
        token_ids=prompt.token_ids + tokens,
        action_mask=(False, False) + (True,) * len(tokens),
        logprobs=(0.0, 0.0) + (-1.0,) * len(tokens),
        finish_reason="stop",
        policy_version_min=version,
        policy_version_max=version,
        completion_text="text",
    )
    scores = tuple(
        Score(id=f"{epoch}/{index}/{n}", status=Status.OK, value=r, parts={"reward": r})
        for n, r in enumerate(rewards)
    )
    return Group(
        epoch=epoch,
        index=index,
        prompt=prompt,
        policy_version=version,
        trajectories=(trajectory,) * len(rewards),
        scores=scores,
    )


def make_summary(
    turn: Turn, version: int, rewards: tuple[float, ...] = (0.0, 1.0), num_samples: int = 0
) -> GroupSummary:
    """A group of these rewards; the other samples of `num_samples` failed."""
    return GroupSummary(
        epoch=turn.epoch,
        index=turn.index,
        policy_version=version,
        rewards=rewards,
        parts={"exact": rewards},
        num_tokens=(3,) * len(rewards),
        num_truncated=0,
        failed=tuple(make_failed(n, "error") for n in range(len(rewards), num_samples)),
    )


def make_failed(number: int, status: str, num_tokens: int = 3) -> FailedScore:
    return FailedScore(number=number, status=Status(status), num_tokens=num_tokens, message="a fake")


def make_dropped(task: Task, turn: Turn, reason: str) -> Dropped:
    """All scores of the group failed; the reason is "score_<status>"."""
    status = reason.removeprefix("score_")
    failed = tuple(make_failed(n, status) for n in range(task.num_samples))
    return Dropped(epoch=turn.epoch, index=turn.index, reason=reason, message="a fake", failed=failed)


class FakeRollouts:
    """Plays tasks at once: every group gets what `play` says (rewards, or a reason to drop it).

    Where there are fewer rewards than samples, the last samples failed with an error.
    """

    def __init__(
        self,
        tape: list[str],
        play: Callable[[Task, Turn], tuple[float, ...] | str] = lambda task, turn: (0.0, 1.0),
        num_free: int = 2,
    ) -> None:
        self.tape = tape
        self.play = play
        self.tasks: deque[Task] = deque()
        self.lose_next = 0
        """So many of the next tasks are lost with their actor."""
        self.version = -1
        self._num_free = num_free

    @property
    def num_free(self) -> int:
        return self._num_free - len(self.tasks)

    def submit(self, task: Task) -> None:
        self.tape.append(f"submit {len(task.turns)} at {task.policy_version}")
        assert task.policy_version == self.version, "work was given out at a version that nobody confirmed"
        self.tasks.append(task)

    def collect(self) -> list[Delivery | Lost]:
        if not self.tasks:
            return []
        task = self.tasks.popleft()
        if self.lose_next:
            self.lose_next -= 1
            return [Lost(task=task, reason="killed")]
        outcomes = [(turn, self.play(task, turn)) for turn in task.turns]
        summaries = tuple(
            make_summary(t, task.policy_version, o, task.num_samples)
            for t, o in outcomes
            if not isinstance(o, str)
        )
        dropped = tuple(make_dropped(task, t, o) for t, o in outcomes if isinstance(o, str))
        report = TaskReport(task=task, groups=summaries, dropped=dropped, generate_s=0.1, score_s=0.1)
        return [Delivery(report=report, groups=summaries)]

    def load(self, published: Published) -> None:
        self.tape.append(f"load {published.version}")
        self.version = published.version

    def vitals(self) -> dict[str, float]:
        return {"rollout/actors": 1.0}

    def describe(self) -> str:
        return "a fake"

    def close(self) -> None: ...


class FakeLearner:
    """A replay of summaries; an update takes the oldest."""

    def __init__(self, tape: list[str], groups_per_update: int) -> None:
        self.tape = tape
        self.groups_per_update = groups_per_update
        self.replay: list[GroupSummary] = []
        self.trained: list[tuple[int, int]] = []
        self.num_stale = 0
        """So many of the oldest groups the next update finds too old."""

    def warm_up(self, is_stopping: Callable[[], bool]) -> Later:
        return Later(lambda: {"loss": 0.0})

    def accept(self, delivery: Delivery, keys: frozenset[tuple[int, int]]) -> Later:
        return Later(lambda: self.replay.extend(g for g in delivery.groups if g.key in keys))

    def update(self, version: int) -> Later:
        return Later(lambda: self._update(version))

    def _update(self, version: int) -> UpdateReport:
        stale = tuple(g.key for g in self.replay[: self.num_stale])
        self.replay, self.num_stale = self.replay[self.num_stale :], 0
        if len(self.replay) < self.groups_per_update:
            return UpdateReport(num_groups=0, trained=(), stale=stale, metrics={})
        batch, self.replay = (
            self.replay[: self.groups_per_update],
            self.replay[self.groups_per_update :],
        )
        self.tape.append(f"update from {version}")
        self.trained += [g.key for g in batch]
        trained = tuple(g.key for g in batch)
        return UpdateReport(num_groups=len(batch), trained=trained, stale=stale, metrics={"loss": 1.0})

    def publish(self, version: int) -> Later:
        self.tape.append(f"publish {version}")
        return Later(lambda: Published(version=version, digest=f"d{version}", size_bytes=1, weights=None))

    def save(self, folder: Path) -> Later:
        return Later(lambda: (folder / "learner.txt").write_text(repr(self.replay)))

    def load(self, folder: Path) -> Later:
        return Later(lambda: None)

    def close(self) -> None: ...


SAMPLING = Sampling(max_new_tokens=4)


def silent(*args: Any, **kwargs: Any) -> None:
    """A hook that nobody listens to."""
