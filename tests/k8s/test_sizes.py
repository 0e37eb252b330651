"""The GPU overlays are as large as k8s/sizes.py derives, and say so where they cannot train."""

from pathlib import Path

import pytest

from cluster.recipe import Recipe
from k8s.sizes import MODELS, Model
from tests.k8s.kustomize import K8S, Case, Document, groups_of, pick, render
from tests.k8s.policies import num_bytes
from tests.k8s.test_commands import container, job, recipe

every_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.overlay)
SLACK = 0.95
"""A GPU's memory that a process may count on, of what its label says."""


def model_job(model: Model) -> tuple[Document, Recipe]:
    return job(Case(model.overlay)), recipe(Case(model.overlay))


@every_model
def test_the_recipe_of_an_overlay_is_that_of_the_derived_sizes(model):
    _, r = model_job(model)
    longest = (r.encoding.max_prompt_tokens or 0) + r.rollout.sampling.max_new_tokens
    assert r.rollout.engine["num_slots"] == model.num_slots
    assert longest == model.num_positions
    assert r.learner.max_tokens_per_micro_batch == model.micro_batch_tokens
    assert (r.cluster.learner_gpus, r.rollout.num_actors) == (model.num_learner_gpus, model.num_actors)
    assert (r.run.num_checkpoints, r.rollout.weights_dtype) == (model.num_checkpoints, "bfloat16")
    # A reference model would be another 4 bytes a parameter, which nobody has counted.
    assert r.algorithm.get("kl") is None


@every_model
def test_groups_are_as_large_as_the_derived_sizes(model):
    document, _ = model_job(model)
    for name, host, gpu in (
        ("learner", model.learner_host_bytes, model.learner_gpu_bytes),
        ("rollout-spot", model.actor_host_bytes, model.actor_gpu_bytes),
        ("rollout-ondemand", model.actor_host_bytes, model.actor_gpu_bytes),
    ):
        group = groups_of(document)[name]
        limits = container(document, name)["resources"]["limits"]
        assert num_bytes(limits["memory"]) >= host, name
        assert float(group["rayStartParams"]["object-store-memory"]) >= model.object_store_bytes, name
        assert SLACK * gpu_bytes(group) >= gpu or (name == "learner" and not fits(model)), name
    assert (
        float(container(document, "learner")["resources"]["limits"]["nvidia.com/gpu"])
        == model.num_learner_gpus
    )


def gpu_bytes(group: Document) -> float:
    """What the label of the nodes says of each GPU, at least."""
    affinity = group["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (bound,) = [e for e in term["matchExpressions"] if e["key"] == "nvidia.com/gpu.memory"]
    assert bound["operator"] == "Gt"
    return float(bound["values"][0]) * 2**20


@every_model
def test_there_is_time_and_room_for_a_checkpoint(model):
    case = Case(model.overlay)
    command = container(job(case), "head")["lifecycle"]["preStop"]["exec"]["command"]
    assert float(command[-1]) >= model.stop_s
    (volume,) = [
        d
        for d in pick(render(case), "PersistentVolumeClaim")
        if d["metadata"]["name"] == "antiphon-checkpoints"
    ]
    assert num_bytes(volume["spec"]["resources"]["requests"]["storage"]) >= model.volume_bytes
    # The driver waits for the learner's answer that long.
    assert recipe(case).cluster.stall_deadline_s >= model.stop_s


@every_model
def test_an_overlay_whose_learner_does_not_fit_says_so_and_the_others_have_a_rank_for_each_gpu(model):
    """One that asks for more than its nodes have must not look as if it worked."""
    folder = Path(__file__).parents[2] / "k8s/overlays" / model.overlay
    says = ["does not train yet" in (folder / f).read_text() for f in ("kustomization.yaml", "recipe.yaml")]
    assert says == [not fits(model)] * 2
    if fits(model):
        assert recipe(Case(model.overlay)).learner.num_ranks == model.num_learner_gpus


def fits(model: Model) -> bool:
    """Whether the learner's share fits on each of its GPUs."""
    document, _ = model_job(model)
    return SLACK * gpu_bytes(groups_of(document)["learner"]) >= model.learner_gpu_bytes


def test_the_first_try_needs_what_the_page_says():
    documents = render(Case("dev"))
    groups = groups_of(pick(documents, "RayJob")[0])
    counted = [(group.get("replicas", 1), group["template"]) for group in groups.values()]
    counted.append((1, pick(documents, "RayJob")[0]["spec"]["submitterPodTemplate"]))
    asked = [(n, t["spec"]["containers"][0]["resources"]["requests"]) for n, t in counted]
    cpus = sum(n * num_cpus(requests["cpu"]) for n, requests in asked)
    memory = sum(n * num_bytes(requests["memory"]) for n, requests in asked)
    # Something is left for the operator and Kubernetes itself.
    assert (7.0 < cpus < 8.0, 27 <= memory / 2**30 < 28) == (True, True)
    for file in ("README.md", "overlays/dev/kustomization.yaml", "e2e-kind.sh"):
        assert "8 CPUs and 28 GiB" in (K8S / file).read_text()
    assert (
        f"{sum(n for n, _ in counted) - 1} Ray nodes".replace("5", "five") in (K8S / "README.md").read_text()
    )


def num_cpus(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
