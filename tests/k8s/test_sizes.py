"""The GPU overlays are as large as k8s/sizes.py derives."""

import pytest

from cluster.node_fit import num_fitting
from cluster.recipe import Recipe
from cluster.resources import of_rank
from k8s.sizes import MODELS, Model
from tests.k8s.kustomize import K8S, Case, Document, groups_of, pick, render
from tests.k8s.policies import num_bytes
from tests.k8s.test_commands import container, job, offered, recipe

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
        assert SLACK * gpu_bytes(group) >= gpu, name
    learner = groups_of(document)["learner"]
    num_nodes = model.num_learner_nodes
    assert [learner[n] for n in ("replicas", "minReplicas", "maxReplicas")] == [num_nodes] * 3
    gpus_of_node = float(container(document, "learner")["resources"]["limits"]["nvidia.com/gpu"])
    assert num_nodes * gpus_of_node == model.num_learner_gpus


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
    assert recipe(case).cluster.stall_deadline_s >= max(model.stop_s, model.resume_s)


@every_model
def test_the_learner_has_a_rank_for_each_gpu_and_its_nodes_have_room_for_all(model):
    """Mutation: gpu-70b with one node of 8 GPUs."""
    document, r = model_job(model)
    assert r.learner.num_ranks == model.num_learner_gpus
    node = offered(groups_of(document)["learner"])
    assert num_fitting(of_rank(r), node) * model.num_learner_nodes == r.learner.num_ranks


def test_what_seventy_billion_parameters_need_is_as_derived_by_hand():
    """16 ranks. States: 16 bytes x 70.6e9 / 16 = 70.6 GB. Activations: 34 x 80 layers x 8192 x 2048 tokens =
    45.6 GB. Two layers, a gradient, its float32: 10 x (70.6 - 2.10)e9 / 80 = 8.6 GB. Embeddings: 8 x 2.10e9 =
    16.8 GB. On 8 ranks of one node it would be 70.6 GB more than on 16.
    Checkpoint: 12 x 70.6e9 = 847 GB: 169 s from the GPU, 1694 s to storage, after 240 s of an
    update."""
    model = MODELS[-1]
    assert model.learner_gpu_bytes / 1e9 == pytest.approx(70.6 + 45.6 + 8.6 + 16.8, abs=0.2)
    assert model.stop_s == pytest.approx(240 + 169.4 + 1694.4, abs=1)
    assert model.resume_s == pytest.approx(2 * 1694.4, abs=1)
    # A pass: 15/16 of 8 x 70.6e9.
    assert model.gathered_bytes / 1e9 == pytest.approx(15 / 16 * 8 * 70.6, abs=1)


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
