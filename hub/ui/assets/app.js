// Yika console kit: the few things a server cannot render. No inline script, no framework.
// Markup hooks: data-open, data-close, data-confirm (+ data-confirm-ok), data-copy, data-print, data-printed,
// data-submit-on-change, data-countdown, data-reveal, data-toggle-side, data-fold-side, data-upload, data-check-all.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const root = document.documentElement;
  const sprite = root.dataset.sprite;
  const toneIcons = { ok: "circle-check", warn: "triangle-alert", bad: "circle-x", info: "info", plain: "info" };
  const TOAST_MS = 4500;

  function toast(tone, text) {
    const host = $("#toasts");
    if (!host || !text) return;
    const box = document.createElement("div");
    box.className = "toast is-" + (toneIcons[tone] ? tone : "info");
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    icon.setAttribute("class", "icon");
    icon.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", sprite + "#" + (toneIcons[tone] || "info"));
    icon.append(use);
    const words = document.createElement("span");
    words.textContent = text;
    box.append(icon, words);
    host.append(box);
    expire(box);
  }
  // A page that lay open is printed later than it was made: its clock is the server's and goes on.
  addEventListener("beforeprint", () => {
    for (const time of document.querySelectorAll("[data-printed]")) {
      time.dataset.printed ||= time.textContent;
      const made = Date.parse(time.dataset.printed.replace(" ", "T") + "Z");
      if (made) time.textContent = new Date(made + performance.now()).toISOString().slice(0, 19).replace("T", " ");
    }
  });
  function expire(box) {
    setTimeout(() => box.remove(), TOAST_MS);
  }

  // Asks before a destructive act; the button names the object. Resolves to true or false.
  function confirmed(source, question) {
    const dialog = $("#confirm");
    if (!dialog) return Promise.resolve(window.confirm(question));
    const [title, ...rest] = question.split("|");
    $("[data-slot=title]", dialog).textContent = title;
    $("[data-slot=text]", dialog).textContent = rest.join("|");
    const ok = $("[data-slot=ok]", dialog);
    ok.textContent = source.dataset.confirmOk || ok.dataset.word;
    ok.className = source.dataset.confirmTone === "plain" ? "btn is-primary" : "btn is-danger";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    });
  }

  const passed = new WeakSet();
  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest(selector);
    let hit;
    if ((hit = at("[data-confirm]")) && !hit.hasAttribute("hx-confirm") && !passed.has(hit)) {
      event.preventDefault();
      event.stopImmediatePropagation();
      confirmed(hit, hit.dataset.confirm).then((yes) => {
        if (!yes) return;
        passed.add(hit);
        hit.click();
        passed.delete(hit);
      });
      return;
    }
    if ((hit = at("[data-open]"))) {
      const dialog = $(hit.dataset.open);
      if (dialog && !dialog.open) dialog.showModal();
    }
    if ((hit = at("[data-close]"))) hit.closest("dialog")?.close();
    // A click on the backdrop has the dialog itself as its target.
    if (event.target.matches?.("dialog[data-light]")) event.target.close();
    if ((hit = at("[data-copy]"))) {
      navigator.clipboard?.writeText(hit.dataset.copy).then(() => toast("ok", hit.dataset.copied));
    }
    if (at("[data-print]")) window.print();
    if (at("[data-toggle-side]")) {
      const open = document.body.classList.toggle("side-open");
      $("[data-toggle-side]")?.setAttribute("aria-expanded", String(open));
    }
    if (at("[data-fold-side]")) {
      const folded = $(".shell").classList.toggle("is-folded");
      document.cookie = "menu=" + (folded ? "folded" : "open") + "; Path=/; SameSite=Strict; Max-Age=31536000";
    }
    if ((hit = at(".is-folded .menu summary"))) {
      event.preventDefault();
      $(".shell").classList.remove("is-folded");
      hit.parentElement.open = true;
    }
    if ((hit = at("[data-reveal]"))) {
      const input = $(hit.dataset.reveal);
      const shown = input.type === "text";
      input.type = shown ? "password" : "text";
      hit.setAttribute("aria-pressed", String(!shown));
    }
    document.querySelectorAll("details.who[open]").forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  }, true);

  document.addEventListener("change", (event) => {
    const input = event.target;
    if (input.matches("[data-submit-on-change]")) input.form.requestSubmit();
    if (input.matches("[data-check-all]")) {
      input.closest("table").querySelectorAll("tbody input[type=checkbox]").forEach((box) => {
        box.checked = input.checked;
      });
    }
    if (input.matches(".upload input[type=file]")) {
      const name = $(".file-name", input.closest(".upload"));
      if (name) name.textContent = Array.from(input.files, (file) => file.name).join(", ");
    }
    if (input.matches("tbody input[type=checkbox]")) {
      input.closest("tr").classList.toggle("is-selected", input.checked);
    }
  });

  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const zone = event.target.closest?.(".upload");
      if (!zone) return;
      event.preventDefault();
      zone.classList.toggle("is-over", kind === "dragover");
      if (kind !== "drop") return;
      const input = $("input[type=file]", zone);
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "Escape") {
      document.body.classList.remove("side-open");
      const menu = $("details.who[open]");
      if (menu) {
        menu.open = false;
        $("summary", menu).focus();
      }
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const box = $("#search");
      if (box) {
        event.preventDefault();
        box.focus();
        box.select();
      }
    }
    if (event.key === "?") $("#keys")?.showModal();
  });

  // htmx: progress line, dialogs that open when filled, toasts by header, our own confirm dialog.
  let pending = 0;
  const count = (step) => {
    pending = Math.max(0, pending + step);
    root.classList.toggle("is-loading", pending > 0);
  };
  document.addEventListener("htmx:before:request", () => count(1));
  document.addEventListener("htmx:finally:request", () => count(-1));
  document.addEventListener("htmx:after:swap", (event) => {
    const target = event.detail?.ctx?.target;
    if (!(target instanceof HTMLDialogElement) || target.open) return;
    target.showModal();
    // Left to itself the focus goes to the button that closes, and Enter would do so unsaid.
    const first = "[autofocus], input:not([type=hidden]):not([disabled]), select, textarea";
    (target.querySelector(first) || target.querySelector("button[type=submit], .btn.is-primary"))?.focus();
  });
  document.addEventListener("htmx:confirm", (event) => {
    const { ctx, issueRequest, dropRequest } = event.detail;
    if (!ctx?.confirm || !issueRequest) return;
    event.preventDefault();
    confirmed(ctx.sourceElement, ctx.confirm).then((yes) => (yes ? issueRequest() : dropRequest?.()));
  });
  document.addEventListener("htmx:error", () => toast("bad", root.dataset.wordOffline));
  document.addEventListener("toast", (event) => {
    const { tone, text } = event.detail || {};
    toast(tone, text);
  });

  // Time left, counted from when the page showed it, so that a browser's wrong clock does not matter.
  const two = (number) => String(number).padStart(2, "0");
  function countDown() {
    document.querySelectorAll("[data-countdown]").forEach((box) => {
      box.dataset.since ||= Date.now();
      const left = Math.floor(Number(box.dataset.countdown) - (Date.now() - Number(box.dataset.since)) / 1000);
      const [big, small] = left < 3600 ? [left / 60, left % 60] : [left / 3600, (left / 60) % 60];
      box.textContent = left <= 0 ? box.dataset.over : two(Math.floor(big)) + (left < 3600 ? ":" : " h ") + two(Math.floor(small));
    });
  }
  setInterval(countDown, 1000);

  document.querySelectorAll("#toasts .toast").forEach(expire);
})();
