// map.js: the selected day's hosts as points on a canvas, and the legend, which is also a filter.

const MARGIN = 24;         // pixels between the outermost host and the frame, at the least
const map = {
  context: null, width: 0, height: 0,
  box: null,               // of all days, so that hosts stay where they are: {x, y, width, height, least}; x and y are
                           // its middle, least is the zoom at which every host of every day is in view
  view: {zoom: 1, x: 0, y: 0},
  day: -1, first: 0,       // the day that is drawn and its first point
  xs: [], ys: [],          // where each of its points lies, in units of the map
  group: [],               // the group of each
  buckets: [],             // per group and fill: the points that are drawn alike
  hidden: new Set(),       // keys of the groups that are filtered out, by colouring
  moving: null,            // where the points come from while the day changes
};

// The frame around the hosts of all days; a day that spreads far beyond the others does not make it larger than two
// fifths more on each side. It is at least one unit wide: a host alone on its days moves by some hundredths.
function boxOfAllDays() {
  const withMap = run.days.filter(({map: first, shown}) => first >= 0 && shown);
  if (!withMap.length) return {x: 0, y: 0, width: 1, height: 1, least: 1};
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  const side = (values) => {
    const ends = withMap.map(({map: first, shown}) => values.subarray(first, first + shown))
      .map((some) => [some.reduce((a, b) => Math.min(a, b)) / UNIT, some.reduce((a, b) => Math.max(a, b)) / UNIT]);
    const lows = ends.map(([low]) => low), highs = ends.map(([, high]) => high);
    const [all, far] = [[Math.min(...lows), Math.max(...highs)], 0.4 * (middle(highs) - middle(lows))];
    const [low, high] = [Math.max(all[0], middle(lows) - far), Math.min(all[1], middle(highs) + far)];
    return {middle: (low + high) / 2, size: Math.max(1, high - low),
      most: Math.max(1, 2 * Math.max(high, all[1]) - low - high, low + high - 2 * all[0])};
  };
  const [x, y] = [side(column.x), side(column.y)];
  return {x: x.middle, y: y.middle, width: x.size, height: y.size, least: Math.min(x.size / x.most, y.size / y.most)};
}

// Pixels per unit of the map.
function scale() {
  const fits = Math.min((map.width - 2 * MARGIN) / map.box.width, (map.height - 2 * MARGIN) / map.box.height);
  return fits * map.view.zoom;
}

// Where a place of the map lies on the canvas, and back.
function toCanvas(x, y) {
  return [map.width / 2 + (x - map.view.x) * scale(), map.height / 2 - (y - map.view.y) * scale()];
}
function toMap(left, top) {
  return [map.view.x + (left - map.width / 2) / scale(), map.view.y - (top - map.height / 2) / scale()];
}

// Takes the points of the selected day; those of hosts that the last day had start from where they were.
function takeDay() {
  const day = run.days[state.day];
  const before = map.day;
  const points = day.map < 0 ? 0 : day.shown;
  const xs = new Float32Array(points), ys = new Float32Array(points);
  for (let i = 0; i < points; i++) {
    xs[i] = column.x[day.map + i] / UNIT;
    ys[i] = column.y[day.map + i] / UNIT;
  }
  map.moving = null;
  if (before >= 0 && before !== state.day && points && map.xs.length && !calm()) {
    const fromX = xs.slice(), fromY = ys.slice();
    for (let i = 0; i < points; i++) {
      const earlier = pointOf(before, rowOf(before, column.host[day.start + i]));
      if (earlier >= 0) {
        fromX[i] = map.xs[earlier - map.first];
        fromY[i] = map.ys[earlier - map.first];
      }
    }
    map.moving = {fromX, fromY, start: performance.now()};
  }
  Object.assign(map, {day: state.day, first: day.map, xs, ys});
  byId("nomap").hidden = points > 0;
  if (!points) byId("nomap").replaceChildren(...whyNoMap());
  group();
}

function whyNoMap() {
  const day = run.days[state.day];
  if (!hasMap()) return ["No day of this page has a map: the model was still learning."];
  if (!day.shown && day.embedded) return [`No hosts on ${day.date}.`];
  const first = run.days.findIndex(({map}) => map >= 0);
  return [`No map of ${day.date}: the model was still learning. The first day with a map is `,
    link({day: first}, run.days[first].date), "."];
}

// Sorts the points of the day by how they are drawn.
function group() {
  const {groups, groupOf, isHollow} = groupsOf(state.colour);
  map.group = new Uint8Array(map.xs.length);
  map.buckets = Array.from({length: 2 * groups.length}, () => []);
  for (let i = 0; i < map.xs.length; i++) {
    const [point, row] = [map.first + i, run.days[map.day].start + i];
    map.group[i] = groupOf(point, row);
    map.buckets[2 * map.group[i] + (isHollow(point, row) ? 1 : 0)].push(i);
  }
}

const isHidden = (place) => map.hidden.has(`${state.colour} ${place}`);
const isMarked = (i) => campaignOf(map.first + i) === state.campaign;

// Points shrink where there are many, and grow, less than distances do, where one looks closer.
function radius() {
  const room = Math.sqrt(map.width * map.height / Math.max(1, map.xs.length));
  return Math.min(6, Math.max(2.2, 0.16 * room)) * Math.min(2.5, map.view.zoom ** 0.3);
}

let frame = 0;
function redraw() {
  frame = frame || requestAnimationFrame(() => { frame = 0; draw(); });
}

function draw() {
  const {context, width, height} = map;
  context.clearRect(0, 0, width, height);
  if (!map.xs.length) return;
  const passed = map.moving ? Math.min(1, (performance.now() - map.moving.start) / 350) : 1;
  const part = passed * passed * (3 - 2 * passed);
  const unit = scale();
  const left = new Float32Array(map.xs.length), top = new Float32Array(map.xs.length);
  for (let i = 0; i < map.xs.length; i++) {
    const x = part < 1 ? map.moving.fromX[i] + part * (map.xs[i] - map.moving.fromX[i]) : map.xs[i];
    const y = part < 1 ? map.moving.fromY[i] + part * (map.ys[i] - map.moving.fromY[i]) : map.ys[i];
    left[i] = width / 2 + (x - map.view.x) * unit;
    top[i] = height / 2 - (y - map.view.y) * unit;
  }
  drawPoints(left, top, radius(), null, state.campaign ? 0.13 : 1);
  if (state.campaign) drawPoints(left, top, Math.max(3.5, radius()), isMarked, 1);
  drawFixed(left, top);
  if (part < 1) redraw(); else map.moving = null;
}

// Draws group by group, the small ones on top; `among` chooses points.
function drawPoints(left, top, size, among, alpha) {
  const {context} = map;
  const {groups} = groupsOf(state.colour);
  context.lineWidth = Math.max(1, size * 0.35);
  for (let place = -1; place < groups.length; place++) {
    const at = place < 0 ? groups.length - 1 : place;       // the last group, those in none, lies under all others
    if (isHidden(at) || place === groups.length - 1 && groups[at].none) continue;
    const paint = colour(colourOfSign(groups[at].sign)), shape = shapeOfSign(groups[at].sign);
    for (const hollow of [1, 0]) {
      context.globalAlpha = alpha * (hollow ? 0.75 : 1);
      context.beginPath();
      for (const i of map.buckets[2 * at + hollow]) {
        if (!among || among(i)) trace(context, shape, left[i], top[i], hollow ? 0.85 * size : size);
      }
      context[hollow ? "strokeStyle" : "fillStyle"] = paint;
      if (hollow) context.stroke(); else context.fill();
    }
  }
  context.globalAlpha = 1;
}

// Lines from the fixed host to its nearest ones, and a ring around it.
function drawFixed(left, top) {
  const point = state.host < 0 ? -1 : pointOf(map.day, rowOf(map.day, state.host));
  if (point < 0) return;
  const {context} = map, i = point - map.first;
  context.strokeStyle = colour("--ink");
  context.lineWidth = 1;
  context.beginPath();
  for (const [, , near] of nearest(map.day, point)) {
    if (near < 0) continue;
    context.moveTo(left[i], top[i]);
    context.lineTo(left[near - map.first], top[near - map.first]);
  }
  context.stroke();
  context.lineWidth = 2.5;
  context.beginPath();
  context.arc(left[i], top[i], radius() + 5, 0, 2 * Math.PI);
  context.stroke();
}

// The visible point nearest to a place on the canvas, at most `reach` pixels away, or -1.
function pick(x, y, reach = 14) {
  let best = -1, least = reach * reach;
  for (let i = 0; i < map.xs.length; i++) {
    const [left, top] = toCanvas(map.xs[i], map.ys[i]);
    const distance = (left - x) ** 2 + (top - y) ** 2;
    if (distance < least && !isHidden(map.group[i])) [best, least] = [i, distance];
  }
  return best < 0 ? -1 : map.first + best;
}

function drawLegend() {
  const {groups} = groupsOf(state.colour);
  const chips = groups.map((one, place) => {
    const hosts = map.buckets[2 * place].length + map.buckets[2 * place + 1].length;
    const chip = button("", () => {
      const name = `${state.colour} ${place}`;
      if (!map.hidden.delete(name)) map.hidden.add(name);
      chip.setAttribute("aria-pressed", !isHidden(place));
      redraw();
    }, {class: hosts ? "chip" : "chip few", "aria-pressed": String(!isHidden(place))});
    chip.append(drawSign(one.sign, Boolean(one.none)), make("span", {class: "name"}, one.name),
      make("span", {class: "number"}, count(hosts)));
    return chip;
  });
  const all = (shown) => () => {
    groups.forEach((_, place) => map.hidden[shown ? "delete" : "add"](`${state.colour} ${place}`));
    drawLegend();
    redraw();
  };
  const ends = groups.length > 2 ? [button("All", all(true)), button("None", all(false))] : [];
  byId("legend").replaceChildren(...ends, ...chips);
  byId("legend").hidden = !groups.length;
  byId("reading").textContent = state.colour !== "class" ? "" : "Filled: the host is on a list. Hollow: it is on " +
    `none, and the class is the vote of its ${counted(run.neighbors, "nearest host")}.`;
}

// How many hosts of the day lie outside the frame when all of it is shown.
function countOutside() {
  const {x, y, width, height} = map.box;
  let outside = 0;
  for (let i = 0; i < map.xs.length; i++) {
    if (Math.abs(map.xs[i] - x) > width / 2 + 0.01 || Math.abs(map.ys[i] - y) > height / 2 + 0.01) outside++;
  }
  const lie = `${outside === 1 ? "lies" : "lie"} far outside the frame.`;
  byId("outside").replaceChildren(...outside ? [`${counted(outside, "host")} of this day ${lie} `,
    button("Zoom out", () => zoomBy(map.box.least / map.view.zoom))] : []);
}

// The line over the map that says which campaign is marked.
function drawMarked() {
  const marked = byId("marked");
  marked.hidden = !state.campaign || !map.xs.length;
  if (marked.hidden) return;
  const hosts = map.xs.reduce((sum, _, i) => sum + isMarked(i), 0);
  marked.firstElementChild.textContent = `Campaign ${state.campaign}: ` +
    (hosts ? `${counted(hosts, "host")} on the map` : "not on this day");
}

function resizeMap() {
  Object.assign(map, prepare(byId("chart")));
  draw();
}

function describeMap() {
  const day = run.days[state.day];
  byId("chart").setAttribute("aria-label", `Map of ${counted(map.xs.length, "host")} on ${day.date}`);
}

function startMap() {
  map.box = boxOfAllDays();
  Object.assign(map.view, {x: map.box.x, y: map.box.y});
  takeDay();
  resizeMap();
  choose(byId("colours"), colourings(), state.colour, (kind) => go({colour: kind}));
  const refresh = () => { drawLegend(); drawMarked(); countOutside(); describeMap(); redraw(); };
  refresh();
  watch("day", () => { takeDay(); refresh(); });
  watch("colour", () => { check(byId("colours"), state.colour); group(); refresh(); });
  watch("campaign", () => { drawMarked(); redraw(); });
  watch("host", redraw);
  whenLookChanges(resizeMap);
  byId("marked").querySelector("button").addEventListener("click", () => go({campaign: 0}));
}
