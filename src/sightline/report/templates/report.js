"use strict";
// The theme comes first, before anything is painted: the address (#dark, #light), then the reader's last choice,
// then the system (which is the style sheet's business).
const root = document.documentElement;
const system = window.matchMedia("(prefers-color-scheme: dark)");
const store = {
  get() { try { return localStorage.getItem("sightline-theme"); } catch { return null; } },
  set(theme) { try { localStorage.setItem("sightline-theme", theme); } catch { /* not kept then */ } },
};
const asked = location.hash.slice(1);
const theme = ["dark", "light"].includes(asked) ? asked : store.get();
if (theme === "dark" || theme === "light") root.dataset.theme = theme;

document.addEventListener("DOMContentLoaded", () => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  themeButton();
  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  document.querySelectorAll("[data-chart]").forEach((chart) => readable(chart, data.charts[chart.dataset.chart]));
  cells(data.cells);
  // On paper nothing can be opened, so all is open.
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
});

function themeButton() {
  const button = document.getElementById("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.title = "Switch between light and dark";
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    store.set(root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);
  label();
}

function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : column === 0;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => Number(row.cells[column].dataset.sort);
    const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * (value(a) - value(b)));
    body.append(...rows);
  }));
}

// A cursor over the curves that reads the values off into the legend.
function readable(chart, info) {
  const svg = chart.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const quotes = [...chart.querySelectorAll(".legend b")];
  const title = chart.querySelector("h3");
  const rest = { title: title.textContent, quotes: quotes.map((quote) => quote.textContent) };
  const [first, last] = [info.epochs[0], info.epochs[info.epochs.length - 1]];
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * info.width;
    const epoch = first + ((at - info.left) / (info.right - info.left)) * (last - first);
    let near = 0;
    info.epochs.forEach((e, i) => { if (Math.abs(e - epoch) < Math.abs(info.epochs[near] - epoch)) near = i; });
    const share = last > first ? (info.epochs[near] - first) / (last - first) : 0.5;
    const x = info.left + share * (info.right - info.left);
    cursor.setAttribute("transform", `translate(${x} 0)`);
    cursor.classList.add("on");
    title.textContent = `${rest.title}, epoch ${info.epochs[near]}`;
    quotes.forEach((quote, i) => { quote.textContent = info.lines[i][near] ?? "–"; });
  });
  svg.addEventListener("pointerleave", () => {
    cursor.classList.remove("on");
    title.textContent = rest.title;
    quotes.forEach((quote, i) => { quote.textContent = rest.quotes[i]; });
  });
}

// The pictures behind a cell of the confusion matrix. Names come from folders: they are text, never markup.
function cells(all) {
  const panel = document.getElementById("behind");
  const buttons = [...document.querySelectorAll("[data-cell]")];
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const figure = (one, right) => {
    const picture = make("div", "picture");
    if (one.src) {
      const image = make("img");
      image.src = one.src;
      image.alt = one.ref;
      picture.append(image);
    } else {
      picture.classList.add("lost");
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", `${one.ref}: cannot be read`);
      picture.append("cannot", make("br"), "be read");
    }
    const whole = make("figure");
    whole.title = right ? `${one.ref}\n${one.said}` : `${one.ref}\nsaid ${one.said}, truth ${one.truth}`;
    whole.append(picture, make("figcaption", "", one.said), make("figcaption", "", one.ref.split("/").pop()));
    return whole;
  };
  const open = (key) => {
    const cell = all[key];
    const right = cell.truth === cell.said;
    const heading = make("h3", "", right ? `${cell.truth}, rightly named` : `${cell.truth} called ${cell.said}`);
    const shown = cell.pictures.length;
    const which = right ? "the least sure first" : "the highest loss first";
    const count = shown === cell.count
      ? `${cell.count} ${cell.count === 1 ? "picture" : "pictures"}${cell.count > 1 ? `, ${which}` : ""}`
      : `${shown} of ${cell.count} pictures, ${which}`;
    const grid = make("div", "grid");
    grid.append(...cell.pictures.map((one) => figure(one, right)));
    panel.replaceChildren(heading, make("p", "soft small", count), grid);
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.cell === key)));
  };
  buttons.forEach((button) => button.addEventListener("click", () => open(button.dataset.cell)));
  if (buttons.length) open(buttons[0].dataset.cell);
}
