// main.js: reads the run, draws the map first and the rest after it.

async function start() {
  await readRun();
  Object.assign(state, defaults(), partsOf(location.hash));
  byId("title").textContent = run.title;
  byId("settings").textContent = run.settings;
  byId("bar").hidden = byId("main").hidden = false;
  startMap();
  startSteering();
  startDays();
  startNews();
  startHosts();
  await new Promise((done) => setTimeout(done));             // lets the browser show these before the rest
  startCampaigns();
  startPorts();
  startActivity();
  startQuality();
  followLinks();
  requestAnimationFrame(() => setTimeout(() => {            // all that was drawn is on the screen
    document.documentElement.dataset.ready = Math.round(performance.now());
  }));
}

start().catch((error) => {
  const old = typeof DecompressionStream === "undefined" ? "This browser is too old for this page. " : "";
  complain(`${old}The page could not be drawn: ${error.message}`);
  throw error;
});

function complain(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = false;
}
