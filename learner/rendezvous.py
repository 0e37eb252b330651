"""How the ranks of a learner find each other. The first opens a store, the others are told where it is.

    first: store, address = open_store(host, num, deadline_s)  -> address travels to the others ->
    all:   ranks = join(store or find_store(address, ...), rank, num, deadline_s)

One group in a process. Connections are neither encrypted nor authenticated: they belong into a network that
nobody else reaches.
"""

import socket
from datetime import timedelta

import torch
import torch.distributed as dist

from learner.ranks import RankError, Ranks

Address = tuple[str, int]
"""Host and port of the store."""


def open_store(host: str, num_ranks: int, deadline_s: float) -> tuple[dist.TCPStore, Address]:
    """A store that listens on this address of the machine alone, at a free port."""
    listening = socket.socket()
    listening.bind((host, 0))
    listening.listen()
    port = int(listening.getsockname()[1])
    store = dist.TCPStore(
        host,
        port,
        num_ranks,
        is_master=True,
        timeout=timedelta(seconds=deadline_s),
        wait_for_workers=False,
        # From here on the store owns the socket.
        master_listen_fd=listening.detach(),
    )
    return store, (host, port)


def find_store(address: Address, num_ranks: int, deadline_s: float) -> dist.TCPStore:
    """The store that the first rank opened.

    Raises:
        RankError: nobody answers there.
    """
    timeout = timedelta(seconds=deadline_s)
    try:
        return dist.TCPStore(*address, num_ranks, is_master=False, timeout=timeout, wait_for_workers=False)
    except RuntimeError as error:
        raise RankError(f"rank 0 of {num_ranks} does not answer at {address[0]}:{address[1]}") from error


def join(store: dist.Store, rank: int, num_ranks: int, deadline_s: float) -> Ranks:
    """Waits until all ranks are there.

    Args:
        deadline_s: for this, and for everything that they do together afterwards.

    Raises:
        RankError: names the ranks that did not come.
    """
    timeout = timedelta(seconds=deadline_s)
    store.set(f"here/{rank}", "")
    try:
        store.wait([f"here/{r}" for r in range(num_ranks)], timeout)
    except RuntimeError as error:
        absent = [r for r in range(num_ranks) if not store.check([f"here/{r}"])]
        raise RankError(f"ranks {absent} of {num_ranks} did not come within {deadline_s:g} s") from error
    # Numbers on the CPU travel by gloo, which tells of a failure by an exception; tensors of a GPU by NCCL.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=num_ranks, timeout=timeout)
    return Ranks(rank, num_ranks, dist.PrefixStore("notes", store))
