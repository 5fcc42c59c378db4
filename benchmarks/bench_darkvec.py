"""darkvec beside gensim's Word2Vec on the same corpora in one run: macro F1 over seeds, seconds, processor seconds.

`python benchmarks/bench_darkvec.py [--input PATH... --labels FILE...]` (gensim: `pip install -r
benchmarks/requirements.txt`), by default on the synthetic month. Both learn day by day, one after the other on each
day, with 2 threads (gensim: workers=2) and the same settings; gensim's corpus is turned into strings before its
clock starts. Scores are those of the paper's section 4. Wall-clock seconds count where nothing else runs on the
machine; processor seconds, of all threads together, also elsewhere.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import gensim
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import graph as graphs
import knn
from baselines import darkvec
from traces import labels as ground_truth
from traces import packets, synthetic


class Gensim:
    name = f"gensim {gensim.__version__}"

    def __init__(self, seed):
        self.settings = dict(vector_size=128, window=5, negative=5, sg=1, hs=0, min_count=1, sample=0, epochs=1,
                             workers=2, seed=seed)
        self.model = None

    def prepare(self, words, offsets, n):
        return [sentence.astype(str).tolist() for sentence in np.split(words, offsets[1:-1])]

    def train(self, sentences):
        update = self.model is not None
        if not update:
            self.model = gensim.models.Word2Vec(**self.settings)
        self.model.build_vocab(sentences, update=update)
        self.model.train(sentences, total_examples=len(sentences), epochs=1)

    def embed(self, hosts):
        return torch.from_numpy(self.model.wv[hosts.astype(str).tolist()])


class Ours:
    name = "darkvec"

    def __init__(self, seed):
        self.model, self.generator = darkvec.DarkVec(), torch.Generator().manual_seed(seed)

    def prepare(self, words, offsets, n):
        return words, offsets, n

    def train(self, corpus):
        words, offsets, n = corpus
        self.model.grow(n, self.generator)
        darkvec.train_day(self.model, words, offsets, self.generator)

    def embed(self, hosts):
        return self.model.V.detach()[torch.from_numpy(hosts)]


def corpora(days, truth):
    """For each day words as rows, offsets, rows so far, the day's rows and their classes."""
    known = np.empty(0, np.uint32)  # known[row] is the address
    for columns in days:
        graph, order = graphs.build_graph(columns["src"], columns["port"])
        if not len(graph.hosts):
            continue
        captured = np.argsort(order)
        host, port = (np.repeat(x, graph.weight)[captured] for x in (graph.edge_host, graph.edge_port))
        other = len(graph.ports) - 1 if graph.ports[-1] == graphs.OTHER else None
        words, offsets = darkvec.corpus(columns["time"][order[captured]], host, port, other)
        known = np.append(known, graph.hosts[~np.isin(graph.hosts, known)])
        by_address = np.argsort(known)
        rows = by_address[np.searchsorted(known, graph.hosts, sorter=by_address)]
        labels = torch.from_numpy(ground_truth.lookup(truth, graph.hosts))
        yield rows[words], offsets, len(known), rows, labels


def macro_f1(z, labels, n_classes):
    """Of the 3 nearest neighbours of z (n, E) in the standardized space, as darkgnn.py scores a day."""
    labels = knn.small_to_unknown(labels, n_classes)
    _, neighbours = knn.nearest(knn.standardize(z), 3)
    return knn.classification_report(labels, knn.vote(labels, neighbours)[0], n_classes).macro_f1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--input", nargs="+")
    parser.add_argument("--labels", nargs="+")
    parser.add_argument("--scale", type=float, default=0.02)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--train-days", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.input:
        truth = ground_truth.read_labels(args.labels)
        days = (vars(day) for _, day in packets.read_days(args.input, packets.Summary()))
    else:
        truth = ground_truth.from_arrays(*synthetic.ground_truth(args.scale))
        days = (columns for _, columns in synthetic.month(args.scale, days=args.days))

    learners = [[kind(seed) for seed in range(1, args.runs + 1)] for kind in (Gensim, Ours)]
    scores = np.zeros((len(learners), args.runs, 0))
    clocks = np.zeros((len(learners), args.runs, 2))
    n_words = 0
    for t, (words, offsets, n, rows, codes) in enumerate(corpora(days, truth), 1):
        n_words += len(words)
        f1 = np.full((len(learners), args.runs, 1), np.nan)
        for i, j in np.ndindex(*f1.shape[:2]):
            learner = learners[i][j]
            corpus = learner.prepare(words, offsets, n)
            start = np.array([time.perf_counter(), time.process_time()])
            learner.train(corpus)
            clocks[i, j] += [time.perf_counter(), time.process_time()] - start
            if t > args.train_days:
                f1[i, j] = macro_f1(learner.embed(rows), codes, len(truth.names))
        scores = np.append(scores, f1, axis=2)
    scores = scores[:, :, args.train_days:]
    scores = scores[:, :, ~np.isnan(scores).any((0, 1))]

    print(f"{args.input or f'synthetic, scale {args.scale}'}: {n_words:,} words, {n:,} hosts, "
          f"{scores.shape[2]} test days, {args.runs} seeds, torch {torch.__version__}")
    print(f"{'':16} {'macro F1':>8} {'std seeds':>10} {'std days':>9} {'seconds':>8} {'us/word':>8} {'cpu s':>7}")
    for i, kind in enumerate((Gensim, Ours)):
        wall, cpu = clocks[i].mean(0)
        print(f"{kind.name:16} {scores[i].mean():8.3f} {scores[i].mean(1).std():10.3f} {scores[i].mean(0).std():9.3f} "
              f"{wall:8.1f} {wall / n_words * 1e6:8.2f} {cpu:7.1f}")
    wall, cpu = clocks[1].mean(0) / clocks[0].mean(0)
    print(f"darkvec / gensim: {wall:.2f} x the time, {cpu:.2f} x the processor time")


if __name__ == "__main__":
    main()
