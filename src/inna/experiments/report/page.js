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

  // Compare with the optimizer that the reader chooses; the page of a reproduction has no such choice.
  document.getElementById("reference")?.addEventListener("change", (event) => {
    const comparisons = JSON.parse(document.getElementById("comparisons").textContent);
    const reference = event.currentTarget.value;
    for (const line of document.querySelectorAll("table.results tbody tr")) {
      const cells = comparisons[reference][line.children[0].dataset.value];
      [...line.querySelectorAll("td.compared")].forEach((cell, place) => {
        const [mean, interval, comparison, value] = cells ? cells[place] : ["–", "", "", null];
        cell.dataset.value = value === null ? "" : value;
        cell.replaceChildren(mean);
        for (const words of [interval, comparison].filter(Boolean)) {
          const small = document.createElement("small");
          if (words === "better" || words === "worse") small.className = words;
          small.textContent = words;
          cell.append(small);
        }
      });
      line.querySelector(".badge")?.remove();
      if (line.children[0].dataset.value === reference) {
        const badge = document.createElement("span");
        badge.className = "badge";
        badge.textContent = "reference";
        line.querySelector(".name > span").append(" ", badge);
      }
    }
  });

  // A link to a verdict opens it.
  for (const link of document.querySelectorAll('a[href^="#claim-"]')) {
    link.addEventListener("click", () => { document.querySelector(link.hash).open = true; });
  }

  // The first columns; the rest on demand. Without JavaScript all are there.
  const table = document.querySelector("table.results");
  const every = document.getElementById("all-columns");
  if (every) {
    const choose = () => table.classList.toggle("short", !every.checked);
    every.addEventListener("change", choose);
    choose();
  }

  // Copy a block of code.
  for (const button of document.querySelectorAll("button.copy")) {
    const block = button.parentElement.querySelector("pre");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent.trim() + "\n");
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block);
        button.textContent = "Press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
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
