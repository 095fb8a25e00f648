"use strict";
// Tables with class "sort" can be sorted by a click on a heading, and filtered by the field above them. Without this file they are
// plain tables. The view is kept in the address (#table=id&sort=2&down=1&filter=words), so that it can be sent to somebody.

const number = (text) => {
  const found = text.replace(/,/g, "").match(/-?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
};

const keep = (table, changes) => {
  const view = new URLSearchParams(location.hash.slice(1));
  if (view.get("table") !== table.id) for (const key of [...view.keys()]) view.delete(key);
  view.set("table", table.id);
  for (const [key, value] of Object.entries(changes)) value === "" ? view.delete(key) : view.set(key, value);
  history.replaceState(null, "", `#${view}`);
};

const sort = (table, column, down) => {
  const heads = [...table.tHead.rows[0].cells];
  const numeric = heads[column].hasAttribute("data-number");
  const rows = [...table.tBodies[0].rows].map((row) => {
    const text = row.cells[column].textContent.trim();
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

const filter = (table, field) => {
  const words = field.value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
  const rows = [...table.tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const text = row.querySelector("th").textContent.toLowerCase();
    row.hidden = !words.every((word) => (word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word)));
    shown += !row.hidden;
  }
  field.nextElementSibling.textContent = words.length ? `${shown} of ${rows.length}` : "";
};

for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.classList.contains("draw")) return;
    const link = head.querySelector("a");
    const button = document.createElement("button");
    button.type = "button";
    if (link) {
      // a heading that leads to a task keeps its link; the button stands below
      button.setAttribute("aria-label", `Sort by ${head.textContent.trim()}`);
      head.append(document.createElement("br"), button);
      const small = head.querySelector("small");
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
  const view = new URLSearchParams(location.hash.slice(1));
  if (view.get("table") === table.id) {
    const column = Number(view.get("sort"));
    if (view.has("sort") && heads[column]) sort(table, column, view.get("down") === "1");
    if (field && view.get("filter")) { field.value = view.get("filter"); filter(table, field); }
  }
}
document.addEventListener("keydown", (event) => {
  // "/" goes to the first filter, as in most sites with a search field
  const field = document.querySelector("[data-filter]");
  if (event.key === "/" && field && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) { event.preventDefault(); field.focus(); }
});
