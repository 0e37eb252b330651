"""A backend that says what it was given: for tests, and for trying a recipe without a judge."""

from collections.abc import Sequence

from pydantic import Field

from antiphon.settings import Settings
from reward_service.judging.backend import Backend, Question, Reply
from reward_service.types import Usage


class Scripted(Backend):
    """Replies with one of its lines, chosen by the seed of the question (modulo their number).

    Asked for options it finds all of them equally probable.
    """

    name = "scripted"
    is_concurrent = True

    class Config(Settings):
        replies: tuple[str, ...] = Field(min_length=1)
        """What may be said, for example "Score: 5"."""

    config: Config

    def ask(self, questions: Sequence[Question], deadline: float) -> list[Reply]:
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> Reply:
        usage = Usage(num_requests=1)
        if question.options:
            num = len(question.options)
            return Reply(shares=(1.0 / num,) * num, usage=usage)
        lines = self.config.replies
        return Reply(text=lines[question.seed % len(lines)], usage=usage)
