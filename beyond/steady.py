"""Steady behaviour: each host as the posterior mean of its own centre (beyond the paper; docs/method.md).

The same host on two days is of one class, whatever class that is. So the way in which hosts differ from themselves is
noise, the way in which their means differ from each other is signal, and no label is needed to tell the two apart:

    x_t = m_h + e_t,   e_t ~ N(0, W),   m_h ~ N(0, B)       the vector of host h on day t: its own centre, plus noise

This is the two-covariance model of speaker verification (PLDA), with the host as its class.

    E                  width of a vector: 37 features, or an embedding's
    x     (n, E)       the day's hosts, each column standardized over them (mean 0, deviation 1, or all 0)
    xbar  (n, E)       mean of each host's days, a day that lies a of the host's own active days back weighing f^a
    n_h   (n,)         what these weights sum to; 0 for a host that was never seen
    T     (E, E)       mean of x x^T over all hosts and days so far: W + B
    W     (E, E)       mean of d d^T / (1 + 1/n_h) so far, d = x_t - xbar before day t; then (1 - l) W + l tr(W)/E I
    R     (E, E)       R^T W R = I and R^T T R = I + diag(psi): the axes, the one with the most signal last
    psi   (E,)         variance of the hosts' centres along each axis, where their noise has variance 1
    z     (n, E)       n_h psi / (n_h psi + 1) * (R^T xbar), the posterior mean of m_h. Neighbours: cosine of z as it is
    f, l               0.9 and 0.03. With f = 0 and without the factor, z is x whitened

Per host xbar, n_h and its last day are kept; over hosts only sums, so that several processes can share the hosts out:
each takes `moments` of its own, the sums are added up, and `follow` goes on. In one process, `step` does a day.
Arithmetic is float64, on the device of x; CPU and CUDA run the same code. Imports torch and numpy only.
"""

from typing import NamedTuple

import numpy as np
import torch


class Sums(NamedTuple):
    """Sums over hosts and days; those of several days, or of several processes' hosts, are added up by `add`."""
    xx: torch.Tensor  # (E, E) float64  sum of x x^T
    rows: int         # how many x that is
    dd: torch.Tensor  # (E, E) float64  sum of d d^T / (1 + 1/n_h)
    pairs: int        # how many d that is: hosts with an earlier day


class Axes(NamedTuple):
    """What `find_axes` makes of Sums; see the file's header."""
    R: torch.Tensor       # (E, E) float64
    psi: torch.Tensor     # (E,) float64 ascending; infinite while nothing is known of W
    noise: torch.Tensor   # () float64  tr(W'^-1 W), W' being W after shrinkage: E where l = 0


class Memory(NamedTuple):
    """What the days so far leave behind; `as_dict` and `from_dict` take it to a file and back."""
    sums: Sums
    hosts: torch.Tensor  # (hosts,) int64    IPv4 addresses, ascending
    xbar: torch.Tensor   # (hosts, E) float64
    n: torch.Tensor      # (hosts,) float64  n_h
    last: torch.Tensor   # (hosts,) int64    number of the host's last active day


# -- T and W from sums, the axes from T and W --------------------------------------------------------------------------

@torch.no_grad()
def moments(x, xbar, n):
    """The Sums of one day's hosts: x (n_hosts, E), and xbar (n_hosts, E) and n (n_hosts,) before that day.

    A host that has no earlier day has n = 0, and any finite xbar. For embeddings whose axes move with the weights of
    a model, xbar is yesterday embedded once more with today's weights, and n is 1 for hosts active on both days.
    Raises ValueError for shapes that do not fit.
    """
    if x.ndim != 2 or xbar.shape != x.shape or n.shape != x.shape[:1]:
        raise ValueError("expected x (n_hosts, E), xbar (n_hosts, E) and n (n_hosts,), got "
                         f"{tuple(x.shape)}, {tuple(xbar.shape)} and {tuple(n.shape)}")
    x, n = x.double(), n.double()
    d = (x - xbar) * (n / (n + 1)).sqrt()[:, None]          # (n_hosts, E)   x - xbar ~ N(0, W (1 + 1/n))
    return Sums(x.T @ x, len(x), d.T @ d, int((n > 0).sum()))


def add(*parts):
    """The Sums of all parts: of earlier days and today, or of each process's share of the hosts."""
    return Sums(*map(sum, zip(*parts)))


def find_axes(sums, shrinkage=0.03, least=0.001):
    """R, psi and the noise's dimensions from Sums; psi is `least` or more.

    With W = C C^T, the eigenvectors of C^-1 T C^-T = V diag(1 + psi) V^T give R = C^-T V. Where no host was seen
    twice, or none has changed, W is unknown: R is the identity and psi infinite, so that z = xbar. A column that never
    varied has variance l tr(W)/E in the shrunk W, which bounds R. Raises ValueError for shrinkage outside [0, 1], for
    sums that are not finite, and for a singular W, which there is without shrinkage only.
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
    if not (sums.xx.isfinite().all() and sums.dd.isfinite().all()):
        raise ValueError("expected finite vectors, got some that are nan or infinite")
    E = len(sums.xx)
    identity = torch.eye(E, dtype=sums.xx.dtype, device=sums.xx.device)
    unchanged = sums.dd.trace() == 0
    if sums.pairs == 0 or (unchanged and shrinkage):
        return Axes(identity, identity.new_full((E,), torch.inf), identity.new_tensor(E))
    T, W = sums.xx / sums.rows, sums.dd / sums.pairs
    shrunk = (1 - shrinkage) * W + shrinkage * W.trace() / E * identity
    C, failed = torch.linalg.cholesky_ex(shrunk)
    own = C.diagonal().square() / shrunk.diagonal()         # of a column's variance, what those before do not tell
    if failed or not (own > 4 * E * torch.finfo(W.dtype).eps).all():
        raise ValueError(f"expected vectors that change in each of {E} columns independently, or more shrinkage than "
                         f"{shrinkage}, got a singular W from {sums.pairs} pairs")
    inverse = torch.linalg.solve_triangular(C, identity, upper=False)  # C^-1
    variance, V = torch.linalg.eigh(inverse @ T @ inverse.T)           # 1 + psi, ascending
    R = inverse.T @ V
    return Axes(R, (variance - 1).clamp(min=least), (R * (W @ R)).sum())


def posterior(axes, xbar, n=1):
    """z (n_hosts, E) float64 from the hosts' xbar (n_hosts, E) and n_h (n_hosts,); n = 1: from a single day each."""
    n = torch.as_tensor(n, dtype=torch.float64, device=xbar.device).reshape(-1, 1)
    factor = n / (n + 1 / axes.psi)                         # n psi / (n psi + 1), for an infinite psi too
    return factor * (xbar.double() @ axes.R)


def surprise(axes, x, xbar, n):
    """How far hosts moved away from their own past, in units of what hosts do: (n_hosts,) float64.

        d^T W^-1 d / (E (1 + 1/n_h)),   d = x - xbar,   xbar and n_h of the days before

    1 on an ordinary day: exactly so on average over all d that made W. 0 for a host that never changes, nan for one
    without an earlier day (n = 0). One earlier day has the width of a day itself, hence the 1/n_h.
    """
    # differs from docs/method.md: `noise` in place of E, because shrinkage makes W larger along axes without noise
    d = (x.double() - xbar) @ axes.R                        # (n_hosts, E)   W'^-1 = R R^T
    n = torch.as_tensor(n, dtype=torch.float64, device=x.device)
    return torch.where(n > 0, d.square().sum(1) / (axes.noise * (1 + 1 / n)), torch.nan)


def signal(axes):
    """Mean of psi / (psi + 1) over the axes: the share of signal in a single day, in (0, 1]."""
    return (1 / (1 + 1 / axes.psi)).mean().item()


def join_weight(axes, other):
    """How much the features, of these axes, count in `join` for 1 of another view of `other` axes: (2 s / s')^2.

    s and s' are the two signals. The square: the view whose days tell more speaks for both, rather than half and
    half. The 2: of 1, 2, 3, 4, 5, 6, 8 that with the most subnet agreement on three traces, among those that cost
    0.01 of macro F1 at most on the one with labels (docs/results.md has the numbers).
    """
    return (2 * signal(axes) / signal(other)) ** 2


def join(z, other, weight):
    """Two views of the same hosts side by side, (n_hosts, E) and (n_hosts, E') -> (n_hosts, E + E').

    The cosine of two joined rows is the mean of the two views' cosines, weighed `weight` : 1. A zero row stays zero.
    """
    share = weight / (weight + 1)
    z, other = torch.nn.functional.normalize(z.double()), torch.nn.functional.normalize(other.double())
    return torch.cat([z * share**0.5, other * (1 - share) ** 0.5], dim=1)


# -- day by day --------------------------------------------------------------------------------------------------------

def new_memory(width, device="cpu"):
    """The Memory before the first day, for vectors of E = width."""
    zeros = torch.zeros(width, width, dtype=torch.float64, device=device)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return Memory(Sums(zeros, 0, zeros, 0), none, zeros[:0], none.double(), none)


@torch.no_grad()
def step(memory, x, hosts, day, f=0.9, shrinkage=0.03):
    """One day after the other, in one process: (z, surprise, memory after the day), as `follow` gives them."""
    return follow(memory, moments(x, *recall(memory, hosts)), x, hosts, day, f, shrinkage)


@torch.no_grad()
def follow(memory, today, x, hosts, day, f=0.9, shrinkage=0.03, weighted=True):
    """The day's (z (n_hosts, E), surprise (n_hosts,), memory after the day), today included in all of them.

    x (n_hosts, E) standardized vectors of `hosts` (n_hosts,), addresses, ascending; day: the day's number, larger than
    that of any day before. today: the Sums of the whole day, `moments` of all processes' hosts added up, where x and
    hosts may be one process's share. weighted False: z = R^T xbar, without the factor. Nothing depends on later days.
    """
    if not 0 <= f <= 1:
        raise ValueError(f"f must lie in [0, 1], got {f}")
    xbar, n = recall(memory, hosts)
    axes = find_axes(add(memory.sums, today), shrinkage)
    moved = surprise(axes, x, xbar, n)
    n = f * n + 1                                           # sum of f^a, today being f^0
    xbar = xbar + (x.double() - xbar) / n[:, None]          # (sum of f^a x) / n_h; stays as it is where x is xbar
    z = posterior(axes, xbar, n) if weighted else xbar @ axes.R
    return z, moved, remember(memory, today, hosts, xbar, n, day)


def recall(memory, hosts):
    """(xbar (n_hosts, E), n_h (n_hosts,)) of hosts (n_hosts,), addresses, ascending; 0 for those never seen.

    Raises ValueError where hosts are no whole numbers or not ascending.
    """
    hosts = addresses(hosts, memory.hosts.device)
    at, known = places(memory, hosts)
    xbar, n = memory.xbar.new_zeros(len(hosts), memory.xbar.shape[1]), memory.n.new_zeros(len(hosts))
    xbar[known], n[known] = memory.xbar[at[known]], memory.n[at[known]]
    return xbar, n


def remember(memory, today, hosts, xbar, n, day):
    """The memory with today's Sums added, and with today's xbar and n_h of `hosts` in place of earlier ones.

    Raises ValueError for a day that is not later than all days before.
    """
    if len(memory.last) and day <= memory.last.max():
        raise ValueError(f"days must come in order, got day {day} after day {memory.last.max()}")
    hosts = addresses(hosts, memory.hosts.device)
    at, known = places(memory, hosts)
    stay = torch.ones(len(memory.hosts), dtype=torch.bool, device=hosts.device)
    stay[at[known]] = False
    merged, order = torch.cat([memory.hosts[stay], hosts]).sort()
    columns = (memory.xbar, xbar), (memory.n, n), (memory.last, torch.full_like(hosts, day))
    return Memory(add(memory.sums, today), merged, *(torch.cat([old[stay], new])[order] for old, new in columns))


def forget(memory, before):
    """The memory without the hosts last seen before the day of that number; T and W stay as they are."""
    stay = memory.last >= before
    return Memory(memory.sums, *(column[stay] for column in memory[1:]))


def addresses(hosts, device):
    """Hosts' addresses as an int64 tensor, from one or from a numpy array of whole numbers. Errors as in `recall`."""
    hosts = torch.as_tensor(hosts.astype(np.int64) if isinstance(hosts, np.ndarray) else hosts, device=device)
    whole = not (hosts.is_floating_point() or hosts.dtype == torch.bool)
    if not whole or hosts.ndim != 1 or (hosts[:1] < 0).any() or not (hosts[1:] > hosts[:-1]).all():
        raise ValueError("hosts must be addresses, whole numbers of 0 or more, ascending and distinct, got "
                         f"{hosts.dtype} {tuple(hosts.shape)}")
    return hosts.long()


def places(memory, hosts):
    """(at, known): where each host would stand in memory.hosts, and whether it stands there."""
    at = torch.searchsorted(memory.hosts, hosts)
    return at, torch.cat([memory.hosts, hosts.new_full((1,), -1)])[at] == hosts


def as_dict(memory):
    """The Memory as a flat dict of tensors and whole numbers, which torch.load reads with weights_only=True."""
    return {**memory.sums._asdict(), **dict(zip(Memory._fields[1:], memory[1:]))}


def from_dict(saved, device="cpu"):
    """The Memory that `as_dict` made a dict of, its tensors on the device."""
    saved = {name: value.to(device) if torch.is_tensor(value) else value for name, value in saved.items()}
    return Memory(Sums(*(saved[name] for name in Sums._fields)), *(saved[name] for name in Memory._fields[1:]))
