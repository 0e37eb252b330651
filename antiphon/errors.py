"""Mistakes that a person can mend. Everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """A recipe, file or machine that does not fit; the command line prints it without a traceback.

    Example:
        >>> raise UserError("rollout.num_actors is 9, but the cluster has 2 CPUs", remedy="set rollout.num_actors <= 2")
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        """What rule was broken, and by which value."""
        self.remedy = remedy
        """What to do about it."""

    def __str__(self) -> str:
        return f"{self.problem}\n  remedy: {self.remedy}"
