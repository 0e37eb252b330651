from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from antiphon.errors import UserError
from antiphon.settings import parse
from rollout import tiny
from rollout.encoding import Encoder, EncodingConfig
from rollout.prompts import Example, Message
from tests.rollout import fakes_tokenizers as fakes

Build = Callable[[], PreTrainedTokenizerFast]

# Tokenizer, and how many begin tokens a plain and a chat prompt must lead with.
BEGINNINGS = [
    (fakes.no_bos, 0, 0),
    (fakes.auto_bos, 1, 1),
    (fakes.auto_bos_and_eos, 1, 1),
    (fakes.template_with_bos, 0, 1),
    (fakes.sentencepiece, 1, 1),
]
SORT = Example(id="sort/21", content="sort 21=", reference="12")


def encoder(tokenizer: PreTrainedTokenizerFast | None = None, **config: object) -> Encoder:
    return Encoder(
        parse(EncodingConfig, config),
        tokenizer or tiny.build_tokenizer(),
        context_length=128,
        max_new_tokens=16,
    )


def num_leading(token_ids: tuple[int, ...], token: int | None) -> int:
    return next((i for i, t in enumerate(token_ids) if t != token), len(token_ids))


@pytest.mark.parametrize(("build", "plain", "chat"), BEGINNINGS, ids=[b[0].__name__ for b in BEGINNINGS])
def test_a_prompt_leads_with_the_expected_number_of_begin_tokens(build: Build, plain: int, chat: int) -> None:
    """S9: none missing, none doubled, whether the tokenizer or the template writes it."""
    tokenizer = build()
    for form, expected in (("plain", plain), ("chat", chat)):
        token_ids = encoder(tokenizer, format=form).encode(SORT).token_ids
        assert num_leading(token_ids, tokenizer.bos_token_id) == expected, form
        assert token_ids.count(tokenizer.bos_token_id) == expected, form
        assert tokenizer.eos_token_id not in token_ids, form


def test_a_template_that_writes_the_begin_token_itself_does_not_double_it() -> None:
    """S9"""
    token_ids = encoder(fakes.auto_bos(), template="<bos>{prompt}").encode(SORT).token_ids
    assert num_leading(token_ids, 1) == 1


def test_a_chat_prompt_is_tokenized_as_the_tokenizer_does_it_by_itself() -> None:
    """S9"""
    tokenizer = tiny.build_tokenizer()
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "sort 21="}]
    own = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert encoder(format="chat", system="be brief").encode(SORT).token_ids == tuple(own)


def test_the_text_of_a_prompt_is_a_view_of_its_tokens() -> None:
    prompt = encoder(template="Please: {prompt}").encode(SORT)
    assert prompt.text == "Please: sort 21="
    chat = encoder(format="chat").encode(SORT)
    assert chat.text == "user\nsort 21=\nassistant\n"
    assert (chat.id, chat.reference) == ("sort/21", "12")


def test_braces_in_a_text_are_left_alone() -> None:
    text = 'json {"a": {0}} {prompt}'
    assert encoder(template="<{prompt}>").encode(Example(id="x", content=text)).text == f"<{text}>"


def test_a_conversation_goes_into_the_chat_template_message_by_message() -> None:
    talk = (Message(role="user", content="hi"), Message(role="assistant", content="yes?"))
    example = Example(id="x", content=(*talk, Message(role="user", content="sort 21=")))
    assert (
        encoder(format="chat").encode(example).text
        == "user\nhi\nassistant\nyes?\nuser\nsort 21=\nassistant\n"
    )
    with pytest.raises(UserError, match="x is a conversation, and the format is plain"):
        encoder().encode(example)


def test_a_prefilled_answer_is_in_the_prompt_and_declared() -> None:
    """S9: rewards are to see what the template filled in."""
    for form in ("plain", "chat"):
        prompt = encoder(format=form, prefill="<think>").encode(SORT)
        assert prompt.text.endswith("<think>")
        assert prompt.prefill == "<think>"


def test_a_template_that_prefills_by_itself_is_not_made_to_do_it_twice() -> None:
    """S9"""
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = fakes.TEMPLATE_WITHOUT_BOS + "<think>\n"
    prompt = encoder(tokenizer, format="chat", prefill="<think>").encode(SORT)
    assert prompt.text.count("<think>") == 1


def test_a_target_is_the_reference_and_one_end_token() -> None:
    # Bytes in order of their code, after three special tokens: "!" is 3, so "1" is 19 and "2" is 20.
    assert encoder().target_ids("12") == (19, 20, 2)
    assert encoder(fakes.auto_bos_and_eos()).target_ids("12") == (19, 20, 2)


def test_special_tokens_are_left_out_of_the_view_and_spaces_are_kept() -> None:
    assert encoder().decode([1, 19, 20, 2, 2]) == "12"
    text = " a , b  . don 't"
    assert encoder().decode(encoder().target_ids(text)) == text


def test_a_prompt_that_leaves_no_room_for_the_completion_is_refused() -> None:
    # 128 positions, 16 for the completion: 112 bytes fit and 113 do not.
    encode_all = encoder().encode_all
    assert len(encode_all([Example(id="a", content="x" * 112)], "data")) == 1
    with pytest.raises(UserError, match=r"prompt b has 113 tokens; with max_new_tokens = 16 .* of 128"):
        encode_all([Example(id="b", content="x" * 113)], "data")


def test_prompts_above_the_limit_are_left_out_and_counted() -> None:
    examples = [Example(id=str(n), content="x" * n) for n in (10, 200, 20)]
    with pytest.warns(UserWarning, match="data: 1 of 3 prompts"):
        prompts = encoder(max_prompt_tokens=20).encode_all(examples, "data")
    assert [p.id for p in prompts] == ["10", "20"]
    with pytest.raises(UserError, match="none of 3 prompts has at most 5 tokens"):
        encoder(max_prompt_tokens=5).encode_all(examples, "data")


def test_mistakes_are_told_with_the_remedy() -> None:
    bare = tiny.build_tokenizer()
    bare.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        encoder(bare, format="chat")
    with pytest.raises(UserError, match=r"must contain \{prompt\}"):
        encoder(template="no place")
    with pytest.raises(UserError, match="the prompt of x is empty"):
        encoder().encode(Example(id="x", content=""))
    strict = tiny.build_tokenizer()
    strict.chat_template = "{{ raise_exception('only user messages') }}"
    with pytest.raises(UserError, match="refuses sort/21: only user messages"):
        encoder(strict, format="chat").encode(SORT)


def test_options_reach_the_chat_template() -> None:
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = "{{ 'thinking ' if enable_thinking else '' }}{{ messages[0]['content'] }}"
    thinking = encoder(tokenizer, format="chat", template_options={"enable_thinking": True})
    assert thinking.encode(SORT).text == "thinking sort 21="


def test_in_a_plain_text_an_observation_is_what_was_said() -> None:
    assert encoder().observation_ids("12", last=2) == (19, 20)
    assert encoder(fakes.auto_bos_and_eos()).observation_ids("12", last=19) == (19, 20)
    assert encoder().observation_ids("", last=2) == ()


def test_in_a_chat_an_observation_is_a_message_of_the_user_and_the_opening_of_the_next_answer() -> None:
    chat = encoder(format="chat")
    tokenizer = tiny.build_tokenizer()
    said = "<eos>\n<bos>user\n12<eos>\n<bos>assistant\n"
    whole = tuple(tokenizer(said, add_special_tokens=False).input_ids)
    # An answer that was cut is closed; one that the policy ended itself is not ended twice.
    assert chat.observation_ids("12", last=19) == whole
    assert chat.observation_ids("12", last=2) == whole[1:]


def test_a_chat_goes_on_as_if_it_had_been_written_at_once() -> None:
    chat, tokenizer = encoder(format="chat"), tiny.build_tokenizer()
    answer = chat.target_ids("7")
    dialogue = chat.encode(SORT).token_ids + answer + chat.observation_ids("12", last=answer[-1])
    messages = [("user", "sort 21="), ("assistant", "7"), ("user", "12")]
    expected = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in messages],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert dialogue == tuple(expected)
