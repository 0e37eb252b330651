"""The `reward:` section of a recipe.

    reward:
      components:
        - {name: exact_match, weight: 1.0}
        - {name: length, weight: 0.1, max: 40, unit: words}
        - {name: "my_package.rewards:polite", weight: 0.2}

The options of a component are checked by the component; see rubric.build_rubric.
"""

import ipaddress
from collections import Counter
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from antiphon.settings import Settings


class ComponentConfig(Settings):
    """One component of the reward. Keys beyond these are the component's own options."""

    model_config = ConfigDict(extra="allow")

    name: str
    """A built-in component, or the import path `package.module:attribute` of a Reward or a function."""
    weight: float = Field(1.0, allow_inf_nan=False)
    """The reward is the sum of weight times score. Negative for a penalty, 0 to watch without rewarding."""
    label: str = ""
    """Its name in metrics; the name (of the attribute) unless set. Needed to use a component twice."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def shown_as(self) -> str:
        return self.label or self.name.rpartition(":")[2]


class HttpConfig(Settings):
    """The door for callers outside the cluster."""

    enabled: bool = False
    """Rollout actors do not need it."""
    host: str = "127.0.0.1"
    """The address to listen at; anything but a loopback address demands a token."""
    port: int = Field(8000, ge=1, le=65535)
    """Shared by all runs of a cluster: Ray Serve opens one port for all its applications."""
    token_env: str = "ANTIPHON_REWARD_TOKEN"
    """The environment variable that holds the bearer token; recipes never hold secrets."""

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class RewardConfig(Settings):
    """What is rewarded, and how the service that computes it runs."""

    components: tuple[ComponentConfig, ...] = Field(min_length=1)
    """The parts of the reward."""
    deadline_s: float = Field(60.0, gt=0.0)
    """For one call with all its retries. What is not scored by then has status timeout, and a replica
    that is still at it is replaced."""
    num_retries: int = Field(2, ge=0)
    """How often a failed sample is tried again within the deadline; invalid input never is."""
    num_replicas: int = Field(1, ge=1)
    """Processes that score. One scores one request at a time; more of them for slow components."""
    num_cpus_per_replica: float = Field(0.1, ge=0.0)
    """What Ray reserves; small, because text metrics are idle while the actors roll out."""
    max_batch_size: int = Field(256, ge=1)
    """A call with more samples is sent in several requests, which replicas share."""
    max_ongoing_requests: int = Field(64, ge=1)
    """Requests that a replica accepts before Ray Serve looks for another one."""
    start_deadline_s: float = Field(120.0, gt=0.0)
    """How long the replicas may take to start."""
    http: HttpConfig = HttpConfig()
    """The HTTP door; closed unless asked for."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        counts = Counter(c.shown_as for c in self.components)
        twice = [label for label, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"two components are called {twice[0]!r}; give each its own label")
        return self

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if all(c.weight == 0.0 for c in self.components):
            raise ValueError("every component has weight 0, so that nothing is rewarded")
        return self
