"""The paper's tables and figures on any trace, one command each: `python -m paper table3 [flags of darkgnn.py]`.

    experiments.py   which runs of darkgnn.py an experiment compares, and what the paper reports for each
    flags.py         the flags of a run: read, checked, and told under a table
    cells.py         one run of darkgnn.py in a folder of its own, kept for the next time
    traffic.py       how many hosts, ports and packets each class has
    tables.py        Table 2, Table 3, and steady behaviour, which goes beyond the paper
    figures.py       the numbers of Figure 4 and of four pictures, as CSV
    pictures.py      the same drawn, where there is matplotlib
    rows.py          rows as aligned text, Markdown and CSV
    __main__.py      the command

This room drives darkgnn.py, in one process. It imports every other room but scale; nothing imports this one.
"""
