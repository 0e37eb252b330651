"""The name of a tokenizer: equal where ids mean the same, different where they do not."""

from pathlib import Path

from rollout import letters, tiny
from rollout.fingerprint import fingerprint


def test_a_tokenizer_keeps_its_name_when_it_is_stored(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = tiny.build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    name = fingerprint(tokenizer)
    assert fingerprint(AutoTokenizer.from_pretrained(tmp_path)) == name
    assert len(name) == 16


def test_other_words_or_another_end_make_another_name() -> None:
    tokenizer = tiny.build_tokenizer()
    name = fingerprint(tokenizer)
    assert fingerprint(letters.build_tokenizer()) != name
    tokenizer.eos_token = tokenizer.pad_token
    ended_otherwise = fingerprint(tokenizer)
    assert ended_otherwise != name
    tokenizer.add_tokens(["another"])
    longer = fingerprint(tokenizer)
    assert longer not in (name, ended_otherwise)
    other = tiny.build_tokenizer()
    other.eos_token = other.pad_token
    other.add_tokens(["yet another"])
    assert len(other) == len(tokenizer)
    assert fingerprint(other) != longer
