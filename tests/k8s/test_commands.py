"""What the manifests tell our programs is what these understand: commands, recipes, resources on offer."""

import math
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from antiphon.settings import parse
from cluster.cli import app
from cluster.drain import build_parser, is_driver
from cluster.recipe import Recipe, parse_recipe
from cluster.resources import check_fit, of_actor, of_rank
from reward_service.config import RewardConfig
from reward_service.lines import check_rewards
from tests.k8s.kustomize import (
    CASES,
    K8S,
    Case,
    Document,
    cluster_of,
    groups_of,
    pick,
    ray_resources,
    read,
    render,
)

RUNS = [case for case in CASES if case.overlay not in ("interactive", "rewards")]
every_run = pytest.mark.parametrize("case", RUNS, ids=str)


def job(case: Case) -> Document:
    (found,) = pick(render(case), "RayJob")
    return found


def parsed(command: str) -> tuple[str, dict[str, Any]]:
    """The verb and the options of a command line, by the parser of the program."""
    program, *words = shlex.split(command)
    assert program == "antiphon"
    group: Any = typer.main.get_command(app)
    verb = group.commands[words[0]]
    return words[0], verb.make_context(words[0], words[1:]).params


def recipe_of(documents: tuple[Document, ...]) -> dict[str, Any]:
    (config,) = [d for d in pick(documents, "ConfigMap") if d["metadata"]["name"] == "antiphon-recipe"]
    recipe: dict[str, Any] = yaml.safe_load(config["data"]["recipe.yaml"])
    return recipe


def recipe(case: Case) -> Recipe:
    return parse_recipe(recipe_of(render(case)))


def offered(group: Document) -> dict[str, float]:
    """What one node of a group offers Ray: KubeRay rounds CPUs up."""
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    cpus = limits["cpu"]
    num_cpus = math.ceil(float(cpus[:-1]) / 1000) if cpus.endswith("m") else math.ceil(float(cpus))
    custom = {name: float(amount) for name, amount in group.get("resources", {}).items()}
    return {"CPU": float(num_cpus), "GPU": float(limits.get("nvidia.com/gpu", 0)), **custom}


def total(document: Document, count: str) -> dict[str, float]:
    """What all groups offer together with so many nodes; the head offers no CPU."""
    there: Counter[str] = Counter()
    for name, group in groups_of(document).items():
        if name != "head":
            there.update({kind: group[count] * amount for kind, amount in offered(group).items()})
    return dict(there)


@every_run
def test_the_entrypoint_is_a_command_line_of_ours(case):
    starts_or_goes_on(job(case)["spec"]["entrypoint"])


def test_the_entrypoint_of_the_base_is_one_too():
    (document,) = read(K8S / "base/job/rayjob.yaml")
    starts_or_goes_on(document["spec"]["entrypoint"])


def starts_or_goes_on(command: str) -> None:
    verb, options = parsed(command)
    assert (verb, options["resume_if_exists"]) == ("train", True)
    # A shell of the submitter and one of Ray read it before the program does.
    assert shlex.join(shlex.split(command)) == command


@every_run
def test_the_entrypoint_names_places_that_the_head_has(case):
    options = parsed(job(case)["spec"]["entrypoint"])[1]
    mounts = {m["mountPath"] for m in container(job(case), "head")["volumeMounts"]}
    assert options["recipe"] == Path("/etc/antiphon/recipe.yaml")
    assert {"/etc/antiphon", "/checkpoints", "/models"} <= mounts
    assert options["run_dir"].parent == Path("/checkpoints")
    # The learner writes there too.
    assert "/checkpoints" in {m["mountPath"] for m in container(job(case), "learner")["volumeMounts"]}


def test_a_flag_that_does_not_exist_is_found():
    with pytest.raises(Exception, match="--resume-if-exist"):
        parsed("antiphon train recipe.yaml --resume-if-exist")


def container(document: Document, group: str) -> Document:
    return groups_of(document)[group]["template"]["spec"]["containers"][0]


@every_run
def test_what_is_run_before_a_pod_goes_is_a_command_line_of_ours(case):
    for group, what in (("head", "driver"), ("learner", "learner")):
        command = container(job(case), group)["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:3] == ["python", "-m", "cluster.drain"]
        assert build_parser().parse_args(command[3:]).what == what


@every_run
def test_the_program_that_is_run_is_the_one_that_is_asked_to_stop(case):
    assert is_driver(["python", *shlex.split(job(case)["spec"]["entrypoint"])])


@every_run
def test_the_recipe_is_one_and_its_metrics_are_where_prometheus_looks(case):
    r = recipe(case)
    check_rewards(r.reward)
    ports = {p["name"]: p["containerPort"] for p in container(job(case), "head")["ports"]}
    assert (r.metrics.prometheus_host, r.metrics.prometheus_port) == ("0.0.0.0", ports["run-metrics"])
    assert r.cluster.mode == "ray"


@every_run
def test_every_process_is_placed_by_a_resource_that_a_group_offers(case):
    r, document = recipe(case), job(case)
    for role in ("rollout", "learner", "reward"):
        asked = getattr(r.cluster.resources, role)
        assert set(asked) == {role}
        offering = {name for name, g in groups_of(document).items() if role in g.get("resources", {})}
        expected = {"rollout-spot", "rollout-ondemand"} if role == "rollout" else {role}
        assert offering == expected


@every_run
def test_a_process_fits_on_a_node_of_its_group(case):
    r, groups = recipe(case), groups_of(job(case))
    for asked, names in (
        (of_actor(r), ("rollout-spot", "rollout-ondemand")),
        (of_rank(r), ("learner",)),
    ):
        for name in names:
            assert {k for k, n in asked.items() if n > offered(groups[name]).get(k, 0.0)} == set(), name


@every_run
def test_the_run_fits_into_what_is_there_at_the_start_or_may_be_added(case):
    check_fit(recipe(case), total(job(case), "replicas"))


@every_run
def test_what_the_recipe_counts_on_is_what_the_autoscaler_may_add(case):
    limit, most = recipe(case).cluster.autoscaled_to, total(job(case), "maxReplicas")
    # Where the size is fixed, what is there counts; the recipe of a GPU overlay stays the same.
    assert {k: n for k, n in limit.items() if n > most.get(k, 0.0)} == {}
    if cluster_of(job(case)).get("enableInTreeAutoscaling"):
        assert set(limit) >= {"CPU", "rollout"}


@every_run
def test_there_is_a_node_for_every_actor(case):
    r, groups = recipe(case), groups_of(job(case))
    spot = groups["rollout-spot"]
    assert spot["maxReplicas"] * offered(spot)["rollout"] >= r.rollout.num_actors
    if cluster_of(job(case)).get("enableInTreeAutoscaling"):
        assert groups["rollout-ondemand"]["maxReplicas"] >= r.rollout.num_actors
        assert spot["priority"] > groups["rollout-ondemand"]["priority"]


@every_run
def test_deadlines_leave_nodes_the_time_to_come(case):
    spec, cluster = job(case)["spec"], recipe(case).cluster
    assert cluster.start_deadline_s < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]


def test_the_service_is_one_that_serve_deploys():
    from ray.serve.schema import ServeDeploySchema

    from cluster.serve_application import Arguments, build

    documents = render(Case("rewards"))
    (service,) = pick(documents, "RayService")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    arguments = Arguments.model_validate(application.args)
    mounts = [m["mountPath"] for m in container(service, "reward")["volumeMounts"]]
    assert str(Path(arguments.recipe).parent) in mounts
    assert set(arguments.resources) <= set(groups_of(service)["reward"]["resources"])
    rewards = parse(RewardConfig, recipe_of(documents)["reward"], "reward")
    check_rewards(rewards)


def test_an_interactive_cluster_has_the_groups_that_recipes_ask_for():
    (cluster,) = ray_resources(render(Case("interactive")))
    assert set(total(cluster, "maxReplicas")) == {"CPU", "GPU", "learner", "rollout", "reward"}
