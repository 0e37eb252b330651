"""Mistakes of people travel between processes."""

import pickle

from antiphon.errors import UserError


def test_a_mistake_travels_between_processes_with_its_remedy() -> None:
    error = UserError("the cup is empty", remedy="fill it")

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is UserError
    assert (copy.problem, copy.remedy, str(copy)) == (error.problem, error.remedy, str(error))
