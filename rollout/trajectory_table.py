"""Groups as Arrow tables: how they travel between processes, and what the files of a run hold.

One row is one trajectory; what belongs to the group is repeated in its rows, so that the files answer
questions without a join. The rows of a group follow each other and are numbered from 0.

Actors, the trajectory store (trajectories.py) and the replay use this; it knows nothing of tensors.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from reward_service.types import Score, Status, Usage
from rollout.types import Group, Prompt, Trajectory

SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("policy_version", pa.int64(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt_token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("prompt_text", pa.string(), nullable=False),
        pa.field("prompt_prefill", pa.string(), nullable=False),
        pa.field("reference", pa.string()),
        pa.field("metadata_json", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("action_mask", pa.list_(pa.bool_()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float64()), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("policy_version_min", pa.int64(), nullable=False),
        pa.field("policy_version_max", pa.int64(), nullable=False),
        pa.field("policy_versions", pa.list_(pa.int64()), nullable=False),
        pa.field("completion_text", pa.string(), nullable=False),
        pa.field("score_id", pa.string(), nullable=False),
        pa.field("score_status", pa.string(), nullable=False),
        pa.field("score_value", pa.float64()),
        pa.field("score_parts", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("score_latency_s", pa.float64(), nullable=False),
        pa.field("score_requests", pa.int64(), nullable=False),
        pa.field("score_tokens", pa.int64(), nullable=False),
        pa.field("score_money", pa.float64(), nullable=False),
        pa.field("score_message", pa.string(), nullable=False),
    ],
    metadata={"antiphon": "trajectories/1"},
)
"""Columns are named as the fields of Group, Prompt, Trajectory and Score that they hold.

Token ids and `action_mask` cover prompt and completion; `logprobs` are 0.0 where the mask is False, and in
double precision, so that a round trip is exact; `policy_versions` is empty where one version drew all, else
-1 where the mask is False; `metadata_json` is the prompt's metadata as JSON; `score_requests`, `score_tokens`
and `score_money` are what the score cost.
"""


YOUNGER = ("policy_versions",)
"""Columns that stores of earlier releases lack; there they were empty."""


def is_readable(schema: pa.Schema) -> bool:
    """Whether `from_table` takes tables of this schema: SCHEMA, or that of an earlier release."""
    present = [field for field in SCHEMA if field.name in schema.names or field.name not in YOUNGER]
    return bool(schema.equals(pa.schema(present)))


def to_table(groups: Iterable[Group]) -> pa.Table:
    """Groups as rows of SCHEMA, in the given order.

    Raises:
        ValueError: a group is empty, or has not one score per trajectory.
    """
    return pa.Table.from_pylist([row for g in groups for row in _rows(g)], schema=SCHEMA)


def from_table(table: pa.Table) -> list[Group]:
    """The groups of a table that `to_table` made, equal to those that went in.

    Raises:
        ValueError: other columns than SCHEMA, or the rows of a group are torn apart.
    """
    parts: list[list[dict[str, Any]]] = []
    for row in _complete(table).to_pylist(maps_as_pydicts="strict"):
        if row["sample"] == 0:
            parts.append([])
        if not parts or row["sample"] != len(parts[-1]):
            raise ValueError(f"sample {row['sample']} of prompt {row['prompt_id']!r} is out of place")
        parts[-1].append(row)
    return [_group(rows) for rows in parts]


def _complete(table: pa.Table) -> pa.Table:
    """The table with the columns that are younger than it, empty."""
    if not is_readable(table.schema):
        raise ValueError(f"not a table of trajectories, its columns are {table.schema.names}")
    for name in set(YOUNGER) - set(table.schema.names):
        place = SCHEMA.get_field_index(name)
        field = SCHEMA.field(place)
        table = table.add_column(place, field, pa.array([[]] * len(table), field.type))
    return table


def _rows(group: Group) -> list[dict[str, Any]]:
    if not group.trajectories or len(group.scores) != len(group.trajectories):
        raise ValueError(
            f"a group has at least one trajectory and one score each, {group.key} has "
            f"{len(group.trajectories)} and {len(group.scores)}"
        )
    shared = _group_columns(group)
    return [
        {**shared, "sample": n, **_trajectory_columns(t), **_score_columns(s)}
        for n, (t, s) in enumerate(zip(group.trajectories, group.scores, strict=True))
    ]


def _group_columns(group: Group) -> dict[str, Any]:
    prompt = group.prompt
    return {
        "epoch": group.epoch,
        "index": group.index,
        "policy_version": group.policy_version,
        "prompt_id": prompt.id,
        "prompt_token_ids": prompt.token_ids,
        "prompt_text": prompt.text,
        "prompt_prefill": prompt.prefill,
        "reference": prompt.reference,
        "metadata_json": json.dumps(dict(prompt.metadata), ensure_ascii=False),
    }


def _trajectory_columns(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "token_ids": trajectory.token_ids,
        "action_mask": trajectory.action_mask,
        "logprobs": trajectory.logprobs,
        "finish_reason": trajectory.finish_reason,
        "policy_version_min": trajectory.policy_version_min,
        "policy_version_max": trajectory.policy_version_max,
        "policy_versions": trajectory.policy_versions,
        "completion_text": trajectory.completion_text,
    }


def _score_columns(score: Score) -> dict[str, Any]:
    return {
        "score_id": score.id,
        "score_status": score.status.value,
        "score_value": score.value,
        "score_parts": list(score.parts.items()),
        "score_latency_s": score.latency_s,
        "score_requests": score.usage.num_requests,
        "score_tokens": score.usage.num_tokens,
        "score_money": score.usage.money,
        "score_message": score.message,
    }


def _group(rows: Sequence[dict[str, Any]]) -> Group:
    first = rows[0]
    return Group(
        epoch=first["epoch"],
        index=first["index"],
        prompt=Prompt(
            id=first["prompt_id"],
            token_ids=tuple(first["prompt_token_ids"]),
            text=first["prompt_text"],
            prefill=first["prompt_prefill"],
            reference=first["reference"],
            metadata=json.loads(first["metadata_json"]),
        ),
        policy_version=first["policy_version"],
        trajectories=tuple(_trajectory(row) for row in rows),
        scores=tuple(_score(row) for row in rows),
    )


def _trajectory(row: dict[str, Any]) -> Trajectory:
    return Trajectory(
        token_ids=tuple(row["token_ids"]),
        action_mask=tuple(row["action_mask"]),
        logprobs=tuple(row["logprobs"]),
        finish_reason=row["finish_reason"],
        policy_version_min=row["policy_version_min"],
        policy_version_max=row["policy_version_max"],
        policy_versions=tuple(row["policy_versions"]),
        completion_text=row["completion_text"],
    )


def _score(row: dict[str, Any]) -> Score:
    return Score(
        id=row["score_id"],
        status=Status(row["score_status"]),
        value=row["score_value"],
        parts=row["score_parts"],
        latency_s=row["score_latency_s"],
        usage=Usage(
            num_requests=row["score_requests"], num_tokens=row["score_tokens"], money=row["score_money"]
        ),
        message=row["score_message"],
    )
