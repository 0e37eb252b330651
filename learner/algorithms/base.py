"""What an algorithm is to the learner: credit for a batch, and a loss for a part of it.

It knows neither Ray nor micro-batches. The learner calls, once per update,

    heads (at the start) ... prepare(whole batch) -> loss, report(outputs, part) by parts ... after_update

and divides what `loss` returns by global counts. One file in this folder adds an algorithm.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from antiphon.settings import Settings
from learner.batch import Batch
from learner.functional.aggregate import Count, counts
from learner.heads import Head
from learner.model import Outputs
from rollout.q_function import QConfig, QFunction


@dataclass(frozen=True, slots=True)
class Term:
    """Something that is added up over a batch: weight · total / counts[per] enters the loss.

    A term of weight 0 is only watched; all are reported as total / counts[per].
    """

    total: Tensor
    """[] the sum over the part of the batch at hand."""
    per: Count
    """Which global count it is divided by."""
    weight: float = 1.0


class Algorithm(ABC):
    """The learner's plug-in: subclasses carry a `name`, a `Config`, and their credit in one sentence."""

    name: ClassVar[str]
    is_group_relative: ClassVar[bool] = False
    """True when the credit of a trajectory depends on the others of its group."""
    is_off_policy: ClassVar[bool] = False
    """True when it may learn from tokens of anybody's: log-probs far from the learner's are no reason to
    refuse a batch, its age is none to drop it, and any replay may feed it."""

    class Config(Settings):
        """No settings."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def needs_reference(self) -> bool:
        """Whether `prepare` or `loss` reads the stream "logprob_ref"."""
        return False

    @property
    def needs_values(self) -> bool:
        """Whether `prepare` reads what heads said before the first step: "value", say."""
        return False

    @property
    def needs_proximal(self) -> bool:
        """Whether `prepare` reads "logprob_prox"; `loss` finds it in any case."""
        return False

    @property
    def plays_q(self) -> bool:
        """Whether actors play Q-values beside the model; if so, these have `guide_config`."""
        return self.guide_config is not None

    @property
    def guide_config(self) -> QConfig | None:
        """The form of what actors play beside the model; None: nothing."""
        return None

    def guide(self) -> QFunction | None:
        """What actors play beside the model, as it is now; exists after `heads`. None: nothing."""
        return None

    def heads(self, lm: PreTrainedModel) -> Mapping[str, Head]:
        """New heads for this model, by name. They belong to the learner, which trains and saves them."""
        return {}

    @abstractmethod
    def prepare(self, batch: Batch) -> Batch:
        """The whole batch of an update with its credit added as streams. No gradient is taken here."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> Mapping[str, Term]:
        """The terms of the loss over a part of the prepared batch, by the name of their metric."""

    def report(self, outputs: Outputs, batch: Batch) -> Mapping[str, Tensor]:
        """What is worth keeping of a part, as streams [B, T] or [B]; called after `loss`, without gradient.

        `after_update` finds them in its batch, and the replay is told "td_error" [B], if there is one: how
        much each row surprised, 0 or more.
        """
        return {}

    def counts(self, batch: Batch) -> dict[Count, float]:
        """Of all that one optimizer step sees: what terms may be divided by. Ranks add them up."""
        return counts(batch.loss_mask)

    def after_update(self, batch: Batch) -> dict[str, float]:
        """Called once after each update with everything known about its batch; returns metrics."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training, as a nested dict of tensors and JSON-able values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        if state:
            raise ValueError(f"{self.name} has no state, got {sorted(state)}")
