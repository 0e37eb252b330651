"""What Kueue's webhooks (0.19) refuse of what waits in a queue, after their source."""

from collections.abc import Iterator

from tests.k8s.kuberay_rules import is_scaled, workers_of
from tests.k8s.kustomize import Document

MAX_POD_SETS = 8
"""The head, each group, and the submitter."""


def queues(d: Document) -> Iterator[str]:
    """Kueue's webhook, for what waits in one of its queues."""
    if "kueue.x-k8s.io/queue-name" not in d["metadata"].get("labels", {}):
        return
    is_elastic = d["metadata"].get("annotations", {}).get("kueue.x-k8s.io/elastic-job") == "true"
    if is_scaled(d) and not is_elastic:
        yield "autoscaling in a queue needs the annotation elastic-job"
    if d["kind"] == "RayJob" and not d["spec"].get("shutdownAfterJobFinishes"):
        yield "a queued RayJob must shut its cluster down"
    if d["kind"] == "RayJob" and "clusterSelector" in d["spec"]:
        yield "a queued RayJob cannot use a cluster that is there"
    workers = list(workers_of(d))
    if len(workers) + 2 > MAX_POD_SETS or "head" in dict(workers):
        yield f"Kueue takes {MAX_POD_SETS} sets of pods, and no group called head"
    if any("replicas" not in group for _, group in workers):
        yield "Kueue counts replicas, which each group must say"
