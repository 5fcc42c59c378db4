// quality.js: how good the run is, day by day: line charts with labels at the lines' ends, and a table of F1.

const CHART = {width: 380, height: 200, left: 38, right: 96, top: 12, bottom: 26};

// lines: [{name, values: one per day or null, dashed}]. Days without any value on the left are left out.
function lineChart(title, lines, low = null, high = null) {
  const drawn = lines.filter(({values}) => values.some((value) => value !== null));
  if (!drawn.length) return null;
  const day0 = Math.min(...drawn.map(({values}) => values.findIndex((value) => value !== null)));
  const all = drawn.flatMap(({values}) => values.filter((value) => value !== null));
  const [bottom, top] = [low ?? quarterBelow(Math.min(0, ...all)), high ?? niceAbove(Math.max(...all))];
  const x = (day) => CHART.left + (CHART.width - CHART.left - CHART.right) *
    (run.days.length - 1 === day0 ? 0.5 : (day - day0) / (run.days.length - 1 - day0));
  const y = (value) => CHART.top +
    (CHART.height - CHART.top - CHART.bottom) * (1 - (value - bottom) / (top - bottom || 1));
  const svg = makeSvg("svg", {class: "chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img",
    "aria-label": `${title}. ${drawn.map(inWords).join(" ")}`}, axes(x, y, day0, bottom, top));
  const ends = drawn.map(({name, values, dashed}, i) => {
    svg.append(makeSvg("g", {class: `line line${i}${dashed ? " dashed" : ""}`}, drawLine(name, values, x, y, dashed)));
    const last = values.findLastIndex((value) => value !== null);
    return {i, name, x: x(last) + 8, y: y(values[last])};
  });
  svg.append(...spread(ends).map((end) =>
    makeSvg("text", {class: `end line${end.i}`, x: CHART.width - CHART.right + 10, y: end.y + 4}, end.name)));
  return make("figure", {}, make("figcaption", {}, title), svg);
}

// The line in pieces, one for each stretch of days that have a value, and a dot per day that says its value.
function drawLine(name, values, x, y, dashed) {
  let path = "", pen = "M";
  values.forEach((value, day) => {
    path += value === null ? "" : `${pen}${x(day).toFixed(1)},${y(value).toFixed(1)}`;
    pen = value === null ? "M" : "L";
  });
  const dots = dashed ? [] : values.map((value, day) => value !== null && makeSvg("circle",
    {cx: x(day).toFixed(1), cy: y(value).toFixed(1), r: values.length > 60 ? 1.2 : 2.5},
    makeSvg("title", {}, `${name}, ${run.days[day].date}: ${value.toFixed(3)}`)));
  return [makeSvg("path", {d: path}), ...dots];
}

function axes(x, y, day0, bottom, top) {
  const last = run.days.length - 1, right = CHART.width - CHART.right, floor = CHART.height - CHART.bottom;
  const parts = bottom < 0 ? 4 * (top - bottom) : /^0*\.?0*5/.test(String(top - bottom)) ? 5 : 4;
  const lines = Array.from({length: parts + 1}, (_, i) => bottom + i * (top - bottom) / parts).map((value) => [
    makeSvg("line", {class: "grid", x1: CHART.left, x2: right, y1: y(value), y2: y(value)}),
    makeSvg("text", {class: "tick", x: CHART.left - 6, y: y(value) + 4, "text-anchor": "end"},
      String(Number(value.toPrecision(3))))]);
  const days = day0 === last ? [last] : [day0, last];
  const anchors = days.length === 1 ? ["middle"] : ["start", "end"];
  const dates = days.map((day, i) => makeSvg("text",
    {class: "tick", x: x(day), y: floor + 18, "text-anchor": anchors[i]}, run.days[day].date.slice(i ? 5 : 0)));
  return [...lines.flat(), ...dates];
}

// Moves labels that would lie on one another apart, from the top down, and up again from the floor.
function spread(ends) {
  const gap = 14, placed = [...ends].sort((a, b) => a.y - b.y);
  placed.forEach((end, i) => { if (i) end.y = Math.max(end.y, placed[i - 1].y + gap); });
  placed.reverse().forEach((end, i) => {
    end.y = Math.min(end.y, i ? placed[i - 1].y - gap : CHART.height - CHART.bottom);
  });
  return placed;
}

const quarterBelow = (value) => Math.floor(4 * value) / 4;

const niceAbove = (value) => {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value);
};

function inWords({name, values}) {
  const known = values.filter((value) => value !== null);
  return `${name}: ${known[0].toFixed(2)} at first, ${known.at(-1).toFixed(2)} at last, ` +
    `between ${Math.min(...known).toFixed(2)} and ${Math.max(...known).toFixed(2)}.`;
}

const byDay = (value) => run.days.map((day) => value(day) ?? null);

function drawCharts() {
  const charts = [
    lineChart("Macro F1 of the vote", [{name: "macro F1", values: byDay((day) => day.macro_f1)}], 0, 1),
    lineChart("Subnet agreement", [
      {name: "agreement", values: byDay((day) => day.subnet_agreement)},
      {name: "by chance", values: byDay((day) => day.subnet_chance), dashed: true}], 0, 1),
    run.campaigns && lineChart("Campaigns, how stable they are", [
      {name: "day to day", values: byDay((day) => day.campaigns?.day_to_day)},
      {name: "hosts inside", values: byDay((day) => day.campaigns?.inside)},
      {name: "same /24", values: byDay((day) => day.campaigns?.same_subnet)},
      {name: "/24, chance", values: byDay((day) => day.campaigns?.chance), dashed: true}], null, 1),
    lineChart("Loss of the pretext task", [{name: "loss", values: byDay((day) => day.loss)}], 0),
    lineChart("Accuracy of the pretext task", [{name: "accuracy", values: byDay((day) => day.accuracy)}], 0, 1),
  ].filter(Boolean);
  byId("charts").replaceChildren(...charts);
  if (!charts.length) {
    byId("charts").append(make("p", {class: "soft"}, "Nothing was scored on these days" +
      (hasMap() ? "." : ": there were no test days yet.")));
  }
}

// F1 of each class on each day, and over the days.
function drawScores() {
  const days = run.days.filter(({f1}) => f1 && Object.keys(f1).length);
  const classes = Object.entries(run.result.classes ?? {}).sort(([, a], [, b]) => b.days - a.days);
  if (!days.length || !classes.length) {
    const why = hasLabels() ? "No labelled class was large enough to be scored on these days."
      : "No ground truth was given: there is no F1.";
    byId("scores").replaceChildren(make("p", {class: "soft"}, why));
    return;
  }
  const rows = classes.map(([text, {f1}]) =>
    [text, [f1?.mean ?? null, ...days.map((day) => Object.hasOwn(day.f1, text) ? day.f1[text] : null)]]);
  rows.push(["macro average", [run.result.macro_f1?.mean ?? null, ...days.map((day) => day.macro_f1 ?? null)]]);
  byId("scores").replaceChildren(make("h3", {}, "F1 by class and day"),
    make("p", {class: "soft"}, "The mean is that over the days on which a class was large enough to be scored."),
    shadedTable("F1 by class and day", ["", "mean", ...days.map(({date}) => date.slice(5))], rows,
      (value) => value.toFixed(2), (value) => value));
}

function startQuality() {
  drawCharts();
  drawScores();
}
