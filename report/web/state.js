// state.js: what is chosen on the page. It stands in the address after #, so that links and the back button work from
// a file on a disk.

const state = {day: 0, host: -1, campaign: 0, colour: "class"};
const watchers = [];

// Calls `act` whenever one of the named parts of the state changes: watch("day host", act).
function watch(parts, act) {
  watchers.push([parts.split(" "), act]);
}

function defaults() {
  const withMap = run.days.map((day, i) => day.map >= 0 ? i : -1);
  const last = Math.max(...withMap);
  const colours = Object.keys(colourings());
  return {day: last >= 0 ? last : run.days.length - 1, host: -1, campaign: 0, colour: colours[0]};
}

// The parts of the state that a fragment names; what it names wrongly is left out.
function partsOf(fragment) {
  const found = {};
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const day = run.days.findIndex(({date}) => date === given.get("day"));
  if (day >= 0) found.day = day;
  if (given.has("host")) found.host = hostOf(given.get("host"));
  if (given.has("campaign")) found.campaign = campaigns().has(Number(given.get("campaign")))
    ? Number(given.get("campaign")) : 0;
  if (Object.hasOwn(colourings(), given.get("colour") ?? "")) found.colour = given.get("colour");
  return found;
}

function fragmentOf(parts) {
  const words = [];
  if (parts.day >= 0) words.push(`day=${run.days[parts.day].date}`);
  if (parts.host >= 0) words.push(`host=${names[parts.host]}`);
  if (parts.campaign) words.push(`campaign=${parts.campaign}`);
  if (parts.colour) words.push(`colour=${parts.colour}`);
  return `#${words.join("&")}`;
}

// Changes parts of the state. "push" adds a step to the browser's history, "replace" does not, "keep" leaves it alone.
function go(change, history = "push") {
  const changed = Object.keys(change).filter((part) => state[part] !== change[part]);
  Object.assign(state, change);
  const fragment = fragmentOf(state);
  if (history === "push" && changed.length) window.history.pushState(null, "", fragment);
  if (history === "replace") window.history.replaceState(null, "", fragment);
  for (const [parts, act] of watchers) {
    if (parts.some((part) => changed.includes(part))) act(changed);
  }
}

// A link to a host, a campaign or a day, which also works in a new window.
function link(parts, text, attributes = {}) {
  return make("a", {href: fragmentOf({day: state.day, ...parts}), ...attributes}, text);
}
const hostLink = (host, day = state.day) => link({day, host}, names[host], {class: "address"});
const campaignLink = (number, text = String(number)) => link({campaign: number}, text);

function followLinks() {
  window.addEventListener("popstate", () => go({...defaults(), ...partsOf(location.hash)}, "keep"));
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest?.('a[href^="#"]');
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const fragment = anchor.getAttribute("href");
    if (fragment.includes("=")) follow(partsOf(fragment), anchor);
    else visit(fragment.slice(1));
  });
}

// Does what a link says. One to a host leads to its panel, one to a campaign to the map; one that only changes the day
// leaves the reader where he is, as does a link inside the panel, and so does the keyboard when its link is drawn anew.
function follow(parts, anchor) {
  const home = anchor.closest("aside, section");
  const stays = parts.day !== state.day && (parts.host ?? state.host) === state.host &&
    (parts.campaign ?? state.campaign) === state.campaign;
  go(parts);
  if (!anchor.isConnected) home.focus({preventScroll: true});
  if (stays) return;
  if ("host" in parts && home !== byId("host")) visit("host");
  else if ("campaign" in parts && !("host" in parts)) visit("map");
}

// Brings a section into view and moves the keyboard there.
function visit(id) {
  byId(id).focus({preventScroll: true});
  (id === "host" ? byId("map") : byId(id)).scrollIntoView({behavior: calm() ? "auto" : "smooth"});
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
