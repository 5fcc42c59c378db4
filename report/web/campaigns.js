// campaigns.js: the table of campaigns, and the history of the one that is selected.

const MOST_ROWS = 25;      // of the table, until all are asked for
let found = null;

// All campaigns of the page: number -> {days: [day, ...], groups: [its row on each], hosts: on every day of the page}.
function campaigns() {
  if (found) return found;
  found = new Map();
  run.days.forEach((day, i) => day.groups.forEach((group) => {
    if (!found.has(group.campaign)) {
      found.set(group.campaign, {days: [], groups: [], hosts: new Array(run.days.length).fill(0)});
    }
    const one = found.get(group.campaign);
    one.days.push(i);
    one.groups.push(group);
    one.hosts[i] = group.hosts;
  }));
  return found;
}

// "23:0.61/0.05 2323:0.30/0" -> [["23", 0.61, 0.05], ...]
function sharesOf(text) {
  return text.split(" ").filter(Boolean).map((part) => {
    const colon = part.lastIndexOf(":");
    return [part.slice(0, colon), ...part.slice(colon + 1).split("/").map(Number)];
  });
}

const percent = (share) => `${share && share < 0.1 ? (100 * share).toFixed(1) : Math.round(100 * share)}%`;
const namedPort = (text) => /^\d+$/.test(text) ? portText(Number(text)) : text;

const eventText = (group) => [group.event, group.from].filter(Boolean).join(" ");

// The ports that set a campaign apart, each with its share here and elsewhere; without those its busiest ones.
function apartOf(group) {
  return sharesOf(group.apart || group.ports || "").map(([port, here, elsewhere]) =>
    [namedPort(port), `${percent(here)}${elsewhere === undefined ? "" : ` / ${percent(elsewhere)}`}`]);
}
const apartText = (group) => apartOf(group).flat().join(" ");
const apartParts = (group) => apartOf(group).map(([port, shares]) =>
  [make("span", {class: "port"}, port, make("span", {class: "soft"}, ` ${shares}`)), " "]).flat();

// Bars of a value per day, from the first day that has a map on; the selected day is marked.
function spark(values, label, room = 96) {
  const first = Math.max(0, run.days.findIndex((day) => day.map >= 0)), days = values.length - first;
  const most = Math.max(1, ...values), step = Math.max(1, Math.min(8, Math.floor(room / days)));
  const bars = values.slice(first).map((value, i) => {
    const height = Math.max(1.5, 24 * value / most);
    return value > 0 && makeSvg("rect", {x: step * i, width: Math.max(1, step - 1), y: 24 - height, height,
      class: first + i === state.day ? "today" : ""});
  });
  return makeSvg("svg", {class: "spark", viewBox: `0 0 ${step * days} 24`, width: step * days, height: 24, role: "img",
    "aria-label": label}, bars);
}

function sparkOf(number) {
  const {hosts} = campaigns().get(number);
  return spark(hosts, `Hosts of campaign ${number}: at most ${count(Math.max(...hosts))}`);
}

// A text of any length, cut where it is long; the whole of it is in the cell's title.
const shortened = (text) => text.length <= 90 ? text
  : make("span", {class: "cut", title: text}, `${text.slice(0, 90)}…`);

const APART = "Ports that set it apart: here / elsewhere";
const COLUMNS = [          // heading, what to sort by, what a cell shows, how it is set
  ["Campaign", (group) => group.campaign, (group) => campaignLink(group.campaign), "number"],
  ["Event", (group) => group.event, eventText, "whole"],
  ["Hosts", (group) => group.hosts, (group) => count(group.hosts), "number"],
  ["Hosts per day", (group) => Math.max(...campaigns().get(group.campaign).hosts), (group) => sparkOf(group.campaign),
    "whole"],
  ["New", (group) => group.hosts_new, (group) => count(group.hosts_new), "number"],
  ["Lost", (group) => group.hosts_lost, (group) => count(group.hosts_lost), "number"],
  [APART, apartText, apartParts, "long"],
  ["Packets", (group) => Number(group.packets) || 0,
    (group) => group.packets === "" ? "" : count(Number(group.packets)), "number"],
  ["/24s", (group) => Number(group.subnets) || 0, (group) => String(group.subnets), "number"],
  ["Predicted", (group) => group.predicted, (group) => shortened(group.predicted), "text"],
  ["Labels", (group) => group.labels, (group) => shortened(group.labels), "text"],
  ["First seen", (group) => group.first_seen, (group) => group.first_seen, "whole"],
  ["Days", (group) => Number(group.days) || 0, (group) => String(group.days), "number"],
];

const order = {column: -1, down: true, scope: "day", all: false};

// The rows that the table may show: the day's, or the last row of each campaign of the page.
function groupsInScope() {
  if (order.scope === "day") return run.days[state.day].groups;
  return [...campaigns().values()].map(({groups}) => groups.at(-1));
}

function sorted(groups) {
  if (order.column < 0) return groups;
  const key = COLUMNS[order.column][1], sign = order.down ? -1 : 1;
  return [...groups].sort((a, b) => {
    const [one, other] = [key(a), key(b)];
    return sign * (typeof one === "string" ? one.localeCompare(other) : one - other) || a.campaign - b.campaign;
  });
}

function headOf([name, , , kind], i) {
  const mine = order.column === i;
  const head = make("th", {scope: "col", class: kind,
    "aria-sort": mine ? (order.down ? "descending" : "ascending") : "none"});
  head.append(button(name, () => {
    const down = mine ? !order.down : kind === "number";
    Object.assign(order, {column: i, down});
    drawTable();
    byId("table").querySelectorAll("thead button")[i].focus();
  }));
  return head;
}

function drawTable() {
  const groups = sorted(groupsInScope());
  const shown = order.all ? groups : groups.slice(0, MOST_ROWS);
  if (!groups.length) {
    byId("table").replaceChildren(make("p", {class: "soft"}, noCampaigns()));
    return;
  }
  const rows = shown.map((group) => COLUMNS.map(([, , show, kind], i) =>
    make(i ? "td" : "th", {scope: i ? null : "row", class: kind}, [show(group)].flat())));
  const table = makeTable("Campaigns", COLUMNS.map(headOf), rows, "lined");
  [...table.querySelectorAll("tbody tr")].forEach((line, i) => {
    line.classList.toggle("chosen", shown[i].campaign === state.campaign);
  });
  const rest = groups.length - shown.length;
  byId("table").replaceChildren(table, ...(rest
    ? [button(`Show ${count(rest)} more`, () => { order.all = true; drawTable(); })] : []));
}

function noCampaigns() {
  const day = run.days[state.day];
  if (!day.embedded) return `No campaigns on ${day.date}: the model was still learning.`;
  return `No campaigns on ${day.date}.`;
}

// What the selected campaign did, day by day, and its hosts on the selected day.
function drawCampaign() {
  const one = campaigns().get(state.campaign);
  if (!one) return byId("campaign").replaceChildren();
  const rows = one.groups.map((group, i) => [
    link({day: one.days[i], campaign: state.campaign}, run.days[one.days[i]].date),
    eventText(group), count(group.hosts), `+${count(group.hosts_new)}`,
    `−${count(group.hosts_lost)}`, make("td", {}, apartParts(group))]).reverse();
  byId("campaign").replaceChildren(make("div", {class: "card"},
    make("div", {class: "heading"}, make("h3", {}, `Campaign ${state.campaign}`),
      button("Close", () => { go({campaign: 0}); byId("campaigns").focus(); })),
    make("div", {class: "halves"},
      makeTable(`Campaign ${state.campaign} by day`, ["Day", "Event", "Hosts", "New", "Lost", APART],
        rows, "lined"),
      make("div", {}, make("h4", {}, `Its hosts on ${run.days[state.day].date}`), memberList()))));
}

function memberList() {
  const {map: first, shown} = run.days[state.day], members = [];
  for (let point = first; first >= 0 && point < first + shown; point++) {
    if (column.campaign[point] === state.campaign) members.push(point);
  }
  if (!members.length) return make("p", {class: "soft"}, "None is on the map.");
  const most = 60, rest = members.length - most;
  const links = members.slice(0, most).map((point) => [hostLink(hostOfPoint(state.day, point)), " "]).flat();
  return make("p", {class: "addresses", tabindex: "0"}, links,
    rest > 0 && make("span", {class: "soft"}, `and ${count(rest)} more`));
}

function startCampaigns() {
  if (!run.campaigns) {
    byId("scope").hidden = true;
    byId("table").replaceChildren(make("p", {class: "soft"},
      "This run looked for no campaigns: with --campaigns it groups hosts that act together."));
    return;
  }
  choose(byId("scope"), {day: "the day", page: "all days"}, "day", (scope) => {
    Object.assign(order, {scope, column: -1});
    drawTable();
  });
  const refresh = () => { drawTable(); drawCampaign(); };
  refresh();
  watch("day campaign", refresh);
}
