// The web till: keys, keyboard reader, sound, and the id of each sale.
//
// A sale keeps its id and body until the box has answered; asked again, the box gives its first answer. The browser is
// not the store of record: it only remembers the question. All words come from the page.
"use strict";
(() => {
  const till = document.getElementById("till");
  if (!till) return;
  const $ = (selector, root = document) => root.querySelector(selector);
  const GAP_MS = 60; // a person does not press two keys within it, a reader does not pause longer
  const UNSURE_MS = 500; // keys so shortly before a reading may be its beginning: then nothing is sold, unless
  const READINGS_ALIKE = 2; // the last readings were as long as this one: then all of it is here, and the keys were a person's
  const ALIKE_CHARS_MIN = 6; // shorter ones may be alike because a reader lost the same part twice
  const SCAN_CHARS_MIN = 4;
  const NOISE_CHARS_MIN = 6; // fast keys without Enter: a reader without its suffix, never an amount
  const ANSWER_MS_MAX = 12000;
  const BUSY_MS = 250;
  const RETRY_MS = 2000;
  const STATE_MS = 10000;
  const SHOWN_MS = 8000;
  const SUM_FEN_MAX = 650000;
  const PORTIONS_MAX = 99;
  const { terminal, csrf, attached } = till.dataset;
  const boot = Number(till.dataset.boot);
  const store = "yika-till-" + terminal;
  const lengths = "yika-reader-" + terminal;
  const money = (fen) => "¥" + Math.floor(fen / 100) + "." + String(fen % 100).padStart(2, "0");

  // ---- what is keyed -------------------------------------------------------------------------------------------
  let mode = "amount";
  let terms = []; // fen, finished with +
  let entry = ""; // being keyed
  let refused = false; // the sum was refused: another card may pay it, the first digit begins another sum
  let unit = 0; // portions: price of one, once keyed
  const toFen = (text) => {
    const [yuan, cents = ""] = text.split(".");
    return Number(yuan || 0) * 100 + Number(cents.padEnd(2, "0"));
  };
  const sum = () => terms.reduce((a, b) => a + b, 0) + toFen(entry);

  // What a card would pay for; null while nothing is keyed.
  function asked() {
    if (mode === "fixed" || mode === "count") return { mode };
    if (mode === "amount") return sum() > 0 ? { mode, fen: sum() } : null;
    const fen = unit || toFen(entry);
    const portions = unit ? Number(entry || 1) : 1;
    return fen > 0 && portions > 0 ? { mode, fen, portions } : null;
  }
  function shownSum() {
    if (mode === "fixed") return $("#w-fixed").textContent;
    if (mode === "count") return $("#w-count").textContent;
    const ask = asked();
    return money(ask ? ask.fen * (ask.portions || 1) : 0);
  }
  function show() {
    $("#till-sum").textContent = shownSum();
    let small = "";
    if (mode === "amount" && terms.length) small = terms.map(money).join(" + ") + (entry ? " + " + money(toFen(entry)) : " +");
    if (mode === "portions" && unit) small = money(unit) + " × " + (entry || 1);
    $("#till-terms").textContent = small;
    till.dataset.mode = mode;
    for (const key of till.querySelectorAll("[data-mode]")) key.setAttribute("aria-pressed", String(key.dataset.mode === mode));
  }
  function type(keys) {
    if (refused && /^[\d.]/.test(keys)) {
      terms = [];
      entry = "";
      unit = 0;
    }
    refused = false;
    let over = ""; // the limit that kept a key out
    for (const key of keys) {
      if (mode === "fixed" || mode === "count") return;
      if (key === "+" || key === "*" || key === "x") plus();
      else if (key === "." ? !entry.includes(".") && !unit : /^\d$/.test(key)) over = digit(key) || over;
    }
    if (!pending && over) {
      sound("refused");
      passing("over-" + over);
    } else if (!pending) ready();
    show();
  }
  // Takes a digit, or says which limit keeps it out.
  function digit(key) {
    const next = entry === "0" && key !== "." ? key : entry + key;
    const [, cents = ""] = next.split(".");
    if (unit && Number(next) > PORTIONS_MAX) return "portions";
    if (!unit && cents.length > 2) return "cents";
    if (!unit && terms.reduce((a, b) => a + b, 0) + toFen(next) > SUM_FEN_MAX) return "sum";
    entry = next;
    return "";
  }
  function plus() {
    const fen = toFen(entry);
    if (!fen || (mode === "portions" && unit)) return;
    if (mode === "portions") unit = fen;
    else terms.push(fen);
    entry = "";
  }
  function erase() {
    if (entry) entry = entry.slice(0, -1);
    else if (mode === "portions") unit = 0;
    else terms.pop();
    if (!pending) ready();
    show();
  }
  function clear() {
    terms = [];
    entry = "";
    unit = 0;
    refused = false;
    if (!pending) ready();
    show();
  }
  function choose(next) {
    if (pending || mode === next) return;
    mode = next;
    clear();
  }

  // ---- the big panel -------------------------------------------------------------------------------------------
  let timer = 0;
  function panel(name, slots = {}) {
    clearTimeout(timer);
    const fresh = $("#p-" + name).content.firstElementChild.cloneNode(true);
    fresh.id = "result";
    fresh.setAttribute("role", "status");
    for (const slot of fresh.querySelectorAll("[data-slot]")) slot.textContent = slots[slot.dataset.slot] || "";
    $("#result").replaceWith(fresh);
    $("#till-left").dataset.state = name;
  }
  // A card may come as soon as there is something that it would pay for.
  const ready = () => (isOver ? panel("over") : panel(asked() ? "asking" : "ready", { money: shownSum() }));
  // This page's shift is over: what follows is sold on the page of the next one.
  let isOver = false;
  function end() {
    isOver = true;
    ready();
  }
  function passing(name) {
    panel(name);
    timer = setTimeout(ready, SHOWN_MS);
  }

  // ---- sound ---------------------------------------------------------------------------------------------------
  let audio = null;
  function sound(kind) {
    const tones = { approved: [[880, 0.09], [1320, 0.16]], refused: [[220, 0.22], [180, 0.3]], undone: [[660, 0.12], [440, 0.16]] }[kind];
    if (!tones) return;
    try {
      audio = audio || new AudioContext();
      let at = audio.currentTime;
      for (const [hertz, seconds] of tones) {
        const tone = audio.createOscillator();
        const volume = audio.createGain();
        tone.frequency.value = hertz;
        tone.type = kind === "refused" ? "square" : "sine";
        volume.gain.setValueAtTime(0.25, at);
        volume.gain.exponentialRampToValueAtTime(0.001, at + seconds);
        tone.connect(volume).connect(audio.destination);
        tone.start(at);
        tone.stop(at + seconds);
        at += seconds;
      }
    } catch {
      // A tablet without sound still has colour and words.
    }
  }

  // ---- sending, until answered ---------------------------------------------------------------------------------
  let pending = null;
  let retry = 0;
  let underway = false;
  function remember() {
    try {
      if (pending) localStorage.setItem(store, JSON.stringify(pending));
      else localStorage.removeItem(store);
    } catch {
      // Without storage the id lives as long as the page.
    }
  }
  function recall(key) {
    try {
      return JSON.parse(localStorage.getItem(key) || "null");
    } catch {
      return null;
    }
  }
  const next = () => Number($("#till-left").dataset.next);
  function send(to, body) {
    pending = { to, body };
    attempt();
  }
  async function attempt() {
    if (underway || !pending) return;
    underway = true;
    pending.attempts = (pending.attempts || 0) + 1;
    remember();
    clearTimeout(retry);
    const busy = setTimeout(() => panel("busy"), BUSY_MS);
    let response = null;
    let text = "";
    try {
      const abort = new AbortController();
      const stop = setTimeout(() => abort.abort(), ANSWER_MS_MAX);
      response = await fetch(pending.to, {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded", "x-csrf-token": csrf, "hx-request": "true" },
        body: new URLSearchParams({ ...pending.body, attached }),
        signal: abort.signal,
      });
      text = await response.text();
      clearTimeout(stop);
    } catch {
      response = null;
    }
    clearTimeout(busy);
    underway = false;
    settle(response, text);
  }
  function settle(response, text) {
    if (response?.headers.get("hx-redirect")) return panel("out");
    const fresh = response ? fragment(text) : null;
    if (fresh && response.status === 503) {
      // The box is there and cannot write: its words, and the same question again.
      $("#till-left").replaceWith(fresh);
      online(true);
      retry = setTimeout(attempt, RETRY_MS);
      return;
    }
    if (!fresh) {
      panel("lost", { id: "t" + terminal + "-" + pending.body.boot + "-" + pending.body.seq });
      online(false);
      retry = setTimeout(attempt, RETRY_MS);
      return;
    }
    online(true);
    // A locked page keeps a question that may have been heard for the page that takes over, and a cancellation; a sale that
    // was asked for once is refused.
    const isOnce = pending.attempts === 1 && pending.to !== "/till/cancel";
    if (!("locked" in fresh.dataset) || isOnce) pending = null;
    remember();
    const { state } = fresh.dataset;
    $("#till-left").replaceWith(fresh);
    sound(state);
    if (state === "approved") {
      terms = [];
      entry = "";
      show();
    }
    refused = state === "refused";
    clearTimeout(timer);
    if (!pending) timer = setTimeout(ready, SHOWN_MS);
  }
  function fragment(text) {
    const box = document.createElement("template");
    box.innerHTML = text;
    return box.content.querySelector("#till-left");
  }
  function scanned(card, typed) {
    if (pending || $("dialog[open]")) return;
    if (isOver) {
      sound("refused");
      return ready();
    }
    const ask = asked();
    if (!ask) {
      sound("refused");
      return passing("empty");
    }
    send("/till/sale", { ...ask, boot, seq: next(), card, typed: typed ? 1 : 0, at_ms: Date.now() });
  }
  function giveBack(to, of, seq, ofBoot, fen) {
    send(to, { boot: ofBoot, seq, of, ...(fen ? { fen } : {}) });
  }

  // ---- the last sale, reduced ----------------------------------------------------------------------------------
  // What goes back when the last sale should have cost what is keyed: 0 if that is no reduction.
  function reduction() {
    const keyed = $("#reduce-to").value.trim().replace(/^¥/, "");
    if (!/^\d{1,5}(\.\d{1,2})?$/.test(keyed)) return 0;
    const back = Number($("#till-left").dataset.lastFen) - toFen(keyed);
    return toFen(keyed) > 0 && back > 0 ? back : 0;
  }
  function showReduction() {
    const button = $("[data-act=reduce]");
    const back = reduction();
    const keyed = $("#reduce-to").value.trim();
    button.disabled = !back;
    button.textContent = back ? button.dataset.word + " (-" + money(back) + ")" : button.dataset.word;
    $("[data-slot=reduced]").textContent = keyed && !back ? button.dataset.bad : button.dataset.help;
  }
  $("#reduce-to").addEventListener("input", showReduction);

  // ---- the line to the box -------------------------------------------------------------------------------------
  function online(is, header) {
    const link = $("#till-link");
    if (!is) {
      link.className = "till-link is-lost";
      link.textContent = link.dataset.lost;
    } else if (header) {
      link.className = "till-link" + (header.offline ? " is-offline" : "");
      link.textContent = header.link;
      $("#till-period").textContent = header.period;
      $("#till-clock").textContent = header.clock;
      if ($("#w-fixed").textContent !== header.price) {
        $("#w-fixed").textContent = header.price;
        show();
      }
    } else if (link.classList.contains("is-lost")) look();
  }
  async function look() {
    try {
      const response = await fetch("/till/state", { headers: { "x-yika-background": "1", "hx-request": "true" } });
      if (response.headers.get("hx-redirect")) return pending || panel("out");
      // Signed off in another window, or by the box.
      if (response.status === 404) return pending || isOver || end();
      if (response.ok) online(true, await response.json());
    } catch {
      online(false);
    }
  }

  // ---- keys and reader -----------------------------------------------------------------------------------------
  // Told apart by the times of the events, not by when a busy tablet gets round to them.
  let burst = "";
  let began = 0; // time of its first key
  let last = 0; // time of the last key
  let typed = null; // the keys taken as typed last, and the amount before them
  let flushing = 0;
  let asides = false; // the keys of this burst went to a dialog, which may be closed before they are taken
  const inField = (event) => event.target instanceof HTMLInputElement && event.target.type !== "hidden";
  function charOf(event) {
    // Under a Chinese input method the key is "Process"; the place on the keyboard still tells what readers send.
    const code = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
    if (code && !event.shiftKey) return code[1];
    if (event.key !== "Process") return event.key.length === 1 ? event.key : "";
    const letter = /^Key([A-F])$/.exec(event.code);
    return letter ? letter[1] : event.code === "Comma" ? "," : "";
  }
  function flush() {
    clearTimeout(flushing);
    const keys = burst;
    burst = "";
    if (!keys) return;
    typed = { keys, asides, began, last, amount: { terms: [...terms], entry, unit, refused }, earlier: typed?.last ?? -UNSURE_MS };
    if (asides) return;
    if (keys.length >= NOISE_CHARS_MIN) {
      if (pending) return;
      clear();
      sound("refused");
      return passing("noise");
    }
    if (keys === "-") return act("undo");
    if (!pending) type(keys);
  }
  // Keys that were taken as typed although the next one follows too fast for a person: they were the reader's.
  function rejoin(now) {
    if (burst || !typed?.keys || now - typed.last > GAP_MS) return;
    ({ terms, entry, unit, refused } = typed.amount);
    ({ keys: burst, asides, began } = typed);
    typed = { last: typed.earlier };
    show();
  }
  function unsure() {
    if (pending) return;
    clear();
    sound("refused");
    passing("unsure");
  }
  // True if the Enter ended a reading, whole or in part.
  function ended(now, dialog) {
    const byReader = burst && now - last <= GAP_MS;
    if (!byReader || (dialog && burst.length < SCAN_CHARS_MIN)) return false;
    const card = burst;
    const apart = began - (typed?.last ?? -UNSURE_MS) >= UNSURE_MS;
    const whole = card.length >= SCAN_CHARS_MIN && (apart || isUsual(card.length));
    clearTimeout(flushing);
    burst = "";
    if (dialog?.id === "manual") dialog.close();
    typed = null;
    if (whole && apart) learn(card.length);
    if (whole) scanned(card, false);
    else unsure();
    return true;
  }
  // Lengths of the last readings that stood apart from other keys; they outlive the page, as the reader does.
  let usual = [];
  function learn(length) {
    usual = [...usual, length].slice(-READINGS_ALIKE);
    try {
      localStorage.setItem(lengths, JSON.stringify(usual));
    } catch {
      // Without storage they are learned anew.
    }
  }
  const isUsual = (length) =>
    length >= ALIKE_CHARS_MIN && usual.length === READINGS_ALIKE && usual.every((seen) => seen === length);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const now = event.timeStamp;
    const dialog = $("dialog[open]");
    const char = charOf(event);
    const end = event.key === "Enter" || event.key === "Tab";
    if (char || end) rejoin(now);
    if (end) {
      if (ended(now, dialog)) {
        event.preventDefault();
        event.stopPropagation();
        return;
      }
      flush();
      if (event.key === "Tab") return;
      typed = null;
      if (dialog) {
        // An Enter by hand; a reader's follows its last character at once.
        if (event.target.id !== "reduce-to" || now - last <= GAP_MS) return;
        event.preventDefault();
        return act("reduce");
      }
      event.preventDefault();
      return act("go");
    }
    if (char) {
      if (now - last > GAP_MS) flush();
      if (!burst) {
        began = now;
        asides = Boolean(dialog);
      }
      last = now;
      burst += char;
      if (!inField(event)) event.preventDefault();
      clearTimeout(flushing);
      flushing = setTimeout(flush, GAP_MS + 10);
      return;
    }
    flush();
    const key = { F1: "amount", F2: "fixed", F3: "portions", F4: "count" }[event.key];
    if (dialog) return;
    if (key) choose(key);
    else if (event.key === "F8") act("manual");
    else if (event.key === "Backspace" && !pending) erase();
    else if (event.key === "Delete" && !pending) clear();
    else if (event.key === "Escape") act(pending ? "cancel" : "clear");
    else return;
    event.preventDefault();
  }, true);

  function act(name) {
    const left = $("#till-left").dataset;
    if (name === "go" && !pending) {
      if (asked() || isOver) ready();
      else passing("empty");
    } else if (name === "clear" && !pending) clear();
    else if (name === "back" && !pending) erase();
    else if (name === "manual" && !pending) {
      if (!asked()) return passing("empty");
      $("#manual-card").value = "";
      $("#manual").showModal();
    } else if (name === "undo" && !pending) {
      const dialog = $(left.last ? "#undo" : "#undo-none");
      const slot = $("[data-slot=last]", dialog);
      if (slot) {
        slot.textContent = left.lastText;
        $("[data-slot=reducing]").hidden = $("[data-act=reduce]").hidden = !Number(left.lastFen);
        $("#reduce-to").value = "";
        showReduction();
      }
      dialog.showModal();
    } else if (name === "correct") {
      $("#undo").close();
      giveBack("/till/correct", Number(left.last), next(), boot);
    } else if (name === "reduce") {
      const back = reduction();
      if (!back) return;
      $("#undo").close();
      giveBack("/till/correct", Number(left.last), next(), boot, back);
    } else if (name === "resend") attempt();
    else if (name === "cancel" && pending?.to === "/till/sale" && !underway) $("#cancel").showModal();
    else if (name === "cancel-sure") {
      $("#cancel").close();
      // The answer may have come while the question was on the screen.
      if (pending?.to !== "/till/sale" || underway) return;
      const { boot: ofBoot, seq } = pending.body;
      giveBack("/till/cancel", seq, seq + 1, ofBoot);
    } else if (name === "off" && !pending) $("#off").showModal();
  }
  document.addEventListener("click", (event) => {
    const key = event.target.closest("[data-key], [data-mode], [data-act]");
    if (!key) return;
    // A reader's Enter must not press the key that was touched last.
    if (!key.closest("dialog")) key.blur();
    if (key.dataset.mode && key !== till) choose(key.dataset.mode);
    else if (key.dataset.key && !pending) type(key.dataset.key);
    else if (key.dataset.act) act(key.dataset.act);
  });
  $("#manual form").addEventListener("submit", (event) => {
    event.preventDefault();
    const card = $("#manual-card").value.trim();
    $("#manual").close();
    if (card) scanned(card, true);
  });

  show();
  usual = recall(lengths) || [];
  pending = recall(store);
  if (pending) attempt();
  setInterval(look, STATE_MS);
})();
