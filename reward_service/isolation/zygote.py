"""A process that loads one component and forks its workers: a fresh worker is milliseconds away.

Started by nursery.py as `python -m reward_service.isolation.zygote FD PID LABEL`, with its order as JSON on
the standard input; the label is for those who look at processes. Over the socket FD, one JSON object a line:

    pool -> zygote   {"fork": 7} with the worker's end of its channel; {"kill": 7}
    zygote -> pool   {"ready": true} or {"failed": ..., "remedy": ...}; {"ended": 7, "code": -9}

It ends, and all workers with it, when the pool hangs up or the process PID of the pool ends. It knows
nothing of samples, and after the component is loaded it runs no code of others.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NoReturn

from antiphon.errors import UserError
from antiphon.settings import parse
from reward_service.building import build_reward
from reward_service.isolation import process
from reward_service.isolation.child import serve
from reward_service.isolation.config import IsolationConfig
from reward_service.reward import Reward, in_one_line

MAX_READ_BYTES = 65536
NUM_SWEEPS = 100
SWEEP_S = 0.01


class Zygote:
    """Forks, kills and reaps."""

    def __init__(self, control: socket.socket, reward: Reward, config: IsolationConfig) -> None:
        self._control = control
        self._reward = reward
        self._config = config
        self._pids: dict[int, int] = {}
        """Process id by number of the worker."""
        self._helpers = frozenset(process.children())
        """What the component has started for itself while it loaded."""
        self._lines = b""
        self._channels: deque[int] = deque()
        self._signals, self._signalled = socket.socketpair()

    def run(self) -> None:
        """Obeys until the pool hangs up."""
        self._listen_to_signals()
        self._say({"ready": True})
        with selectors.DefaultSelector() as selector, contextlib.suppress(EOFError):
            selector.register(self._control, selectors.EVENT_READ, self._obey)
            selector.register(self._signals, selectors.EVENT_READ, self._reap)
            while True:
                for key, _ in selector.select():
                    key.data()
        self._end()

    def _listen_to_signals(self) -> None:
        """A child that ends, and the end of the pool's thread, wake the loop."""
        self._signalled.setblocking(False)
        signal.set_wakeup_fd(self._signalled.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def _obey(self) -> None:
        for command in self._commands():
            if "fork" in command:
                self._fork(command["fork"])
            elif (pid := self._pids.get(command["kill"])) is not None:
                process.kill_group(pid)

    def _commands(self) -> Iterator[dict[str, int]]:
        """The commands that have come.

        Raises:
            EOFError: the pool has hung up.
        """
        try:
            data, channels, _, _ = socket.recv_fds(self._control, MAX_READ_BYTES, 16, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # It has hung up without reading all that it was told.
            raise EOFError from None
        if not data:
            raise EOFError
        self._channels.extend(channels)
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def _fork(self, number: int) -> None:
        channel = socket.socket(fileno=self._channels.popleft())
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"ended": number, "code": 0, "why": f"could not be started: {error}"})
            channel.close()
            return
        if pid == 0:
            self._become_worker(channel, zygote)
        # In both processes, so that the group exists before anybody may want to kill it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._pids[number] = pid
        channel.close()

    def _become_worker(self, channel: socket.socket, zygote: int) -> NoReturn:
        """Never returns to the loop of the zygote, whatever the component does."""
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            for end in (self._control, self._signals, self._signalled):
                end.close()
            serve(self._reward, channel, self._config, zygote)
            code = 0
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Tells which workers ended, and how; kills what they left behind.

        Raises:
            EOFError: the signal was that the pool has ended.
        """
        if signal.SIGTERM in self._signals.recv(MAX_READ_BYTES):
            raise EOFError
        numbers = {pid: number for number, pid in self._pids.items()}
        while (pid := _ended_child()) is not None:
            process.kill_group(pid)
            _, status = os.waitpid(pid, 0)
            if (number := numbers.get(pid)) is not None:
                del self._pids[number]
                self._say({"ended": number, "code": os.waitstatus_to_exitcode(status)})
        self._kill_strangers()

    def _kill_strangers(self) -> None:
        """Kills what left the group of its worker: it is a child of the zygote once the worker has ended.

        Each that dies is another signal, upon which those that it leaves behind are found.
        """
        for pid in process.children() - set(self._pids.values()) - self._helpers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _say(self, message: dict[str, Any]) -> None:
        say(self._control, message)

    def _end(self) -> None:
        """Kills all that is left; descendants of descendants appear as their parents die."""
        self._pids.clear()
        self._helpers = frozenset()
        for _ in range(NUM_SWEEPS):
            for pid in process.children():
                process.kill_group(pid)
            self._kill_strangers()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not process.children():
                return
            time.sleep(SWEEP_S)


def _ended_child() -> int | None:
    """The process id of a child that ended and is not reaped yet."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def say(control: socket.socket, message: dict[str, Any]) -> None:
    """A line to the pool; where it has hung up, the loop will see that."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.sendall(json.dumps(message).encode() + b"\n")


def load(order: dict[str, Any]) -> Reward:
    """The component, loaded.

    Raises:
        UserError: it cannot be built or started, or it cannot be forked.
    """
    reward = build_reward(order["name"], order["options"], order["label"])
    reward.start()
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if names:
        raise UserError(
            f"{order['name']} leaves threads running when it has started: {', '.join(names)}",
            remedy="start threads where samples are scored; the workers are forked, and threads are not",
        )
    return reward


def main() -> None:
    fd, pool = map(int, sys.argv[1:3])
    process.die_with_parent(pool, signal.SIGKILL)
    # The thread of the pool may have been born under a mask, and alarms must reach the component.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    control = socket.socket(fileno=fd)
    control.set_inheritable(False)
    order = json.load(sys.stdin)
    try:
        reward = load(order)
    except UserError as error:
        say(control, {"failed": error.problem, "remedy": error.remedy})
        return
    except Exception as error:  # Reward code is untrusted.
        say(control, {"failed": in_one_line(error), "remedy": "mend the component, or leave it out"})
        return
    process.adopt_orphans()
    gc.collect()
    gc.freeze()  # What is never collected stays shared between the workers.
    # From here on the end of the pool is a reason to clean up, and not to drop dead.
    config = parse(IsolationConfig, order["isolation"])
    zygote = Zygote(control, reward, config)
    process.die_with_parent(pool, signal.SIGTERM)
    zygote.run()


if __name__ == "__main__":
    main()
