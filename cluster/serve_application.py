"""The reward service as an application that Ray Serve is told by name, as KubeRay's RayService does.

    applications:
    - name: rewards
      import_path: cluster.serve_application:build
      args: {recipe: /etc/antiphon/recipe.yaml, resources: {reward: 0.1}}

Serve opens the port itself; the token is the one in the environment of the process that builds.
"""

from pathlib import Path

from pydantic import Field
from ray import serve

from antiphon.settings import Settings
from cluster.serve_rewards import load_rewards, with_door
from reward_service.http.gatekeeper import digest, token_of
from reward_service.serving.deployment import build_application

ANYWHERE = "0.0.0.0"


class Arguments(Settings):
    """What stands under `args:` of the application."""

    recipe: str
    """A file with a section `reward`, on every node."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources that each process of the service asks for."""


def build(args: Arguments) -> serve.Application:
    """The application, with its HTTP door.

    Raises:
        UserError: a mistake in the recipe, or no token in the environment.
    """
    config = with_door(load_rewards(Path(args.recipe)), host=ANYWHERE, port=None)
    token = token_of(config.http)
    return build_application(config, None if token is None else digest(token), args.resources)
