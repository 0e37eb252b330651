"""The one rule that bounds how stale anything can be. One knob: max_lag; 0 means synchronous."""


def num_admissible(
    *,
    max_lag: int,
    version: int,
    num_updates: int,
    groups_per_update: int,
    num_accepted: int,
    num_running: int,
) -> int:
    """How many groups may be dispatched now.

        accepted + running + admissible = min(max_lag + version + 1, num_updates) * groups_per_update

    A group dispatched under this rule waits for at most `max_lag` updates before its own; the cut at
    num_updates keeps the end of a run from making groups that nobody will train on.

    Args:
        version: confirmed updates so far.
        num_accepted: groups trained, or in the replay.
        num_running: groups on actors now; one that was lost with its actor counts again when it is given out.
    """
    horizon = min(max_lag + version + 1, num_updates)
    return max(0, horizon * groups_per_update - num_accepted - num_running)
