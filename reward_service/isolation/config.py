"""How isolated components run: how many processes, how long, how much memory."""

from pydantic import Field

from antiphon.settings import Settings


class IsolationConfig(Settings):
    """The child processes that score what is isolated."""

    num_workers: int = Field(2, ge=1)
    """Samples that are scored side by side, over all isolated components. More than there are CPUs helps
    only components that wait."""
    deadline_s: float = Field(5.0, gt=0.0)
    """For one sample. A worker that takes longer is killed and the sample has status timeout; raise it for
    verifiers that are slow and right."""
    memory_mb: int = Field(1024, ge=1)
    """What scoring may allocate in a worker, in MiB beyond what the component itself has loaded. A sample
    that needs more has status error."""
    patience_s: float = Field(0.25, gt=0.0)
    """A worker that is at one sample for longer no longer counts as one of num_workers: another one takes
    its place, so that the neighbours of a sample that hangs do not wait for its deadline."""
    num_extra_workers: int = Field(8, ge=0)
    """How many workers may be at such samples at once. Raise it where the policy writes many of them."""
    num_samples_per_worker: int = Field(1000, ge=1)
    """After as many, a fresh process takes over. 1 for components that execute completions, which could
    otherwise leave something behind for the next ones."""
    start_deadline_s: float = Field(60.0, gt=0.0)
    """How long a component may take to load."""
    shows_output: bool = False
    """Whether what a worker prints goes to the log of the service; else it is discarded."""
