"""The cache in memory and on disk. The disk has a thread of its own, so that these tests run in real time."""

import asyncio
import builtins
import pickle
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import UserError
from antiphon.settings import parse
from reward_service.guards.cache import Cache, CacheConfig
from reward_service.types import NOTHING, Score, Status, Usage


def score(value: float) -> Score:
    usage = Usage(num_requests=1)
    return Score(id="s", status=Status.OK, value=value, parts={"x": value}, latency_s=1.0, usage=usage)


def values(found: Mapping[str, Score]) -> dict[str, float | None]:
    return {key: s.value for key, s in found.items()}


def cache(**config: Any) -> Cache:
    return Cache(parse(CacheConfig, config))


def find(c: Cache, *keys: str) -> dict[str, Score]:
    async def main() -> dict[str, Score]:
        return await c.find(keys, 10.0)

    return asyncio.run(main())


def test_the_entries_used_last_are_kept() -> None:
    c = cache(max_entries=2)
    c.store({"a": score(1.0), "b": score(2.0)})
    find(c, "a")
    c.store({"c": score(3.0)})
    assert values(find(c, "a", "b", "c")) == {"a": 1.0, "c": 3.0}
    # Looked up: a; then a, b, c. Three of the four were there.
    assert c.stats()["hit_ratio"] == 0.75


def test_an_entry_stored_again_counts_as_used() -> None:
    c = cache(max_entries=2)
    c.store({"a": score(1.0), "b": score(2.0)})
    c.store({"a": score(1.0), "c": score(3.0)})
    assert set(find(c, "a", "b", "c")) == {"a", "c"}


def test_a_remembered_score_is_nobodys_and_cost_nothing() -> None:
    c = cache()
    c.store({"a": score(1.0)})
    found = find(c, "a")["a"]
    assert found == Score(id="", status=Status.OK, value=1.0, parts={"x": 1.0}, latency_s=0.0, usage=NOTHING)


def test_without_entries_nothing_is_remembered() -> None:
    c = cache(max_entries=0)
    c.store({"a": score(1.0)})
    assert (find(c, "a"), c.stats()["hit_ratio"]) == ({}, 0.0)


def test_a_disk_behind_no_memory_is_refused() -> None:
    with pytest.raises(UserError, match="nothing is remembered"):
        cache(max_entries=0, path="x")


def test_what_is_on_disk_outlives_the_service(tmp_path: Path) -> None:
    first = cache(path=str(tmp_path / "c"))
    first.store({"a": score(1 / 3), "b": score(2.0)})
    first.close()
    second = cache(path=str(tmp_path / "c"))
    assert find(second, "a", "z")["a"] == Score(id="", status=Status.OK, value=1 / 3, parts={"x": 1 / 3})
    assert (second.stats()["num_disk_hits"], second.stats()["num_entries"]) == (1, 1)
    # From memory now.
    find(second, "a")
    assert (second.stats()["num_disk_hits"], second.stats()["num_hits"]) == (1, 2)
    second.close()


def test_two_services_share_a_folder(tmp_path: Path) -> None:
    one, two = cache(path=str(tmp_path)), cache(path=str(tmp_path))
    one.store({"a": score(1.0)})
    one.close()
    assert values(find(two, "a")) == {"a": 1.0}
    two.close()


def test_the_folder_does_not_outgrow_its_size(tmp_path: Path) -> None:
    c = cache(path=str(tmp_path), max_disk_bytes=2**20, max_entries=1)
    label = "x" * 1000
    for i in range(3000):
        c.store({str(i): Score(id="", status=Status.OK, value=1.0, parts={label: 1.0})})
    c.close()
    size = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    # Of 3 MB around one is left: the newest.
    assert size < 2 * 2**20
    again = cache(path=str(tmp_path))
    assert set(find(again, "0", "2999")) == {"2999"}
    again.close()


class Bomb:
    """What an attacker would put into the folder."""

    def __reduce__(self) -> Any:
        return builtins.exec, ("import builtins; builtins.bomb_went_off = True",)


def spoil(folder: Path, sql: str, *values: Any) -> None:
    with sqlite3.connect(folder / "cache.db") as connection:
        connection.execute(sql, values)
    connection.close()


@pytest.mark.parametrize(
    ("column", "content"),
    [("value", "no json"), ("value", "[null, {}]"), ("value", "[NaN, {}]"), ("pickle", pickle.dumps(Bomb()))],
    ids=["text", "nothing", "nan", "pickle"],
)
def test_what_was_spoilt_on_disk_is_not_there(tmp_path: Path, column: str, content: Any) -> None:
    first = cache(path=str(tmp_path))
    first.store({"a": score(1.0)})
    first.close()
    mode = 4 if column == "pickle" else 1
    spoil(tmp_path, "UPDATE Cache SET value = ?, mode = ?", content, mode)
    second = cache(path=str(tmp_path))
    assert find(second, "a") == {}
    assert second.stats()["num_disk_errors"] == 1
    assert not hasattr(builtins, "bomb_went_off")
    # Scored again, it is written anew.
    second.store({"a": score(1.0)})
    second.close()
    third = cache(path=str(tmp_path))
    assert values(find(third, "a")) == {"a": 1.0}
    third.close()


def test_a_write_that_fails_is_counted_and_nothing_else(tmp_path: Path) -> None:
    c = cache(path=str(tmp_path))
    spoil(tmp_path, "DROP TABLE Cache")
    c.store({"a": score(1.0)})
    assert values(find(c, "a")) == {"a": 1.0}
    c.close()
    assert c.stats()["num_disk_errors"] == 1


def test_a_disk_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    c = cache(path=str(tmp_path))
    c.store({"b": score(2.0)})
    gate = threading.Event()
    assert c._disk is not None
    c._disk._thread.submit(gate.wait)

    async def main() -> dict[str, Score]:
        return await c.find(["a", "b"], 0.05)

    assert values(asyncio.run(main())) == {"b": 2.0}
    assert c.stats()["num_disk_errors"] == 1
    gate.set()
    c.close()


def test_what_another_request_scored_while_the_disk_was_read_is_found(tmp_path: Path) -> None:
    c = cache(path=str(tmp_path))
    gate = threading.Event()
    assert c._disk is not None
    c._disk._thread.submit(gate.wait)

    async def main() -> dict[str, Score]:
        looking = asyncio.create_task(c.find(["a"], 10.0))
        await asyncio.sleep(0)
        c.store({"a": score(1.0)})
        gate.set()
        return await looking

    assert values(asyncio.run(main())) == {"a": 1.0}
    c.close()


@pytest.mark.parametrize("is_file", [True, False])
def test_a_path_where_there_can_be_no_cache_is_a_mistake_in_the_recipe(tmp_path: Path, is_file: bool) -> None:
    path = tmp_path / "c"
    if is_file:
        path.write_text("a file")
    else:
        path.mkdir()
        (path / "cache.db").write_text("no database at all, but longer than the header of one would be" * 20)
    with pytest.raises(UserError, match=r"cache\.path is .*/c', where there can be no cache"):
        cache(path=str(path))
