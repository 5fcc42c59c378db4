"""Every day: what is remembered from one run to the next, and what changed since yesterday.

    memory.py     what the next day needs of the days before, and how it goes into the state and comes back
    state.py      the state: one file, replaced whole after every day
    hosts.py      the host table
    changes.py    what changed since yesterday
    campaigns.py  which of today's groups is which of yesterday's, and what happened to it

Imports graph, knn, training, beyond and report.files.
"""
