"""i-DarkVec, the paper's baseline: hosts as words, ports as texts, skip-gram day by day (paper section 4.2).

    words, offsets   (W,), (S+1,)   the day's corpus: sentence s is words[offsets[s]:offsets[s+1]], a word is a host
    n, E                            hosts seen so far; width of an embedding, 128
    V, U             (n, E)         input vectors, which are the embeddings; output vectors
    P_n              (n,)           noise distribution, proportional to count^0.75
    T, K                            words of a block; negatives that they share

Skip-gram with negative sampling (Mikolov et al. 2013, equation 4) goes up, for every pair of a word i and a word o
at most `reach` places away in the same sentence, reach drawn for each i from 1..window:

    log sigmoid(v_i u_o) + 5 E_{k ~ P_n, k != o} log sigmoid(-v_i u_k)

Differs from word2vec and gensim, which take one pair after the other, because a step must be a few matrix products:
- T neighbouring words share K negatives, each of weight 5/K, instead of 5 for each pair: the same expectation from
  more of them per pair. As in word2vec, a negative that is the pair's own o is passed over.
- Minibatches: all pairs of `minibatch_words` words see the same V and U, and the gradients of a repeated host are
  summed. Where two hosts alternate for long such sums overshoot and the norms grow without limit. Therefore the
  blocks of a minibatch are taken far apart from the 10,000 words of a job (gensim's unit of work), and a row moves
  by at most twice the mean gradient of its pairs (`_rates`). Jobs follow the order of the corpus.
As in gensim: V starts uniform in (-1, 1)/E (twice word2vec's; on short days the scores need it) and U at 0; the
learning rate falls linearly within every day, anew each day, in steps of 10,000 words; counts add up over the days
and P_n covers every host ever seen, so that today's step may also move U, never V, of a host absent today.

The same seed gives the same bytes on the CPU; on CUDA sums of repeated hosts come in any order. Imports numpy,
torch and the standard library only.
"""

import contextlib
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BLOCK = 5              # T; small, so that a minibatch gathers words from many places of the corpus
NOISE = 50             # K
MINIBATCH = 20, 100    # fewest and most words of a minibatch; more are hardly faster on a CPU, and learn less
BOUND = 2              # a row moves by at most this times the mean gradient of its pairs in a minibatch
RATE_STEP = 10_000     # words between changes of the learning rate


def corpus(time, src, port, other=None, sentence=1000):
    """The day's senders in time order, port after port, cut into sentences (paper section 4.2).

    time (n,) seconds, src (n,) integers and port (n,) port nodes 0..P-1, one entry per packet that the host filter
    leaves, in order of capture, which decides between equal times. Ports go by decreasing packets (ties: the lower
    node), node `other`, if any, last. A sender that repeats the one before it is dropped, also across ports.
    Returns words (W,) int64 and offsets (S+1,) int64; no packets give no sentences.
    Raises ValueError for columns of unequal length, a time that is no number, sources and ports that are no integers,
    negative ports and sentence < 1.
    """
    time, src, port = np.asarray(time), np.asarray(src), np.asarray(port)
    if not (time.ndim == 1 and time.shape == src.shape == port.shape):
        raise ValueError(f"expected one time, source and port per packet, got shapes {time.shape}, {src.shape} "
                         f"and {port.shape}")
    if np.isnan(time).any():
        raise ValueError(f"expected a time for every packet, got NaN for packet {np.isnan(time).argmax()}")
    for name, column in (("sources", src), ("port nodes", port)):
        if len(column) and column.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, got {column.dtype}")
    if len(port) and port.min() < 0:
        raise ValueError(f"port nodes must be 0 or more, got {port.min()}")
    if sentence < 1:
        raise ValueError(f"expected sentences of 1 word or more, got {sentence}")
    port = port.astype(np.int64, copy=False)          # an empty list's type is float
    packets = np.bincount(port)                       # (P,)
    if other is not None and 0 <= other < len(packets):
        packets[other] = -1
    rank = np.empty(len(packets), np.min_scalar_type(len(packets)))
    rank[np.argsort(-packets, kind="stable")] = np.arange(len(packets))
    order = np.argsort(time, kind="stable")
    order = order[np.argsort(rank[port[order]], kind="stable")]
    words = src[order].astype(np.int64)
    words = words[np.diff(words, prepend=words[:1] - 1) != 0]
    return words, np.append(np.arange(0, len(words), sentence), len(words))


class DarkVec(nn.Module):
    """The weights: V and U (n, E), count (n,) int64 words of every host so far. `grow` makes the rows."""

    def __init__(self, size=128):
        super().__init__()
        self.V = nn.Parameter(torch.empty(0, size))
        self.U = nn.Parameter(torch.empty(0, size))
        self.register_buffer("count", torch.empty(0, dtype=torch.int64))

    @torch.no_grad()
    def grow(self, n, generator):
        """Rows for hosts up to `n` in all: V uniform in (-1, 1)/E, U and count 0. Rows that exist stay as they are."""
        new, E = n - len(self.V), self.V.shape[1]
        if new < 0:
            raise ValueError(f"expected at least the {len(self.V)} hosts that the model holds, got {n}")
        V = (2 * torch.rand(new, E, generator=generator, device=generator.device) - 1) / E
        self.V = nn.Parameter(torch.cat([self.V, V.to(self.V)]))
        self.U = nn.Parameter(torch.cat([self.U, self.U.new_zeros(new, E)]))
        self.count = torch.cat([self.count, self.count.new_zeros(new)])

    @torch.no_grad()
    def keep(self, rows):
        """Leave only these rows (kept,) int64, which become 0, 1, ...: how hosts are forgotten."""
        self.V, self.U, self.count = nn.Parameter(self.V[rows]), nn.Parameter(self.U[rows]), self.count[rows]


@contextlib.contextmanager
def one_thread():
    """Torch with one CPU thread. On minibatches this small a second one gains 15 % where its core is idle, and where
    it is not every operation waits for the scheduler: 50 times slower with one other busy process on two cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
@one_thread()
def train_day(model, words, offsets, generator, epochs=1, window=5, negatives=5, learning_rate=0.025,
              final_rate=1e-4):
    """Count the day's words, then train on them, 10,000 at a time; weights carry over from the day before.

    words (W,) and offsets (S+1,) as `corpus` returns them, the words being rows of the model (see `DarkVec.grow`).
    A generator on the model's device is fastest, any other does. The rate falls from `learning_rate` to
    `final_rate`. Returns the mean loss per pair, a tensor (), 0 if there is no pair.
    Raises ValueError for words outside the model's rows and offsets that do not cut words into sentences.
    """
    device, n = model.V.device, len(model.V)
    words, offsets = torch.as_tensor(words), torch.as_tensor(offsets)
    if len(words) and not (words.min() >= 0 and words.max() < n):
        raise ValueError(f"words must lie in [0, {n}), the model's rows, got {words.min()}..{words.max()}")
    length = offsets.diff()
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(words) or (length < 0).any():
        raise ValueError(f"offsets must ascend from 0 to the {len(words)} words, got {offsets.tolist()[:3]}... to "
                         f"{offsets.tolist()[-1:]}")
    if not len(words):
        return torch.zeros((), device=device)
    words, length = words.to(device), length.to(device)
    today = torch.bincount(words, minlength=n)
    model.count += today
    cumulative = noise_distribution(model.count)
    center, context, sentence, around = blocks(words, length, window)
    label = (torch.arange(context.shape[1] + NOISE, device=device) < context.shape[1]).to(model.V.dtype)
    step, job = minibatch_words(today) // BLOCK, RATE_STEP // BLOCK                      # in blocks
    loss, pairs = torch.zeros(2, dtype=torch.float64, device=device)
    for epoch, start in itertools.product(range(epochs), range(0, len(center), job)):  # a job of 10,000 words
        rate = learning_rate - (learning_rate - final_rate) * (epoch + start * BLOCK / len(words)) / epochs
        now = slice(start, start + job)
        reach = torch.randint(1, window + 1, center[now].shape, generator=generator, device=generator.device)
        near = in_window(sentence[now], around[now], reach.to(device)).to(label.dtype)
        noise = draw(cumulative, (len(near), NOISE), generator)
        weight = torch.cat([near, noise_weight(near, context[now], noise, negatives)], 2)
        column = torch.cat([context[now], noise], 1)
        pairs += near.sum()
        steps = -(-len(column) // step)
        for i in range(steps):  # interleaved: a minibatch's blocks lie far apart
            loss += update(model, center[now][i::steps], column[i::steps], weight[i::steps], label, rate)
    return loss / pairs.clamp(min=1)


def minibatch_words(count):
    """How many words a step takes: 1 / sum of squared shares, so that the average word occurs about twice in it."""
    share = count.double() / count.sum().clamp(min=1)
    fewest, most = MINIBATCH
    return round(share.square().sum().reciprocal().clamp(fewest, most).item())


def blocks(words, length, window):
    """The day in B blocks of T words, each with `window` words more on either side, and their sentences' numbers.

    words (W,) and length (S,), the words of each sentence. Returns center (B, T), context (B, T + 2 window), and of
    the same shapes sentence and around. Places beyond the day hold word 0 and sentence -1.
    """
    sentence = torch.repeat_interleave(torch.arange(len(length), device=words.device), length)
    pad = window, window + -len(words) % BLOCK
    words, sentence = F.pad(words, pad), F.pad(sentence, pad, value=-1)
    context, around = (x.unfold(0, BLOCK + 2 * window, BLOCK) for x in (words, sentence))
    return context[:, window:window + BLOCK], context, around[:, window:window + BLOCK], around


def in_window(sentence, around, reach):
    """Which (word, context) are pairs: the same sentence, 1..reach places apart. (B, T, T + 2 window) bool."""
    T, width = sentence.shape[1], around.shape[1]
    place = torch.arange(width, device=sentence.device)
    apart = (place[:T, None] + (width - T) // 2 - place).abs()                          # (T, T + 2 window)
    near = (apart > 0) & (apart <= reach[..., None])
    return near & (sentence[..., None] == around[:, None]) & (sentence[..., None] >= 0)


def noise_distribution(count):
    """P_n as running sums of count^0.75, (n,) float64: not normalized."""
    return count.double().pow(0.75).cumsum(0)


def draw(cumulative, shape, generator):
    """Hosts drawn with replacement from P_n as `noise_distribution` gives it: int64 of `shape`."""
    x = torch.rand(shape, dtype=torch.float64, generator=generator, device=generator.device)
    x = x.to(cumulative.device) * cumulative[-1]
    return torch.searchsorted(cumulative, x, right=True).clamp_(max=len(cumulative) - 1)


def noise_weight(near, context, noise, negatives):
    """How much host noise[b, k] counts as a negative of word i: (B, T, K), negatives / K for each of i's pairs.

    near (B, T, T + 2 window) float, 1 for a pair. A pair whose context is that very host does not count.
    """
    same = (context[:, :, None] == noise[:, None]).to(near.dtype)                       # (B, T + 2 window, K)
    return negatives / noise.shape[1] * (near.sum(2, keepdim=True) - near @ same)


@torch.no_grad()
def update(model, row, column, weight, label, rate):
    """One step of gradient descent on a minibatch of B blocks; V and U change in place.

    row (B, T) of V and column (B, C) of U, weight (B, T, C) of their pairs, 0 for none, and label (C,): 1 for a
    context, 0 for a negative. Returns the loss, summed over the minibatch, a tensor ().
    """
    V, U = model.V, model.U
    v, u = _rows(V, row), _rows(U, column)                      # (B, T, E), (B, C, E)
    s = v @ u.mT                                                # (B, T, C)
    loss = (weight * (F.softplus(s) - label * s)).sum()         # label 1: -log sigmoid(s), 0: -log sigmoid(-s)
    G = weight * (label - torch.sigmoid(s))                     # -d loss / d s
    rate_v = _rates(len(V), row, weight.sum(2), rate)           # (B, T)
    rate_u = _rates(len(U), column, weight.sum(1), rate)        # (B, C)
    _add(V, row, (rate_v[..., None] * G) @ u)
    _add(U, column, (rate_u[:, None] * G).mT @ v)
    return loss


def _rates(n, rows, pairs, rate):
    """The learning rate of each of the rows, out of n: `rate`, or BOUND / its pairs in this minibatch if less.

    With it a row's step is rate times the sum of its pairs' gradients, at most BOUND times their mean.
    """
    total = pairs.new_zeros(n)
    _add(total, rows, pairs)
    return (BOUND / _rows(total, rows)).clamp(max=rate)


def _rows(table, rows):
    return table.index_select(0, rows.reshape(-1)).view(*rows.shape, *table.shape[1:])


def _add(table, rows, values):
    """table[rows] += values, summed over repeated rows; on the CPU in their order, whatever the threads."""
    table.index_add_(0, rows.reshape(-1), values.reshape(rows.numel(), *table.shape[1:]))
