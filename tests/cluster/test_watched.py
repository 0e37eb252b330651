"""The `watch:` section speaks of components that there are."""

from pathlib import Path

import pytest

from antiphon.errors import UserError
from cluster.recipe import parse_recipe
from tests.system.fakes_runs import small_recipe


def with_watch(**section):
    return parse_recipe({**small_recipe(Path("model")), "watch": section})


def test_components_are_trusted_by_their_labels():
    assert with_watch(trusted=["by_id"], agreeing=["by_id", "by_text"]).watch.trusted == ("by_id",)


@pytest.mark.parametrize("name", ["trusted", "agreeing"])
def test_a_component_that_is_not_scored_cannot_be_watched(name):
    with pytest.raises(UserError, match=rf"watch\.{name} 'by_heart' is none of the reward components"):
        with_watch(**{name: ["by_id", "by_heart"]})


def test_a_window_of_one_update_is_no_window():
    with pytest.raises(UserError, match=r"watch\.window"):
        with_watch(window=1)
