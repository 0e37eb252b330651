"""Makes what Kubernetes wants to have twice: the same cluster and the same patches for each kind of resource.

    python -m k8s.make_copies

A RayJob, a RayCluster and a RayService hold the same cluster at different places, and a kustomize patch names
places. What is written by hand is the form for RayJobs; tests/k8s compare the others with what this makes.
"""

from pathlib import Path

HERE = Path(__file__).parent
NOTE = "# Made by `python -m k8s.make_copies` out of {source}.\n"
RAY_JOB = "/spec/rayClusterSpec/"
PLACES = {"raycluster": "/spec/", "rayservice": "/spec/rayClusterConfig/"}
"""Where the cluster is, by the name of a patch's file."""
CLUSTER = """\
# For work at a desk: a cluster that stays, to which jobs are submitted (docs/clusters.md). The autoscaler
# takes rollout nodes back while nothing runs; the learner's node stays.
apiVersion: ray.io/v1
kind: RayCluster
metadata:
  name: antiphon
  labels: {app.kubernetes.io/part-of: antiphon}
spec:
"""


def copies() -> dict[Path, str]:
    """Every file that is made, with its text."""
    return {HERE / "base/cluster/raycluster.yaml": ray_cluster(), **patches()}


def ray_cluster() -> str:
    """The interactive cluster: that of the RayJob, as a resource of its own."""
    source = HERE / "base/job/rayjob.yaml"
    _, _, cluster = source.read_text().partition("  rayClusterSpec:\n")
    body = "".join(line.removeprefix("  ") for line in cluster.splitlines(keepends=True))
    return NOTE.format(source="base/job/rayjob.yaml") + CLUSTER + body


def patches() -> dict[Path, str]:
    """The patches of components for the other kinds that their kustomization names."""
    made = {}
    for source in sorted(HERE.glob("components/*/rayjob.yaml")):
        wanted = (source.parent / "kustomization.yaml").read_text()
        for name, place in PLACES.items():
            if f"path: {name}.yaml" in wanted:
                text = source.read_text().replace(f"path: {RAY_JOB}", f"path: {place}")
                made[source.with_name(f"{name}.yaml")] = NOTE.format(source="rayjob.yaml") + text
    return made


def main() -> None:
    for path, text in copies().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
