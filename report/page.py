"""report.html: a run to look at, one file that a browser opens from disk.

    web/page.html   the frame; web/style.css and the scripts of web/, in the order of SCRIPTS, are put into it
    data            the numbers of shown.Shown, packed small: see `packed`

The page may run the scripts that its policy names by their hash and nothing else, and may ask for nothing from
anywhere. What came from a trace (class names, addresses, notes) is in the packed data alone, and is shown as text.
Imports report.files, report.shown, numpy and the standard library.
"""

import base64
import hashlib
import html
import json
import re
import zlib
from pathlib import Path

import numpy as np

from report import files, shown

WEB = Path(__file__).resolve().parent / "web"
SCRIPTS = ("data.js", "dom.js", "state.js", "signs.js", "map.js", "steer.js", "news.js", "hosts.js", "campaigns.js",
           "ports.js", "activity.js", "quality.js", "main.js")
POLICY = "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"


def write(path, days, about):
    """Write the page of these days, a list of shown.Shown, oldest first; about: see `header`."""
    with files.whole_file(path) as file:
        file.write(page(days, about))


def page(days, about):
    """The page as text; the same for the same days."""
    style = (WEB / "style.css").read_text("utf-8")
    script = "\n".join((WEB / name).read_text("utf-8") for name in SCRIPTS)
    parts = {"policy": POLICY.format(script=hash_of(script), style=hash_of(style)), "style": style, "script": script,
             "title": html.escape(about["title"].encode(errors="replace").decode()),
             "data": base64.b64encode(packed(days, about)).decode()}
    frame = (WEB / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], frame)  # once: in the parts nothing is replaced


def hash_of(text):
    """A script or a style as the page's policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def packed(days, about):
    """The header and the columns of the page, deflated without a frame.

    A uint32, little-endian as all that follows: the length of the header, JSON, padded with spaces to a multiple of 4;
    then the columns one after the other, each padded likewise. header["columns"]: {name: [type, offset from the
    header's end, number of values]}, types u1 u2 u4 i2. The columns: web/data.js says what is in them.
    """
    columns, offset, places = columns_of(days), 0, {}
    for name, column in columns.items():
        places[name] = [column.dtype.str[1:], offset, column.size]
        offset += whole_words(column.nbytes)
    text = json.dumps({**header(days, about), "columns": places}, ensure_ascii=False, allow_nan=False,
                      separators=(",", ":")).encode(errors="replace")  # a file's name may be no UTF-8
    text = text.ljust(whole_words(len(text)))
    squeeze = zlib.compressobj(wbits=-15)
    parts = [len(text).to_bytes(4, "little"), text,
             *(column.tobytes().ljust(whole_words(column.nbytes), b"\0") for column in columns.values())]
    return b"".join([*map(squeeze.compress, parts), squeeze.flush()])


def whole_words(n):
    """n bytes rounded up to words of four."""
    return -(-n // 4) * 4


def header(days, about):
    """What the page says of the run and of each day, for JSON; about: {title, settings, words, classes, campaigns,
    neighbors, result, other_days}, of which other_days, how many days are known and not on the page, and the hosts that
    `days` leave out are joined in left_out."""
    told, row, on_map = [], 0, 0
    for day in days:
        embedded = len(day.place) > 0
        told.append({**day.told, "shown": len(day.host), "start": row, "map": on_map if embedded else -1})
        row, on_map = row + len(day.host), on_map + len(day.place)
    hosts = sum(day.told["hosts"] - len(day.host) for day in days)
    rest = {name: value for name, value in about.items() if name != "other_days"}
    return {"version": 1, **rest, "room": shown.HOSTS, "left_out": {"days": about["other_days"], "hosts": hosts},
            "ports": ports_of(days).tolist(), "days": told}


def ports_of(days):
    """The numbers of all ports that rows name, ascending."""
    return np.setdiff1d(np.concatenate([np.empty(0, np.int32), *(np.unique(day.port) for day in days)]), [-1])


def columns_of(days):
    """{name: column} of the page, from the days' rows put one after the other."""
    rows = {name: np.concatenate([getattr(day, name) for day in days]) for name in shown.COLUMNS}
    near = rows.pop("near")
    address = np.setdiff1d(np.concatenate([rows["host"], near.ravel()]), [shown.NO_HOST])
    columns = {"address": address, "host": places_in(address, rows["host"]), "packets": rows["packets"],
               "port": places_in(ports_of(days), rows["port"], none=-1),
               "x": rows["place"][:, 0], "y": rows["place"][:, 1],
               **{name: smallest(rows[name]) for name in ("label", "predicted")}, "votes": rows["votes"],
               "near": places_in(address, near, none=shown.NO_HOST), "similarity": rows["similarity"]}
    if any(day.told.get("groups") for day in days):         # also where all of them ended
        columns |= {"campaign": smallest(rows["campaign"], np.uint16), "membership": rows["membership"]}
    columns["surprise"] = rows["surprise"]
    return {name: np.ascontiguousarray(column).ravel() for name, column in columns.items()}


def places_in(table, values, none=None):
    """The place of each value in an ascending table: uint16, or uint32 for 65,535 entries or more; the type's largest
    number where the value is `none`."""
    kind = np.uint16 if len(table) < 65535 else np.uint32
    return np.where(values == none, np.iinfo(kind).max, np.searchsorted(table, values)).astype(kind)


def smallest(values, least=np.uint8):
    """Numbers (n,), 0 or more, in the smallest of the page's types that holds them all, `least` or wider."""
    return values.astype(np.promote_types(least, np.min_scalar_type(int(values.max(initial=0)))))
