"""One small model and one recipe for all system tests."""

import pytest

from tests.system.fakes_runs import run_cli, save_small_model, small_recipe, write_recipe


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def recipe(model, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe") / "small.yaml", small_recipe(model))


@pytest.fixture(scope="session")
def whole(recipe, tmp_path_factory):
    """A run in one process that nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert run_cli("train", recipe, "--run-dir", run_dir) == 0
    return run_dir
