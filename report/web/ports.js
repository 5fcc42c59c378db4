// ports.js: which class or campaign knocks at which ports, a heat map of the selected day.

let heatRows = "classes";

function drawHeat() {
  const {heat, date} = run.days[state.day];
  const rows = heat?.[heatRows] ?? [];
  if (!rows.length) {
    const why = heatRows === "campaigns" ? `No campaigns on ${date}.` : `No ports were kept of ${date}.`;
    byId("heat").replaceChildren(make("p", {class: "soft"}, why));
    return;
  }
  const named = rows.map(([name, hosts, shares]) => [nameOfRow(name, hosts), shares.map((share) => share / 1000)]);
  const heads = ["", ...heat.ports.map((port) => make("th", {scope: "col", title: portText(port)}, portName(port)))];
  const kind = heatRows === "campaigns" ? "campaign" : "class";
  const whose = hasLabels() || kind === "campaign" ? `the packets of each ${kind}` : "all packets";
  const label = `Share of ${whose} to each port on ${date}`;
  const table = shadedTable(label, heads, named, shareText, Math.sqrt);      // the root lets small shares be seen
  table.querySelectorAll("tbody tr").forEach((line, i) => [...line.cells].slice(1).forEach((cell, j) => {
    cell.title = `${rows[i][0]}: ${(rows[i][2][j] / 10).toFixed(1)}% of its packets to port ${portText(heat.ports[j])}`;
  }));
  const words = `${label}, in per cent; the ${counted(heat.ports.length, "busiest port")}.`;
  byId("heat").replaceChildren(make("p", {class: "soft"}, words), table);
}

// A class with its sign, or a link to a campaign, and how many hosts it has.
function nameOfRow(name, hosts) {
  const isCampaign = heatRows === "campaigns";
  const code = isCampaign ? 0 : run.classes.indexOf(name);
  return make("th", {scope: "row"}, !isCampaign && hasLabels() && code > 0 && classSign(code),
    isCampaign ? campaignLink(name, `Campaign ${name}`)
      : make("span", {class: "name"}, hasLabels() ? name : "All hosts"),
    make("span", {class: "soft number"}, ` ${count(hosts)}`));
}

function shareText(share) {
  if (share === 0) return "";
  return share < 0.01 ? "<1" : String(Math.round(100 * share));
}

function startPorts() {
  const kinds = {classes: hasLabels() ? "Classes" : "All hosts"};
  if (hasCampaigns()) kinds.campaigns = "Campaigns";
  if (hasCampaigns() && !hasLabels()) heatRows = "campaigns";
  choose(byId("rows"), kinds, heatRows, (kind) => { heatRows = kind; drawHeat(); });
  drawHeat();
  watch("day", drawHeat);
}
