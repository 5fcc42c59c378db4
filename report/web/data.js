// data.js: the run that this page shows, taken from its block of data, and how to ask it.
//
// The scripts of report/web/ are put one after the other into one module, this one first, main.js last. Words used
// in all of them:
//   day     a place in run.days
//   host    a place in column.address, the page's hosts by ascending address
//   row     one host on one day: a place in column.host, column.packets
//   point   a row of a day that has a map: a place in column.x, column.label, ...
// A class, campaign or address comes from a trace: it reaches the page as text only, never as HTML.

let run = null;          // the header of the block: see report/page.py
let column = null;       // name -> typed array
let names = null;        // the text of each host's address

const TYPES = {u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i2: Int16Array};
const NO_SURPRISE = 255;
const UNIT = 512;        // steps of x and y in one unit of the map

async function readRun() {
  const text = atob(document.getElementById("run").textContent.trim());
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const bytes = await new Response(stream).arrayBuffer();
  const length = new DataView(bytes).getUint32(0, true);
  run = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  column = {};
  for (const [name, [type, offset, entries]] of Object.entries(run.columns)) {
    column[name] = new TYPES[type](bytes, 4 + length + offset, entries);
  }
  names = Array.from(column.address, dotted);
}

function dotted(address) {
  return `${address >>> 24}.${address >>> 16 & 255}.${address >>> 8 & 255}.${address & 255}`;
}

// The number of an address in text, or null where the text is none.
function numbered(text) {
  const octets = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text.trim());
  if (!octets || octets.slice(1).some((octet) => octet > 255)) return null;
  return octets.slice(1).reduce((number, octet) => number * 256 + Number(octet), 0);
}

// Where `value` stands in an ascending array between the places `low` and `high`, or -1.
function find(array, value, low = 0, high = array.length) {
  const end = high;
  while (low < high) {
    const middle = low + high >>> 1;
    if (array[middle] < value) low = middle + 1; else high = middle;
  }
  return low < end && array[low] === value ? low : -1;
}

function hostOf(text) {
  const number = numbered(text);
  return number === null ? -1 : find(column.address, number);
}

function rowOf(day, host) {
  const {start, shown} = run.days[day];
  return find(column.host, host, start, start + shown);
}

function pointOf(day, row) {
  const {start, map} = run.days[day];
  return row < 0 || map < 0 ? -1 : map + row - start;
}

function hostOfPoint(day, point) {
  return column.host[rowOfPoint(day, point)];
}

function rowOfPoint(day, point) {
  return run.days[day].start + point - run.days[day].map;
}

const hasLabels = () => run.classes.length > 1;
const hasCampaigns = () => run.campaigns && column.campaign !== undefined;    // false also where none was found
const hasMap = () => run.days.some((day) => day.map >= 0);

// The host's last row before `day` on a day that has a map, as [day, point], or null.
function pointBefore(day, host) {
  for (let earlier = day - 1; earlier >= 0; earlier--) {
    const point = pointOf(earlier, rowOf(earlier, host));
    if (point >= 0) return [earlier, point];
  }
  return null;
}

// What a column of places holds where there is none: the largest number of its type.
const noPlace = (places) => places.BYTES_PER_ELEMENT === 2 ? 0xffff : 0xffffffff;

// The up to three hosts of the day that are nearest to one, as [host, cosine, point or -1 where it is not drawn].
function nearest(day, point) {
  return [0, 1, 2].map((i) => 3 * point + i).filter((i) => column.near[i] !== noPlace(column.near))
    .map((i) => [column.near[i], column.similarity[i] / 255, pointOf(day, rowOf(day, column.near[i]))]);
}

const campaignOf = (point) => hasCampaigns() ? column.campaign[point] : 0;

function surpriseOf(point) {
  const step = column.surprise[point];
  return step === NO_SURPRISE ? null : 2 ** (step / 32) - 1;
}

function portsOf(row) {
  return [...column.port.subarray(3 * row, 3 * row + 3)].filter((place) => place !== noPlace(column.port))
    .map((place) => run.ports[place]);
}

// Numbers as people read them.

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const count = (number) => whole.format(number);
const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
const decimals = (number, places = 2) => number === null || number === undefined ? "–" : number.toFixed(places);

// About as many packets as the row's step says, to two digits.
function packetsOf(row) {
  return count(Number((2 ** (column.packets[row] / 8) - 1).toPrecision(2)));
}

const SERVICES = {
  21: "FTP", 22: "SSH", 23: "Telnet", 25: "SMTP", 53: "DNS", 80: "HTTP", 110: "POP3", 111: "rpcbind", 123: "NTP",
  135: "MSRPC", 139: "NetBIOS", 143: "IMAP", 161: "SNMP", 389: "LDAP", 443: "HTTPS", 445: "SMB", 465: "SMTPS",
  587: "submission", 993: "IMAPS", 1433: "MS SQL", 1521: "Oracle", 1723: "PPTP", 1883: "MQTT", 2323: "Telnet",
  2375: "Docker", 3306: "MySQL", 3389: "RDP", 5060: "SIP", 5432: "PostgreSQL", 5555: "ADB", 5900: "VNC", 6379: "Redis",
  8080: "HTTP", 8443: "HTTPS", 9200: "Elasticsearch", 11211: "memcached", 27017: "MongoDB",
};
const portName = (port) => port > 65535 ? "other" : String(port);
const portText = (port) => SERVICES[port] ? `${port} ${SERVICES[port]}` : portName(port);

function weekday(date) {
  return new Date(`${date}T00:00:00Z`).toLocaleDateString("en", {weekday: "short", timeZone: "UTC"});
}
