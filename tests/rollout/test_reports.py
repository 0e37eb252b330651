import json
from dataclasses import asdict, replace

from reward_service.types import Status
from rollout.reports import FailedScore, GroupSummary, parse_summary
from tests.fakes import make_group


def test_a_group_of_equal_raw_scores_is_constant_whatever_its_lengths():
    """S12: a filter looks at the raw reward; lengths, or a score shaped by them, play no part."""
    group = make_group([0.0, 0.0])
    short, long = group.trajectories[0], make_group([0.0], tokens=(5, 6, 7, 8)).trajectories[0]
    mixed = type(group)(**{f: getattr(group, f) for f in group.__slots__} | {"trajectories": (short, long)})
    summary = GroupSummary.of(mixed)
    assert summary.num_tokens == (2, 4)
    assert summary.is_constant
    assert not GroupSummary.of(make_group([0.0, 1.0])).is_constant


def test_a_summary_is_as_old_as_the_oldest_token_of_its_group():
    """Given out at version 2, drawn by 4 and 3. Mutation: the version at dispatch."""
    newer, older = (make_group([1.0], version=version).trajectories[0] for version in (4, 3))
    group = replace(make_group([0.0, 1.0], version=2), trajectories=(newer, older))
    assert GroupSummary.of(group).policy_version == 3


def test_a_summary_survives_json_exactly():
    failed = FailedScore(number=2, status=Status.TIMEOUT, num_tokens=9, message="late")
    summary = GroupSummary.of(make_group([0.1, 1.0], epoch=2, index=5, version=7), (failed,))
    assert parse_summary(json.loads(json.dumps(asdict(summary)))) == summary


def test_a_sample_that_a_component_has_no_number_for_is_missing_in_its_part_alone():
    group = make_group([0.0, 1.0])
    first, second = group.scores
    partial = replace(group, scores=(first, replace(second, parts={"reward": 1.0, "judge": 0.5})))
    assert GroupSummary.of(partial).parts == {"reward": (0.0, 1.0), "judge": (0.5,)}
