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
  board.classList.toggle("one-task", wanted.task.value !== "");
  document.querySelector("#count").textContent = `${shown} of ${rows.length}`;
  drawn.forEach(pick);
}

function download() {
  const cell = (text) => `"${text.trim().replaceAll('"', '""')}"`;
  const shown = [board.tHead.rows[0], ...body.rows].filter((row) => !row.hidden);
  const lines = shown.map((row) => [...row.cells].map((one) => cell(one.textContent)).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "leaderboard.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

const figures = JSON.parse(document.querySelector("#charts").textContent);
const themes = JSON.parse(document.querySelector("#themes").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 40rem)");
const drawn = new Map();

function pick(view) {
  view.signal("wantedFamily", wanted.family.value).signal("wantedModel", wanted.model.value.trim()).runAsync();
}

async function draw() {
  for (const place of document.querySelectorAll(".chart")) {
    const { view } = await vegaEmbed(place, figures[place.dataset.chart][narrow.matches ? "narrow" : "wide"], {
      renderer: "svg",
      config: themes[dark.matches ? "dark" : "light"],
      actions: { export: true, source: false, compiled: false, editor: false },
    });
    drawn.set(place, view);
    pick(view);
  }
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
  if (target) target.scrollIntoView();
}

heads.forEach((head) => head.addEventListener("click", () => sort(head)));
for (const field of Object.values(wanted)) for (const kind of ["input", "change"]) field.addEventListener(kind, filter);
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
document.querySelector("#download").addEventListener("click", download);
for (const one of [dark, narrow]) one.addEventListener("change", draw);
addEventListener("hashchange", reveal);
filter();
draw().then(reveal);
