"""What a run asks Ray for, and the sentence for a cluster that cannot give it."""

import pytest

from antiphon.errors import UserError
from cluster.recipe import Recipe, parse_recipe
from cluster.resources import check_fit, check_ranks, num_that_fit, of_actor, of_rank, reserved

ROLES = {"rollout": {"rollout": 1}, "learner": {"learner": 1}, "reward": {"reward": 0.25}}


def recipe(num_actors: int = 3, reward: dict | None = None, num_ranks: int = 1, **cluster: object) -> Recipe:
    return parse_recipe(
        {
            "run": {"num_updates": 1},
            "data": {"name": "sort_digits"},
            "rollout": {"num_actors": num_actors, "groups_per_task": 1},
            "reward": {"components": [{"name": "exact_match"}], **(reward or {})},
            "algorithm": {"name": "ppo"},
            "learner": {"num_ranks": num_ranks},
            "cluster": {"cpus_per_actor": 2.0, "learner_cpus": 4.0, "learner_gpus": 1.0, **cluster},
        }
    )


def test_the_sum_counts_every_actor_the_learner_and_every_process_of_the_service():
    # CPU: 3 x 2 + 4 + 2 replicas x 0.5; two simple replicas have no gateway.
    r = recipe(reward={"num_replicas": 2, "num_cpus_per_replica": 0.5}, resources=ROLES)
    assert reserved(r) == {"CPU": 11.0, "GPU": 1.0, "learner": 1.0, "rollout": 3.0, "reward": 0.5}


def test_an_http_door_has_a_gateway_that_is_placed_too():
    r = recipe(reward={"num_replicas": 2, "http": {"enabled": True}}, resources=ROLES)
    assert reserved(r)["reward"] == pytest.approx(3 * 0.25)


def test_a_shared_service_is_not_ours_to_place():
    r = recipe(reward={"components": [], "shared": {"url": "http://rewards:8000"}}, resources=ROLES)
    assert "reward" not in reserved(r)
    assert reserved(r)["CPU"] == 10.0


def test_without_custom_resources_nothing_is_asked_beyond_cpus_and_gpus():
    assert set(reserved(recipe())) == {"CPU", "GPU"}
    assert of_actor(recipe()) == {"CPU": 2.0, "GPU": 0.0}


def test_a_cluster_that_has_exactly_what_is_asked_will_do():
    r = recipe(num_actors=3, resources={"rollout": {"rollout": 0.1}})
    # 3 x 0.1 is 0.30000000000000004 in floating point.
    check_fit(r, {"CPU": 11.0, "GPU": 1.0, "rollout": 0.3})


def test_a_resource_that_no_node_offers_is_refused_with_both_sums_and_its_setting():
    with pytest.raises(UserError) as refused:
        check_fit(
            recipe(resources=ROLES), {"CPU": 99.0, "GPU": 9.0, "rollout": 2.0, "learner": 1, "reward": 1}
        )
    assert "need 3 of the resource 'rollout', the cluster has 2" in refused.value.problem
    assert "cluster.resources.rollout" in refused.value.remedy


def test_too_few_gpus_are_refused_with_both_sums():
    with pytest.raises(UserError, match="need 1 GPUs, the cluster has 0"):
        check_fit(recipe(), {"CPU": 99.0})


def test_what_an_autoscaler_may_add_counts():
    r = recipe(resources=ROLES, autoscaled_to={"rollout": 3, "CPU": 20})
    check_fit(r, {"CPU": 5.0, "GPU": 1.0, "learner": 1, "reward": 1})


def test_more_than_the_autoscaler_may_add_is_refused():
    r = recipe(resources=ROLES, autoscaled_to={"rollout": 2, "CPU": 20})
    with pytest.raises(UserError, match="need 3 of the resource 'rollout', the cluster grows to 2"):
        check_fit(r, {"CPU": 5.0, "GPU": 1.0, "learner": 1, "reward": 1})


def test_nodes_beyond_the_autoscaler_s_limit_count_as_they_are():
    r = recipe(resources=ROLES, autoscaled_to={"rollout": 2})
    check_fit(r, {"CPU": 20.0, "GPU": 1.0, "rollout": 3, "learner": 1, "reward": 1})


@pytest.mark.parametrize(
    ("amounts", "words"),
    [({"GPU": 1.0}, "Ray's own"), ({"rollout": 0.0}, "asks for nothing"), ({"rollout": -1.0}, "nothing")],
)
def test_a_custom_resource_is_neither_ray_s_own_nor_nothing(amounts, words):
    with pytest.raises(UserError, match=words):
        recipe(resources={"rollout": amounts})


def test_room_is_what_the_scarcest_resource_leaves_beside_the_rest_of_the_run():
    """Mutation: forget the learner, or what an autoscaler may add."""
    # CPU: (13 - 4 of the learner - 0.1 of the replica) / 2 = 4.45; rollout: 6 nodes.
    r = recipe(resources={"rollout": {"rollout": 1}})
    assert num_that_fit(r, {"CPU": 13.0, "GPU": 1.0, "rollout": 6.0}) == 4
    assert num_that_fit(r, {"CPU": 99.0, "GPU": 1.0, "rollout": 6.0}) == 6
    grows = recipe(resources={"rollout": {"rollout": 1}}, autoscaled_to={"CPU": 99, "rollout": 8})
    assert num_that_fit(grows, {"CPU": 5.0, "GPU": 1.0}) == 8
    assert num_that_fit(r, {"CPU": 1.0}) == 0


def test_actors_that_ask_for_nothing_fit_in_any_number():
    assert num_that_fit(recipe(cpus_per_actor=0.0), {"CPU": 5.0, "GPU": 1.0}) == float("inf")


def test_ranks_share_what_the_learner_reserves():
    r = recipe(num_ranks=8, learner_gpus=8.0, resources={"learner": {"learner": 1}})
    # CPU: 4 of the learner by 8 ranks.
    assert of_rank(r) == {"CPU": 0.5, "GPU": 1.0, "learner": 0.125}
    assert reserved(r)["GPU"] == 8.0
    check_ranks(r)


@pytest.mark.parametrize("gpus", [1.0, 4.0, 16.0])
def test_a_rank_has_one_gpu_or_none_has_any(gpus):
    with pytest.raises(UserError, match="a rank has one GPU") as refused:
        check_ranks(recipe(num_ranks=8, learner_gpus=gpus))
    assert "cluster.learner_gpus 8" in refused.value.remedy


def test_one_rank_may_have_any_share_of_a_gpu():
    check_ranks(recipe(learner_gpus=0.5))
    check_ranks(recipe(learner_gpus=0.5, mode="inline"))
    check_ranks(recipe(num_ranks=2, learner_gpus=0.0))
