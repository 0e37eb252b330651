"""A worker: scores one sample after the other in its main thread, until the pool hangs up.

Forked by the zygote with the component loaded. Everything that untrusted code can do, it does here.
"""

import os
import resource
import signal
import socket
from dataclasses import replace
from io import BufferedReader

from reward_service.isolation import process
from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.wire import Answer, encode_answer, read_task
from reward_service.reward import Reward, in_one_line
from reward_service.types import Sample, Score, Status

MIB = 2**20


def serve(reward: Reward, channel: socket.socket, config: IsolationConfig, parent: int) -> None:
    """Answers the tasks that come through the channel; returns when there are no more.

    Args:
        parent: the process id of the zygote.
    """
    process.die_with_parent(parent, signal.SIGKILL)
    process.offer_to_be_killed_first()
    _silence(config.shows_output)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    process.limit_memory(config.memory_mb * MIB)
    with channel, channel.makefile("rb") as tasks:
        _answer_all(reward, tasks, channel, config.memory_mb)


def _answer_all(reward: Reward, tasks: BufferedReader, channel: socket.socket, memory_mb: int) -> None:
    while (task := read_task(tasks)) is not None:
        number, sample = task
        score = _judge(reward, sample)
        # What is left of an alarm would end a later, innocent sample.
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        is_exhausted = score.status is Status.ERROR and "MemoryError" in score.message.partition(":")[0]
        if is_exhausted:
            message = f"needed more than the {memory_mb} MiB that a worker may allocate ({score.message})"
            score = replace(score, message=message)
        # A process that ran out of memory may have lost more than the sample: it makes room for a fresh one.
        channel.sendall(encode_answer(Answer(number=number, score=score, is_last=is_exhausted)))
        if is_exhausted:
            return


def _judge(reward: Reward, sample: Sample) -> Score:
    """The verdict of the component, whatever it does."""
    message = "it gave no score for the sample"
    try:
        for score in reward.score([sample]):
            if score.id == sample.id:
                return score
    except BaseException as error:  # Reward code is untrusted; sys.exit() is among what it may call.
        message = in_one_line(error)
    return Score(id=sample.id, status=Status.ERROR, message=message)


def _silence(shows_output: bool) -> None:
    """Nothing to read, and nobody to print to but the log."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    if not shows_output:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    os.close(nowhere)
