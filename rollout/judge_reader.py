"""From a question to the token ids that a judging model reads.

Called by the local judge backend. The words of a template may be control tokens; the words of a question
never become any, whatever the judged texts contain.
"""

from collections.abc import Sequence
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from antiphon.errors import UserError
from reward_service.judging.backend import Question

TokenIds = tuple[int, ...]
SYSTEM, USER = "\ue000system\ue000", "\ue000user\ue000"
"""Stand for the two texts while the template is filled; from a range that Unicode leaves to private use."""


class Reader:
    """A tokenizer and its way to put a question."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, form: Literal["chat", "plain"]) -> None:
        """
        Raises:
            UserError: the form is chat, and the tokenizer has no template that shows the question.
        """
        self.tokenizer: Any = tokenizer
        self._options: dict[tuple[str, tuple[str, ...]], tuple[TokenIds, TokenIds]] = {}
        self._frame = self._chat_frame() if form == "chat" else self._plain_frame()

    def read(self, question: Question) -> TokenIds:
        """The prompt of a question, with its cue."""
        texts = {SYSTEM: question.system, USER: question.user}
        pieces = [
            self._plain(texts[piece]) if piece in texts else self._template(piece) for piece in self._frame
        ]
        # Cue and options are ours; the same words must give the same tokens in `options`.
        cue, _ = self.options(question.cue, question.options) if question.options else ((), ())
        return tuple(token for piece in (*pieces, cue) for token in piece)

    def options(self, cue: str, options: Sequence[str]) -> tuple[TokenIds, TokenIds]:
        """The tokens of the cue, and one token for each option after it.

        Raises:
            UserError: an option is more than one token, or two begin with the same.
        """
        key = (cue, tuple(options))
        if key not in self._options:
            self._options[key] = self._single_tokens(cue, options)
        return self._options[key]

    def decode(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _plain(self, text: str) -> TokenIds:
        """Tokens of a text in which nothing is a control token."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _single_tokens(self, cue: str, options: Sequence[str]) -> tuple[TokenIds, TokenIds]:
        whole = [self._plain(cue + option) for option in options]
        shared = 0
        while len({ids[: shared + 1] for ids in whole}) == 1 and shared < min(map(len, whole)):
            shared += 1
        rest = [ids[shared:] for ids in whole]
        if any(len(ids) != 1 for ids in rest):
            raise UserError(
                f"the judge's tokenizer has no single tokens for {', '.join(options)}",
                remedy="take a scale of single digits such as (1, 9), or answer: line",
            )
        return whole[0][:shared], tuple(ids[0] for ids in rest)

    def _template(self, text: str) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _chat_frame(self) -> list[str]:
        """The chat template, cut at the places of the two texts."""
        if not self.tokenizer.chat_template:
            raise UserError(
                "the judge's tokenizer has no chat template",
                remedy="take an instruction-tuned model, or set backend.format: plain",
            )
        try:
            frame = self._filled([("system", SYSTEM), ("user", USER)])
        except TemplateError:
            # Some templates know no system role: both texts go into the user's message.
            frame = self._filled([("user", f"{SYSTEM}\n\n{USER}")])
        pieces = _cut(frame)
        if pieces.count(SYSTEM) != 1 or pieces.count(USER) != 1:
            raise UserError(
                "the judge's chat template does not show system and user message once each",
                remedy="take another model, or set backend.format: plain",
            )
        return pieces

    def _plain_frame(self) -> list[str]:
        """The begin token if the tokenizer puts one before every text, then both texts."""
        begin = self.tokenizer.bos_token or ""
        has_begin = tuple(self.tokenizer("a").input_ids)[:1] == (self.tokenizer.bos_token_id,)
        return [*([begin] if begin and has_begin else []), SYSTEM, "\n\n", USER, "\n\n"]

    def _filled(self, messages: Sequence[tuple[str, str]]) -> str:
        text: str = self.tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        return text


def _cut(frame: str) -> list[str]:
    """The frame in pieces, the stand-ins pieces of their own."""
    pieces = [frame]
    for stand_in in (SYSTEM, USER):
        pieces = [p for piece in pieces for p in _around(piece, stand_in)]
    return [piece for piece in pieces if piece]


def _around(piece: str, stand_in: str) -> list[str]:
    parts = piece.split(stand_in)
    return [parts[0], *(x for part in parts[1:] for x in (stand_in, part))]
