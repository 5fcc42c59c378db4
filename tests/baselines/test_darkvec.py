import itertools

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from baselines import darkvec

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


def generator(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def model_of(n, size=16, seed=0):
    model = darkvec.DarkVec(size)
    model.grow(n, generator(seed))
    return model


def day(seed, n_words=3000, hosts=40):
    words = np.random.default_rng(seed).integers(0, hosts, n_words)
    return words, np.append(np.arange(0, n_words, 1000), n_words)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


# -- corpus -----------------------------------------------------------------------------------------------------------

def plain_corpus(time, src, port, other, sentence):
    """Senders port by port, written as loops."""
    packets = {p: port.count(p) for p in set(port)}
    words = []
    for p in sorted(packets, key=lambda p: (p == other, -packets[p], p)):
        for _, i in sorted((t, i) for i, t in enumerate(time) if port[i] == p):
            if not words or words[-1] != src[i]:
                words.append(src[i])
    return [words[i:i + sentence] for i in range(0, len(words), sentence)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("other", [None, 0, 4])
def test_corpus_is_that_of_plain_loops(seed, other):
    """Port order with its ties and "other", time order with its ties, repeats and sentences equal plain loops."""
    rng = np.random.default_rng(seed)
    n = 300
    time, src, port = rng.integers(0, 60, n) / 2, rng.integers(2**32 - 4, 2**32, n), rng.integers(0, 5, n)
    words, offsets = darkvec.corpus(time, src.astype(np.uint32), port.astype(np.int32), other, sentence=17)
    assert words.dtype == offsets.dtype == np.int64
    sentences = [words[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert sentences == plain_corpus(time.tolist(), src.tolist(), port.tolist(), other, 17)


def test_sentences_have_1000_words():
    """2,500 alternating senders are sentences of 1,000, 1,000 and 500 words."""
    words, offsets = darkvec.corpus(np.arange(2500.0), np.arange(2500) % 2, np.zeros(2500, int))
    assert offsets.tolist() == [0, 1000, 2000, 2500] and len(words) == 2500


def test_repeated_senders_are_dropped_across_ports_too():
    """A sender that ends one port's sequence and begins the next one's stands there once."""
    words, _ = darkvec.corpus([0, 1, 2, 3, 4.5], [7, 7, 8, 8, 9], [0, 0, 0, 1, 1])
    assert words.tolist() == [7, 8, 9]


def test_corpus_without_packets_is_empty():
    """No packets: no words, no sentences, and a day of them leaves the model as it was."""
    words, offsets = darkvec.corpus([], [], [])
    assert words.shape == (0,) and offsets.tolist() == [0]
    model = model_of(3)
    before = state(model)
    assert darkvec.train_day(model, words, offsets, generator()) == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("columns, line", [
    (([0.0], [1, 2], [0, 0]), "one time, source and port per packet"),
    (([0.0, np.nan], [1, 2], [0, 0]), "NaN for packet 1"),
    (([0.0, 1.0], [1, 2], [0, -1]), "0 or more, got -1"),
    (([0.0, 1.0], [1.5, 1.2], [0, 1]), "sources must be integers, got float64"),
    (([0.0, 1.0], [1, 2], [0.0, 1.0]), "port nodes must be integers, got float64"),
    (([0.0, 1.0], [1, 2], [0, 1], None, 0), "sentences of 1 word or more, got 0"),
])
def test_corpus_refuses_broken_columns(columns, line):
    """Unequal columns, times that are no number, nodes that are no integers or negative: one clear line each."""
    with pytest.raises(ValueError, match=line):
        darkvec.corpus(*columns)


# -- pairs and negatives ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("lengths", [[45, 3, 1, 60], [1], [7], [20], [2, 2, 2, 39]])
def test_pairs_are_those_of_a_direct_loop(lengths, window):
    """Blocks and masks give each pair of the reduced windows once, within sentences, and nothing else."""
    words = torch.arange(100, 100 + sum(lengths))  # each word tells its place
    center, context, sentence, around = darkvec.blocks(words, torch.tensor(lengths), window)
    reach = torch.randint(1, window + 1, center.shape, generator=generator())
    mask = darkvec.in_window(sentence, around, reach)
    b, i, j = mask.nonzero().T
    found = sorted(zip(center[b, i].tolist(), context[b, j].tolist()))

    expected, reach = [], reach.flatten().tolist()
    bounds = np.cumsum([0, *lengths])
    for start, end in itertools.pairwise(bounds):
        for i in range(start, end):
            expected += [(100 + i, 100 + o) for o in range(max(start, i - reach[i]), min(end, i + reach[i] + 1))
                         if o != i]
    assert found == sorted(expected)


def test_negatives_follow_unigram_to_the_three_quarters():
    """Drawn hosts pass a chi-square test against count^0.75, and fail it against count; count 0 is never drawn."""
    count = torch.tensor([1, 10, 0, 100, 1000, 5000, 0, 3])
    drawn = darkvec.draw(darkvec.noise_distribution(count), (100, 2000), generator())
    seen = torch.bincount(drawn.flatten(), minlength=len(count)).numpy()
    assert seen[[2, 6]].sum() == 0

    def p_value(weight):
        share = weight.numpy()[count > 0] / weight.sum().item()
        return scipy.stats.chisquare(seen[count > 0], share * seen.sum()).pvalue
    assert p_value(count.double() ** 0.75) > 1e-3 and p_value(count.double()) < 1e-9


# -- one step ---------------------------------------------------------------------------------------------------------

def minibatch(n, seed, K=12, lengths=(9, 33)):
    """Random words, and all that `update` needs of them but the rate; also near and noise, for plain_loss."""
    rng = generator(seed)
    words = torch.randint(n, (sum(lengths),), generator=rng)
    center, context, sentence, around = darkvec.blocks(words, torch.tensor(lengths), 5)
    near = darkvec.in_window(sentence, around, torch.randint(1, 6, center.shape, generator=rng)).double()
    noise = torch.randint(n, (len(center), K), generator=rng)
    weight = torch.cat([near, darkvec.noise_weight(near, context, noise, 5)], 2)
    label = torch.cat([torch.ones(context.shape[1]), torch.zeros(K)]).double()
    return (center, context, near, noise), (center, torch.cat([context, noise], 1), weight, label)


def trained(n, size=6, seed=0):
    """A float64 model with weights as after some training."""
    model = model_of(n, size).double()
    with torch.no_grad():
        model.V.copy_(torch.randn(n, size, generator=generator(seed), dtype=torch.float64))
        model.U.copy_(torch.randn(n, size, generator=generator(seed + 1), dtype=torch.float64))
    return model


def plain_loss(V, U, center, context, near, noise, negatives=5):
    """Equation 4 of Mikolov et al. pair by pair: every negative but the pair's own context weighs negatives / K."""
    loss = 0
    for b, i, j in near.nonzero().tolist():
        v, o = V[center[b, i]], context[b, j]
        loss = loss - F.logsigmoid(v @ U[o])
        for k in noise[b]:
            if k != o:
                loss = loss - negatives / noise.shape[1] * F.logsigmoid(-v @ U[k])
    return loss


@pytest.mark.parametrize("n", [3, 50])
def test_step_is_gradient_descent_on_the_loss_pair_by_pair(n):
    """A step equals -rate times autograd's gradient of the loss written pair by pair; few hosts, so most repeat."""
    model, (pairs, batch), rate = trained(n), minibatch(n, 1), 1e-5  # so small that no row is bounded
    V, U = (x.detach().clone().requires_grad_() for x in (model.V, model.U))
    expected = plain_loss(V, U, *pairs)
    expected.backward()
    loss = darkvec.update(model, *batch, rate)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close((V - model.V).detach() / rate, V.grad, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close((U - model.U).detach() / rate, U.grad, rtol=1e-8, atol=1e-8)


def test_a_row_moves_at_most_by_twice_its_mean_gradient():
    """With a large rate each row's step is 2 / pairs times its summed gradient, pairs counted one by one."""
    n, rate = 3, 100.0
    model, (pairs, batch) = trained(n), minibatch(3, 2)
    center, context, near, noise = pairs
    V, U = (x.detach().clone().requires_grad_() for x in (model.V, model.U))
    plain_loss(V, U, *pairs).backward()
    pairs_v, pairs_u = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for b, i, j in near.nonzero().tolist():
        pairs_v[center[b, i]] += 1
        pairs_u[context[b, j]] += 1
        for k in noise[b]:
            if k != context[b, j]:
                pairs_v[center[b, i]] += 5 / noise.shape[1]
                pairs_u[k] += 5 / noise.shape[1]
    darkvec.update(model, *batch, rate)
    torch.testing.assert_close((V - model.V).detach(), 2 * V.grad / pairs_v[:, None])
    torch.testing.assert_close((U - model.U).detach(), 2 * U.grad / pairs_u[:, None])


@pytest.mark.parametrize("words", [
    np.zeros(4000, int), np.arange(4000) % 2, np.arange(4000) % 3,
    np.append(np.arange(10_000) % 2, np.random.default_rng(0).integers(2, 1000, 30_000)),
], ids=["one host", "two", "three", "two, then a thousand"])
def test_days_on_which_few_hosts_alternate_do_not_diverge(words):
    """Norms stay small over days of one to three hosts, and where two alternate on an otherwise varied day."""
    model = model_of(words.max() + 1)
    for _ in range(2):
        darkvec.train_day(model, words, np.arange(0, len(words) + 1, 1000), generator())
    assert model.V.norm(dim=1).max() < 10 and model.U.norm(dim=1).max() < 10


# -- day by day -------------------------------------------------------------------------------------------------------

def test_learning_rate_and_minibatches_of_a_day(monkeypatch):
    """The rate falls linearly over all epochs in steps of 10,000 words; a step takes 1 / sum of shares^2 words."""
    rates, rows, update = [], [], darkvec.update

    def spy(model, row, *rest):
        rates.append(rest[-1])
        rows.append(row.flatten())
        return update(model, row, *rest)
    monkeypatch.setattr(darkvec, "update", spy)
    words, offsets = np.arange(25_000) % 80, np.append(np.arange(0, 25_000, 1000), 25_000)
    darkvec.train_day(model_of(80, 4), words, offsets, generator(), epochs=2, learning_rate=1.0, final_rate=0.0)
    assert [len(row) for row in rows] == 2 * ([80] * 305 + [75] * 8)  # jobs of 2000, 2000, 1000 blocks of 5
    assert torch.bincount(torch.cat(rows)).tolist() == (2 * np.bincount(words)).tolist()
    assert rates == pytest.approx([1 - (epoch + step * 80 // 10_000 * 10_000 / 25_000) / 2
                                   for epoch in range(2) for step in range(313)])


def test_unseen_hosts_start_untrained_and_are_then_learned():
    """New rows: V small and uniform, U zero, old rows kept; a day later both have grown and neighbours are alike."""
    model = model_of(20, 64)
    words, offsets = day(0, hosts=20)
    darkvec.train_day(model, words, offsets, generator())
    before = state(model)
    model.grow(40, generator(1))
    assert torch.equal(model.V[:20], before["V"]) and torch.equal(model.U[:20], before["U"])
    assert torch.equal(model.count[:20], before["count"]) and not model.count[20:].any()
    assert not model.U[20:].any()
    assert model.V[20:].abs().max() <= 1 / 64 and 0.9 < model.V[20:].detach().std() * 64 * 3**0.5 < 1.1

    rng = np.random.default_rng(1)  # hosts 20..29 turn up together, and so do 30..39
    words = np.concatenate([rng.integers(20, 30, 10_000), rng.integers(30, 40, 10_000)])
    darkvec.train_day(model, words, np.arange(0, 20_001, 1000), generator(2))
    V = F.normalize(model.V[20:].detach(), dim=1)
    same = torch.block_diag(torch.ones(10, 10), torch.ones(10, 10)).bool()
    assert model.U[20:].norm(dim=1).min() > 0.1 and model.V[20:].norm(dim=1).min() > 0.3
    assert (V @ V.T)[same].min() > (V @ V.T)[~same].max()


def test_embeddings_of_absent_hosts_stay():
    """A day without a host leaves its V and count alone; a host that never came keeps U as well."""
    model = model_of(30)
    words, offsets = day(0, hosts=20)
    darkvec.train_day(model, words, offsets, generator())
    before = state(model)
    darkvec.train_day(model, words % 10, offsets, generator(1))
    for name in ("V", "count"):
        assert torch.equal(model.state_dict()[name][10:], before[name][10:])
        assert not torch.equal(model.state_dict()[name][:10], before[name][:10])
    assert not model.U[20:].any()  # of count 0, so never drawn


def test_counts_add_up_over_days():
    """count is the number of words of each host on all days, once however many epochs."""
    model = model_of(40)
    (one, offsets), (two, _) = day(0), day(1)
    darkvec.train_day(model, one, offsets, generator(), epochs=3)
    darkvec.train_day(model, two, offsets, generator())
    assert model.count.tolist() == (np.bincount(one, minlength=40) + np.bincount(two, minlength=40)).tolist()


@pytest.mark.parametrize("threads", [1, 2])
def test_same_seed_same_bytes(threads):
    """Two runs over two days give the same bytes, loss included; another seed other ones."""
    words, offsets = day(3, 8000, 1500)

    def run(seed):
        rng = generator(seed)
        model = darkvec.DarkVec()
        for n in (1500, 1600):
            model.grow(n, rng)
            loss = darkvec.train_day(model, words, offsets, rng)
        return [x.numpy().tobytes() for x in (loss, *model.state_dict().values())]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert run(5) == run(5) and run(5)[1] != run(6)[1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_loss_falls_and_a_generator_of_either_kind_serves(device):
    """Training lowers the mean loss from nearly 6 log 2, that of zeros; the CPU's generator serves any device."""
    words, offsets = day(4)
    for kind in {"cpu", device}:
        model = darkvec.DarkVec().to(device)
        model.grow(40, generator())
        first = darkvec.train_day(model, words, offsets, generator(0, kind), learning_rate=1e-9, final_rate=0.0)
        losses = [darkvec.train_day(model, words, offsets, generator(day, kind)).item() for day in range(5)]
        assert 5.8 * np.log(2) < first < 6 * np.log(2) and losses[-1] < losses[0] - 0.02
        assert model.V.device.type == device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_takes_the_same_step():
    """A step on CUDA equals the CPU's up to rounding."""
    here, there, (_, batch) = trained(50), trained(50).cuda(), minibatch(50, 3)
    loss = darkvec.update(here, *batch, 0.025)
    torch.testing.assert_close(darkvec.update(there, *(x.cuda() for x in batch), 0.025).cpu(), loss)
    torch.testing.assert_close(there.V.cpu(), here.V)
    torch.testing.assert_close(there.U.cpu(), here.U)


@pytest.mark.parametrize("words, offsets, line", [
    ([0, 3], [0, 2], r"\[0, 3\), the model's rows, got 0..3"),
    ([0, -1], [0, 2], "got -1..0"),
    ([0, 1], [0, 1], "from 0 to the 2 words"),
    ([0, 1], [1, 2], "from 0 to the 2 words"),
    ([0, 1], [0, 2, 1, 2], "from 0 to the 2 words"),
    ([0, 1], [], "from 0 to the 2 words"),
])
def test_training_refuses_foreign_words_and_broken_offsets(words, offsets, line):
    """Words beyond the model's rows and offsets that do not ascend from 0 to W are one clear line; nothing moves."""
    model = model_of(3)
    before = state(model)
    with pytest.raises(ValueError, match=line):
        darkvec.train_day(model, np.array(words), np.array(offsets, dtype=np.int64), generator())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_model_cannot_shrink():
    """grow refuses fewer rows than there are."""
    with pytest.raises(ValueError, match="at least the 5 hosts that the model holds, got 4"):
        model_of(5).grow(4, generator())
