import json
from dataclasses import asdict

from rollout.reports import GroupSummary, parse_summary
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


def test_a_summary_survives_json_exactly():
    summary = GroupSummary.of(make_group([0.1, 1.0], epoch=2, index=5, version=7))
    assert parse_summary(json.loads(json.dumps(asdict(summary)))) == summary
