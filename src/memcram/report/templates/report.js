(function () {
  "use strict";
  const rows = Array.from(document.querySelectorAll("#list tbody tr"));
  const names = rows.map((row) => row.textContent.toLowerCase());
  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    rows.forEach((row, i) => { row.hidden = !words.every((word) => names[i].includes(word)); });
  });
})();
