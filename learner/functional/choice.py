"""Q-learning over sets of candidate actions that differ from state to state. Pure functions.

Values are [B, A], a column per candidate; `is_there` [B, A] is False where a row has fewer candidates.
Whatever stands in such a place is never read. (Over tokens, where all states share their actions:
q_targets.py.)
"""

import torch
from torch import Tensor

from learner.functional.checks import same_shape


def best(q: Tensor, is_there: Tensor) -> Tensor:
    """The column of the highest value among the candidates; the first of equals. [B, A] -> [B] int64

    Raises:
        ValueError: a row without a candidate.
    """
    same_shape(2, q=q, is_there=is_there)
    if not bool(is_there.any(dim=1).all()):
        raise ValueError("a state without a candidate has no best action")
    return q.masked_fill(~is_there, -torch.inf).argmax(dim=1)


def double_dqn_target(
    reward: Tensor, is_done: Tensor, q_online: Tensor, q_target: Tensor, is_there: Tensor, gamma: float
) -> Tensor:
    """y = r + γ · Q_target(s', argmax_a Q_online(s', a)), and y = r where the episode is done. -> [B]

    Van Hasselt et al. 2016, arXiv:1509.06461. With `q_online` = `q_target` it is the target of plain DQN. Of
    rows that are done the next candidates are not read and may be missing.

    Args:
        reward: [B], for the action that was taken.
        is_done: [B] bool, whether there is no next state.
        q_online: [B, A], of the next state's candidates, by the network that learns.
        q_target: [B, A], of the same by its older copy.

    Raises:
        ValueError: shapes that do not fit, γ outside of 0 … 1, or an unfinished row without a candidate.
    """
    same_shape(1, reward=reward, is_done=is_done)
    same_shape(2, q_online=q_online, q_target=q_target, is_there=is_there)
    if not 0.0 <= gamma <= 1.0 or len(q_online) != len(reward):
        raise ValueError(f"want γ within 0 … 1 and {len(reward)} rows, got {gamma} and {len(q_online)}")
    target = reward.clone()
    goes_on = ~is_done
    if bool(goes_on.any()):
        chosen = best(q_online[goes_on], is_there[goes_on])
        target[goes_on] += gamma * q_target[goes_on].gather(1, chosen[:, None])[:, 0]
    return target


def huber(error: Tensor, delta: float | None) -> Tensor:
    """½ e² where |e| ≤ δ, else δ (|e| − ½ δ); ½ e² everywhere for δ = None. [B] -> [B]

    Raises:
        ValueError: δ that is not positive.
    """
    same_shape(1, error=error)
    if delta is None:
        return 0.5 * error.square()
    if delta <= 0.0:
        raise ValueError(f"δ must be positive, got {delta}")
    size = error.abs()
    return torch.where(size <= delta, 0.5 * error.square(), delta * (size - 0.5 * delta))


def conservative(q: Tensor, taken: Tensor, is_there: Tensor) -> Tensor:
    """log Σ_a exp Q(s, a) − Q(s, a taken), over the candidates of each row. [B, A], [B] int64 -> [B]

    The regulariser of conservative Q-learning (Kumar et al. 2020, arXiv:2006.04779): lowers the values of
    candidates that the data never tried. At least 0.
    """
    same_shape(2, q=q, is_there=is_there)
    there = q.masked_fill(~is_there, -torch.inf)
    return there.logsumexp(dim=1) - q.gather(1, taken[:, None])[:, 0]


def policy(q: Tensor, is_there: Tensor, temperature: float, epsilon: float) -> Tensor:
    """The probabilities with which a policy on these values takes each candidate. [B, A] -> [B, A]

    (1 − ε) softmax(Q / T) + ε / n over the row's n candidates (Boltzmann, mixed with ε-greedy); T = 0 takes
    the best, and shares between equals.

    Raises:
        ValueError: a negative temperature, ε outside of 0 … 1, or a row without a candidate.
    """
    same_shape(2, q=q, is_there=is_there)
    if temperature < 0.0 or not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"want temperature ≥ 0 and ε within 0 … 1, got {temperature} and {epsilon}")
    if not bool(is_there.any(dim=1).all()):
        raise ValueError("a state without a candidate has no policy")
    there = q.masked_fill(~is_there, -torch.inf)
    if temperature == 0.0:
        is_best = (there == there.amax(dim=1, keepdim=True)).to(q.dtype)
        exploiting = is_best / is_best.sum(dim=1, keepdim=True)
    else:
        exploiting = (there / temperature).softmax(dim=1)
    uniform = is_there.to(q.dtype) / is_there.sum(dim=1, keepdim=True)
    return (1.0 - epsilon) * exploiting + epsilon * uniform
