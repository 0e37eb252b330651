"""Components that misbehave in every way that the pool must survive; loaded by import path."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward, Unparseable
from reward_service.types import Sample, Score, Status, Usage

HERE = "tests.reward_service.fakes_isolation"


def unruly(completion: str, reference: str = "") -> float:
    """Does what the completion says; the reference is its argument."""
    match completion.split(":", 1):
        case ["nap", seconds]:
            time.sleep(float(seconds))
        case ["spin"]:
            while True:
                pass
        case ["regex"]:
            # Exponential: 2^40 ways to split, all tried while the interpreter lock is held.
            re.fullmatch("(a+)+", "a" * 40 + "b")
        case ["signal", number]:
            os.kill(os.getpid(), int(number))
        case ["segfault"]:
            ctypes.string_at(0)
        case ["eat"]:
            hoard = bytearray(2**30)
            return float(len(hoard))
        case ["exit"]:
            sys.exit(3)
        case ["exit now"]:
            os._exit(3)
        case ["print"]:
            for stream in (1, 2):
                os.write(stream, b'{"score": 1.0}\n' * 10000)
            print("garbage " * 100000)
        case ["forge", answer]:
            _write_to_sockets(answer.encode())
            return 1.0
        case ["half"]:
            _write_to_sockets(b"\x00\x00\x00\x40{")
            os._exit(0)
        case ["huge"]:
            raise ValueError("x" * 10**7)
        case ["surrogate"]:
            raise ValueError("\ud800 is half a character")
        case ["alarm", seconds]:
            signal.signal(signal.SIGALRM, _ring)
            signal.setitimer(signal.ITIMER_REAL, float(seconds))
            time.sleep(60)
        case ["leave alarm"]:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        case ["family"]:
            return float(_start_family(reference))
        case ["touch"]:
            open(reference, "w").close()
            time.sleep(600)
        case ["pid"]:
            return float(os.getpid())
        case ["remember"]:
            return float(len(_memory.append(0) or _memory))
        case ["thread"]:
            return float(threading.current_thread() is threading.main_thread())
        case [number]:
            return float(number)
    return 1.0


_memory: list[int] = []


def _ring(number: int, frame: object) -> None:
    raise TimeoutError("rang")


def _write_to_sockets(data: bytes) -> None:
    """To whatever the process has open, as code might that looks for a way out."""
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            continue


def _start_family(path: str) -> int:
    """A child in a session of its own, and a grandchild that has lost its parent; both sleep for ever.

    Their process ids stand in the file when it returns.
    """
    nap = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(nap, start_new_session=True)
    start = f"import subprocess; print(subprocess.Popen({nap!r}, start_new_session=True).pid)"
    with open(path, "w") as file:
        subprocess.run([sys.executable, "-c", start], check=True, stdout=file)
        file.write(str(child.pid))
    return os.getpid()


class Faithful(Reward):
    """Everything that a score can carry, and every status that a component can give."""

    name = "faithful"

    class Config(Settings):
        ids: bool = True
        """Whether it repeats the ids of the samples."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        raise {"invalid": InvalidInput, "unparseable": Unparseable, "late": TimeoutError}[sample.completion](
            "so"
        )

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        (sample,) = samples
        if sample.completion != "rich":
            return super().score(samples)
        return [
            Score(
                id=sample.id if self.config.ids else "another",
                status=Status.OK,
                value=float(sample.metadata["number"][1]),
                parts={"raw": 0.5},
                latency_s=0.25,
                usage=Usage(num_requests=1, num_tokens=7, money=0.01),
                message="thought about it",
            )
        ]


class Troubled(Reward):
    """Loads in the way that its option says, as many times as `marks` has bytes or more."""

    name = "troubled"

    class Config(Settings):
        how: str
        marks: str = ""
        """A file to which every start adds a byte."""

    config: Config

    def start(self) -> None:
        with open(self.config.marks or os.devnull, "a") as file:
            file.write(".")
        match self.config.how:
            case "user error":
                raise UserError("the weights are not there", remedy="download them")
            case "raise":
                raise RuntimeError("out of cheese")
            case "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                time.sleep(600)
            case "thread":
                threading.Thread(target=time.sleep, args=(600,), name="helper", daemon=True).start()
            case "once" if os.path.getsize(self.config.marks) == 1:
                raise RuntimeError("not the first time")

    def score_one(self, sample: Sample) -> float:
        return 0.5
