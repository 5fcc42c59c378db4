// news.js: the first screen: figures, what was read, and the news of the selected day.

const ITEMS = 6;           // of each kind of news that are shown

function figure(value, name, more = "") {
  return make("div", {}, make("dt", {}, name), make("dd", {class: "value"}, value), more && make("dd", {}, more));
}

const meanAndDeviation = (score) => score && score.mean !== null && score.mean !== undefined
  ? `${score.mean.toFixed(2)} ± ${(score.std ?? 0).toFixed(2)}` : null;

let differentHosts = 0;

function drawFigures() {
  differentHosts = differentHosts || new Set(column.host).size;
  const day = run.days[state.day], days = run.days;
  const dates = days.length > 1 ? `${days[0].date} to ${days.at(-1).date}` : days[0].date;
  const made = [
    figure(count(days.length), days.length === 1 ? "day" : "days", dates),
    figure(count(differentHosts), "different hosts",
      `${count(day.hosts)} on ${day.date}, ${count(day.new_hosts)} of them new`),
    figure(count(days.reduce((sum, {packets}) => sum + packets, 0)), "packets", `${count(day.packets)} on ${day.date}`),
  ];
  if (hasCampaigns()) {
    const today = day.groups.filter(({event}) => event !== "ends").length;
    made.push(figure(count(campaigns().size), campaigns().size === 1 ? "campaign" : "campaigns",
      day.embedded ? `${count(today)} on ${day.date}` : ""));
  }
  const {macro_f1: ofClasses, subnet_agreement: ofSubnets} = run.result;
  const f1 = meanAndDeviation(ofClasses), agreement = meanAndDeviation(ofSubnets);
  if (f1) made.push(figure(f1, "macro F1", "mean ± deviation, by day"));
  if (agreement) made.push(figure(agreement, "subnet agreement", `by chance ${decimals(ofSubnets.chance)}`));
  byId("figures").replaceChildren(...made);
}

function drawRead() {
  const words = run.words.length ? run.words : ["Nothing: this is the synthetic month, made-up traffic."];
  const lines = words.map((line) => make("li", {}, line));
  const {days, hosts} = run.left_out;
  if (days) lines.push(make("li", {}, `${counted(days, "other day")} ${days === 1 ? "is" : "are"} not on this page.`));
  if (hosts) {
    const room = `the page has room for ${count(run.room)} a day`;
    lines.push(make("li", {}, `${counted(hosts, "host")} counted but not drawn: ${room}.`));
  }
  const first = make("ul", {}, lines.slice(0, 6));
  const more = lines.length > 6 && make("details", {}, make("summary", {}, `${count(lines.length - 6)} more`),
    make("ul", {}, lines.slice(6)));
  byId("read").replaceChildren(first, ...(more ? [more] : []));
}

// One kind of news: its heading, the items, and how many more there are.
function newsOf(title, items, none, more = "more") {
  return make("div", {}, make("h4", {}, title),
    items.length ? make("ul", {}, items.slice(0, ITEMS)) : make("p", {class: "soft"}, none),
    items.length > ITEMS && make("p", {class: "soft small"}, `and ${count(items.length - ITEMS)} ${more}`));
}

function drawNews() {
  const day = run.days[state.day];
  byId("news-title").textContent = `News of ${weekday(day.date)} ${day.date}`;
  if (day.map < 0) {
    byId("news").replaceChildren(make("p", {class: "soft"},
      "No news of this day: the model was still learning, and its hosts were not compared."));
    return;
  }
  const kinds = [];
  if (hasCampaigns()) {
    kinds.push(newsOf("Campaigns", day.groups.map(eventItem), "No campaign on this day.", "in the table below"));
  }
  const surprising = mostSurprising(state.day);
  if (surprising.length) kinds.push(newsOf("Most surprising hosts", surprising.map(surpriseItem), ""));
  if (hasLabels()) {
    kinds.push(newsOf("Hosts that changed class", changed(state.day).map(changeItem),
      "No host changed class against the last day on which it was seen."));
  }
  if (!kinds.length) {
    kinds.push(make("p", {class: "soft"}, "This run has no campaigns, no classes and no measure of surprise."));
  }
  byId("news").replaceChildren(...kinds);
}

function eventItem(group) {
  const hosts = counted(group.hosts, "host");
  const what = {
    new: `is new with ${hosts}`, continues: `continues with ${hosts}`, grows: `grows to ${hosts}`,
    shrinks: `shrinks to ${hosts}`, returns: `returns with ${hosts}`,
    ends: `ends, it had ${counted(group.hosts_lost, "host")}`,
    "splits from": `splits from ${group.from} with ${hosts}`, merges: `takes in ${group.from}: ${hosts}`,
  }[group.event] ?? `${group.event}: ${hosts}`;
  const moves = [group.hosts_new && group.event !== "new" && `+${count(group.hosts_new)}`,
    group.hosts_lost && group.event !== "ends" && `−${count(group.hosts_lost)}`].filter(Boolean).join(" ");
  const ports = sharesOf(group.ports || "").map(([port]) => port).join(", ");
  const about = [moves, group.predicted, ports && `ports ${ports}`];
  return make("li", {}, campaignLink(group.campaign, `Campaign ${group.campaign}`), ` ${what}`,
    make("span", {class: "soft"}, about.filter(Boolean).join(" · ")));
}

// Points of a day, the most surprising first, those above an ordinary day's 1 only.
function mostSurprising(day) {
  const {map: first, shown} = run.days[day];
  return Array.from({length: shown}, (_, i) => first + i)
    .filter((point) => column.surprise[point] !== NO_SURPRISE && surpriseOf(point) > 1)
    .sort((a, b) => column.surprise[b] - column.surprise[a] || a - b);
}

function surpriseItem(point) {
  const ports = portsOf(rowOfPoint(state.day, point)).map(portName).join(", ");
  const about = [hasLabels() && run.classes[column.label[point] || column.predicted[point]], ports && `ports ${ports}`];
  return make("li", {}, hostLink(hostOfPoint(state.day, point)), ` ${surpriseOf(point).toFixed(1)} × usual`,
    make("span", {class: "soft"}, about.filter(Boolean).join(" · ")));
}

const changes = new Map();

// Hosts whose vote is another one than on the last day on which they were seen: [point, day before, point then].
function changed(day) {
  if (!changes.has(day)) {
    const {map: first, shown} = run.days[day], found = [];
    for (let point = first; point < first + shown; point++) {
      const [before, then] = pointBefore(day, hostOfPoint(day, point)) ?? [];
      if (before !== undefined && column.predicted[then] !== column.predicted[point]) found.push([point, before, then]);
    }
    const rank = (point) => column.surprise[point] === NO_SURPRISE ? 0 : column.surprise[point];
    changes.set(day, found.sort(([a], [b]) => rank(b) - rank(a) || column.votes[b] - column.votes[a] || a - b));
  }
  return changes.get(day);
}

function changeItem([point, before, then]) {
  return make("li", {}, hostLink(hostOfPoint(state.day, point)), " ", run.classes[column.predicted[then]], " → ",
    run.classes[column.predicted[point]], make("span", {class: "soft"}, `seen before on ${run.days[before].date}`));
}

function startNews() {
  drawFigures();
  drawRead();
  drawNews();
  watch("day", () => { drawFigures(); drawNews(); });
}
