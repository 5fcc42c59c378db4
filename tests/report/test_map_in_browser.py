"""The map of report.html in a real browser: its points, and moving about on it and from day to day. See conftest.py."""

import numpy as np
import pytest

from tests.report import made_up
from tests.report.browsing import (
    alone,
    dotted,
    hover_first,
    legend,
    named,
    opened,
    picture,
    places,
    rgb,
    show_map,
    until,
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_points_have_the_colour_of_their_class(browser, on_screen, uri, days, scheme):
    """On a screenshot hosts on a list are filled with their class's colour, the others, by vote, are hollow."""
    with opened(browser, uri, scheme=scheme) as tab:
        show_map(tab)
        day, signs = days[-1], legend(tab)
        spots = places(tab, days, -1)
        clear, listed = alone(spots), day.label > 0
        seen = on_screen(tab, spots)
        for i in np.flatnonzero(clear & listed):
            assert np.abs(seen[i] - signs[made_up.NAMES[day.label[i]]][0]).max() <= 8
        panel = rgb(tab.locator("#frame").evaluate("frame => getComputedStyle(frame).backgroundColor"))
        assert (clear & listed).sum() > 5 and (clear & ~listed).sum() > 5
        assert np.abs(seen[clear & ~listed] - panel).max() <= 8
        for code, name in enumerate(made_up.NAMES):         # the counts beside the names
            assert signs[name][1] == (np.where(listed, day.label, day.predicted) == code).sum()


def test_the_mouse_says_who_and_a_click_fixes_the_host(browser, uri, days):
    """The note beside the pointer names the host; clicked, it stays fixed while the days move; the frame stays too."""
    with opened(browser, uri) as tab:
        show_map(tab)
        for day in (len(days) - 1, len(days) - 2):
            tab.locator("#slider").fill(str(day))
            show_map(tab)
            spots = places(tab, days, day)
            i = np.flatnonzero(alone(spots, 30))[0]
            tab.mouse.move(*spots[i])
            host = dotted(days[day].host[i])
            assert named(tab) == host
            note, campaign = tab.locator("#tip").inner_text(), days[day].campaign[i]
            assert (f"Campaign {campaign}" if campaign else "In no campaign") in note
            assert made_up.NAMES[days[day].predicted[i]] in note
        tab.mouse.click(*spots[i])
        assert tab.locator("#host h3").text_content() == host and f"host={host}" in tab.url
        tab.mouse.move(1, 1)
        assert tab.locator("#tip").is_hidden()
        for day in range(len(days)):
            tab.locator("#slider").fill(str(day))
            assert tab.locator("#host h3").text_content() == host
            active = days[day].told["date"] not in tab.locator("#host .note").all_inner_texts().__str__()
            assert active == (days[day].host == days[-2].host[i]).any()


def test_wheel_drag_and_buttons_move_the_map(browser, uri, days):
    """What lies under the pointer stays there when the wheel turns, and follows a drag; ⤢ shows all again."""
    with opened(browser, uri) as tab:
        show_map(tab)
        whole = picture(tab)
        spots = places(tab, days, -1)
        frame = tab.locator("#chart").bounding_box()
        middle = np.array([frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2])
        clear = np.flatnonzero(alone(spots, 20))
        i = clear[np.hypot(*(spots[clear] - middle).T).argmax()]
        scrolled = tab.evaluate("scrollY")
        tab.mouse.move(*spots[i])
        tab.mouse.wheel(0, -400)
        until(tab, lambda: picture(tab) != whole)
        tab.mouse.move(*(spots[i] + 1))
        assert named(tab) == dotted(days[-1].host[i])
        assert tab.evaluate("scrollY") == scrolled
        tab.mouse.down()
        tab.mouse.move(*(spots[i] + [30, 10]), steps=4)
        tab.mouse.move(*(spots[i] + [61, 41]), steps=4)
        tab.mouse.up()
        tab.mouse.move(*(spots[i] + [60, 40]))
        assert named(tab) == dotted(days[-1].host[i])
        assert "host=" not in tab.url                       # a drag is no click
        tab.locator("#whole").click()
        until(tab, lambda: picture(tab) == whole)
        tab.locator("#nearer").click()
        until(tab, lambda: picture(tab) != whole)


def test_one_stray_day_does_not_shrink_the_others(browser, tmp_path, days):
    """Where the hosts of one day lie three times as far apart the frame does not follow them, and a line says so."""
    wide = np.clip(3 * days[2].place.astype(int), -32767, 32767).astype(np.int16)
    days = [*days[:2], days[2]._replace(place=wide), *days[3:]]
    with opened(browser, made_up.write(tmp_path / "report.html", days)) as tab:
        assert tab.locator("#outside").inner_text() == ""
        hover_first(tab, days, -1)
        tab.locator("#slider").fill("2")
        assert "lie far outside the frame" in tab.locator("#outside").inner_text()
        tab.locator("#outside button").click()
        tab.wait_for_timeout(50)
        hover_first(tab, days, 2, zoomed_out=True)


def test_a_host_alone_is_in_the_frame(browser, tmp_path):
    """Its place differs a little from day to day: the frame is wide enough for that, and the mouse finds it."""
    days = made_up.run(5, 1, 0, n_campaigns=0)
    place = [np.array([[x, -x]], np.int16) for x in (0, 7, -9, 12, 20)]
    days = [one._replace(place=spot, host=days[0].host) for one, spot in zip(days, place)]
    with opened(browser, made_up.write(tmp_path / "report.html", days)) as tab:
        assert tab.locator("#outside").inner_text() == ""
        hover_first(tab, days, -1)


def test_two_fingers_zoom(browser, uri, days):
    """On a touch screen a pinch zooms about its middle, and the page does not."""
    with opened(browser, uri, width=400, has_touch=True) as tab:
        show_map(tab)
        whole = picture(tab)
        frame = tab.locator("#chart").bounding_box()
        x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
        touch = tab.context.new_cdp_session(tab)
        for gap in (30, 40, 80, 120, 0):                    # pixels from the middle to each finger; 0: lifted
            kind = {30: "touchStart", 0: "touchEnd"}.get(gap, "touchMove")
            fingers = [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}] if gap else []
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
        until(tab, lambda: picture(tab) != whole)
        assert tab.evaluate("visualViewport.scale") == 1


def test_days_move_by_slider_buttons_and_play(browser, uri, days):
    """Each shows its day everywhere; days on which the model was still learning say that they have no map."""
    with opened(browser, uri) as tab:
        date, told = tab.locator("#date"), [day.told for day in days]
        assert told[-1]["date"] in date.text_content() and tab.locator("#after").is_disabled()
        tab.locator("#before").click()
        assert told[-2]["date"] in date.text_content() and f"day={told[-2]['date']}" in tab.url
        assert f"{told[-2]['hosts']} hosts on {told[-2]['date']}" in tab.locator("#chart").get_attribute("aria-label")
        tab.locator("#slider").fill("0")
        assert told[0]["date"] in date.text_content() and told[0]["date"] in tab.locator("#news-title").text_content()
        assert "still learning" in tab.locator("#nomap").inner_text()
        tab.locator("#nomap a").click()
        assert told[1]["date"] in date.text_content() and tab.locator("#nomap").is_hidden()
        tab.locator("#play").click()
        tab.locator("#date", has_text=told[2]["date"]).wait_for()
        tab.locator("#play").click()
        assert tab.locator("#play").get_attribute("aria-pressed") == "false"


def test_points_glide_to_their_places(browser, uri, days):
    """Where motion is welcome, points move from day to day, and end where the page opened on that day draws them."""
    date = days[-2].told["date"]
    with opened(browser, uri, f"#day={date}") as tab:
        wanted = picture(tab)
    with opened(browser, uri, motion="no-preference") as tab:
        tab.locator("#slider").fill(str(len(days) - 2))
        tab.wait_for_timeout(60)
        moving = picture(tab)
        until(tab, lambda: picture(tab) == wanted)
        assert moving != wanted


def test_the_legend_filters(browser, on_screen, uri, days):
    """A group that is switched off is neither drawn nor under the mouse; None and All switch all of them."""
    with opened(browser, uri) as tab:
        show_map(tab)
        spots, day = places(tab, days, -1), days[-1]
        i = np.flatnonzero(alone(spots, 20) & (day.label > 0))[0]
        name = made_up.NAMES[day.label[i]]
        drawn, panel = legend(tab)[name][0], np.array([255, 255, 255])
        chip = tab.locator(".chip", has_text=name)
        for act, pressed in ((chip, "false"), (chip, "true"), (tab.get_by_role("button", name="None"), "false"),
                             (tab.get_by_role("button", name="All", exact=True), "true")):
            act.click()
            assert chip.get_attribute("aria-pressed") == pressed
            tab.mouse.move(*spots[i])
            assert tab.locator("#tip").is_visible() == (pressed == "true")
            tab.mouse.move(1, 1)
            colour = on_screen(tab, spots[i : i + 1])[0]
            assert np.abs(colour - (drawn if pressed == "true" else panel)).max() <= 8


def test_7500_hosts_a_day_are_drawn_within_a_second(browser, tmp_path):
    """Loading, drawing, and changing the day take less than a second of the browser's main thread, whose own time is
    measured: a busy machine changes it little."""
    days = made_up.run(10, 7500, 1, n_campaigns=60)
    with opened(browser, made_up.write(tmp_path / "large.html", days)) as tab:
        clock = tab.context.new_cdp_session(tab)
        clock.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy():
            metrics = clock.send("Performance.getMetrics")["metrics"]
            return next(one["value"] for one in metrics if one["name"] == "TaskDuration")
        before = busy()
        tab.reload()
        tab.locator("html[data-ready]").wait_for()
        assert "7,500 hosts" in tab.locator("#chart").get_attribute("aria-label")
        loaded = busy()
        tab.locator("#before").click()
        assert days[-2].told["date"] in tab.locator("#chart").get_attribute("aria-label")
        assert 0.01 < loaded - before < 1 and 0.001 < busy() - loaded < 1, (before, loaded, busy())
