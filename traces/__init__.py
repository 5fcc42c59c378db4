"""Anything people have -> days of packet columns, and their ground truth.

    packets.py    files and folders of any mix of formats in, one UTC day of packets out
    files.py      which files, in which order, near what time
    streams.py    a file's bytes, unzipped, and its format
    summary.py    what was read and what was left out
    textlogs.py   tables and firewall logs
    captures.py   pcap and pcapng
    labels.py     ground truth: lists of addresses and blocks, the Mirai fingerprint
    synthetic.py  a month of made-up traffic

Imports nothing of ours outside this room.
"""
