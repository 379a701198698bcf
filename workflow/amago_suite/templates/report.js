"use strict";
// Sorting: a header's button turns its table by that column; empty cells stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentElement.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === (head.dataset.first || "ascending")
      ? head.dataset.first !== "descending" : head.dataset.first === "descending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.children[column];
      const text = (cell.dataset.value ?? cell.textContent).trim().replace("\u2212", "-");
      return /^-?[\d,.]+( \[.*)?$/.test(text) ? text.split(" ")[0].replaceAll(",", "") : text;
    };
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return down ? -order : order;
    });
    body.append(...rows);
  });
}
// Filtering: every word must occur in what the row or fold-out says about itself.
for (const input of document.querySelectorAll("input[data-filters]")) {
  const count = document.getElementById(input.dataset.filters + "-count");
  const items = [...document.querySelectorAll(`[data-filter="${input.dataset.filters}"]`)];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of items) {
      const text = (item.dataset.text || item.textContent).toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
      shown += !item.hidden;
    }
    count.textContent = words.length ? `${shown} of ${items.length}` : "";
  });
}
// A score leads to its runs; a link to a fold-out opens it.
function unfold() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
