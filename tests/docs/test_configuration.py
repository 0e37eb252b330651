"""The reference of recipes is made from the config models, and is what they say today."""

from antiphon.plugins import built_in
from docs.make_configuration import KINDS, PAGE, page


def test_the_committed_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "run: python -m docs.make_configuration"


def test_every_built_in_plug_in_is_on_the_page() -> None:
    text = page()
    names = [name for _, _, base, folder, _, _ in KINDS for name in built_in(base, folder)]
    assert len(names) > 20
    assert [name for name in names if f"**`{name}`**" not in text] == []


def test_settings_of_every_depth_are_on_the_page_by_their_path() -> None:
    text = page()
    for path in ("run.seed", "rollout.sampling.top_p", "learner.optimizer.lr", "reward.components.N.weight"):
        assert f"| `{path}` |" in text


def test_bounds_and_defaults_are_told() -> None:
    lines = [line for line in page().splitlines() if line.startswith("| `rollout.max_lag` |")]
    assert lines[0].startswith("| `rollout.max_lag` | integer ≥ 0 | `1` |")
