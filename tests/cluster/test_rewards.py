"""What the driver knows of the reward service."""

from cluster.rewards import Rewards


class Service:
    """A service that can be lost."""

    def __init__(self):
        self.is_lost = False
        self.state = {"spent": 3}

    def score(self, samples):
        return []

    def stats(self):
        self._answer()
        return {"judge": {"cache/num_hits": 2.0, "retry/num_retries": 0.0}}

    def state_dict(self):
        self._answer()
        return self.state

    def load_state_dict(self, state):
        self.state = state

    def _answer(self):
        if self.is_lost:
            raise ConnectionError("gone")


class Foreign:
    """A service that others run also: it only scores."""

    def score(self, samples):
        return []


def test_what_was_counted_becomes_metrics_without_zeros():
    assert Rewards(Service()).metrics() == {"rewards/judge/cache/num_hits": 2.0}


def test_a_service_that_does_not_answer_costs_neither_metrics_nor_checkpoint():
    service = Service()
    rewards = Rewards(service)
    before = rewards.state_dict()
    service.is_lost = True
    assert rewards.metrics() == {}
    assert rewards.state_dict() == before


def test_state_goes_back_to_the_service():
    service = Service()
    state = Rewards(service).state_dict()
    service.state = {"spent": 0}
    Rewards(service).load_state_dict(state)
    assert service.state == {"spent": 3}


def test_a_service_of_others_has_neither_metrics_nor_state():
    rewards = Rewards(Foreign())
    assert rewards.metrics() == {}
    rewards.load_state_dict(rewards.state_dict())
