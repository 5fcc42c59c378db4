// hosts.js: finding a host by its address, and all that the page knows of the one that is fixed.

const MATCHES = 8;
const matches = {hosts: [], active: -1};

// Hosts whose address begins with a text.
function beginningWith(text) {
  const hosts = [];
  for (let host = 0; text && host < names.length; host++) if (names[host].startsWith(text)) hosts.push(host);
  return hosts;
}

function offer() {
  const input = byId("address"), list = byId("matches"), all = beginningWith(input.value.trim());
  matches.hosts = all.slice(0, MATCHES);
  matches.active = -1;
  list.replaceChildren(...matches.hosts.map((host, i) => {
    const option = make("li", {role: "option", id: `match${i}`, "aria-selected": "false"}, names[host],
      rowOf(state.day, host) < 0 && make("span", {class: "soft"}, " not on this day"));
    option.addEventListener("pointerdown", (event) => { event.preventDefault(); take(host); });
    return option;
  }));
  const rest = all.length - MATCHES;
  if (rest > 0) list.append(make("li", {class: "soft", role: "presentation"}, `and ${count(rest)} more`));
  list.hidden = !all.length;
  input.setAttribute("aria-expanded", String(Boolean(all.length)));
  input.removeAttribute("aria-activedescendant");
  byId("answer").textContent = "";
}

function closeList() {
  byId("matches").hidden = true;
  byId("address").setAttribute("aria-expanded", "false");
  byId("address").removeAttribute("aria-activedescendant");
  matches.active = -1;
}

function moveInList(step) {
  const options = byId("matches").querySelectorAll("[role=option]");
  if (!options.length) return;
  matches.active = (matches.active + step + options.length + (matches.active < 0 && step < 0 ? 1 : 0)) % options.length;
  options.forEach((option, i) => option.setAttribute("aria-selected", String(i === matches.active)));
  byId("address").setAttribute("aria-activedescendant", `match${matches.active}`);
}

function take(host) {
  closeList();
  byId("address").value = names[host];
  byId("answer").textContent = "";
  go({host});
  visit("host");
}

// Takes the address that was typed, or says why it cannot.
function search() {
  const text = byId("address").value.trim();
  const host = matches.active >= 0 ? matches.hosts[matches.active] : hostOf(text);
  if (host >= 0) return take(host);
  closeList();
  const left = run.left_out.hosts ? " It may be one of those that the page has no room for." : "";
  byId("answer").textContent = !text ? "Type an address, such as 203.0.113.7."
    : numbered(text) === null ? `“${text}” is not a whole IPv4 address.`
      : `${text} is not on this page: it was not seen on these days, or sent too few packets.${left}`;
}

function startSearch() {
  const input = byId("address");
  input.addEventListener("input", offer);
  input.addEventListener("blur", closeList);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (byId("matches").hidden) offer();
      moveInList(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Escape") closeList();
  });
  byId("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
}

// The days on which a host was active: [day, row, point or -1].
function rowsOfHost(host) {
  return run.days.map((_, day) => [day, rowOf(day, host)]).filter(([, row]) => row >= 0)
    .map(([day, row]) => [day, row, pointOf(day, row)]);
}

function drawHost() {
  const panel = byId("host");
  if (state.host < 0) return panel.replaceChildren(make("h3", {}, "A host"), make("p", {class: "soft"},
    hasMap() ? "Click a point, follow a link, or type an address above to see what a host did."
      : "Type an address above to see what a host did."));
  const rows = rowsOfHost(state.host), now = rows.find(([day]) => day === state.day);
  const dates = rows.map(([day]) => run.days[day].date);
  const active = rows.length ? `Active on ${rows.length} of ${counted(run.days.length, "day")}, first on ${dates[0]}` +
    `${dates.length > 1 ? `, last on ${dates.at(-1)}` : ""}.`
    : "A neighbour of hosts on this page, and one of those that the page has no room for.";
  panel.replaceChildren(
    make("div", {class: "heading"}, make("h3", {class: "address"}, names[state.host]),
      button("Close", () => { go({host: -1}); panel.focus(); })),
    make("p", {}, active));
  if (!rows.length) return;
  const facts = now ? factsOf(now) : [make("p", {class: "note"}, `Not seen on ${run.days[state.day].date}.`)];
  panel.append(daysOfHost(rows), ...facts, ...historyOf(rows));
}

// A square per day of the page, filled where the host was active.
function daysOfHost(rows) {
  const step = 10, active = new Set(rows.map(([day]) => day));
  const squares = run.days.map(({date}, day) => makeSvg("rect", {x: step * day + 1, y: 1, width: 8, height: 10,
    class: `${active.has(day) ? "active" : ""}${day === state.day ? " today" : ""}`}, makeSvg("title", {}, date)));
  return makeSvg("svg", {class: "days", viewBox: `0 0 ${step * run.days.length} 12`, width: step * run.days.length,
    height: 12, preserveAspectRatio: "none", role: "img", "aria-label": "Days on which it was active"}, squares);
}

// What the host did on the selected day, and its nearest hosts.
function factsOf([day, row, point]) {
  const facts = [];
  const fact = (name, ...value) => facts.push(make("dt", {}, name), make("dd", {}, ...value));
  if (point >= 0 && hasLabels()) {
    const [label, vote] = [column.label[point], column.predicted[point]];
    fact("Listed as", label ? run.classes[label] : "none");
    fact("Vote", classSign(vote, !label), ` ${run.classes[vote]}, ${column.votes[point]}% of `,
      counted(run.neighbors, "neighbour"));
  }
  if (point >= 0 && hasCampaigns()) {
    const number = campaignOf(point), membership = (column.membership[point] / 255).toFixed(2);
    fact("Campaign", ...(number ? [campaignLink(number), `, membership ${membership}`] : ["in none"]));
  }
  fact("Ports", portsOf(row).map(portText).join(", ") || "none");
  fact("Packets", `about ${packetsOf(row)}`);
  const surprise = point < 0 ? null : surpriseOf(point);
  if (surprise !== null) fact("Surprise", `${surprise.toFixed(1)} times the usual change`);
  const made = [make("h4", {}, `On ${run.days[day].date}`), make("dl", {class: "facts"}, facts)];
  if (point >= 0) made.push(make("h4", {}, "Nearest hosts"), nearList(day, point));
  return made;
}

function nearList(day, point) {
  const found = nearest(day, point);
  if (!found.length) return make("p", {class: "soft"}, "No other host on this day.");
  const known = (near) => near < 0 ? " not drawn"
    : hasLabels() ? ` ${run.classes[column.label[near] || column.predicted[near]]}` : "";
  return make("ol", {class: "near"}, found.map(([host, cosine, near]) => make("li", {}, hostLink(host, day),
    make("span", {class: "number"}, ` ${cosine.toFixed(2)}`), make("span", {class: "soft"}, known(near)))));
}

// What the host was on each day, the latest first, and what differs from the day before that has a map.
function historyOf(rows) {
  const surprises = run.days.map((_, day) => pointOf(day, rowOf(day, state.host)))
    .map((point) => point < 0 ? null : surpriseOf(point));
  const known = surprises.some((surprise) => surprise !== null), made = [];
  if (known) {
    const most = Math.max(...surprises.map((surprise) => surprise ?? 0)).toFixed(1);
    made.push(make("h4", {}, "Surprise by day"),
      spark(surprises.map((surprise) => surprise ?? 0), `Surprise by day, at most ${most}`, 300));
  }
  const number = (name) => make("th", {scope: "col", class: "number"}, name);
  const heads = ["Day", hasLabels() && "Vote", hasCampaigns() && "Campaign", known && number("Surprise"),
    number("Packets"), "Ports"];
  let before = -1;
  const lines = rows.map(([day, row, point]) => {
    const cells = [link({day, host: state.host}, run.days[day].date),
      hasLabels() && changingCell(point, before, (at) => column.predicted[at], (code) => run.classes[code]),
      hasCampaigns() && changingCell(point, before, campaignOf, (number) => number ? campaignLink(number) : "none"),
      known && make("td", {class: "number"}, point < 0 ? "" : decimals(surprises[day], 1)),
      make("td", {class: "number"}, packetsOf(row)),
      make("td", {class: "whole"}, portsOf(row).map(portName).join(", "))];
    if (point >= 0) before = point;
    return cells.filter(Boolean);
  });
  return [...made, make("h4", {}, "By day"),
    makeTable(`${names[state.host]} by day`, heads.filter(Boolean), lines.reverse(), "lined")];
}

// A cell of what a point is, marked where that is not what the point before was; empty where there is no point.
function changingCell(point, before, value, show) {
  if (point < 0) return make("td");
  const differs = before >= 0 && value(point) !== value(before);
  return make("td", {class: differs ? "changed" : ""}, show(value(point)),
    differs && make("span", {class: "unseen"}, " (changed)"));
}

function startHosts() {
  startSearch();
  drawHost();
  watch("host day", drawHost);
}
