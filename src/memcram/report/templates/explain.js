(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const view = document.getElementById("view");
  const tokens = Array.from(document.querySelectorAll("#tokens .t"));
  const panel = document.getElementById("panel");
  const slider = document.getElementById("horizon");
  const corrected = new Set(data.corrected), guarded = new Set(data.guarded);
  const bits = (nats) => nats / Math.LN2;
  const number = (x, digits) => x === null ? "–" : x.toFixed(digits).replace("-", "\u2212");
  const surprisal = (x) => x === null ? "–" : number(x, 2) + " nats (" + number(bits(x), 2) + " bits)";

  function line(...parts) {
    const row = document.createElement("span");
    row.style.display = "block";
    row.append(...parts);
    return row;
  }

  function tell(i) {
    const name = document.createElement("strong");
    name.textContent = data.pieces[i];
    name.dir = "ltr";
    const marks = (corrected.has(i) ? " · correction" : "") + (guarded.has(i) ? " · guard" : "");
    panel.replaceChildren(
      line(name, " · token " + (i + 1) + " of " + tokens.length + marks),
      line("margin " + number(data.margins[i], 3) + " logits · surprisal: bare LM " +
        surprisal(data.lm[i]) + ", with [mem] " + surprisal(data.mem[i])),
      line("rank: with [mem] " + (data.rank[i] ?? "–") + ", bare LM " + (data.lmRank[i] ?? "–") +
        " · learned at step " + (data.learned[i] ?? "–")));
  }

  function cut() {
    const n = Number(slider.value);
    tokens.forEach((token, i) => token.classList.toggle("beyond", i >= n));
    let right = 0, before = 0, after = 0, known = 0;
    for (let i = 0; i < n; i++) {
      if (data.margins[i] !== null && data.margins[i] > 0) right++;
      if (data.lm[i] !== null && data.mem[i] !== null) {
        known++; before += data.lm[i]; after += data.mem[i];
      }
    }
    document.getElementById("n").textContent = n + " of " + tokens.length;
    slider.setAttribute("aria-valuetext", n + " of " + tokens.length + " tokens");
    document.getElementById("summary").textContent = "First " + n + " tokens: " + right +
      " correct; over the " + known + " that both predict, " + surprisal(before) + " under the bare LM, " +
      surprisal(after) + " with [mem].";
  }

  function focus(i) {
    if (i < 0 || i >= tokens.length) return;
    tokens.forEach((token) => { token.tabIndex = -1; });
    tokens[i].tabIndex = 0;
    tokens[i].focus();
  }

  const place = (event) => tokens.indexOf(event.target.closest(".t"));
  const box = document.getElementById("tokens");
  for (const kind of ["mouseover", "focusin", "click"]) {
    box.addEventListener(kind, (event) => { const i = place(event); if (i >= 0) tell(i); });
  }
  box.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 }[event.key];
    if (by) { event.preventDefault(); focus(place(event) + by); }
  });
  document.querySelectorAll("input[name=by]").forEach((input) => {
    input.addEventListener("change", () => { view.dataset.by = input.value; });
  });
  // A browser may keep an old state of the form when the page is loaded again.
  const checked = document.querySelector("input[name=by]:checked");
  if (checked) view.dataset.by = checked.value;
  slider.addEventListener("input", cut);
  cut();
})();
