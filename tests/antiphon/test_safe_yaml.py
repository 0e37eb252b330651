import pytest

from antiphon import safe_yaml


def test_numbers_are_read_as_yaml_1_2_does():
    assert safe_yaml.read("{lr: 1e-5, clip: 0.2, name: e5, at: '1e-5'}") == {
        "lr": 1e-5,
        "clip": 0.2,
        "name": "e5",
        "at": "1e-5",
    }


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['true']", "!!python/name:os.system", "a: !include /etc/passwd"],
)
def test_a_tag_makes_no_object(text):
    """Mutation: yaml.UnsafeLoader as the base of Loader runs the first one."""
    with pytest.raises(safe_yaml.UnsafeYaml, match="could not determine a constructor"):
        safe_yaml.read(text)


def test_few_lines_do_not_grow_into_gigabytes():
    """Nine levels of nine aliases stand for 9^9 values; PyYAML shares them, whoever writes them out does not.

    Mutation: a size that counts an alias as one value lets it through.
    """
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(safe_yaml.UnsafeYaml, match="line 6 grows into more than 200000 values"):
        safe_yaml.read("\n".join(lines))


def test_an_alias_within_its_own_anchor_is_refused():
    with pytest.raises(safe_yaml.UnsafeYaml, match="contains itself"):
        safe_yaml.read("a: &a [*a]")


def test_an_alias_may_be_used_twice_and_a_merge_may_be_overridden():
    text = "x: &x {a: 1, b: 2}\ny: &y {<<: *x, a: 3}\nz: {<<: *y, b: 4}"
    assert safe_yaml.read(text) == {"x": {"a": 1, "b": 2}, "y": {"a": 3, "b": 2}, "z": {"a": 3, "b": 4}}


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000], ids=["lists", "dicts", "block"])
def test_depth_is_bounded_before_anything_is_built(text):
    """Mutation: without _check_depth the composer ends with a RecursionError."""
    with pytest.raises(safe_yaml.UnsafeYaml, match="more than 64 levels deep"):
        safe_yaml.read(text)


def test_a_key_is_set_once():
    """Mutation: without _check_keys the last one wins, and what a reviewer read above is not what runs."""
    with pytest.raises(safe_yaml.UnsafeYaml, match="line 3 sets 'reward' a second time"):
        safe_yaml.read("reward: 1\nrun: 2\nreward: 3")


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"a: \xff")
    with pytest.raises(safe_yaml.UnsafeYaml, match="no UTF-8: invalid start byte at byte 3"):
        safe_yaml.read_file(path)
    monkeypatch.setattr(safe_yaml, "MAX_BYTES", 3)
    with pytest.raises(safe_yaml.UnsafeYaml, match="more than 3 bytes"):
        safe_yaml.read_file(path)


def test_an_empty_text_is_none():
    assert safe_yaml.read("") is None
