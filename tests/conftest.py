"""For all tests, before torch is imported anywhere."""

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.side_by_side"]

# The models of the tests are so small that a second thread costs more than it brings, most of all where other
# programs compute, too. What the tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def ray_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Around the Ray cluster of a module: it joins no other one, and writes nothing into anybody's home."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.delenv("RAY_ADDRESS", raising=False)
        yield environment


@pytest.fixture(scope="module")
def ray_cluster(ray_environment: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray cluster of two CPUs that is the module's own."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("cluster.ray_session").start(None, num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()
