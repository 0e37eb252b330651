"""From a prompt and a completion to the token ids that a network reads.

Called by the components that hold a network, and by the training of reward models, so that both read the same
ids. Knows tokenizers; knows nothing of networks and devices.
"""

from collections.abc import Callable
from typing import Any, Literal

from jinja2 import TemplateError
from pydantic import Field

from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.reward import InvalidInput

Form = Literal["chat", "pair", "completion"]
Ids = tuple[int, ...]


class TextConfig(Settings):
    """What of a sample the network reads, and what happens to a text that is too long for it."""

    form: Form | None = None
    """`chat`: prompt and completion in the tokenizer's chat template; `pair`: as its two segments;
    `completion`: the completion alone. None: chat where the tokenizer has a template, else pair."""
    max_length: int | None = Field(None, ge=8)
    """Tokens that the network reads at most, those of the template included; None: as many as it can."""
    too_long: Literal["refuse", "cut_prompt", "cut_completion"] = "refuse"
    """`refuse`: a longer sample is invalid input. `cut_prompt` leaves out the beginning of the prompt.
    `cut_completion` leaves out the end of the completion: what stands there is then never judged."""


class TextEncoder:
    """Makes the ids of one sample after the other."""

    def __init__(self, tokenizer: Any, config: TextConfig, limit: int | None) -> None:
        """
        Args:
            limit: positions that the network has; None: it states no limit.

        Raises:
            UserError: the form is chat without a chat template, or max_length exceeds the limit.
        """
        if config.form == "chat" and not tokenizer.chat_template:
            raise UserError(
                "the form is chat, and the tokenizer has no chat template", remedy="set form: pair"
            )
        if config.max_length is not None and limit is not None and config.max_length > limit:
            raise UserError(
                f"max_length is {config.max_length}, the network has {limit} positions",
                remedy=f"set max_length to {limit} or less",
            )
        self._tokenizer = tokenizer
        self._too_long = config.too_long
        self.form: Form = config.form or ("chat" if tokenizer.chat_template else "pair")
        self.max_length = config.max_length or limit
        self._special = special_texts(tokenizer)

    def encode(self, prompt: str, completion: str) -> Ids:
        """The ids of one sample; at least one, and at most `max_length`.

        Raises:
            InvalidInput: it is too long, and may not or cannot be cut.
        """
        prompt, completion = (plain(text, self._special) for text in (prompt, completion))
        ids = self._render(prompt, completion)
        if self.max_length is None or len(ids) <= self.max_length:
            return ids
        if self._too_long == "refuse":
            raise InvalidInput(
                f"the text has {len(ids)} tokens, the network reads {self.max_length}; raise max_length if "
                "it can read more, or say by too_long what to cut"
            )
        if self._too_long == "cut_prompt":
            return self._cut(prompt, self._drop_first, lambda text: self._render(text, completion))
        return self._cut(completion, self._drop_last, lambda text: self._render(prompt, text))

    def _render(self, prompt: str, completion: str) -> Ids:
        """The ids of a sample of any length."""
        if self.form == "chat":
            ids = self._tokenizer(self._chat(prompt, completion), add_special_tokens=False).input_ids
        elif self.form == "pair":
            ids = self._tokenizer(prompt, completion).input_ids
        else:
            ids = self._tokenizer(completion).input_ids
        return tuple(ids) or (_end_id(self._tokenizer),)

    def _chat(self, prompt: str, completion: str) -> str:
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
        try:
            text: str = self._tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as error:
            raise InvalidInput(f"the chat template refuses the sample: {error}") from error
        return text

    def _cut(self, text: str, drop: Callable[[str, int], str], render: Callable[[str], Ids]) -> Ids:
        """The ids after as much of `text` was dropped as is needed.

        What is left is tokenized anew, template and all, which may take a token more: hence the loop.
        """
        assert self.max_length is not None
        ids = render(text)
        while len(ids) > self.max_length:
            if not text:
                raise InvalidInput(
                    f"the text has {len(ids)} tokens even after {self._too_long}, the network reads "
                    f"{self.max_length}"
                )
            text = drop(text, len(ids) - self.max_length)
            ids = render(text)
        return ids

    def _drop_first(self, text: str, num_tokens: int) -> str:
        spans = self._spans(text)
        start = spans[num_tokens][0] if num_tokens < len(spans) else len(text)
        # Several tokens may stand for one character: dropping the first of them drops nothing.
        return text[max(start, 1) :]

    def _drop_last(self, text: str, num_tokens: int) -> str:
        spans = self._spans(text)
        end = spans[-num_tokens][0] if num_tokens < len(spans) else 0
        return text[: min(end, len(text) - 1)]

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of the text begins and ends, in characters."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans: list[tuple[int, int]] = encoded.offset_mapping
        return spans


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """The texts that the tokenizer reads as one special token each."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({*tokenizer.all_special_tokens, *added}))


def plain(text: str, special: tuple[str, ...]) -> str:
    """The text with a space inside whatever would be read as a special token.

    A policy that writes `<|im_end|>` letter by letter must not end its message in the judge's template.
    """
    for token in special:
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text


def _end_id(tokenizer: Any) -> int:
    """What stands for a text without any token."""
    for token_id in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id):
        if token_id is not None:
            return int(token_id)
    raise InvalidInput("the text has no token, and the tokenizer no end token that could stand for it")
