// signs.js: the sign of each group of hosts, a colour and a shape, and by what hosts are grouped.
//
// The colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart; one of the
// seven differs between the themes (see style.css). Seven colours times three shapes each make 21 signs.

const COLOURS = 7;
const SIGNS = 21;

const around = (corners, turn, radius = 1) => Array.from({length: corners}, (_, i) => {
  const angle = 2 * Math.PI * (i / corners + turn);
  return [radius * Math.sin(angle), -radius * Math.cos(angle)];
});
const PLUS = [[-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4], [0.4, 1.1], [-0.4, 1.1],
  [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]];
const SHAPES = [                                            // corners of a shape of radius 1
  around(12, 0),                                            // circle
  around(4, 0.125, 1.25),                                   // square
  around(3, 0, 1.35),                                       // triangle
  around(4, 0, 1.35),                                       // diamond
  around(3, 0.5, 1.35),                                     // triangle upside down
  PLUS.map(([x, y]) => [1.1 * x, 1.1 * y]),
  PLUS.map(([x, y]) => [0.8 * (x - y), 0.8 * (x + y)]),     // cross
];

const colourOfSign = (sign) => sign < 0 ? "--grey" : `--sign${sign % COLOURS}`;
const shapeOfSign = (sign) => sign < 0 ? SHAPES[0]
  : SHAPES[(sign % COLOURS + [0, 3, 5][Math.floor(sign / COLOURS)]) % SHAPES.length];

// Adds a shape to the path of a canvas.
function trace(context, shape, x, y, radius) {
  context.moveTo(x + shape[0][0] * radius, y + shape[0][1] * radius);
  for (let i = 1; i < shape.length; i++) context.lineTo(x + shape[i][0] * radius, y + shape[i][1] * radius);
  context.closePath();
}

function drawSign(sign, hollow = false) {
  const points = shapeOfSign(sign).map(([x, y]) => `${(8 + 5 * x).toFixed(1)},${(8 + 5 * y).toFixed(1)}`).join(" ");
  return makeSvg("svg", {class: "sign", viewBox: "0 0 16 16", "aria-hidden": "true"},
    makeSvg("polygon", {points, class: `${hollow ? "hollow" : "filled"} sign${sign < 0 ? "less" : sign % COLOURS}`}));
}

// What hosts can be coloured by, the best one first: {name: text}.
function colourings() {
  const known = {};
  if (hasLabels()) known.class = "Class";
  if (hasCampaigns()) known.campaign = "Campaign";
  known.port = "Busiest port";
  return known;
}

// A key for each point, 0 for hosts that are in no group, and the name of a key.
const KEYS = {
  class: {key: (point) => column.label[point] || column.predicted[point], name: (key) => run.classes[key],
    none: "Unknown", rest: "Other classes"},
  campaign: {key: (point) => column.campaign[point], name: (key) => `Campaign ${key}`, none: "In no campaign",
    rest: "Other campaigns"},
  port: {key: (_, row) => column.port[3 * row] === noPlace(column.port) ? 0 : column.port[3 * row] + 1,
    name: (key) => portText(run.ports[key - 1]), none: "No port", rest: "Other ports"},
};

const grouped = {};

// The groups of a colouring, the same on all days: the 21 with the most hosts, the rest, and those in none.
function groupsOf(kind) {
  if (grouped[kind]) return grouped[kind];
  const {key, name, none, rest} = KEYS[kind];
  const hosts = new Map();
  run.days.forEach((day, i) => {
    for (let point = day.map; day.map >= 0 && point < day.map + day.shown; point++) {
      const one = key(point, rowOfPoint(i, point));
      hosts.set(one, (hosts.get(one) || 0) + 1);
    }
  });
  const keys = [...hosts.keys()].filter(Boolean).sort((a, b) => hosts.get(b) - hosts.get(a) || a - b);
  const groups = keys.slice(0, SIGNS).map((one, sign) => ({name: name(one), sign, key: one}));
  const place = new Map(groups.map((group, i) => [group.key, i]));
  if (keys.length > SIGNS) groups.push({name: rest, sign: -1});
  if (hosts.has(0)) groups.push({name: none, sign: -1, none: true});
  const other = groups.length - 1 - (hosts.has(0) ? 1 : 0);
  const groupOf = (point, row) => {
    const one = key(point, row);
    return one === 0 ? groups.length - 1 : place.get(one) ?? other;
  };
  const isHollow = kind === "class" ? (point) => !column.label[point] : (point, row) => key(point, row) === 0;
  return grouped[kind] = {groups, groupOf, isHollow};
}

// The sign of one class, as in the legend.
function classSign(code, hollow = false) {
  const group = groupsOf("class").groups.find((one) => one.key === code);
  return drawSign(group ? group.sign : -1, hollow);
}
