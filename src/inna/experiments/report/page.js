// The report: a sortable table and a download.
"use strict";
(() => {
  // Table: the first click sorts best first, the next reverses; missing values stay last.
  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const column = head.cellIndex;
      const last = head.getAttribute("aria-sort");
      const order = last ? (last === "ascending" ? "descending" : "ascending") : head.dataset.first;
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const body = head.closest("table").tBodies[0];
      const sign = order === "ascending" ? 1 : -1;
      const value = (line) => line.children[column].dataset.value;
      const compare = (a, b) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (head.dataset.kind === "text" ? a.localeCompare(b) : Number(a) - Number(b));
      };
      body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
    });
  }

  // Download the rows of the page as a file.
  document.getElementById("download").addEventListener("click", (event) => {
    const text = document.getElementById("rows").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = event.currentTarget.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
})();
