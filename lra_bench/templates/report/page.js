"use strict";
const board = document.querySelector("#board"), body = board.tBodies[0], rows = [...body.rows];
const heads = [...board.querySelectorAll("th[aria-sort]")];
const wanted = { task: document.querySelector("#task"), family: document.querySelector("#family"), model: document.querySelector("#model") };

function value(row, column) {
  const cell = row.cells[column], number = cell.dataset.sort;
  return number === undefined ? cell.textContent.trim() : number === "" ? null : Number(number);
}

function sort(head) {
  const column = head.cellIndex, now = head.getAttribute("aria-sort");
  const numbers = rows.some((row) => row.cells[column].dataset.sort !== undefined);
  const falling = now === "none" ? numbers : now === "ascending";
  heads.forEach((other) => other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const order = (a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (x === null || y === null) return (x === null) - (y === null); // what is missing comes last
    return (typeof x === "number" ? x - y : x.localeCompare(y)) * (falling ? -1 : 1);
  };
  body.append(...rows.sort(order));
}

function filter() {
  let shown = 0;
  for (const row of rows) {
    row.hidden = (wanted.task.value && row.dataset.task !== wanted.task.value)
      || (wanted.family.value && row.dataset.family !== wanted.family.value)
      || !row.dataset.model.includes(wanted.model.value.trim());
    shown += !row.hidden;
  }
  document.querySelector("#count").textContent = `${shown} of ${rows.length}`;
}

heads.forEach((head) => head.addEventListener("click", () => sort(head)));
for (const field of Object.values(wanted)) for (const kind of ["input", "change"]) field.addEventListener(kind, filter);
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
filter();

const charts = JSON.parse(document.querySelector("#charts").textContent);
for (const place of document.querySelectorAll(".chart")) {
  vegaEmbed(place, charts[place.dataset.chart], { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } });
}
