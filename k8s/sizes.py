"""How large the groups of an overlay must be, derived from the model: bytes, and where they lie.

    python -m k8s.sizes

prints the table of README.md. Derived, not measured: the formulas say what is counted. tests/k8s compare the
overlays with it.
"""

from dataclasses import dataclass

GIB = 2**30
MASTER, MOMENTS, GRADIENTS, HALF = 4, 8, 4, 2
"""Bytes a parameter: float32 weights, the two moments of AdamW, gradients, and a copy in bfloat16."""
ACTIVATION = 34
"""Bytes a token, layer and hidden unit that a backward pass in bfloat16 keeps, attention by flash or sdpa and
nothing recomputed (2205.05198, without its term for the attention matrix)."""
GATHERED_LAYER = 2 * HALF + HALF + GRADIENTS
"""Bytes a parameter of one layer, where the states are split over ranks: the layer that computes and the next
one, its gradient, and that in float32 while it is added up over the ranks."""
GATHERED_OUTER = MASTER + GRADIENTS
"""Bytes a parameter outside the layers (embeddings), which are whole for as long as a pass takes."""
NUM_VERSIONS = 2
"""Of the weights in an object store: the one in use, and the one that arrives."""
GATHER_BYTES_PER_S = 5e9
"""What a learner's process takes from its GPU into memory that is not pinned; the first rank takes all."""
STORAGE_BYTES_PER_S = 0.5e9
"""What a shared file system takes in. Measure yours."""
ROOM_BYTES = 8 * GIB
"""For Python, CUDA's own memory on the host, Ray, and the groups under way."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What of a model's shape decides its memory, and how an overlay runs it."""

    overlay: str
    example: str
    num_parameters: float
    num_outer_parameters: float
    """Of embedding and unembedding."""
    num_layers: int
    hidden_size: int
    num_kv_heads: int
    head_size: int
    num_slots: int
    """rollout.engine.num_slots"""
    num_positions: int
    """Prompt and completion, at most."""
    micro_batch_tokens: int
    """learner.max_tokens_per_micro_batch"""
    num_learner_gpus: int
    """One for each rank."""
    num_learner_nodes: int
    """Of the learner's group, with as many GPUs each."""
    num_actors: int
    num_checkpoints: int
    update_s: float
    """An update under way is ended before a run saves itself: at most so long. Measure yours."""

    @property
    def learner_gpu_bytes(self) -> float:
        """On each of the learner's GPUs: its share of the states, the activations of its own micro-batch, no
        smaller than the longest row, and what is gathered for a moment. A single one keeps autocast's copy in
        half precision instead."""
        num_tokens = max(self.micro_batch_tokens, self.num_positions)
        activations = ACTIVATION * self.num_layers * self.hidden_size * num_tokens
        states = (MASTER + MOMENTS + GRADIENTS) * self.num_parameters / self.num_learner_gpus
        if self.num_learner_gpus == 1:
            return states + HALF * self.num_parameters + activations
        layer = (self.num_parameters - self.num_outer_parameters) / self.num_layers
        return states + activations + GATHERED_LAYER * layer + GATHERED_OUTER * self.num_outer_parameters

    @property
    def actor_gpu_bytes(self) -> float:
        """Weights in half precision, keys and values of every slot."""
        per_position = 2 * self.num_layers * self.num_kv_heads * self.head_size * HALF
        return HALF * self.num_parameters + self.num_slots * self.num_positions * per_position

    @property
    def object_store_bytes(self) -> float:
        """Of the learner's node and of each actor's: /dev/shm."""
        return NUM_VERSIONS * HALF * self.num_parameters

    @property
    def learner_host_bytes(self) -> float:
        """Of each of the learner's nodes: any of them may have the first rank. While that one writes a
        checkpoint, weights and moments are on the host; for a publication it is less, the gathered weights
        in half precision and the buffer that they are packed into. Each rank that starts holds embeddings."""
        num_ranks = self.num_learner_gpus / self.num_learner_nodes
        publication = 2 * HALF * self.num_parameters
        start = MASTER * (self.num_parameters + (num_ranks - 1) * self.num_outer_parameters)
        return max(self.checkpoint_bytes, publication, start) + self.object_store_bytes + ROOM_BYTES

    @property
    def actor_host_bytes(self) -> float:
        """While it starts, a model is read in float32 and halved; weights arrive by the object store."""
        return (MASTER + HALF) * self.num_parameters + self.object_store_bytes + ROOM_BYTES

    @property
    def checkpoint_bytes(self) -> float:
        return (MASTER + MOMENTS) * self.num_parameters

    @property
    def volume_bytes(self) -> float:
        """Those that are kept, and the one that is being written."""
        return (self.num_checkpoints + 1) * self.checkpoint_bytes

    @property
    def stop_s(self) -> float:
        """From the request to stop to the checkpoint: gathered on the first rank's host, then written."""
        taken_s = self.checkpoint_bytes / GATHER_BYTES_PER_S
        return self.update_s + taken_s + self.checkpoint_bytes / STORAGE_BYTES_PER_S

    @property
    def resume_s(self) -> float:
        """To read the checkpoint: every rank takes its part out of the whole file, which the ranks of a node
        read together."""
        return self.num_learner_nodes * self.checkpoint_bytes / STORAGE_BYTES_PER_S

    @property
    def gathered_bytes(self) -> float:
        """What a rank receives from the others for each of its passes forward and backward: the layers twice
        in half precision, gradients once in float32, and what is outside of layers in float32 throughout."""
        inner = (2 * HALF + GRADIENTS) * (self.num_parameters - self.num_outer_parameters)
        outer = (MASTER + GRADIENTS) * self.num_outer_parameters
        return (1 - 1 / self.num_learner_gpus) * (inner + outer)


MODELS = (
    Model(
        overlay="gpu-8b",
        example="Llama 3.1 8B",
        num_parameters=8.03e9,
        num_outer_parameters=2 * 128256 * 4096,
        num_layers=32,
        hidden_size=4096,
        num_kv_heads=8,
        head_size=128,
        num_slots=64,
        num_positions=2048,
        micro_batch_tokens=2048,
        num_learner_gpus=1,
        num_learner_nodes=1,
        num_actors=4,
        num_checkpoints=3,
        update_s=60.0,
    ),
    Model(
        overlay="gpu-32b",
        example="Qwen2.5 32B",
        num_parameters=32.8e9,
        num_outer_parameters=2 * 152064 * 5120,
        num_layers=64,
        hidden_size=5120,
        num_kv_heads=8,
        head_size=128,
        num_slots=64,
        num_positions=2048,
        micro_batch_tokens=2048,
        num_learner_gpus=8,
        num_learner_nodes=1,
        num_actors=8,
        num_checkpoints=2,
        update_s=60.0,
    ),
    Model(
        overlay="gpu-70b",
        example="Llama 3.1 70B",
        num_parameters=70.6e9,
        num_outer_parameters=2 * 128256 * 8192,
        num_layers=80,
        hidden_size=8192,
        num_kv_heads=8,
        head_size=128,
        num_slots=32,
        num_positions=2048,
        micro_batch_tokens=2048,
        num_learner_gpus=16,
        num_learner_nodes=2,
        num_actors=8,
        num_checkpoints=2,
        update_s=240.0,
    ),
)


def table() -> str:
    """The sizes of all overlays, as Markdown."""
    rows = {
        "parameters": lambda m: f"{m.num_parameters / 1e9:g} · 10⁹",
        "learner: GPUs": lambda m: f"{m.num_learner_gpus}",
        "learner: memory of each GPU": lambda m: _gb(m.learner_gpu_bytes),
        "learner: nodes": lambda m: f"{m.num_learner_nodes}",
        "learner: memory of each node": lambda m: _gb(m.learner_host_bytes),
        "learner: received by each rank for a pass": lambda m: _gb(m.gathered_bytes),
        "actor: memory of its GPU": lambda m: _gb(m.actor_gpu_bytes),
        "actor: memory of the host": lambda m: _gb(m.actor_host_bytes),
        "object store on each of them (/dev/shm)": lambda m: _gb(m.object_store_bytes),
        "actors": lambda m: f"{m.num_actors}",
        "a checkpoint": lambda m: _gb(m.checkpoint_bytes),
        "volume for the checkpoints that are kept": lambda m: _gb(m.volume_bytes),
        "from the request to stop to the checkpoint": lambda m: f"{m.stop_s:.0f} s",
        "to read it again": lambda m: f"{m.resume_s:.0f} s",
    }
    head = "| | " + " | ".join(f"{m.overlay} ({m.example})" for m in MODELS) + " |\n"
    body = [f"| {name} | " + " | ".join(of(m) for m in MODELS) + " |\n" for name, of in rows.items()]
    return head + "|---" * (len(MODELS) + 1) + "|\n" + "".join(body)


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.0f} GB"


if __name__ == "__main__":
    print(table(), end="")
