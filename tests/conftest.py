"""For all tests, before torch is imported anywhere."""

import os
from collections.abc import Iterator

import pytest

# The models of the tests are so small that a second thread costs more than it brings, most of all where other
# programs compute, too. What the tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In `make test` all that start Ray go to one of the processes, so that one cluster lives at a time.

    Of the others a file goes to one, so that what it sets up is set up once.
    """
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            is_ray = item.get_closest_marker("ray") is not None
            item.add_marker(pytest.mark.xdist_group("ray" if is_ray else str(item.path)))


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
