import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import UserError
from reward_service.types import Score, Status
from rollout import environment, tiny, trajectories
from rollout.encoding import Encoder, EncodingConfig
from rollout.types import Group, Turn
from tests.rollout import fakes_groups as fakes


def group(index: int = 0, num_samples: int = 2) -> Group:
    turn = Turn(epoch=1, index=index, prompt=fakes.prompt(metadata={"entry": {"terms": [1, 2.5, None]}}))
    return fakes.group(turn, [fakes.completion((8 + n, 2)) for n in range(num_samples)])


def test_groups_come_back_as_they_went() -> None:
    groups = [group(0, 3), group(1, 1), group(0, 2)]
    table = trajectories.to_table(groups)
    assert table.num_rows == 6
    assert trajectories.from_table(table) == groups


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(
    token_ids=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5).map(tuple),
    logprob=finite,
    text=st.text(),
    reference=st.none() | st.text(),
    metadata=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | finite | st.text()),
    value=finite,
    parts=st.dictionaries(st.text(), finite),
)
def test_a_round_trip_is_exact_for_any_content(
    token_ids: tuple[int, ...],
    logprob: float,
    text: str,
    reference: str | None,
    metadata: dict[str, object],
    value: float,
    parts: dict[str, float],
) -> None:
    prompt = fakes.prompt(token_ids, text=text, reference=reference, metadata=metadata, prefill=text)
    completion = fakes.completion(token_ids, (logprob,) * len(token_ids), "length")
    trajectory = environment.trajectory(prompt, completion, lambda _: text)
    score = Score(id=text, status=Status.OK, value=value, parts=parts, latency_s=0.5, message=text)
    original = replace(group(), prompt=prompt, trajectories=(trajectory,), scores=(score,))
    assert trajectories.from_table(trajectories.to_table([original])) == [original]


def test_token_ids_survive_where_text_would_not() -> None:
    """S9: ids at the learner are those of the sampler, though most do not survive decode and encode."""
    draw = random.Random(0)
    tokenizer = tiny.build_tokenizer()
    encoder = Encoder(EncodingConfig(), tokenizer, context_length=None, max_new_tokens=1)
    sequences = [tuple(draw.randrange(len(tokenizer)) for _ in range(12)) for _ in range(1000)]
    groups = [
        fakes.group(
            Turn(epoch=0, index=i, prompt=fakes.prompt()),
            [fakes.completion(token_ids, (-1.0,) * 12)],
            encoder.decode,
        )
        for i, token_ids in enumerate(sequences)
    ]
    arrived = trajectories.from_table(trajectories.to_table(groups))
    drawn = [g.trajectories[0].token_ids[3:] for g in arrived]
    assert drawn == sequences
    assert hashlib.sha256(repr(drawn).encode()).digest() == hashlib.sha256(repr(sequences).encode()).digest()
    unstable = [s for s in sequences if encoder.target_ids(encoder.decode(s))[:-1] != s]
    assert len(unstable) > 900


def test_an_empty_list_of_groups_is_an_empty_table() -> None:
    assert trajectories.from_table(trajectories.to_table([])) == []


def test_groups_are_stored_by_version_and_read_in_order(tmp_path: Path) -> None:
    trajectories.write_parquet([group(2)], tmp_path, 10)
    path = trajectories.write_parquet([group(0), group(1)], tmp_path, 9)
    assert path.relative_to(tmp_path).as_posix() == "version=000009/groups.parquet"
    assert [g.index for g in trajectories.read_parquet(tmp_path)] == [0, 1, 2]
    # Other tools see the folder as one table, with the version as a column.
    table = pq.read_table(tmp_path)
    assert table["version"].to_pylist() == [9] * 4 + [10] * 2


def test_writing_a_version_again_replaces_it(tmp_path: Path) -> None:
    trajectories.write_parquet([group(0)], tmp_path, 0)
    trajectories.write_parquet([group(1)], tmp_path, 0)
    assert [g.index for g in trajectories.read_parquet(tmp_path)] == [1]


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = trajectories.write_parquet([group(0)], tmp_path, 0)
    unfit = replace(group(1), prompt=fakes.prompt(metadata={"not": {"json"}}))
    with pytest.raises(TypeError):
        trajectories.write_parquet([unfit], tmp_path, 0)
    assert [p.name for p in path.parent.iterdir()] == ["groups.parquet"]
    assert [g.index for g in trajectories.read_parquet(tmp_path)] == [0]


def test_a_store_from_before_versions_were_kept_per_token_is_read() -> None:
    """Mutation: demand every column of today."""
    one_version = fakes.completion((8,), (-0.5,))
    groups = [fakes.group(Turn(epoch=1, index=0, prompt=fakes.prompt()), [one_version, one_version])]
    table = trajectories.to_table(groups)
    older = table.drop_columns(["policy_versions"])
    assert trajectories.from_table(older) == groups
    with pytest.raises(ValueError, match="not a table of trajectories"):
        trajectories.from_table(older.drop_columns(["logprobs"]))


def test_torn_or_foreign_tables_are_refused(tmp_path: Path) -> None:
    table = trajectories.to_table([group(0, 3)])
    for rows in ([1, 2], [0, 2]):
        with pytest.raises(ValueError, match="out of place"):
            trajectories.from_table(table.take(rows))
    with pytest.raises(ValueError, match="not a table of trajectories"):
        trajectories.from_table(pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="at least one trajectory and one score each"):
        trajectories.to_table([replace(group(), scores=())])
    with pytest.raises(UserError, match="no trajectories are stored"):
        list(trajectories.read_parquet(tmp_path))


def test_files_are_written_in_pieces_that_no_group_is_torn_by(tmp_path: Path) -> None:
    groups = [group(i, 1 + i % 3) for i in range(600)]
    path = trajectories.write_parquet(groups, tmp_path, 0)
    footer = pq.ParquetFile(path).metadata
    assert footer.num_row_groups == 3
    # 256 groups of 1, 2, 3, 1, … trajectories: 85 · 6 + 1.
    assert footer.row_group(0).num_rows == 511
    assert list(trajectories.read_parquet(tmp_path)) == groups


def test_a_file_says_whose_token_ids_it_holds(tmp_path: Path) -> None:
    path = trajectories.write_parquet([group()], tmp_path, 0, "0123")
    assert pq.ParquetFile(path).schema_arrow.metadata[b"tokenizer"] == b"0123"
    assert list(trajectories.read_parquet(tmp_path)) == [group()]
