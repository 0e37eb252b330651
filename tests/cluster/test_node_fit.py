"""A sum that suffices does not help a process that no single node can hold."""

import pytest

from antiphon.errors import UserError
from cluster.node_fit import check_nodes, num_fitting
from cluster.recipe import parse_recipe
from learner.learner_config import LearnerConfig


def recipe(num_actors=2, **cluster):
    return parse_recipe(
        {
            "run": {"num_updates": 1},
            "data": {"name": "sort_digits"},
            "rollout": {"num_actors": num_actors, "groups_per_task": 1},
            "reward": {"components": [{"name": "exact_match"}], "num_cpus_per_replica": 0.5},
            "algorithm": {"name": "ppo"},
            "cluster": {"cpus_per_actor": 3.0, "learner_cpus": 2.0, **cluster},
        }
    )


def test_nodes_that_hold_every_process_will_do():
    # 2 x 3 + 2 + 0.5.
    check_nodes(recipe(), [{"CPU": 4.0}, {"CPU": 4.5}])


def test_the_sum_is_told_first():
    with pytest.raises(UserError, match=r"need 8\.5 CPUs, the cluster has 8"):
        check_nodes(recipe(), [{"CPU": 8.0}])


def test_actors_that_are_each_larger_than_any_node_are_refused():
    """Mutation: only the sum is looked at. 5 nodes of 2 CPUs have 10, and none has 3."""
    with pytest.raises(UserError) as refused:
        check_nodes(recipe(), [{"CPU": 2.0}] * 5)
    assert "each rollout actor needs 3 CPU on one node" in refused.value.problem
    assert "there are to be 2 and 0 find room" in refused.value.problem
    assert "cluster.cpus_per_actor" in refused.value.remedy


def test_nodes_are_not_shared_between_two_halves_of_a_process():
    """Mutation: the quotient is taken of the sum. 4 + 4 + 4 CPUs hold 3 actors of 3, not 12 // 3 = 4."""
    nodes = [{"CPU": 4.0}] * 3 + [{"CPU": 2.5}]
    check_nodes(recipe(num_actors=3), nodes)
    with pytest.raises(UserError, match="there are to be 4 and 3 find room"):
        check_nodes(recipe(num_actors=4), nodes)


def test_a_process_needs_all_that_it_asks_for_on_the_same_node():
    nodes = [{"CPU": 16.0}, {"CPU": 1.0, "GPU": 1.0}]
    with pytest.raises(UserError, match="each learner needs 2 CPU and 1 GPU on one node"):
        check_nodes(recipe(learner_gpus=1.0), nodes)
    check_nodes(recipe(learner_gpus=1.0), [{"CPU": 16.0, "GPU": 1.0}])


def test_nodes_that_an_autoscaler_will_add_may_be_larger():
    check_nodes(recipe(autoscaled_to={"CPU": 16.0}), [{"CPU": 2.0}])


def test_a_node_holds_what_divides_it_exactly_and_no_end_of_what_asks_for_nothing():
    # 0.3 / 0.1 is 2.9999999999999996 in floating point.
    assert num_fitting({"rollout": 0.1}, {"rollout": 0.3}) == 3
    assert num_fitting({"CPU": 0.0, "GPU": 0.0}, {}) > 10**6
    assert num_fitting({"GPU": 1.0}, {"CPU": 9.0}) == 0


def test_each_rank_of_the_learner_finds_its_own_node():
    """4 ranks share 8 CPUs, 4 GPUs and the resource learner 2: each needs 2, 1 and 0.5. Mutations: all ranks
    on one node; one rank alone counted."""
    ranks = {"learner_cpus": 8.0, "learner_gpus": 4.0, "resources": {"learner": {"learner": 2.0}}}
    asked = recipe(**ranks).model_copy(update={"learner": LearnerConfig(num_ranks=4)})
    node = {"CPU": 4.0, "GPU": 2.0, "learner": 1.0}
    others = [{"CPU": 7.0}]
    check_nodes(asked, [node, node, *others])
    lopsided = [{"CPU": 7.0, "GPU": 3.0, "learner": 1.5}, {"CPU": 1.0, "GPU": 1.0, "learner": 0.5}]
    with pytest.raises(UserError) as refused:
        check_nodes(asked, [*lopsided, *others])
    assert (
        "each rank of the learner needs 2 CPU and 1 GPU and 0.5 learner on one node" in refused.value.problem
    )
    assert "there are to be 4 and 3 find room" in refused.value.problem
    assert "learner.num_ranks" in refused.value.remedy
