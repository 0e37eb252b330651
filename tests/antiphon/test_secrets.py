from pathlib import Path

import pytest

from antiphon.errors import UserError
from antiphon.secrets import read_secret, refuse_secrets
from cluster.recipe import apply_override, load_recipe, parse_recipe, read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
NAMED = [
    {"api_key": "abc"},
    {"reward": {"http": {"token": "abc"}}},
    {"components": [{"name": "judge"}, {"backend": {"password": "abc"}}]},
    {"extra": {"X-Api-Key": "abc"}},
    {"tokens": [], "hf_token": "abc"},
    {"passwords": {"secret": ["abc"]}},
]
# Made up for this test: the right shape, and no key of anybody's.
SHAPED = [
    "sk-" + "a1" * 12,
    "hf_" + "Ab" * 16,
    "ghp_" + "a" * 36,
    "AKIA" + "ABCD1234" * 2,
    "-----BEGIN RSA PRIVATE KEY-----",
    "https://me:word@example.com/v1",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln",
]


@pytest.mark.parametrize("data", NAMED, ids=lambda data: next(iter(data)))
def test_a_setting_with_the_name_of_a_secret_is_refused_without_saying_it(data):
    """Mutation: a NAMES that is matched at the whole name only lets hf_token through."""
    with pytest.raises(UserError, match="looks like a secret") as error:
        refuse_secrets(data)
    assert "abc" not in str(error.value)


@pytest.mark.parametrize("value", SHAPED, ids=lambda value: value[:4])
def test_a_value_with_the_shape_of_a_secret_is_refused_wherever_it_stands(value):
    with pytest.raises(UserError, match=r"^run\.name looks like a secret") as error:
        refuse_secrets({"run": {"name": value}})
    assert value not in str(error.value)


def test_what_only_sounds_like_a_secret_is_left_alone():
    refuse_secrets(
        {
            "token_env": "ANTIPHON_REWARD_TOKEN",
            "api_key_env": None,
            "max_tokens": 5,
            "tokenizer": "13a",
            "tokens_field": "max_tokens",
            "stop_token_ids": [1, 2],
            "ratio": "token",
            "path": "s3://bucket/hf_datasets/sk-learn",
            "question": "What is the password of the day?",
        }
    )


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_recipe_of_ours_is_taken_for_one_with_secrets(path):
    assert read_recipe(path)


def test_secrets_are_refused_in_files_in_overrides_and_in_data(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("reward: {shared: {url: x, token: abc}}")
    with pytest.raises(UserError, match=r"^reward\.shared\.token looks like a secret"):
        read_recipe(recipe)
    with pytest.raises(UserError, match=r"^reward\.shared\.token looks like a secret"):
        apply_override({}, "reward.shared.token=abc")
    with pytest.raises(UserError, match=r"^reward\.shared\.token looks like a secret"):
        parse_recipe({"reward": {"shared": {"token": "abc"}}})
    recipe.write_text("run: 1\nrun: 2")
    with pytest.raises(UserError, match="second time"):
        load_recipe(recipe)


def test_a_secret_comes_from_the_variable_or_from_the_file_that_another_names(tmp_path, monkeypatch):
    monkeypatch.delenv("ANTIPHON_T", raising=False)
    monkeypatch.delenv("ANTIPHON_T_FILE", raising=False)
    assert read_secret("ANTIPHON_T") is None
    monkeypatch.setenv("ANTIPHON_T", " abc ")
    assert read_secret("ANTIPHON_T") == "abc"
    path = tmp_path / "token"
    path.write_text("def\n")
    monkeypatch.setenv("ANTIPHON_T_FILE", str(path))
    with pytest.raises(UserError, match="both set"):
        read_secret("ANTIPHON_T")
    monkeypatch.delenv("ANTIPHON_T")
    assert read_secret("ANTIPHON_T") == "def"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"a\nb", b"\xff"])
def test_a_file_that_holds_no_secret_is_a_mistake_and_not_an_open_door(content, tmp_path, monkeypatch):
    """Mutation: returning None for an empty file would let everybody in."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("ANTIPHON_T", raising=False)
    monkeypatch.setenv("ANTIPHON_T_FILE", str(path))
    with pytest.raises(UserError, match="ANTIPHON_T_FILE"):
        read_secret("ANTIPHON_T")
