// The live page: keeps the table short, tells a lost line by the missing heartbeat, pauses.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live) return;
  const $ = (id) => document.getElementById(id);
  const SILENT_MS = 25000; // two heartbeats and a half
  const rowsMax = Number(live.dataset.rowsMax);
  let heard = Date.now();
  let paused = false;
  const lost = (is) => ($("live-lost").hidden = !is);

  function keep() {
    const rows = $("live-rows");
    while (rows.rows.length > rowsMax) rows.deleteRow(-1);
    $("live-empty").hidden = rows.rows.length > 0;
    $("live-table").hidden = rows.rows.length === 0;
  }
  const alive = () => {
    heard = Date.now();
    lost(false);
  };
  const stream = $("live-stream");
  stream.addEventListener("beat", alive);
  document.addEventListener("htmx:sse:after:connection", alive);
  document.addEventListener("htmx:sse:error", () => lost(true));
  document.addEventListener("htmx:sse:before:message", (event) => {
    alive();
    if (paused && !event.detail.message.event) {
      // The page asks again from the last row it has shown.
      event.detail.cancelled = true;
    }
  });
  document.addEventListener("htmx:sse:after:message", keep);
  setInterval(() => {
    if (Date.now() - heard > SILENT_MS) lost(true);
  }, 5000);

  $("live-pause").addEventListener("click", () => {
    paused = !paused;
    const button = $("live-pause");
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? button.dataset.off : button.dataset.on;
    $("live-paused").hidden = !paused;
    live.classList.toggle("live-off", paused);
    if (!paused) location.reload();
  });
})();
