"""What a submitted job runs: the command line, and then a last word for whoever follows the job.

    python -m cluster.jobs.driver train RECIPE --run-dir /shared/run --resume-if-exists

Exits with the code of the command line, which is in one process with it: a signal reaches the run itself.
"""

import sys
import traceback
from pathlib import Path

from cluster.jobs.last_word import compose, texts
from cluster.run_dir import RunDir

RUN_DIR = "--run-dir"


def main() -> None:
    """Raises SystemExit with the code of the command line."""
    run_dir = RunDir(Path(sys.argv[sys.argv.index(RUN_DIR) + 1]))
    before = texts(run_dir)
    exit_code = run()
    print(compose(run_dir, exit_code, before).line(), flush=True)
    sys.exit(exit_code)


def run() -> int:
    """The command line; its exit code, 1 for an error that it does not answer itself."""
    from cluster.cli import main as command_line

    try:
        command_line()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        # A bug, or a machine: the log is where it is looked for. KeyboardInterrupt is the second signal.
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()
