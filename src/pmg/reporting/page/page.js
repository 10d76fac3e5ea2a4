"use strict";
// a table is sorted by the numbers of its cells where they have some, else by their texts; empty ones stand last
function sortTable(head) {
  const table = head.closest("table"), column = head.cellIndex, body = table.tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => {
    const cell = row.cells[column], text = cell.textContent.trim();
    if (cell.dataset.number !== undefined) return Number(cell.dataset.number);
    return text === "" || text === "\u2013" ? null : text;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const by = typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return up ? by : -by;
  };
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
}

function showRecord(sample) {
  const picture = sample.querySelector("img"), dialog = document.getElementById("record");
  document.getElementById("record-title").textContent = picture ? picture.alt : "Record";
  document.getElementById("record-image").replaceChildren(...(picture ? [picture.cloneNode()] : []));
  const lines = Object.entries(JSON.parse(sample.dataset.facts)).flatMap(([name, text]) => {
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    return [term, value];
  });
  document.getElementById("record-facts").replaceChildren(...lines);
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const sample = event.target.closest(".sample"), head = event.target.closest(".sortable thead th");
  if (sample) showRecord(sample);
  else if (head) sortTable(head);
  else if (event.target.id === "record") event.target.close(); // a click beside it
});

// a column is shown or hidden by its checkbox
document.addEventListener("change", (event) => {
  const box = event.target.closest(".columns input");
  if (!box) return;
  for (const row of document.getElementById(box.dataset.table).rows)
    row.cells[Number(box.dataset.column)].classList.toggle("off", !box.checked);
});
