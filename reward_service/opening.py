"""The rewards of a recipe for a process that has no Ray: in this process, or a running service by HTTP."""

from antiphon.secrets import read_secret
from reward_service.client import RewardClient
from reward_service.config import RewardConfig, SharedConfig
from reward_service.http.client import HttpClient
from reward_service.local import LocalClient


def open_rewards(config: RewardConfig) -> RewardClient:
    """
    Raises:
        UserError: a mistake in the recipe, or something missing that a component loads.
    """
    return LocalClient(config) if config.shared is None else shared_client(config, config.shared)


def shared_client(config: RewardConfig, shared: SharedConfig) -> HttpClient:
    """The client of a service that somebody else started."""
    return HttpClient(
        shared.url,
        read_secret(shared.token_env),
        ca_file=shared.ca_file,
        deadline_s=config.deadline_s,
        num_retries=config.retry.num_retries,
        max_batch_size=config.max_batch_size,
    )
