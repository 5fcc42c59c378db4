"""Scores over days, and what a run says and leaves behind.

    scores.py   a day's classification and the means over days
    words.py    the line of a day, the report's table, what was read
    files.py    files written whole or not at all
    result.py   a day's place in report.json, the report at the end
    shown.py    what the page shows of a day
    page.py     report.html: the page, put together from web/

Imports knn, beyond.subnets and beyond.layout.
"""
