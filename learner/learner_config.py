"""The `learner:` section of a recipe."""

from typing import Literal

import torch
from pydantic import Field

from antiphon.errors import UserError
from antiphon.settings import Settings
from learner.optimizer import OptimizerConfig
from learner.passes import Precision


class LearnerConfig(Settings):
    """How an update is computed; what it optimises is the algorithm's business."""

    num_epochs: int = Field(1, ge=1)
    """Passes over the batch of an update."""
    num_minibatches: int = Field(1, ge=1)
    """Optimizer steps per pass. One epoch of one minibatch needs no pass for proximal log-probs."""
    max_tokens_per_micro_batch: int = Field(2048, ge=1)
    """Tokens, padding included, that go through the model at once: the bound on memory. No result depends
    on it."""
    share_prompts: bool = True
    """Compute a prompt once for all its completions, where the model's attention allows it."""
    optimizer: OptimizerConfig = OptimizerConfig()
    autocast: Precision = "none"
    """Precision of the matrix products; weights and optimizer stay in fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model lies; auto: on a GPU where the process has one. Ray shows the learner those that it has
    reserved (cluster.learner_gpus), and no others."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of the process; None leaves torch's choice."""
    num_ranks: int = Field(1, ge=1)
    """Processes that share the model, its gradients and its optimizer, each on a GPU of its own where
    cluster.learner_gpus says so: for models that one GPU does not hold. Results differ by rounding alone.
    Needs cluster.mode ray."""
    max_mismatch: float | None = Field(0.05, gt=0.0)
    """Mean |Δ log-prob| in nats between sampler and learner above which the learner refuses, over what its
    own version drew; None: never."""
    max_lagged_mismatch: float | None = Field(0.5, gt=0.0)
    """The same over what older versions drew, where some difference is due; finds weights that never came."""

    @property
    def torch_device(self) -> torch.device:
        """Where the model lies, for the process that asks.

        Raises:
            UserError: a GPU is wanted, and this process has none.
        """
        has_gpu = torch.cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise UserError(
                "learner.device is cuda, and this process has no GPU",
                remedy="set it to auto, or cluster.learner_gpus above 0",
            )
        return torch.device("cuda" if has_gpu and self.device != "cpu" else "cpu")
