"""The `reward:` section of a recipe.

    reward:
      components:
        - {name: exact_match, weight: 1.0}
        - {name: length, weight: 0.1, max: 40, unit: words}
        - {name: "my_package.rewards:polite", weight: 0.2}

The options of a component are checked by the component; see building.build_reward.
"""

import ipaddress
from collections import Counter
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from antiphon.privacy import PrivacyConfig
from antiphon.schedules import Schedule, is_always
from antiphon.settings import Settings
from reward_service.fusion.config import FusionConfig
from reward_service.guards.breaker import BreakerConfig
from reward_service.guards.budget import BudgetConfig
from reward_service.guards.cache import CacheConfig
from reward_service.guards.hedge import HedgeConfig
from reward_service.guards.retry import RetryConfig
from reward_service.isolation.config import IsolationConfig


class ServiceConfig(Settings):
    """How one component is run and guarded. Replicas and batches are those of components that have a
    deployment of their own; the others share the replicas for CPU components."""

    num_replicas: int = Field(1, ge=1)
    """Processes with a copy of the component."""
    max_replicas: int | None = Field(None, ge=1)
    """Replicas are added up to this number while requests queue, and removed when they do not; None keeps
    num_replicas."""
    num_cpus: float = Field(0.1, ge=0.0)
    """What Ray reserves for each replica."""
    num_gpus: float = Field(0.0, ge=0.0)
    """For each replica; a fraction lets several models share one."""
    max_batch_size: int = Field(64, ge=1)
    """Samples that are scored in one call, from as many requests as wait."""
    batch_wait_s: float = Field(0.01, ge=0.0)
    """How long a replica waits for more samples before it scores fewer."""
    max_ongoing_requests: int = Field(64, ge=1)
    """Requests that a replica accepts before others are looked for."""
    cache: CacheConfig | None = CacheConfig()
    """Scores are remembered by component, version, options and all that the component sees of a sample. null
    for a component that must be asked anew each time."""
    budget: BudgetConfig = BudgetConfig()
    """What may be spent within an hour; no limit unless set."""
    breaker: BreakerConfig = BreakerConfig()
    """When a component that fails is left alone for a while; only of those with a deployment of their own."""
    hedge: HedgeConfig | None = None
    """A second request where the first one is slow; null waits for the first."""


class ComponentConfig(Settings):
    """One component of the reward. Keys beyond these are the component's own options."""

    model_config = ConfigDict(extra="allow")

    name: str
    """A built-in component, or the import path `package.module:attribute` of a Reward or a function."""
    weight: Schedule = 1.0
    """The reward is the sum of weight times score. Negative for a penalty, 0 to watch without rewarding; a
    section makes it a schedule over policy versions."""
    label: str = ""
    """Its name in metrics; the name (of the attribute) unless set. Needed to use a component twice."""
    normalize: Literal["none", "running", "per_prompt"] = "none"
    """Before weighting: nothing, or by mean and deviation of all scores so far, or of those of the prompt."""
    clip: tuple[float, float] | None = None
    """Bounds for the score, after normalisation."""
    estimates: str | None = None
    """Components with the same word here are noisy judgements of one quantity and are fused into one score;
    its weight and options are under fusion.ensembles.<word>, and they have none of their own."""
    known_sigma: float | None = Field(None, gt=0.0)
    """Standard deviation of its noise, where known; None estimates it. Only with `estimates`."""
    calibration: str | None = None
    """A file that turns the judge's scores into probabilities; `antiphon calibrate` makes it from labels.
    Applied to every judgement before all else."""
    num_repeats: int = Field(1, ge=1)
    """Independent judgements of each completion, averaged; for judges that sample. Their spread tells how
    noisy the judge is."""
    service: ServiceConfig = ServiceConfig()
    """How it is run and guarded."""

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
    certificate: str | None = None
    """A PEM file with the certificate of the door and its chain; the door then speaks HTTPS. It and its key
    lie on the node where the proxy of Serve runs, the head."""
    private_key_file: str | None = None
    """The PEM file with the key of the certificate, readable to the user of the service alone."""
    max_body_bytes: int = Field(32 * 2**20, ge=1024)
    """A longer request is refused before it is read."""
    max_samples: int = Field(4096, ge=1)
    """In one request."""
    max_waiting: int = Field(256, ge=1)
    """Requests that wait for the service; more are refused with 503, so that a caller can tell a full
    service from a slow one."""

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.certificate is None) != (self.private_key_file is None):
            raise ValueError("certificate and private_key_file belong together; set both or neither")
        return self

    @property
    def url(self) -> str:
        """Its root, as callers on this machine would write it."""
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class SharedConfig(Settings):
    """A service that somebody else started (`antiphon serve-rewards`), instead of one of this run."""

    url: str
    """Its root, "http://127.0.0.1:8000" for instance."""
    token_env: str = "ANTIPHON_REWARD_TOKEN"
    """The environment variable that holds its bearer token."""
    ca_file: str | None = None
    """A PEM file with the authority that signed its certificate, on every node of the run; null: those that
    the system knows."""


class RewardConfig(Settings):
    """What is rewarded, and how the service that computes it runs."""

    components: tuple[ComponentConfig, ...] = ()
    """The parts of the reward."""
    shared: SharedConfig | None = None
    """A running service to be used; its components count, and none may be named here."""
    fusion: FusionConfig = FusionConfig()
    """How scores of several components become one."""
    deadline_s: float = Field(60.0, gt=0.0)
    """For one call with all its retries. What is not scored by then has status timeout, and a replica
    that is still at it is replaced."""
    retry: RetryConfig = RetryConfig()
    """How a failed sample is tried again within the deadline; invalid input and a spent budget never are."""
    isolation: IsolationConfig = IsolationConfig()
    """The child processes for components that run code or patterns of others."""
    num_replicas: int = Field(1, ge=1)
    """Processes for the CPU components. Each scores one request at a time."""
    max_replicas: int | None = Field(None, ge=1)
    """They grow up to this number while requests queue; None keeps num_replicas."""
    num_cpus_per_replica: float = Field(0.1, ge=0.0)
    """What Ray reserves; small, because text metrics are idle while the actors roll out."""
    max_batch_size: int = Field(512, ge=1)
    """A call with more samples is sent in several requests, which replicas share."""
    max_ongoing_requests: int = Field(32, ge=1)
    """Requests that a replica for CPU components accepts before the caller has to wait. It scores one at a
    time; fewer leave more for replicas that are added, but a caller that meets full ones loses time."""
    start_deadline_s: float = Field(120.0, gt=0.0)
    """How long the replicas may take to start."""
    http: HttpConfig = HttpConfig()
    """The HTTP door; closed unless asked for."""
    privacy: PrivacyConfig = PrivacyConfig()
    """What raters and the log do not see. A recipe's section `privacy` comes here by itself."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        counts = Counter(c.shown_as for c in self.components)
        twice = [label for label, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"two components are called {twice[0]!r}; give each its own label")
        return self

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.shared is not None:
            if self.components:
                raise ValueError("a shared service brings its own components; remove either")
            return self
        if not self.components:
            raise ValueError("components is empty, so that nothing is rewarded")
        alone = [c for c in self.components if c.estimates is None]
        if len(alone) == len(self.components) and all(is_always(c.weight, 0.0) for c in alone):
            raise ValueError("every component has weight 0, so that nothing is rewarded")
        return self
