// Sorts a table by the column whose name was clicked, and hides classes that the search field does not match.
const value = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const rising = head.ariaSort !== "ascending";
    heads.forEach((other) => { other.ariaSort = null; });
    head.ariaSort = rising ? "ascending" : "descending";
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      const order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
      return rising ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }));
}
for (const field of document.querySelectorAll("input.search")) {
  const rows = [...field.parentElement.querySelectorAll("tbody tr")];
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
}
