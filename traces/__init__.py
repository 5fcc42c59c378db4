"""Anything people have -> days of packet columns, and their ground truth.

    packets.py    files and folders of any mix of formats in, one UTC day of packets out
    files.py      which files, in which order, near what time
    streams.py    a file's bytes and its format
    unpacking.py  gzip, bzip2, xz, zstd
    summary.py    what was read and what was left out
    tables.py     tables with a header
    syslog.py     firewall logs: netfilter and filterlog through any logger
    jsonlines.py  JSON, an object a line
    records.py    what names of columns mean, and their fields -> packets
    fields.py     blocks of text; numbers, ports, addresses, protocols
    times.py      dates and times as people write them
    stamps.py     how a log's line begins
    captures.py   pcap and pcapng: the frames
    links.py      link layers: where in a frame the network layer begins
    tunnels.py    GRE, ERSPAN, IP in IP, VXLAN, MPLS and others: the packet inside a packet
    sieve.py      the TCP packets in the frames
    labels.py     ground truth: lists of addresses and blocks, the Mirai fingerprint
    synthetic.py  a month of made-up traffic

`days.py` imports graph and features; the rest imports nothing of ours outside this room.
"""
