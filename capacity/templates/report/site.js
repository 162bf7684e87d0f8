"use strict";
const list = document.getElementById("clusters");
const body = list.tBodies[0];
const rows = [...body.rows];
const find = document.getElementById("find");
const found = document.getElementById("found");
const texts = rows.map(row => row.textContent.toLowerCase());
function show() {
  const wanted = find.value.trim().toLowerCase();
  let count = 0;
  rows.forEach((row, i) => {
    row.hidden = !texts[i].includes(wanted);
    count += !row.hidden;
  });
  found.textContent = wanted ? `${count} of ${rows.length}` : "";
}
find.addEventListener("input", show);
const key = cell => {
  const text = cell.textContent.trim();
  const number = Number(text.replaceAll(",", ""));
  return text === "–" ? null : Number.isNaN(number) ? text : number;
};
const compare = (a, b) =>
  a === b ? 0 : a === null ? 1 : b === null ? -1 :
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
[...list.tHead.rows[0].cells].forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of list.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sorted = rows.map(row => [key(row.cells[column]), row])
      .sort((one, two) => (down ? -1 : 1) * compare(one[0], two[0]));
    body.replaceChildren(...sorted.map(pair => pair[1]));
  });
});
