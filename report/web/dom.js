// dom.js: elements, made of text and never of HTML.

const byId = (id) => document.getElementById(id);

// An element with attributes and children; a child that is not an element becomes text, null and false become nothing.
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

function button(text, act, attributes = {}) {
  const made = make("button", {type: "button", ...attributes}, text);
  made.addEventListener("click", act);
  return made;
}

// Radio buttons in a fieldset: options {value: text}. Hidden where there is nothing to choose.
function choose(fieldset, options, chosen, act) {
  const entries = Object.entries(options);
  fieldset.hidden = entries.length < 2;
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...entries.map(([value, text]) => {
    const input = make("input", {type: "radio", name: fieldset.id, value, checked: value === chosen});
    input.addEventListener("change", () => act(value));
    return make("label", {}, input, make("span", {}, text));
  }));
}

function check(fieldset, value) {
  for (const input of fieldset.querySelectorAll("input")) input.checked = input.value === value;
}

// A table in a box of its own that scrolls sideways; rows are arrays of cells, a cell text or an element.
function makeTable(label, heads, rows, classes = "") {
  const cell = (tag, attributes) => (content) =>
    content instanceof HTMLTableCellElement ? content : make(tag, attributes, content);
  return make("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label},
    make("table", {class: classes},
      make("caption", {class: "unseen"}, label),
      make("thead", {}, make("tr", {}, heads.map(cell("th", {scope: "col"})))),
      make("tbody", {}, rows.map(([first, ...rest]) =>
        make("tr", {}, cell("th", {scope: "row"})(first), rest.map(cell("td", {})))))));
}

// A table of shaded cells. rows: [name, [value or null, ...]]; values lie between 0 and 1; `text` writes one, and
// `depth` says how dark its cell is, from 0 to 1.
function shadedTable(label, heads, rows, text, depth) {
  const cell = (value) => value === null ? make("td", {class: "none"})
    : make("td", {class: `shade${Math.min(9, Math.ceil(9 * depth(value)))}`}, text(value));
  return makeTable(label, heads, rows.map(([name, values]) => [name, ...values.map(cell)]), "shaded");
}

// What a colour of the style sheet is in the theme that is shown.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Makes a canvas as sharp as the screen and returns its context and its size in CSS pixels.
function prepare(canvas) {
  const {clientWidth: width, clientHeight: height} = canvas;
  const density = Math.min(window.devicePixelRatio || 1, 3);
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  return {context, width, height};
}

// Calls `act` when the theme, the paper (screen or printer) or the width of the page changes.
function whenLookChanges(act) {
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", act);
  for (const event of ["beforeprint", "afterprint", "resize"]) window.addEventListener(event, act);
}

// The note beside the pointer.
function showTip(lines, x, y) {
  const tip = byId("tip");
  tip.replaceChildren(...lines.map((line, i) => make(i ? "span" : "strong", {}, line)));
  tip.hidden = false;
  const {width, height} = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? y - height - 10 : y + 18}px`;
}

const hideTip = () => { byId("tip").hidden = true; };
