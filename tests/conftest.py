"""For all tests, before torch is imported anywhere."""

import os

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
