"""How a name becomes a class."""

import subprocess
import sys

import pytest

from antiphon.errors import UserError
from antiphon.plugins import find
from reward_service.building import COMPONENTS
from reward_service.reward import Reward


def test_a_plug_in_is_found_whatever_its_module_is_called() -> None:
    assert find(Reward, COMPONENTS, "exact_match").__module__ == f"{COMPONENTS}.exact_match"
    assert find(Reward, COMPONENTS, "rouge2").__module__ == f"{COMPONENTS}.rouge"


def test_a_module_that_defines_something_else_than_its_name_is_no_plug_in() -> None:
    # rouge.py holds rouge1, rouge2 and rougeL.
    with pytest.raises(UserError, match="there is no Reward called 'rouge'"):
        find(Reward, COMPONENTS, "rouge")


def test_finding_one_plug_in_loads_no_other() -> None:
    code = (
        "import sys; from antiphon.plugins import find; from reward_service.reward import Reward;"
        f"find(Reward, {COMPONENTS!r}, 'exact_match');"
        f"print([m for m in sys.modules if m.startswith({COMPONENTS + '.'!r})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == f"['{COMPONENTS}.exact_match']"
