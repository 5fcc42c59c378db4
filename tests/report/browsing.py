"""Opening report.html in a browser, and where its map must draw what: for the tests of the page."""

import contextlib

import numpy as np

from report import shown

MARGIN = 24                                                 # pixels around the map's frame, as in web/map.js


@contextlib.contextmanager
def opened(browser, uri, fragment="", width=1280, scheme="light", motion="reduce", **options):
    """The page in a window of its own, drawn; fails where the page did what it must not do."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True,
                                  reduced_motion=motion, **options)
    tab, wrong = context.new_page(), []
    tab.set_default_timeout(10_000)
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(f"{error} {error.stack}"))
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: request.url.split("#")[0] == uri or wrong.append(request.url))
    tab.goto(uri + fragment)
    tab.locator("html[data-ready]").wait_for()
    yield tab
    context.close()
    assert not wrong


def picture(tab):
    """What is drawn on the map, as a text."""
    return tab.locator("#chart").evaluate("canvas => canvas.toDataURL()")


def named(tab):
    """The host that the note beside the pointer names, or None where there is no note."""
    return tab.locator("#tip strong").text_content() if tab.locator("#tip").is_visible() else None


def until(tab, holds):
    """Wait until a condition holds. Playwright's own way evaluates text in the page, which its policy forbids."""
    for _ in range(100):
        if holds():
            return
        tab.wait_for_timeout(20)
    raise AssertionError("still not so after two seconds")


def show_map(tab):
    """Scroll the whole map into the window."""
    tab.locator("#frame").evaluate("frame => frame.scrollIntoView({block: 'center', behavior: 'instant'})")


def dotted(address):
    return ".".join(str(int(address) >> shift & 255) for shift in (24, 16, 8, 0))


def frame_around(days):
    """The middle and the size (2,) of the frame around the hosts of all days, and the zoom at which all are in view.
    On each side it ends at the outermost host, but at most 2/5 of a usual day's size beyond a usual day's end."""
    ends = np.array([(one.place.min(0), one.place.max(0)) for one in days if len(one.place)]) / shown.UNIT  # (d, 2, 2)
    (low, high), usual = (ends[:, 0].min(0), ends[:, 1].max(0)), np.sort(ends, 0)[len(ends) // 2]
    far = 0.4 * (usual[1] - usual[0])
    left, right = np.maximum(low, usual[0] - far), np.minimum(high, usual[1] + far)
    middle, size = (left + right) / 2, np.maximum(1, right - left)
    return middle, size, (size / np.maximum(size, 2 * np.maximum(high - middle, middle - low))).min()


def places(tab, days, day, zoomed_out=False):
    """Where the hosts of a day lie in the window, (n, 2) in pixels."""
    chart = tab.locator("#chart").bounding_box()
    size = np.array([chart["width"], chart["height"]])
    middle, frame, least = frame_around(days)
    scale = ((size - 2 * MARGIN) / frame).min() * (least if zoomed_out else 1)
    return [chart["x"], chart["y"]] + size / 2 + (days[day].place / shown.UNIT - middle) * scale * [1, -1]


def alone(spots, least=16):
    """Which of the spots (n, 2) have no other one within so many pixels."""
    apart = np.hypot(*(spots[:, None] - spots[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(spots))
    return apart.min(1) > least


def rgb(text):
    return np.array([int(part) for part in text[text.index("(") + 1 : -1].split(",")[:3]])


def legend(tab):
    """{name in the legend: (its colour, hosts today)}."""
    chips = tab.locator(".chip").evaluate_all(
        """chips => chips.map(chip => { const sign = chip.querySelector("polygon"), style = getComputedStyle(sign);
            return [chip.querySelector(".name").textContent, style.fill === "none" ? style.stroke : style.fill,
                    chip.querySelector(".number").textContent]; })""")
    return {name: (rgb(colour), int(hosts.replace(",", ""))) for name, colour, hosts in chips}


def hover_first(tab, days, day, **view):
    """Move the mouse to the leftmost host of a day: the note names it."""
    show_map(tab)
    spots = places(tab, days, day, **view)
    tab.mouse.move(*spots[spots[:, 0].argmin()])
    assert named(tab) == dotted(days[day].host[spots[:, 0].argmin()])


# What a browser runs to find texts whose contrast to what lies behind them is below 4.5: [texts seen, the poor ones].
CONTRAST = """() => {
    const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => sum + part * linear(rgb[i] / 255), 0);
    const numbers = text => text.match(/[\\d.]+/g).map(Number);
    const behind = element => { for (let one = element; one; one = one.parentElement) {
        const colour = numbers(getComputedStyle(one).backgroundColor);
        if (colour.length < 4 || colour[3] > 0) return colour; } };
    const poor = [];
    let seen = 0;
    for (const element of document.querySelectorAll("body *")) {
        const text = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!text && element.type !== "text" || !element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const one = light(numbers(element instanceof SVGElement ? style.fill : style.color));
        const other = light(behind(element));
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        seen++;
        if (ratio < 4.5) poor.push([ratio.toFixed(2), element.tagName, element.className.baseVal ?? element.className,
                                    element.textContent.slice(0, 30)].join(" "));
    }
    return [seen, poor];
}"""
