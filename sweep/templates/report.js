"use strict";

// Columns are sorted within each body of a table: up, down, and back to the order of the sweep.
const STEPS = { none: "ascending", ascending: "descending", descending: "none" };

for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("tbody").forEach((body) => {
    [...body.rows].forEach((row, place) => { row.dataset.place = place; });
  });
  for (const heading of table.querySelectorAll("tr.columns th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, heading));
  }
}
document.querySelectorAll(".hint").forEach((hint) => { hint.hidden = false; });

function sort(table, heading) {
  const direction = STEPS[heading.getAttribute("aria-sort")];
  for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", direction);
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("block"));
    rows.sort((a, b) => compare(a, b, heading.cellIndex, direction));
    body.append(...rows);
  }
  const caption = table.caption.textContent;
  const order = direction === "none" ? "in the order of the sweep" : `sorted by ${heading.textContent}, ${direction}`;
  document.getElementById("said").textContent = `${caption}: ${order}`;
}

function compare(a, b, column, direction) {
  const [x, y] = [a, b].map((row) => key(row.cells[column], column));
  const places = Number(a.dataset.place) - Number(b.dataset.place);
  if (direction === "none" || (x === undefined && y === undefined)) return places;
  // What has no number stays last, whichever way the numbers go.
  if (x === undefined || y === undefined) return x === undefined ? 1 : -1;
  const order = isNaN(x) || isNaN(y) ? String(x).localeCompare(String(y), "en", { numeric: true }) : x - y;
  return (direction === "ascending" ? order : -order) || places;
}

function key(cell, column) {
  return column === 0 ? cell.textContent : cell.dataset.value;
}

// What is folded is printed as well.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => {
  folded.forEach((details) => { details.open = false; });
});
