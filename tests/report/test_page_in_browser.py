"""report.html in a real browser, beside its map: tables, links, a host, the keyboard, paper. See conftest.py."""

import numpy as np
import pytest

from tests.report import made_up
from tests.report.browsing import CONTRAST, alone, dotted, legend, opened, picture, places, show_map, until

HOSTILE = ("Unknown", "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</script><b>bold</b>{{style}}",
           "constructor", "__proto__", "long" * 50)


def test_campaigns_sort_and_light_up_their_hosts(browser, on_screen, uri, days):
    """Each heading sorts, and says so; a campaign's link fades all hosts but its own and shows its history."""
    with opened(browser, uri) as tab:
        heads = tab.locator("#table thead th")
        for name, column in (("Hosts", 2), ("Campaign", 0), ("Packets", 7)):
            for direction in ("descending", "ascending"):
                heads.nth(column).locator("button").click()
                assert heads.nth(column).get_attribute("aria-sort") == direction
                cells = [row.split("\t")[column] for row in tab.locator("#table tbody tr").all_inner_texts()]
                values = [int(cell.replace(",", "")) for cell in cells]
                assert values == sorted(values, reverse=direction == "descending") and len(set(values)) > 1, name
        assert heads.evaluate_all("heads => heads.filter(head => head.ariaSort !== 'none').length") == 1
        for i in range(heads.count()):                      # none of them fails
            heads.nth(i).locator("button").click()
        assert tab.locator("#table svg.spark rect.today").count() == len(days[-1].told["groups"])
        tab.locator("#table tbody a", has_text="3").click()
        assert "campaign=3" in tab.url and tab.locator("#table tr.chosen").count() == 1
        show_map(tab)
        day, spots, signs = days[-1], places(tab, days, -1), legend(tab)
        members = day.campaign == 3
        assert tab.locator("#marked span").text_content() == f"Campaign 3: {members.sum()} hosts on the map"
        clear, seen = alone(spots) & (day.label > 0), on_screen(tab, spots)
        assert (clear & members).any() and (clear & ~members).any()
        for i in np.flatnonzero(clear):
            far = np.abs(seen[i] - signs[made_up.NAMES[day.label[i]]][0]).max()
            assert far <= 8 if members[i] else far > 60
        assert {dotted(host) for host in day.host[members][:60]} == set(
            tab.locator("#campaign .addresses a").all_text_contents()[:60])
        assert tab.locator("#campaign tbody tr").count() == sum(day.told["embedded"] for day in days)
        tab.locator("#marked button").click()
        assert tab.locator("#marked").is_hidden() and "campaign=" not in tab.url


def test_a_host_is_found_by_its_address(browser, uri, days):
    """Suggestions by prefix, all that is known of the host, and a clear word where there is nothing."""
    with opened(browser, uri) as tab:
        box, day, i = tab.locator("#address"), days[-1], 7
        host = dotted(day.host[i])
        box.fill(host[:-1])
        assert host in tab.locator("#matches").inner_text() and box.get_attribute("aria-expanded") == "true"
        box.fill(host)
        box.press("ArrowDown")
        assert tab.locator("#matches [aria-selected=true]").count() == 1
        box.press("Enter")
        panel = tab.locator("#host")
        text = panel.inner_text()
        active = [one for one in days if (one.host == day.host[i]).any()]
        assert text.startswith(host) and f"Active on {len(active)} of {len(days)} days" in text
        assert panel.locator(".near a").all_text_contents() == [dotted(near) for near in day.near[i]]
        assert panel.locator("tbody tr").count() == len(active)
        assert f"{made_up.NAMES[day.predicted[i]]}, {day.votes[i]}% of 3 neighbours" in text
        assert f"{2 ** (day.surprise[i] / 32) - 1:.1f} times the usual change" in text
        box.fill("1.2.3.4")
        box.press("Enter")
        assert "1.2.3.4 is not on this page" in tab.locator("#answer").inner_text()
        for wrong in ("<b>300.1.2.3</b>", "300.1.2.3", "10.1"):
            box.fill(wrong)
            box.press("Escape")
            box.press("Enter")
            assert "not a whole IPv4 address" in tab.locator("#answer").inner_text()
        assert tab.locator("#host h3").text_content() == host


def test_links_and_the_back_button(browser, uri, days):
    """The address after # holds day, host, campaign and colour; back and forward walk through what was chosen."""
    host, date = dotted(days[2].host[5]), days[2].told["date"]
    with opened(browser, uri, f"#day={date}&host={host}&campaign=2&colour=port") as tab:
        def shown_now():
            return (tab.locator("#date").text_content()[-10:], tab.locator("#host h3").text_content(),
                    tab.locator("#marked").is_visible(), tab.locator("#colours input:checked").get_attribute("value"))
        assert shown_now() == (date, host, True, "port")
        near = tab.locator("#host .near a").first
        other = near.text_content()
        near.click()
        assert shown_now() == (date, other, True, "port")
        tab.get_by_role("button", name="Show all", exact=True).click()
        tab.get_by_label("Campaign", exact=True).check()
        assert shown_now() == (date, other, False, "campaign")
        tab.go_back()
        assert shown_now() == (date, other, False, "port")
        tab.go_back()
        tab.go_back()
        assert shown_now() == (date, host, True, "port")
        tab.go_forward()
        assert shown_now() == (date, other, True, "port")
        tab.evaluate("location.hash = '#day=1999-01-01&host=nobody&campaign=x&colour=constructor'")
        until(tab, lambda: tab.locator("#host h3").text_content() == "A host")
        assert shown_now() == (days[-1].told["date"], "A host", False, "class")


def test_links_keep_the_reader_in_place(browser, uri, days):
    """On a phone a link inside a host's panel changes the panel and neither scrolls away nor loses the keyboard."""
    with opened(browser, uri, f"#host={dotted(days[-1].host[5])}", width=400) as tab:
        panel = tab.locator("#host")
        for link in (panel.locator(".near a").first, panel.locator("tbody a").last):
            link.scroll_into_view_if_needed()
            place, text = panel.bounding_box()["y"], panel.inner_text()
            link.click()
            assert panel.inner_text() != text and abs(panel.bounding_box()["y"] - place) < 100
            assert tab.evaluate("document.activeElement.id") == "host"
        tab.go_back()                                       # from a day without a map
        tab.locator("#table tbody a").first.click()
        until(tab, lambda: tab.evaluate("document.activeElement.id") == "map")
        assert abs(tab.locator("#map").bounding_box()["y"]) < 200


def test_news_of_the_day(browser, uri, days):
    """Events, surprising hosts and changes of class, the first of each as the numbers say, each a link."""
    with opened(browser, uri) as tab:
        day, kinds = days[-1], tab.locator("#news > div")
        first = day.told["groups"][0]
        assert kinds.nth(0).locator("li a").first.text_content() == f"Campaign {first['campaign']}"
        assert f"{first['hosts']} host" in kinds.nth(0).locator("li").first.inner_text()
        surprising = kinds.nth(1).locator("li a").all_text_contents()
        values = dict(zip(map(dotted, day.host), day.surprise.tolist()))
        assert [values[host] for host in surprising] == sorted(values.values(), reverse=True)[:6]
        last = {}
        for one in days[1:-1]:                              # the first day has no map
            last.update(zip(one.host.tolist(), one.predicted.tolist()))
        changed = sum(last.get(host, vote) != vote for host, vote in zip(day.host.tolist(), day.predicted.tolist()))
        assert kinds.nth(2).locator("li").count() == min(6, changed) and changed > 6
        assert f"and {changed - 6} more" in kinds.nth(2).inner_text()
        kinds.nth(1).locator("a").first.click()
        assert tab.locator("#host h3").text_content() == surprising[0]


def test_ports_activity_and_quality(browser, on_screen, uri, days):
    """The heat map's cells, the raster's corners and the charts' words are those of the run."""
    with opened(browser, uri) as tab:
        heat = days[-1].told["heat"]
        for kind in ("classes", "campaigns"):
            tab.locator(f"#rows input[value={kind}]").check()
            cells = tab.locator("#heat td")
            assert cells.count() == len(heat[kind]) * len(heat["ports"])
            share = heat[kind][0][2][1]
            assert cells.nth(1).text_content() in (str(round(share / 10)), "<1" if share else "")
            assert f"{share / 10:.1f}%" in cells.nth(1).get_attribute("title")
        raster = tab.locator("#raster")
        raster.scroll_into_view_if_needed()
        box = raster.bounding_box()
        left, wide, high = box["x"] + 78, (box["width"] - 78) / len(days), box["height"] - 22
        spots = [[left + (day + 0.5) * wide, box["y"] + part * high] for day in (0, 1) for part in (0.01, 0.995)]
        (old, _, _, new), paper = np.array([sum(colour) for colour in on_screen(tab, spots)]), 3 * 240
        seen_late = on_screen(tab, spots[1:2])[0]
        assert old < 500 and seen_late.sum() > paper        # the first host came on the first day, the last one did not
        assert new > 0
        words = tab.locator("#charts svg").evaluate_all("charts => charts.map(chart => chart.ariaLabel).join()")
        assert "macro F1: " in words and "by chance: 0.20" in words and "loss: 0.50 at first, 0.10 at last" in words
        assert "day to day: 0.81" in words
        scores = tab.locator("#scores tbody tr").all_inner_texts()
        assert [row.split("\t")[0] for row in scores[:-1]] == list(made_up.NAMES[1:])
        assert scores[0].split("\t")[2] == f"{days[1].told['f1'][made_up.NAMES[1]]:.2f}"


def test_names_from_a_trace_are_text(browser, tmp_path):
    """Class names that are HTML, script, or names of JavaScript's own stand on the page as they are and do nothing."""
    days = made_up.run(names=HOSTILE)
    del days[-1].told["f1"]["constructor"], days[-1].told["f1"]["__proto__"]
    address = made_up.write(tmp_path / "hostile.html", days, names=HOSTILE, told=("note: <i>file</i> {{data}}",))
    with opened(browser, address, width=400) as tab:
        assert set(legend(tab)) == set(HOSTILE)
        assert "<i>file</i> {{data}}" in tab.locator("#read").inner_text()
        tab.locator("#news > div").nth(1).locator("a").first.click()
        for name in HOSTILE[1:4]:
            assert name in tab.locator("#heat").inner_text() and name in tab.locator("#scores").inner_text()
        assert tab.locator("img, b, i, main script").count() == 0
        assert tab.evaluate("document.documentElement.scrollWidth") == 400
        tab.emulate_media(media="print")
        tab.set_viewport_size({"width": 718, "height": 1000})    # A4 with the margins of a printer
        assert tab.evaluate("document.documentElement.scrollWidth") <= 718


def test_nothing_global_is_left_behind(browser, uri):
    """The page's scripts add no name to the window."""
    with opened(browser, uri) as tab:
        assert tab.evaluate("['run', 'state', 'map', 'go', 'start'].filter(name => window[name] instanceof Function "
                            "|| window[name] && !(window[name] instanceof Node))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser, uri, days, scheme):
    """Every text on the page, with all panels open, has a contrast of 4.5 to 1 at least to what lies behind it."""
    with opened(browser, uri, f"#host={dotted(days[-1].host[3])}&campaign=2", scheme=scheme) as tab:
        tab.locator("#address").fill("1")
        tab.locator("#address").press("ArrowDown")
        tab.locator(".chip").first.evaluate("chip => chip.click()")
        seen, poor = tab.evaluate(CONTRAST)
        assert seen > 300 and poor == []
        tab.locator("#address").fill("1.2.3.4")
        tab.locator("#address").press("Enter")
        assert tab.evaluate(CONTRAST)[1] == []


@pytest.mark.parametrize("width", [320, 400, 1000, 2000])
def test_no_page_scrolls_sideways(browser, uri, days, width):
    """At every width all of the page is there without scrolling sideways; on a wide one the panel is beside the map."""
    with opened(browser, uri, f"#host={dotted(days[-1].host[3])}&campaign=2", width=width) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        chart, panel = tab.locator("#chart").bounding_box(), tab.locator("#host").bounding_box()
        assert chart["width"] > 0.5 * min(width, 1700)
        assert (panel["x"] > chart["x"] + chart["width"]) == (width >= 1000)


def test_the_keyboard_reaches_everything(browser, uri, days):
    """Tab goes first to the skip link and shows where it is; keys move the map and the days and fix a host."""
    with opened(browser, uri) as tab:
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Skip to the map"
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.id") == "map"
        reached = set()
        for _ in range(40):
            tab.keyboard.press("Tab")
            reached.add(tab.evaluate("document.activeElement.id || document.activeElement.className"))
            if tab.evaluate("document.activeElement.closest('#table thead') !== null"):
                break
        assert {"chart", "nearer", "farther", "whole", "chip"} <= reached
        tab.locator("#chart").focus()
        whole = before = picture(tab)
        for key in ("+", "ArrowLeft", "ArrowUp"):
            tab.keyboard.press(key)
            until(tab, lambda before=before: picture(tab) != before)
            before = picture(tab)
        tab.keyboard.press("0")
        until(tab, lambda: picture(tab) == whole)
        tab.keyboard.press("Enter")
        assert tab.locator("#host h3").text_content() in {dotted(host) for host in days[-1].host}
        tab.locator("#slider").focus()
        tab.keyboard.press("ArrowLeft")
        assert days[-2].told["date"] in tab.locator("#date").text_content() and days[-2].told["date"] in tab.url


def test_it_prints(browser, on_screen, uri, days):
    """On paper, also of a dark screen: all sections, the map on white, and no controls."""
    with opened(browser, uri, scheme="dark") as tab:
        tab.emulate_media(media="print", color_scheme="dark")
        for section in ("overview", "map", "campaigns", "ports", "activity", "quality"):
            assert tab.locator(f"#{section}").bounding_box()["height"] > 60
        for control in ("#bar", "#zoom", "#keys", ".choice", ".skip"):
            assert not tab.locator(control).first.is_visible()
        show_map(tab)
        tab.wait_for_timeout(100)
        spots, day = places(tab, days, -1), days[-1]
        i = np.flatnonzero(alone(spots, 12) & (day.label > 0))
        signs = legend(tab)
        seen = on_screen(tab, spots[i])
        wanted = np.array([signs[made_up.NAMES[code]][0] for code in day.label[i]])
        assert len(i) > 3 and np.abs(seen - wanted).max() <= 8
        assert on_screen(tab, [[spots[:, 0].min() - 20, spots[:, 1].min()]])[0].tolist() == [255, 255, 255]
        tab.set_viewport_size({"width": 718, "height": 1000})    # A4 with the margins of a printer
        assert tab.evaluate("document.documentElement.scrollWidth") <= 718
        assert tab.pdf(format="A4").startswith(b"%PDF")


EMPTY = {
    "no labels": ({"names": ("Unknown",)}, {"names": ("Unknown",)}, {"#scores": "No ground truth was given"}),
    "no campaigns": ({"n_campaigns": 0}, {"campaigns": False}, {"#table": "looked for no campaigns"}),
    "none found": ({"n_campaigns": 0}, {}, {"#table": "No campaigns on"}),
    "no test day": ({"learning": 5}, {}, {"#nomap": "No day of this page has a map", "#news": "still learning",
                                          "#table": "still learning"}),
    "one host": ({"n_days": 1, "n_hosts": 1, "learning": 0, "n_campaigns": 0}, {}, {"#activity-words": "1 host"}),
    "nothing known": ({"names": ("Unknown",), "n_campaigns": 0, "surprise": False, "n_days": 2},
                      {"names": ("Unknown",), "campaigns": False},
                      {"#news": "no campaigns, no classes", "#heat": "Share of all packets"}),
}


@pytest.mark.parametrize("case", EMPTY)
def test_a_run_that_lacks_something(browser, tmp_path, case):
    """The section that has nothing to show says so in a sentence; all else works, a host's panel too."""
    run, said, sentences = EMPTY[case]
    days = made_up.run(**run)
    with opened(browser, made_up.write(tmp_path / "report.html", days, **said)) as tab:
        for place, sentence in sentences.items():
            assert sentence in tab.locator(place).inner_text()
        tab.locator("#address").fill(dotted(days[-1].host[0]))
        tab.locator("#address").press("Enter")
        assert "Active on" in tab.locator("#host").inner_text()
        tab.locator("#chart").press("+")
        for choice in tab.locator("#colours input").all():
            choice.check(force=True)
        if len(days) > 1:
            tab.locator("#before").click()


def test_all_campaigns_have_ended(browser, tmp_path):
    """Where the page's hosts are in no campaign, but campaigns ended, these are news, and have a history."""
    days = [one._replace(campaign=0 * one.campaign) for one in made_up.run(2)]
    for one in days:
        one.told["groups"] = [{**group, "event": "ends", "hosts": 0} for group in one.told["groups"]]
    with opened(browser, made_up.write(tmp_path / "report.html", days)) as tab:
        tab.locator("#news").get_by_role("link", name="Campaign 1", exact=True).click()
        assert "None is on the map" in tab.locator("#campaign").inner_text()


def test_a_campaign_of_many_labels(browser, tmp_path):
    """A hundred labels do not make its row of the table taller than others by more than some lines."""
    days = made_up.run(2)
    for group in days[-1].told["groups"]:
        group["labels"] = "; ".join(f"class number {i} 1" for i in range(100))
    with opened(browser, made_up.write(tmp_path / "report.html", days)) as tab:
        cell = tab.locator("#table tbody tr").first.locator("span[title]")
        assert cell.inner_text().endswith("…") and cell.get_attribute("title").endswith("class number 99 1")
        assert tab.locator("#table tbody tr").first.bounding_box()["height"] < 150


def test_half_a_year(browser, tmp_path):
    """The bars of 190 days stay inside their cell and inside the host's panel; an index below 0 has a round axis."""
    days = made_up.run(190, 20)
    days[9].told["campaigns"]["day_to_day"] = -0.0435
    host = f"#host={dotted(days[-1].host[0])}"
    with opened(browser, made_up.write(tmp_path / "report.html", days), host) as tab:
        for inner, outer in (("#table .spark", "#table td:has(.spark)"), ("#host .spark", "#host"),
                             ("#host .days", "#host")):
            inner, outer = (tab.locator(place).first.bounding_box() for place in (inner, outer))
            assert outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
            assert inner["height"] > 10
        stable = tab.locator("#charts figure", has_text="Campaigns, how stable they are")
        assert stable.locator(".tick").all_text_contents()[:6] == ["-0.25", "0", "0.25", "0.5", "0.75", "1"]


def test_a_neighbour_that_the_page_has_no_room_for(browser, tmp_path):
    """A nearest host that is not drawn is named, marked so, and its panel says why it is empty."""
    days = made_up.run(2, 20)
    days[-1].near[:, 1] = 0xDFFFFFFF                        # 223.255.255.255
    host = f"#host={dotted(days[-1].host[0])}"
    with opened(browser, made_up.write(tmp_path / "report.html", days), host) as tab:
        near = tab.locator("#host .near li").nth(1)
        assert near.inner_text().startswith("223.255.255.255") and "not drawn" in near.inner_text()
        hosts = len(set(np.concatenate([day.host for day in days]).tolist()))
        assert tab.locator("#activity-words").inner_text().startswith(f"{hosts} hosts")
        near.locator("a").click()
        assert "has no room for" in tab.locator("#host").inner_text()
