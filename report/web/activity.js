// activity.js: all hosts of the page by day, in the order in which they were first seen.

const raster = {hosts: [], place: null, first: null, left: 78, bottom: 22, bins: 0, counts: null, sizes: null};

// Hosts in order of their first day, those that came back more often first; without those that are only neighbours.
function orderHosts() {
  const hosts = column.address.length;
  raster.first = new Uint16Array(hosts).fill(run.days.length);
  const days = new Uint16Array(hosts);
  run.days.forEach(({start, shown}, day) => {
    for (let row = start; row < start + shown; row++) {
      const host = column.host[row];
      if (raster.first[host] > day) raster.first[host] = day;
      days[host]++;
    }
  });
  raster.hosts = Uint32Array.from({length: hosts}, (_, i) => i).filter((host) => days[host])
    .sort((a, b) => raster.first[a] - raster.first[b] || days[b] - days[a] || a - b);
  raster.place = new Uint32Array(hosts);
  raster.hosts.forEach((host, place) => { raster.place[host] = place; });
}

// How many of the hosts of each line of the picture were active on each day.
function countActive(lines) {
  const hosts = raster.hosts.length;
  raster.bins = Math.min(hosts, lines);
  raster.sizes = new Uint32Array(raster.bins);
  raster.counts = new Uint32Array(raster.bins * run.days.length);
  for (let place = 0; place < hosts; place++) raster.sizes[binOf(place)]++;
  run.days.forEach(({start, shown}, day) => {
    for (let row = start; row < start + shown; row++) {
      raster.counts[day * raster.bins + binOf(raster.place[column.host[row]])]++;
    }
  });
}

const binOf = (place) => Math.floor(place * raster.bins / raster.hosts.length);

function drawRaster() {
  const {context, width, height} = prepare(byId("raster"));
  if (width <= raster.left || height <= raster.bottom) return;
  const wide = (width - raster.left) / run.days.length, high = height - raster.bottom;
  countActive(Math.floor(high));
  const tall = high / raster.bins;
  context.clearRect(0, 0, width, height);
  context.fillStyle = colour("--accent");
  for (let day = 0; day < run.days.length; day++) {
    for (let bin = 0; bin < raster.bins; bin++) {
      const active = raster.counts[day * raster.bins + bin];
      if (!active) continue;
      context.globalAlpha = 0.12 + 0.88 * active / raster.sizes[bin];
      const top = Math.round(bin * tall), end = Math.round((bin + 1) * tall); // whole pixels: no stripes between lines
      context.fillRect(raster.left + day * wide, top, Math.max(1, wide - 1), Math.max(1, end - top));
    }
  }
  context.globalAlpha = 1;
  drawRasterAxes(context, wide, high, width);
  context.strokeStyle = colour("--ink");
  context.strokeRect(raster.left + state.day * wide - 0.5, 0.5, wide, high - 1);
  if (state.host < 0 || raster.first[state.host] === run.days.length) return;
  const y = (raster.place[state.host] + 0.5) * high / raster.hosts.length;
  context.beginPath();
  context.moveTo(raster.left, y);
  context.lineTo(width, y);
  context.stroke();
}

// On the left the day on which the hosts beside it were first seen, below the days.
function drawRasterAxes(context, wide, high, width) {
  context.fillStyle = colour("--soft");
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "top";
  let [free, host] = [0, 0];
  run.days.forEach(({date}, day) => {
    const y = host * high / raster.hosts.length;
    while (host < raster.hosts.length && raster.first[raster.hosts[host]] <= day) host++;
    if (y >= free && y < high - 12 && (host * high / raster.hosts.length) > y) {
      context.fillText(date, 0, y);
      free = y + 16;
    }
  });
  const step = Math.ceil(58 / wide);
  context.textAlign = "center";
  for (let day = 0; day < run.days.length; day += step) {
    const x = Math.min(raster.left + (day + 0.5) * wide, width - 18);
    context.fillText(run.days[day].date.slice(5), x, high + 6);
  }
  context.textAlign = "left";
}

function rasterTip(event) {
  const {left, top, width, height} = byId("raster").getBoundingClientRect();
  const day = Math.floor((event.clientX - left - raster.left) / (width - raster.left) * run.days.length);
  const bin = Math.floor((event.clientY - top) / (height - raster.bottom) * raster.bins);
  if (day < 0 || day >= run.days.length || bin < 0 || bin >= raster.bins) return hideTip();
  const place = Math.ceil(bin * raster.hosts.length / raster.bins), host = raster.hosts[place];
  const first = run.days[raster.first[host]].date, active = raster.counts[day * raster.bins + bin];
  showTip(raster.sizes[bin] === 1
    ? [names[host], `First seen ${first}`, `${run.days[day].date}: ${active ? "active" : "not seen"}`]
    : [run.days[day].date, `${count(active)} of ${count(raster.sizes[bin])} hosts active`, `First seen ${first}`],
  event.clientX, event.clientY);
}

function startActivity() {
  orderHosts();
  const canvas = byId("raster"), hosts = raster.hosts.length;
  canvas.style.height = `${Math.max(80, Math.min(460, 12 * hosts)) + raster.bottom}px`;
  const rows = column.host.length;
  const words = `${counted(hosts, "host")} from top to bottom in the order in which they were first seen (dates on ` +
    "the left), and the days on which they came; the darker, the more of them. On average a host came on " +
    `${(rows / hosts).toFixed(1)} of ${counted(run.days.length, "day")}.`;
  byId("activity-words").textContent = words;
  canvas.setAttribute("aria-label", `Hosts by day. ${words}`);
  drawRaster();
  watch("day host", drawRaster);
  whenLookChanges(drawRaster);
  canvas.addEventListener("pointermove", rasterTip);
  canvas.addEventListener("pointerleave", hideTip);
}
