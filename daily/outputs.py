"""What a day leaves: its place in the memory, its rows of the files that grow day by day, its place on the page.

Imports daily.campaigns, daily.changes, daily.hosts and report.
"""

import contextlib

import numpy as np
import torch

from daily import campaigns, changes, hosts
from report import files, result, shown

GROWING = {  # the files that get rows of each day, and their columns
    "predictions.csv": files.PREDICTION_COLUMNS, "changes.csv": changes.CHANGE_COLUMNS,
    "campaigns.csv": campaigns.CAMPAIGN_COLUMNS, "campaign_hosts.csv": campaigns.HOST_COLUMNS}


class Outputs(contextlib.ExitStack):
    """Takes in day after day of a run, while its files are open: in a `with` block.

    args: the command's; way: fast.alone or its equal of several processes, which all take in each day, and one writes;
    past: the memory.Memory; truth: labels.Labels; nearest: knn.nearest or its equal; tree:
    beyond.campaigns.spanning_tree or its equal.
    """

    def __init__(self, args, way, past, truth, nearest, tree):
        super().__init__()
        self.args, self.way, self.past, self.truth, self.nearest, self.tree = args, way, past, truth, nearest, tree
        self.last = str(past.last or "") if args.state else None  # the day after which the files go on
        self.first, self.written = True, False              # whether no day came yet, whether one was embedded

    def __enter__(self):
        self.append = {name: self.enter_context(files.rows_of_days(self.args.out / name, columns, self.last))
                       for name, columns in GROWING.items()}
        return self

    def take(self, day, learned, found, scored):
        """Enter a traces.Day, and what was found on it by each seed: (its dict for report.json, lines to say).

        learned: see result.learned; found, scored: lists of fast.alone.Found and scores.Scored, empty where nothing was
        embedded. The files have the first seed's.
        """
        args, past = self.args, self.past
        of_graph = () if args.no_page else shown.of_graph(day.graph)
        everyone, *of_hosts = self.way.everyone(day.graph.hosts, *of_graph)
        before, now = changes.enter(past, everyone, self.truth, found, scored)
        row = {**result.row_of(day, int((before.last < 0).sum())), **result.learned(learned),
               **result.scored(scored, self.truth.names)}
        groups = None
        if args.campaigns and found:
            groups = campaigns.enter(past, day, self.truth.names, found[0], args.campaign_size, args.campaign_memory,
                                     self.tree)
            row["campaigns"] = groups.quality
        if self.way.writes:
            self.write(day, found, scored, groups, before, now)
        if not args.no_page:
            told = {**row, "groups": groups.rows if groups else [], "heat": self.heat(day, groups)}
            if self.way.writes:
                self.show(day, told, everyone, of_hosts, found, scored, groups, changes.changed(before, now))
        self.first, self.written = False, self.written or bool(found)
        return row, groups.lines if groups else []

    def write(self, day, found, scored, groups, before, now):
        """The day's rows and embeddings; before the first of a run, what an earlier one left is removed."""
        args, names = self.args, self.truth.names
        if (self.past.day == 1) if args.state else (found and not self.written):
            files.remove_earlier(args.out)
        if found:
            one, dotted = found[0], files.dotted(found[0].hosts)
            files.save_embeddings(args.out / "embeddings" / f"{day.date}.npz", dotted, one.saved)
            if len(names) > 1:
                surprise = torch.full_like(scored[0].share, torch.nan) if one.surprise is None else one.surprise
                self.append["predictions.csv"](files.prediction_lines(
                    day.date, dotted, names, one.labels, scored[0].predicted, scored[0].share, scored[0].nearest,
                    surprise))
        if groups:
            self.append["campaigns.csv"](campaigns.csv_lines(day.date, groups.rows))
            self.append["campaign_hosts.csv"](groups.host_lines)
        if args.state and self.first:
            changes.begin_changes(args.out, self.last)
        if args.state:
            self.append["changes.csv"](changes.lines(before, now, self.past.names, names, found, scored))

    def heat(self, day, groups):
        """shown.heat_of the day, of all processes' hosts: a row for each class, and for the largest campaigns."""
        names, ports = self.truth.names, day.graph.ports
        packets, n_hosts = shown.packets_by_group(day.graph, day.labels.cpu().numpy(), len(names))
        packets, n_hosts = self.way.total(packets.toarray()), self.way.total(n_hosts)
        classes = [(names[c], n_hosts[c], packets[c]) for c in [*range(1, len(names)), 0] if n_hosts[c]]
        if groups is None:
            return shown.heat_of(ports, classes)
        number, group = np.unique(groups.number, return_inverse=True)  # of several processes there are no campaigns
        packets, n_hosts = shown.packets_by_group(day.graph, group, len(number))
        largest = [c for c in np.argsort(-n_hosts, kind="stable").tolist() if number[c] > 0][: shown.HEAT_ROWS]
        return shown.heat_of(ports, classes, [(int(number[c]), n_hosts[c], row)
                                              for c, row in zip(largest, packets[largest].toarray())])

    def show(self, day, told, everyone, of_hosts, found, scored, groups, changed):
        """Put the day on the page, from which the days go that it has no room for."""
        past, args = self.past, self.args
        if found:
            codes = hosts.codes(past.names, self.truth.names)
            one = shown.day_with_map(told, everyone, *of_hosts, found[0], scored[0], codes, past.shown, args.seed,
                                     self.nearest, groups, shown.most(changed))
        else:
            one = shown.day_without_map(told, everyone, *of_hosts)
        first = day.date.toordinal() - args.forget_days + 1 if args.state else None
        past.shown = shown.latest([*past.shown, one], first)
