"""From examples to token ids, and from token ids to a text for rewards and people.

The one place that knows chat templates, begin and end tokens. The assembly encodes all examples before a run
starts; afterwards only what an environment says is tokenized: token ids travel, and `decode` makes views of
them.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from jinja2 import TemplateError
from pydantic import Field, field_validator
from transformers import PreTrainedTokenizerBase

from antiphon.errors import UserError
from antiphon.settings import Settings
from rollout.prompts import Example, Message
from rollout.types import Prompt

PLACE = "{prompt}"
ANSWER = "0the0answer0"
"""Stands for an answer where only what a chat template writes around one matters."""


class EncodingConfig(Settings):
    """How a data set's text becomes what the model reads."""

    format: Literal["plain", "chat"] = "plain"
    """`plain` continues the text; `chat` puts it into the tokenizer's chat template as the user's message."""
    template: str = PLACE
    """Words around the text of each example; {prompt} stands for the text."""
    system: str | None = None
    """The system message of a chat; None leaves the template's own default."""
    prefill: str = ""
    """The first words of the answer, given and not drawn, such as "<think>". Rewards see them as said. A chat
    template that already ends with them is left as it is."""
    template_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Further variables of the chat template, such as enable_thinking: false."""
    max_prompt_tokens: int | None = Field(None, ge=1)
    """Examples with longer prompts are left out and counted. None: one that leaves no room for
    max_new_tokens is an error."""

    @field_validator("template")
    @classmethod
    def _holds_the_prompt(cls, template: str) -> str:
        if PLACE not in template:
            raise ValueError(f"a template must contain {PLACE}")
        return template


class Encoder:
    """Examples to prompts and targets, and token ids back to text.

    Example:
        >>> encoder = Encoder(EncodingConfig(), tokenizer, context_length=2048, max_new_tokens=64)
        >>> encoder.encode(Example(id="sort/5821", content="sort 5821=")).token_ids
        (85, 81, 84, 86, 223, 23, 26, 20, 19, 31)
    """

    def __init__(
        self,
        config: EncodingConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        context_length: int | None,
        max_new_tokens: int,
    ) -> None:
        """
        Args:
            context_length: tokens of prompt and completion together that the model takes; None: no limit.
            max_new_tokens: the longest completion that will be asked for.

        Raises:
            UserError: the format is chat and the tokenizer has no chat template.
        """
        if config.format == "chat" and not tokenizer.chat_template:
            raise UserError(
                "the format is chat, and the tokenizer has no chat template",
                remedy="set format: plain, or use an instruction-tuned model",
            )
        self.config = config
        self._tokenizer: Any = tokenizer
        self._room = None if context_length is None else context_length - max_new_tokens
        self._context_length = context_length
        self._max_new_tokens = max_new_tokens
        self._begin = self._own_begin()

    def encode_all(self, examples: Iterable[Example], where: str) -> list[Prompt]:
        """The prompts of the examples, without those longer than `max_prompt_tokens`.

        Raises:
            UserError: none is left, or one does not fit into the context.
        """
        prompts = [self.encode(example) for example in examples]
        limit = self.config.max_prompt_tokens
        kept = [p for p in prompts if limit is None or len(p.token_ids) <= limit]
        if prompts and not kept:
            raise UserError(
                f"{where}: none of {len(prompts)} prompts has at most {limit} tokens",
                remedy="set max_prompt_tokens higher",
            )
        if len(kept) < len(prompts):
            warnings.warn(
                f"{where}: {len(prompts) - len(kept)} of {len(prompts)} prompts have more than "
                f"max_prompt_tokens = {limit} tokens and are left out",
                stacklevel=2,
            )
        for prompt in kept:
            self._check_room(prompt)
        return kept

    def encode(self, example: Example) -> Prompt:
        """The prompt of one example; its length is checked by `encode_all`.

        Raises:
            UserError: it has no token, or the chat template refuses it.
        """
        token_ids = self._prompt_ids(example)
        if not token_ids:
            raise UserError(
                f"the prompt of {example.id} is empty", remedy="remove the row, or set a template"
            )
        return Prompt(
            id=example.id,
            token_ids=token_ids,
            text=self.decode(token_ids),
            reference=example.reference,
            metadata=example.metadata,
            prefill=self.config.prefill,
        )

    def target_ids(self, reference: str) -> tuple[int, ...]:
        """The completion that a supervised phase teaches: the reference and the end token."""
        return (*self._tokenize(reference), self._tokenizer.eos_token_id)

    def observation_ids(self, observation: str, last: int) -> tuple[int, ...]:
        """What an environment says, as tokens that stand behind an action; in a chat, what the template puts
        there too: the end of the answer, a message of the user, the opening of the next answer.

        Args:
            last: the last token of the action. A stop token that the template would write is not repeated.
        """
        if self.config.format == "plain":
            return self._tokenize(observation)
        token_ids = self._tokenize(self._replied(observation))
        return token_ids[1:] if token_ids[:1] == (last,) else token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """A view for rewards and people, special tokens left out. Not to be tokenized again."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _prompt_ids(self, example: Example) -> tuple[int, ...]:
        if self.config.format == "chat":
            # A chat template writes the begin token itself where the model wants one: none is added here.
            return self._tokenize(self._chat_text(example))
        token_ids = self._tokenize(self._filled(example) + self.config.prefill)
        begin = () if token_ids[: len(self._begin)] == self._begin else self._begin
        return begin + token_ids

    def _chat_text(self, example: Example) -> str:
        messages = [] if self.config.system is None else [Message(role="system", content=self.config.system)]
        if isinstance(example.content, str):
            messages.append(Message(role="user", content=self._filled(example)))
        else:
            messages.extend(example.content)
        try:
            text: str = self._tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages],
                tokenize=False,
                add_generation_prompt=True,
                **self.config.template_options,
            )
        except TemplateError as error:
            raise UserError(
                f"the chat template refuses {example.id}: {error}",
                remedy="remove the system message if the model knows none, or reorder the messages",
            ) from error
        prefill = self.config.prefill
        is_there = bool(prefill.strip()) and text.rstrip().endswith(prefill.rstrip())
        return text if is_there else text + prefill

    def _replied(self, observation: str) -> str:
        """What the chat template writes behind an answer that a message of the user follows."""
        said = (("user", "?"), ("assistant", ANSWER), ("user", observation))
        text: str = self._tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in said],
            tokenize=False,
            add_generation_prompt=True,
            **self.config.template_options,
        )
        return text.partition(ANSWER)[2]

    def _filled(self, example: Example) -> str:
        if not isinstance(example.content, str):
            raise UserError(
                f"{example.id} is a conversation, and the format is plain", remedy="set format: chat"
            )
        # Not str.format: texts are full of braces.
        return self.config.template.replace(PLACE, example.content)

    def _tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _own_begin(self) -> tuple[int, ...]:
        """The begin token if the tokenizer puts one before a plain text, else nothing."""
        token_ids = tuple(self._tokenizer("a").input_ids)
        bos = self._tokenizer.bos_token_id
        return (bos,) if bos is not None and token_ids[:1] == (bos,) else ()

    def _check_room(self, prompt: Prompt) -> None:
        if self._room is not None and len(prompt.token_ids) > self._room:
            raise UserError(
                f"prompt {prompt.id} has {len(prompt.token_ids)} tokens; with max_new_tokens = "
                f"{self._max_new_tokens} it exceeds the model's context of {self._context_length}",
                remedy="set max_prompt_tokens to leave long prompts out, or max_new_tokens lower",
            )
