"use strict";
// Tables with class "sort" can be sorted by a click on a heading, and filtered by the field above them. Without this file they are
// plain tables. The view is kept in the address (#table=id&sort=2&down=1&filter=words&on=task&score=40&parameters=100&columns=group, or
// &a=model&b=model), so that it can be sent to somebody.

const number = (text) => {
  const found = text.replace(/,/g, "").replace(/−/g, "-").match(/-?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
};

// a cell's own text, without the interval below it
const textOf = (cell) => [...cell.childNodes].filter((node) => node.nodeName !== "I").map((node) => node.textContent).join("").trim();

// the last row of the head; rows above it name groups of columns
const headings = (table) => [...[...table.tHead.rows].at(-1).cells];

const keep = (table, changes) => {
  const view = new URLSearchParams(location.hash.slice(1));
  if (view.get("table") !== table.id) for (const key of [...view.keys()]) view.delete(key);
  view.set("table", table.id);
  for (const [key, value] of Object.entries(changes)) value === "" ? view.delete(key) : view.set(key, value);
  history.replaceState(null, "", `#${view}`);
};

const sort = (table, column, down) => {
  const heads = headings(table);
  const numeric = heads[column].hasAttribute("data-number");
  const rows = [...table.tBodies[0].rows].map((row) => {
    const text = textOf(row.cells[column]);
    return { row, text, value: number(text) };
  });
  const sign = down ? -1 : 1;
  rows.sort((a, b) => {
    if (!numeric) return sign * a.text.localeCompare(b.text, "en", { numeric: true });
    if (isNaN(a.value) || isNaN(b.value)) return isNaN(a.value) - isNaN(b.value); // what was not scored is last, either way
    return sign * (a.value - b.value);
  });
  table.tBodies[0].append(...rows.map((one) => one.row));
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
};

const boundsOf = (table) => [...document.querySelectorAll(`[data-bounds="${CSS.escape(table.id)}"]`)];
const control = (table, name) => boundsOf(table).map((group) => group.querySelector(`[name="${name}"]`)).find((field) => field);

// tests of a row: its score on the chosen task is good enough, its cost low enough; what was not scored or is not known fails
const limits = (table) => {
  const heads = headings(table), found = [];
  const [on, score, parameters] = ["on", "score", "parameters"].map((name) => control(table, name));
  const add = (column, field, lower) => {
    if (column < 0 || !field || field.value === "") return;
    const sign = lower ? -1 : 1, bound = sign * field.valueAsNumber;
    found.push((row) => sign * number(textOf(row.cells[column])) >= bound);
  };
  if (on) {
    const column = heads.findIndex((head) => head.dataset.key === on.value);
    add(column, score, column >= 0 && "lower" in heads[column].dataset);
  }
  add(heads.findIndex((head) => head.dataset.cost === "parameters"), parameters, true);
  return found;
};

const filter = (table, field) => {
  const words = field.value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
  const within = limits(table);
  const rows = [...table.tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const text = row.querySelector("th").textContent.toLowerCase();
    row.hidden = !words.every((word) => (word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word))) || !within.every((test) => test(row));
    shown += !row.hidden;
  }
  field.nextElementSibling.textContent = words.length || within.length ? `${shown} of ${rows.length}` : "";
};

// the fields for bounds, with the tasks to choose from
const openBounds = (table, field, view) => {
  const on = control(table, "on");
  if (!on) return;
  const words = on.parentElement.parentElement.querySelector("[name=score]").previousSibling;
  for (const head of headings(table)) if (head.dataset.key) on.add(new Option(head.dataset.key));
  const say = () => {
    const head = headings(table).find((one) => one.dataset.key === on.value);
    words.textContent = head && "lower" in head.dataset ? "at most " : "at least ";
  };
  for (const name of ["on", "score", "parameters"]) {
    const one = control(table, name);
    if (!one) continue;
    const asked = view.get(name);
    if (asked !== null && (one !== on || [...on.options].some((option) => option.value === asked))) one.value = asked;
    one.addEventListener("input", () => {
      say();
      filter(table, field);
      keep(table, { on: control(table, "score").value ? on.value : "", score: control(table, "score").value, ...(name === "parameters" ? { parameters: one.value } : {}) });
    });
  }
  say();
  for (const group of boundsOf(table)) group.hidden = false;
};

// the columns of one group, and those of no group
const columns = (table, group) => {
  const heads = headings(table);
  for (const head of table.tHead.querySelectorAll("[data-group]")) head.hidden = group !== "" && head.dataset.group !== group;
  for (const row of table.tBodies[0].rows) heads.forEach((head, index) => { row.cells[index].hidden = head.hidden; });
};

// a column for the difference of two others, which are chosen by their labels
const addDifference = (table) => {
  const head = document.createElement("th");
  Object.assign(head, { scope: "col", className: "n", hidden: true, textContent: "difference" });
  head.dataset.number = "";
  headings(table)[0].after(head);
  for (const row of table.tBodies[0].rows) {
    const cell = document.createElement("td");
    cell.hidden = true;
    row.cells[0].after(cell);
  }
};

// of two models, the columns alone, and by how much the first is better; of fewer, all columns
const compare = (table, labels) => {
  const heads = headings(table);
  const [one, other] = labels.map((label) => heads.findIndex((head) => label && head.dataset.label === label));
  const both = one > 0 && other > 0 && one !== other;
  const sign = table.hasAttribute("data-lower") ? -1 : 1;
  heads.forEach((head, index) => { if (head.dataset.label) head.hidden = both && index !== one && index !== other; });
  heads[1].hidden = !both;
  for (const row of table.tBodies[0].rows) {
    heads.forEach((head, index) => { row.cells[index].hidden = head.hidden; });
    if (!both) continue;
    const texts = [one, other].map((index) => row.cells[index].textContent.trim());
    const gain = sign * (number(texts[0]) - number(texts[1]));
    const digits = (texts[0].split(".")[1] || "").length;
    row.cells[1].textContent = isNaN(gain) ? "–" : `${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(digits)}`;
  }
  if (both) sort(table, 1, true);
};

for (const table of document.querySelectorAll("table.sort")) {
  const pair = document.querySelector(`[data-pair="${CSS.escape(table.id)}"]`);
  if (pair) addDifference(table);
  const heads = headings(table);
  heads.forEach((head, column) => {
    if (head.classList.contains("draw")) return;
    const link = head.querySelector("a");
    const button = document.createElement("button");
    button.type = "button";
    if (link) {
      // a heading that leads to a task keeps its link; the button stands below
      const small = head.querySelector("small");
      button.setAttribute("aria-label", `Sort by ${link.textContent}, ${small ? small.textContent : ""}`);
      head.append(document.createElement("br"), button);
      if (small) { head.querySelector("br").remove(); button.append(small); }
    } else {
      button.append(...head.childNodes);
      head.append(button);
    }
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      // the first click on numbers that are better when higher shows the highest first
      const down = was ? was === "ascending" : head.textContent.includes("↑") && head.hasAttribute("data-number");
      sort(table, column, down);
      keep(table, { sort: String(column), down: down ? "1" : "" });
    });
  });
  const field = document.querySelector(`[data-filter="${CSS.escape(table.id)}"]`);
  if (field) {
    field.parentElement.hidden = false;
    field.addEventListener("input", () => { filter(table, field); keep(table, { filter: field.value }); });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { field.value = ""; filter(table, field); keep(table, { filter: "" }); }
    });
  }
  const choice = document.querySelector(`[data-columns="${CSS.escape(table.id)}"]`);
  if (choice) {
    choice.parentElement.hidden = false;
    choice.addEventListener("change", () => { columns(table, choice.value); keep(table, { columns: choice.value }); });
  }
  const models = pair ? [...pair.querySelectorAll("select")] : [];
  const labels = () => models.map((model) => model.value);
  if (pair) {
    pair.hidden = false;
    pair.addEventListener("change", () => { compare(table, labels()); keep(table, { a: labels()[0], b: labels()[1], sort: "", down: "" }); });
  }
  const asked = new URLSearchParams(location.hash.slice(1));
  const view = asked.get("table") === table.id ? asked : new URLSearchParams();
  openBounds(table, field, view);
  if (view.has("table")) {
    models.forEach((model, index) => {
      const label = view.get("ab"[index]);
      if ([...model.options].some((option) => option.value === label)) model.value = label;
    });
    if (pair) compare(table, labels());
    if (choice && [...choice.options].some((option) => option.value === view.get("columns"))) {
      choice.value = view.get("columns");
      columns(table, choice.value);
    }
    const column = Number(view.get("sort"));
    if (view.has("sort") && heads[column]) sort(table, column, view.get("down") === "1");
    if (field) { field.value = view.get("filter") || ""; filter(table, field); }
  }
}
document.addEventListener("keydown", (event) => {
  const menu = document.querySelector(".menu[open]");
  if (event.key === "Escape" && menu) { menu.open = false; menu.firstElementChild.focus(); }
  // "/" goes to the first filter, as in most sites with a search field
  const field = document.querySelector("[data-filter]");
  if (event.key === "/" && field && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) { event.preventDefault(); field.focus(); }
});
