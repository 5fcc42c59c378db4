// steer.js: moving about on the map by pointer, wheel, fingers, keys and buttons, and from day to day.

const MOST_ZOOM = 60;

// Zooms by a factor about a place on the canvas, which stays where it is; by 0: back to the whole frame.
function zoomBy(factor, left = map.width / 2, top = map.height / 2) {
  const [x, y] = toMap(left, top);
  const zoom = factor ? Math.min(MOST_ZOOM, Math.max(map.box.least, map.view.zoom * factor)) : 1;
  if (zoom <= 1) Object.assign(map.view, {zoom, x: map.box.x, y: map.box.y});
  else {
    map.view.zoom = zoom;
    const [x2, y2] = toMap(left, top);
    map.view.x += x - x2;
    map.view.y += y - y2;
  }
  byId("chart").style.touchAction = zoom <= 1 ? "pan-y" : "none";
  hideTip();
  redraw();
}

function panBy(left, top) {
  const {box, view} = map;
  view.x = Math.max(box.x - box.width / 2, Math.min(box.x + box.width / 2, view.x - left / scale()));
  view.y = Math.max(box.y - box.height / 2, Math.min(box.y + box.height / 2, view.y + top / scale()));
  hideTip();
  redraw();
}

// What the note beside the pointer says of a point.
function linesAbout(day, point) {
  const row = rowOfPoint(day, point);
  const lines = [names[column.host[row]]];
  if (hasLabels()) {
    const vote = `${run.classes[column.predicted[point]]} by ${column.votes[point]}% of its neighbours`;
    lines.push(column.label[point] ? `On a list: ${run.classes[column.label[point]]}` : "On no list", `Vote: ${vote}`);
  }
  if (hasCampaigns()) lines.push(campaignOf(point) ? `Campaign ${campaignOf(point)}` : "In no campaign");
  lines.push(`Ports: ${portsOf(row).map(portText).join(", ") || "none"}`, `About ${packetsOf(row)} packets`);
  return lines;
}

function followPointer(canvas) {
  const fingers = new Map();                                // pointers that are down: id -> [x, y]
  let travelled = 0;
  const place = (event) => {
    const {left, top} = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    if (fingers.size === 1) travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (!fingers.has(event.pointerId)) return hover(event, x, y);
    const [x0, y0] = fingers.get(event.pointerId);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, [x, y]);
    travelled += Math.abs(x - x0) + Math.abs(y - y0);
    if (other) {
      const factor = Math.hypot(x - other[0], y - other[1]) / Math.max(1, Math.hypot(x0 - other[0], y0 - other[1]));
      zoomBy(factor, (x + other[0]) / 2, (y + other[1]) / 2);
    } else if (map.view.zoom > 1 && travelled > 4) panBy(x - x0, y - y0);
  });
  canvas.addEventListener("pointerup", (event) => {
    const alone = fingers.size === 1 && fingers.delete(event.pointerId);
    fingers.delete(event.pointerId);
    const point = alone && travelled <= 4 ? pick(...place(event)) : -1;
    if (point >= 0) go({host: hostOfPoint(map.day, point)});
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("wheel", (event) => {             // where all is in view, turning back scrolls the page
    if (event.deltaY >= 0 && map.view.zoom <= map.box.least) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), ...place(event));
  }, {passive: false});
}

function hover(event, x, y) {
  const point = pick(x, y);
  byId("chart").classList.toggle("over", point >= 0);
  if (point < 0) hideTip(); else showTip(linesAbout(map.day, point), event.clientX, event.clientY);
}

function followKeys(canvas) {
  const step = 60;
  const keys = {
    ArrowLeft: () => panBy(step, 0), ArrowRight: () => panBy(-step, 0),
    ArrowUp: () => panBy(0, step), ArrowDown: () => panBy(0, -step),
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: () => zoomBy(0),
    Enter: () => {
      const point = pick(map.width / 2, map.height / 2, Infinity);
      if (point >= 0) go({host: hostOfPoint(map.day, point)});
    },
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
}

// The bar that chooses the day, with a bar of its height for the hosts of each.
function startDays() {
  const last = run.days.length - 1, slider = byId("slider");
  slider.max = last;
  const most = Math.max(1, ...run.days.map(({hosts}) => hosts));
  byId("strip").setAttribute("viewBox", `0 0 ${last + 1} 1`);
  byId("strip").setAttribute("preserveAspectRatio", "none");
  byId("strip").append(...run.days.map(({hosts, map: first}, i) => makeSvg("rect", {
    x: i + 0.1, width: 0.8, y: 1 - hosts / most, height: hosts / most, class: first >= 0 ? "" : "learning"})));
  slider.addEventListener("input", () => go({day: Number(slider.value)}, "keep"));
  slider.addEventListener("change", () => go({day: Number(slider.value)}, "replace"));
  byId("before").addEventListener("click", () => go({day: Math.max(0, state.day - 1)}));
  byId("after").addEventListener("click", () => go({day: Math.min(last, state.day + 1)}));
  byId("days").hidden = !last;
  watch("day", showDay);
  showDay();
  startPlaying();
}

function showDay() {
  const {date} = run.days[state.day];
  byId("slider").value = state.day;
  byId("slider").setAttribute("aria-valuetext", `${weekday(date)} ${date}`);
  byId("date").textContent = `${weekday(date)} ${date}`;
  byId("before").disabled = state.day === 0;
  byId("after").disabled = state.day === run.days.length - 1;
  [...byId("strip").children].forEach((bar, i) => bar.classList.toggle("today", i === state.day));
}

// Plays the days that have a map, or all where none has, once from the selected one to the last.
function startPlaying() {
  let timer = 0;
  const play = byId("play");
  const days = run.days.map((day, i) => !hasMap() || day.map >= 0 ? i : -1).filter((i) => i >= 0);
  play.disabled = days.length < 2;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.setAttribute("aria-pressed", "false");
    play.textContent = "▶";
  };
  const step = () => {
    const next = days.find((day) => day > state.day);
    if (next === undefined) return stop();
    go({day: next}, "replace");
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    timer = setInterval(step, 1000);
    play.setAttribute("aria-pressed", "true");
    play.textContent = "❚❚";
    if (state.day >= days.at(-1)) go({day: days[0]}, "replace"); else step();
  });
}

function startSteering() {
  const canvas = byId("chart");
  followPointer(canvas);
  followKeys(canvas);
  byId("nearer").addEventListener("click", () => zoomBy(1.5));
  byId("farther").addEventListener("click", () => zoomBy(1 / 1.5));
  byId("whole").addEventListener("click", () => zoomBy(0));
}
