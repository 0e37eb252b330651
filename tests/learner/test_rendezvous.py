"""Where ranks meet: who can come there, and who is named when somebody does not."""

import socket

import pytest
import torch.distributed as dist

from learner.ranks import RankError
from learner.rendezvous import find_store, join, open_store


def test_the_store_listens_on_the_address_that_it_is_given_and_on_no_other():
    """All of 127.0.0.0/8 is this machine. Mutation: no socket of our own, which listens everywhere."""
    store, (host, port) = open_store("127.0.0.1", 2, 30.0)
    store.set("who", "first")
    assert find_store((host, port), 2, 30.0).get("who") == b"first"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=30.0)


def test_a_store_that_is_not_there_is_told_by_its_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RankError, match=rf"rank 0 of 2 does not answer at 127\.0\.0\.1:{port}"):
        find_store(("127.0.0.1", port), 2, 1.0)


def test_the_ranks_that_do_not_come_are_named():
    store = dist.HashStore()
    store.set("here/2", "")
    with pytest.raises(RankError, match=r"ranks \[1, 3\] of 4 did not come within 0.1 s"):
        join(store, 0, 4, 0.1)
